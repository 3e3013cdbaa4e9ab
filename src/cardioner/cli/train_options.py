"""The options of `cardioner train` that are none of the training's own: the notes, and how often to train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from cardioner.cli.inputs import EncodingOption, FormatOption, MapOption, OnErrorOption, TextsOption
from cardioner.training.options import STRICT, Checked, setting


def _renames(value: Any) -> Any:
    """Pairs of old and new names as the command line has them."""
    if isinstance(value, dict):
        return [f"{old}={'' if new is None else new}" for old, new in value.items()]
    if value is not None and not (isinstance(value, list) and all(isinstance(pair, str) for pair in value)):
        raise ValueError("old and new names, or a list of OLD=NEW")
    return value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NotesOptions(Checked):
    """The notes: where they are, and how to read them."""

    train: Path | None = setting(None, panel="Data")
    """Training notes, in any format."""
    evaluation: Path | None = setting(None, panel="Data", option="--eval")
    """Notes that pick the best epoch."""
    test: Path | None = setting(None, panel="Data")
    """Notes to score once, at the end."""
    corpus: Path | None = setting(None, panel="Data")
    """All notes in one folder, with --splits."""
    splits: Path | None = setting(None, panel="Data", metavar="FILE")
    """JSON with lists of note ids under "train", "validation" and "test", for --corpus."""
    mapping: Annotated[MapOption, BeforeValidator(_renames)] = None
    format: FormatOption = None
    encoding: EncodingOption = "utf-8"
    texts: TextsOption = None
    on_error: OnErrorOption = "stop"
    allow_unannotated: bool = setting(False, panel="Data")
    """Take notes without annotations as notes without entities."""
    scheme: Annotated[Literal["BIO", "BIOES"], BeforeValidator(_upper)] = setting("BIO", panel="Data")
    """Tags: BIO, or BIOES, which also has tags for the end of an entity and for entities of one token."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunOptions(Checked):
    """How often to train, and what to show at the end."""

    html: Path | None = setting(None, panel="Running", metavar="FILE")
    """Write a page with the curves of the training."""
    json: bool = setting(False, panel="Running")
    """Print the record of the training as JSON alone on standard output."""
    folds: int | None = setting(None, panel="Repeated training", metavar="K", ge=2)
    """Cross-validation: K models, each scored on a fold of the training notes that it has not seen."""
    seeds: int | None = setting(None, panel="Repeated training", ge=1)
    """N models with N seeds, from --seed on; with --folds, N models per fold."""
