"""`cardioner serve`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cardioner.cli.console import open_log, quieten, showing_progress, tell
from cardioner.cli.inputs import EncodingOption, FormatOption, read_parts
from cardioner.cli.option_groups import grouped
from cardioner.cli.tagging import ComputingOptions
from cardioner.errors import UsageError, many, needing, without_message

if TYPE_CHECKING:
    from cardioner.data.documents import Document
    from cardioner.server.limits import Limits
    from cardioner.server.models import ServedModel, Source
    from cardioner.server.notes import Workspace

_PACKAGES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "starlette": "fastapi",
    "prometheus_client": "prometheus-client",
}
"""What the extra `serve` brings, by the names that are imported."""


@dataclass(frozen=True)
class AddressOptions:
    """Where to listen, and who may connect."""

    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="The address to listen on. One that other machines can reach needs --token-file."
        ),
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="The TCP port; 0 takes a free one.")] = 8000
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with the token that every request must bring.")
    ] = None
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve HTTPS with this certificate, a PEM file.")
    ] = None
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The private key of the certificate.")] = None


@dataclass(frozen=True)
class PageOptions:
    """What a person reads and corrects on the page."""

    notes: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Notes to open on the page: a folder or a file, any format.")
    ] = None
    order: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="List the notes in the order of `cardioner select --output FILE`."),
    ] = None
    corrections: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the page saves corrected notes; neither in the folder of notes nor around it."
        ),
    ] = None
    to: Annotated[
        Literal["brat", "jsonl"],
        typer.Option("--to", metavar="FORMAT", help="Format of corrections: brat, or jsonl with a file for each note."),
    ] = "brat"
    format: FormatOption = None
    encoding: EncodingOption = "utf-8"


@dataclass(frozen=True)
class LimitOptions:
    """What is accepted."""

    max_body_mib: Annotated[int, typer.Option(metavar="MIB", min=1, help="Largest request, in MiB.")] = 16
    max_texts: Annotated[int, typer.Option(metavar="N", min=1, help="Most texts in a request.")] = 64
    max_characters: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most characters in all texts of a request.")
    ] = 1_000_000
    queue: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most texts that may wait; further requests get the status 503.")
    ] = 256
    wait_ms: Annotated[
        float, typer.Option(metavar="MS", min=0, help="How long a request waits for others to share its batch.")
    ] = 5


@grouped()
def serve(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="Model directories; requests name them by their folders.")
    ],
    page: PageOptions,
    address: AddressOptions,
    computing: ComputingOptions,
    limits: LimitOptions,
) -> None:
    """Serve models over HTTP, and a page on which people read, correct and accept notes.

    POST /predict tags a text or a list, POST /predict/stream JSON lines;
    /openapi.json describes all requests; /models, /health, /ready and /metrics tell about the server. Requests that
    arrive together share batches. No text is logged.

    SIGTERM ends the server when it has answered what it took. SIGHUP reloads the models if they verify.

    Example: cardioner serve model --port 8000

    Example: cardioner serve model --notes notes --corrections corrected
    """
    open_log(computing.log_file)
    with needing("cardioner serve", _PACKAGES):
        _run(tuple(models), page, address, computing, limits)


def _run(
    places: tuple[Path, ...],
    page: PageOptions,
    options: AddressOptions,
    computing: ComputingOptions,
    accepted: LimitOptions,
) -> None:
    """Check all that can be checked, load the models, and serve."""
    from cardioner.server.app import make_app  # noqa: PLC0415 - starts fast
    from cardioner.server.guard import read_token  # noqa: PLC0415
    from cardioner.server.models import Source, load_verified  # noqa: PLC0415
    from cardioner.server.run import LOOPBACK_HOSTS, Address, run  # noqa: PLC0415
    from cardioner.server.service import Service  # noqa: PLC0415

    address = Address(options.host, options.port, options.tls_certificate, options.tls_key)
    address.check(token=options.token_file is not None)
    token = None if options.token_file is None else read_token(options.token_file)
    limits = _limits(accepted)
    source = Source(places, computing.engine, computing.device, computing.dtype, computing.key)
    workspace = _workspace(page, source)
    loaded = _load(source)
    service = Service(loaded, limits, load=lambda: load_verified(source), batch_tokens=computing.batch_tokens)
    hosts = LOOPBACK_HOSTS if address.is_loopback else None
    app = make_app(service, token=token, hosts=hosts, workspace=workspace)
    _log_to_console()
    if not address.is_loopback and address.certificate is None:
        tell("warning: without --tls-certificate, the token and the notes can be read on the network")
    run(app, service, address)


def _workspace(page: PageOptions, source: Source) -> Workspace:
    """The notes to open and where their corrections go, checked before a model is loaded."""
    from cardioner.data.formats import ReadOptions  # noqa: PLC0415 - starts fast
    from cardioner.server.corrections import Corrections, check_apart  # noqa: PLC0415
    from cardioner.server.notes import Notes, Workspace  # noqa: PLC0415

    if page.notes is not None and page.corrections is not None:
        check_apart(page.corrections, page.notes)
    paths = [page.notes] if page.notes is not None else []
    documents = [one for part in read_parts(paths, {}, ReadOptions(page.format, page.encoding)) for one in part]
    corrections = None
    if page.corrections is not None:
        corrections = Corrections(page.corrections, page.to, known=[document.id for document in documents])
        tell(f"Corrected notes: {len(corrections.saved)} in {page.corrections}")
    return Workspace(
        Notes(documents, order=_order(page, documents)),
        corrections,
        dict(zip(source.names, source.places, strict=True)),
    )


def _order(page: PageOptions, documents: Sequence[Document]) -> dict[str, float]:
    """How much a correction of a note should teach, by its id.

    Raises:
        UsageError: If there are no notes to order.
        DataError: If the file is no order.
    """
    from cardioner.prediction.selection import read_order  # noqa: PLC0415 - starts fast

    if page.order is None:
        return {}
    if page.notes is None:
        raise UsageError("--order FILE says in which order to list the notes: give --notes PATH, too")
    gains = {choice.id: choice.gain for choice in read_order(page.order)}
    if elsewhere := gains.keys() - {document.id for document in documents}:
        tell(f"warning: {page.order} names {many(len(elsewhere), 'note')} that the notes do not have")
    return gains


def _limits(accepted: LimitOptions) -> Limits:
    from cardioner.server.limits import Limits  # noqa: PLC0415 - starts fast

    return Limits(
        body_bytes=accepted.max_body_mib << 20,
        texts=accepted.max_texts,
        characters=accepted.max_characters,
        queue=accepted.queue,
        wait_ms=accepted.wait_ms,
    )


def _load(source: Source) -> tuple[ServedModel, ...]:
    """The models; what is served is said."""
    from cardioner.prediction.engines import chosen  # noqa: PLC0415 - starts fast
    from cardioner.server.models import load_models  # noqa: PLC0415

    with showing_progress() as stages, stages.busy("loading the models"):
        if chosen(source.engine) == "torch":
            quieten()
        loaded = load_models(source)
    for model in loaded:
        tell(f"{model.name}: {model.predictor!r}")
    return loaded


class _ToConsole(logging.Handler):
    """Shows the first line of what is logged, and where an exception was raised: the rest may quote a note."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        raised = record.exc_info[1] if record.exc_info else None
        where = f" ({without_message(raised)})" if raised else ""
        tell(f"{record.getMessage().partition(chr(10))[0]}{where}")


def _log_to_console() -> None:
    for name in ("cardioner.server", "uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO if name == "cardioner.server" else logging.WARNING)
        logger.handlers, logger.propagate = [_ToConsole()], False
