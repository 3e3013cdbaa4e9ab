"""Loading a model directory with torch: everything is checked before it is trusted, in the order of `entrance`.

Whoever reads a directory with torch comes in through `enter`: `read_model_dir`, `verify`, `inspect` and the exports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cardioner.errors import ModelError, UsageError, first_line
from cardioner.model_dir import entrance
from cardioner.model_dir.custom_code import check_class
from cardioner.model_dir.entrance import ModelDir, Report
from cardioner.model_dir.golden_outputs import TorchComputer
from cardioner.model_dir.untrusted.structure import Weights, check_finite, check_structure, read_weights
from cardioner.multiclass.modeling import (
    CardioNERConfig,
    TokenClassificationModel,
    load_custom_cardioner_multiclass_model,
)


class Loaded(NamedTuple):
    """A loaded model in evaluation mode, its tokenizer, its configuration."""

    model: TokenClassificationModel
    tokenizer: Any
    config: CardioNERConfig


class TorchReader:
    """Reads weights, and builds the model that the configuration describes."""

    def describe(self, path: Path, files: frozenset[str]) -> Weights | None:
        """The names and shapes of the weights."""
        return read_weights(path, files)

    def check(self, entered: ModelDir, files: frozenset[str], described: Weights | None) -> None:
        """Refuse what is not whole or not safe to build."""
        check_structure(entered.path, files, entered.config, described)

    def check_loaded(self, path: Path, loaded: Loaded) -> None:
        """Refuse weights that are not finite."""
        check_finite(path, loaded.model.state_dict())

    def computer(self, loaded: Loaded) -> TorchComputer:
        """What computes the golden outputs."""
        return TorchComputer(loaded.model, loaded.tokenizer)


def read_model_dir(
    directory: str | Path,
    *,
    device: str = "auto",
    model_class: type[TokenClassificationModel] | None = None,
    key: str | Path | None = None,
    accept: Callable[[Path, Mapping[str, Any]], None] | None = None,
) -> Loaded:
    """Load a directory with the installed classes, or with a given one; nothing in it is executed.

    What it holds must be what its manifest lists, and compute what it says; a directory of a version that wrote no
    manifest is loaded without.

    Args:
        directory: The directory.
        device: `auto` takes the GPU where there is one; or a device as torch names it.
        model_class: The subclass that saved it, where one did that tags in a way of its own.
        key: A public key: the directory must be signed with its other half.
        accept: Called with the directory and its checked `config.json`; raises to refuse it before it is loaded.

    Raises:
        ModelError: If it is missing, incomplete, altered, not one of ours, not signed as it should be, computes
            something else than when it was saved, or is the work of a class that is not given.
        UsageError: If there is no such device, or no key in that file.
    """
    if device != "auto":
        _check_device(device)

    def load(entered: ModelDir) -> Loaded:
        if accept is not None:
            accept(entered.path, entered.config)
        check_class(entered.path, entered.config, model_class)
        return load_unchecked(entered.path, entered.config, device, model_class)

    loaded: Loaded | None = enter(directory, key=key, load=load).loaded
    assert loaded is not None  # whatever is wrong has raised
    return loaded


def enter(
    directory: str | Path,
    *,
    report: Report | None = None,
    key: str | Path | None = None,
    load: Callable[[ModelDir], Loaded | None] | None = None,
) -> ModelDir:
    """Check a directory as `entrance.enter` does, for torch, with the same arguments and errors."""
    return entrance.enter(directory, TorchReader(), report=report, key=key, load=load)


def load_unchecked(
    path: Path, config: Mapping[str, Any], device: str, model_class: type[TokenClassificationModel] | None = None
) -> Loaded:
    """Load a directory that was checked, with its checked `config.json`, and with a class in place of ours if given.

    Raises:
        ModelError: If its parts do not fit together all the same.
    """
    try:
        settings = CardioNERConfig.from_dict(dict(config))
        loaded = load_custom_cardioner_multiclass_model(path, device, model_class=model_class, config=settings)
    except Exception as error:
        raise ModelError(
            f"{path} cannot be loaded: {first_line(error)} (copy the whole directory again, or save the model again)"
        ) from error
    return Loaded(*loaded)


def _check_device(device: str) -> None:
    """Refuse a device that torch does not have."""
    try:
        if torch.device(device).type not in {"cpu", "cuda"}:
            raise RuntimeError(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the device {device!r} is not available here: use auto, cpu, or cuda where there is a GPU"
        ) from error
