"""The options of `cardioner predict` for tables that are tagged on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from cardioner.errors import UsageError

_PANEL = "Clusters"

Cluster = Literal["ray"]


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster tags the notes of a table, and with how many workers."""

    cluster: Annotated[
        Cluster | None,
        typer.Option(metavar="NAME", help="Tag a table on a cluster: ray.", rich_help_panel=_PANEL),
    ] = None
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Head node of the cluster; auto: a cluster with a node on this machine. Default: RAY_ADDRESS, else "
            "auto, else a new cluster on this machine.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Processes that tag. Default: as many as there is room for.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    cpus_per_worker: Annotated[
        float | None, typer.Option(metavar="X", help="CPUs of each worker. Default: 1.", rich_help_panel=_PANEL)
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="GPUs of each worker; 0.5 lets two share one. Default: 0.", rich_help_panel=_PANEL
        ),
    ] = None

    def check(self) -> None:
        """Refuse options that cannot work.

        Raises:
            UsageError: If there are options for a cluster, and it is not named; or a number cannot be.
        """
        if self.cluster is None and self != ClusterOptions():
            raise UsageError("--address, --workers, --cpus-per-worker and --gpus-per-worker are for --cluster ray")
        if (self.cpus_per_worker is not None and self.cpus_per_worker <= 0) or (self.gpus_per_worker or 0) < 0:
            raise UsageError("--cpus-per-worker must be more than 0, and --gpus-per-worker 0 or more")
