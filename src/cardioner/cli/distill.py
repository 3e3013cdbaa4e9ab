"""`cardioner distill`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import Field
from pydantic.dataclasses import dataclass

from cardioner.cli.console import tell
from cardioner.cli.inputs import read_parts
from cardioner.cli.option_groups import grouped
from cardioner.cli.train import run_training, train_one
from cardioner.cli.train_config import ConfigOption, combine_sources
from cardioner.cli.train_options import (
    NotesOptions,
    OutcomeOptions,
    TeachingOptions,
    attributes_of,
    read_given_parts,
    warn_of_overlap,
)
from cardioner.data.documents import Document
from cardioner.errors import UsageError, many
from cardioner.training.options import (
    STRICT,
    Distillation,
    TrainerArguments,
    TrainingOptions,
    Widths,
    model_setting,
    setting,
)

_NAMES = ("teacher_weight", "teacher_temperature")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudentNotes(NotesOptions):
    """The notes of a student, whose tags are those of its teachers."""

    corpus: Path | None = setting(None, panel="Data")
    """As --train; or, with --splits, all notes in one folder."""
    scheme: Literal["BIO", "BIOES"] = Field(default="BIO", exclude=True)  # the teachers decide, here and below
    overlap: Literal["auto", "flat", "per-type"] = Field(default="auto", exclude=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudentArguments(TrainerArguments):
    """The arguments of `ModelTrainer`, some of them documented for a student."""

    model: str | Path | None = model_setting(None, option="--backbone", metavar="NAME_OR_DIR")
    """Encoder to start from, with the teachers' tokenizer. Default: the first teacher, with head and CRF."""
    use_crf: bool = model_setting(False, option="--crf")
    """Put a CRF on the head, even if the first teacher has none."""
    classifier_hidden_layers: Widths = model_setting(None, option="--hidden-layers", metavar="N,N,...")
    """Widths of an MLP head, such as 512,256. Default: those of the first teacher."""
    max_length: int | None = model_setting(None, ge=1)
    """Maximum number of sub-tokens in a window. Default: that of the teachers."""


@grouped(combine_sources)
def distill(  # noqa: PLR0913 - one parameter a group of options
    teachers: Annotated[
        list[Path],
        typer.Argument(metavar="TEACHER...", help="Model directories with the same tags, or a folder of them."),
    ],
    notes: StudentNotes,
    arguments: StudentArguments,
    options: TrainingOptions,
    teaching: TeachingOptions,
    run: OutcomeOptions,
    config: ConfigOption = None,  # noqa: ARG001 - its content is in the others by now
) -> None:
    """Train a smaller model, or one in place of several, that learns from what its teachers compute.

    It learns from annotated notes, from other notes (--unlabelled), or from both. Several teachers teach their mean.
    Without --eval, the last epoch is saved.

    Example: cardioner distill model --layers 3 --train notes/train --eval notes/dev --output small

    Example: cardioner distill seeds --backbone encoder --train notes/train --unlabelled more-notes --output one
    """
    if notes.corpus is not None and notes.splits is None and notes.train is None:
        notes = replace(notes, train=[notes.corpus], corpus=None)

    def work(options: TrainingOptions) -> dict[str, Any]:
        parts = read_given_parts(notes)
        bare = [] if teaching.unlabelled is None else _read_unlabelled(notes, teaching.unlabelled)
        warn_of_overlap(bare, parts, "an unlabelled note")
        if not parts.train and not bare:
            raise UsageError(
                "give notes to learn from: annotated ones with --train PATH, others with --unlabelled PATH"
            )
        learned = f"{many(len(parts.train), 'annotated note')} and {many(len(bare), 'unlabelled note')}"
        tell(f"Learning from {many(len(teachers), 'teacher')}, on {learned}")
        chosen = {name: getattr(teaching, name) for name in _NAMES}
        distillation = Distillation(teachers=teachers, unlabelled=bare, **chosen)
        return train_one(
            parts, {**vars(arguments), **attributes_of(notes, parts), "distillation": distillation}, options, run
        )

    run_training(notes, arguments, options, run, work)


def _read_unlabelled(notes: NotesOptions, place: Path) -> list[Document]:
    """Notes without their annotations, if they have any."""
    (documents,) = read_parts([place], {}, notes.options(notes.on_error))
    return [document.with_spans(()) for document in documents]
