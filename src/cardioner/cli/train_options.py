"""Options of the commands that train, beyond those of the training itself, and the notes that they name."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from cardioner.cli.console import tell
from cardioner.cli.inputs import LogFileOption, MapOption, OnErrorOption, ReadingOptions, read_parts
from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet, Overlap, Scheme
from cardioner.data.quality.overlap import choose_overlap
from cardioner.data.splits import apply_splits, read_splits
from cardioner.errors import DataError, UsageError, listed, many
from cardioner.training.options import STRICT, Checked, DistillationOptions, setting
from cardioner.training.sweep.trial import Parts


def _renames(value: Any) -> Any:
    """Pairs of old and new names as the command line has them."""
    if isinstance(value, dict):
        return [f"{old}={'' if new is None else new}" for old, new in value.items()]
    if value is not None and not (isinstance(value, list) and all(isinstance(pair, str) for pair in value)):
        raise ValueError("old and new names, or a list of OLD=NEW")
    return value


def _names(value: Any) -> Any:
    """Names of attributes in a line, from a list, or from a record's mapping of them to their values."""
    if not isinstance(value, (dict, list)) or not all(isinstance(one, str) for one in value):
        return value
    line = StringIO()
    csv.writer(line, lineterminator="").writerow(value)
    return line.getvalue()


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _one_or_several(value: Any) -> Any:
    return [value] if isinstance(value, (str, Path)) else value


TrainOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--train",
        metavar="PATH",
        help="Training notes, in any format. May be given several times: if notes have the same id, the last counts.",
    ),
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NotesOptions(Checked, ReadingOptions):
    """The notes: where they are, and how to read them."""

    train: Annotated[TrainOption, BeforeValidator(_one_or_several)] = None
    evaluation: Path | None = setting(None, panel="Data", option="--eval")
    """Notes that pick the best epoch."""
    test: Path | None = setting(None, panel="Data")
    """Notes to score once, at the end."""
    corpus: Path | None = setting(None, panel="Data")
    """All notes in one folder, with --splits."""
    splits: Path | None = setting(None, panel="Data", metavar="FILE")
    """JSON with lists of note ids under "train", "validation" and "test", for --corpus."""
    mapping: Annotated[MapOption, BeforeValidator(_renames)] = None
    on_error: OnErrorOption = "stop"
    allow_unannotated: bool = setting(False, panel="Data")
    """Take notes without annotations as notes without entities."""
    scheme: Annotated[Literal["BIO", "BIOES"], BeforeValidator(_upper)] = setting("BIO", panel="Data")
    """Tags: BIO, or BIOES, which also has tags for the end of an entity and for entities of one sub-token."""
    attributes: Annotated[str | None, BeforeValidator(_names)] = setting(None, panel="Data", metavar="NAME,...|all")
    """Attributes of entities to learn, such as Negation,Certainty; all: those that the training notes have."""
    overlap: Literal["auto", "flat", "per-type"] = setting("auto", panel="Data")
    """auto, flat or per-type: flat tags lose entities that overlap; auto takes per-type if they would lose over 1 %."""

    def read(self, *paths: Path) -> list[list[Document]]:
        """The notes at some paths."""
        return read_parts(paths, self.names, self.options(self.on_error, allow_unannotated=self.allow_unannotated))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TeachingOptions(DistillationOptions):
    """How a student learns from its teachers, and where else than on annotated notes."""

    unlabelled: Path | None = setting(None, panel="Data")
    """More notes, on which the student learns only from its teachers; annotations in them are ignored."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OutcomeOptions(Checked):
    """What to show at the end, and what to add to the model."""

    html: Path | None = setting(None, panel="Running", metavar="FILE")
    """Write a page with the curves of the training."""
    log_file: LogFileOption = setting(None, panel="Running")
    """Append everything that is shown on standard error to a file, with the time."""
    json: bool = setting(False, panel="Running")
    """Print the record of the training as JSON alone on standard output."""
    onnx: bool = setting(False, panel="Running")
    """Add a graph to the model, with which `cardioner predict --engine onnx` needs no torch."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunOptions(OutcomeOptions):
    """How often to train, too."""

    recipe: Literal["default", "best"] = setting("default", panel="Repeated training")
    """best trains 3 models and then, for twice as many epochs, one that learns from them and is kept; needs --eval."""
    folds: int | None = setting(None, panel="Repeated training", metavar="K", ge=2)
    """Cross-validation: K models, each scored on a fold of the training notes that it has not seen."""
    seeds: int | None = setting(None, panel="Repeated training", ge=1)
    """N models with N seeds, from --seed on; with --folds, N models per fold; with --curve, 3 unless given."""
    merge: Literal["mean", "slerp"] | None = setting(None, panel="Repeated training", metavar="WAY")
    """Merge the models at the end into DIR/merged, as cardioner merge does; needs --eval."""
    curve: bool = setting(False, panel="Repeated training")
    """Learning curve: train on an eighth, a fourth, a half and all of the notes, and estimate the gain of 100 more."""

    @property
    def repeated(self) -> bool:
        """Whether several models are asked for."""
        return self.folds is not None or self.seeds is not None


def read_notes(notes: NotesOptions) -> tuple[Parts, LabelSet]:
    """Read every part, and the tags of the types in the training notes; a part that was not given is empty.

    Raises:
        UsageError: If places are missing, or given twice.
        DataError: If a part cannot be used.
    """
    if not (notes.corpus or notes.splits or notes.train):
        raise UsageError("give the training notes: --train PATH, or --corpus PATH with --splits FILE")
    parts = read_given_parts(notes)
    labels = _labels_of(parts.train, notes.scheme).with_overlap(_overlap_of(parts.train, notes.overlap))
    labels.check([*parts.evaluation, *parts.test])
    _warn_of_missing_types(labels, parts)
    return parts, labels


def _warn_of_missing_types(labels: LabelSet, parts: Parts) -> None:
    """Warn of entity types that are learned, and that no held-out note can show anything about."""
    for name, part in (("evaluation", parts.evaluation), ("test", parts.test)):
        found = {span.label for document in part for span in document.spans}
        if part and (lacking := sorted(set(labels.types) - found)):
            tell(
                f"warning: the {name} notes have no entity of the type {listed(lacking)}: they cannot show whether the "
                "model finds any"
            )


def attributes_of(notes: NotesOptions, parts: Parts) -> dict[str, Any]:
    """The attributes to learn, as an argument of `ModelTrainer`; none unless they are asked for.

    Raises:
        DataError: If the training notes lack one of them.
    """
    if notes.attributes is None:
        return {}
    from cardioner.training.attributes import MOST_VALUES, attributes_in  # noqa: PLC0415 - imports torch

    names = None if notes.attributes == "all" else _split(notes.attributes)
    if names == []:
        raise UsageError("--attributes: expected names of attributes such as Negation,Certainty, or all; found none")
    found = attributes_in(parts.train, names)
    shown = (f"{name} ({_values_in_words(values, MOST_VALUES)})" for name, values in found.items())
    tell(f"Attributes to learn: {'; '.join(shown)}")
    return {"attributes": found}


def _split(names: str) -> list[str]:
    """Names between commas; one that has a comma itself stands in quotes."""
    try:
        rows = [*csv.reader(names.splitlines(), skipinitialspace=True, strict=True)]
    except csv.Error:
        raise UsageError("--attributes: expected quotes around the whole of a name; found one elsewhere") from None
    return [name.strip() for name in chain(*rows) if name.strip()]


def _values_in_words(values: Sequence[Any], most: int) -> str:
    """What an attribute may be; more values than `most` are only counted, as they may hold words of a note."""
    given = [value for value in values if value is not None]
    if len(given) > most:
        return many(len(given), "value")
    return listed("present or absent" if value is True else value for value in given)


def read_given_parts(notes: NotesOptions) -> Parts:
    """Read the parts that are given, of which training notes need not be one.

    Raises:
        UsageError: If places are given twice.
        DataError: If a part cannot be used.
    """
    parts = _read_corpus(notes) if notes.corpus or notes.splits else _read_folders(notes)
    warn_of_overlap(parts.train, parts, "a training note")
    return parts


def _read_corpus(notes: NotesOptions) -> Parts:
    """The parts of one folder, by a splits file."""
    if notes.corpus is None or notes.splits is None:
        raise UsageError("--corpus PATH and --splits FILE, which says which notes to train on, need each other")
    folders = {"--train": notes.train, "--eval": notes.evaluation, "--test": notes.test}
    if given := [name for name, path in folders.items() if path is not None]:
        raise UsageError(f"--corpus with --splits takes the place of {', '.join(given)}: give one or the other")
    division = read_splits(notes.splits)
    (documents,) = notes.read(notes.corpus)
    if left_out := division.count_left_out(documents):
        tell(f"{left_out} of {many(len(documents), 'note')} are in no part of {notes.splits} and are not used")
    return Parts(*apply_splits(documents, division))


def _read_folders(notes: NotesOptions) -> Parts:
    """The parts given as folders of their own."""
    places = (notes.train or [], *([path] if path else [] for path in (notes.evaluation, notes.test)))
    found = iter(notes.read(*(path for part in places for path in part)))
    return Parts(*(_together([next(found) for _ in part]) for part in places))


def _together(corpora: Sequence[Sequence[Document]]) -> list[Document]:
    """Notes of several places: a note that a later one has too, such as a corrected one, is taken from there.

    Raises:
        DataError: If notes with the same id have different texts.
    """
    if len(corpora) == 1:
        return list(corpora[0])
    notes: dict[str, Document] = {}
    for document in (document for documents in corpora for document in documents):
        if notes.get(document.id, document).text != document.text:
            raise DataError(
                f"two notes with different texts have the id {document.id!r}: each needs its own; rename one"
            )
        notes[document.id] = document
    if replaced := sum(map(len, corpora)) - len(notes):
        tell(f"Of {many(replaced, 'note')} that several --train PATH have, the last counts")
    return list(notes.values())


def _labels_of(documents: Sequence[Document], scheme: Scheme) -> LabelSet:
    """The tags of the types in the training notes."""
    types = {span.label for document in documents for span in document.spans}
    if not types:
        raise DataError(
            f"the training set has {many(len(documents), 'note')} and no entity: expected annotated notes "
            "(does --map drop every type?)"
        )
    return LabelSet.from_types(types, scheme=scheme)


def _overlap_of(documents: Sequence[Document], asked: Literal["auto", "flat", "per-type"]) -> Overlap:
    """The layout of tags that was asked for, or that the training notes need; says what flat tags lose."""
    choice = choose_overlap(documents)
    beyond, spans = choice.per_type - choice.flat, many(choice.spans, "entity", "entities")
    overlap = choice.overlap if asked == "auto" else asked
    if beyond and overlap == "flat":
        tell(f"Flat tags: {beyond} of {spans} overlap others and are lost; --overlap per-type would keep them")
    elif overlap == "per-type":
        tell(
            f"Tags per type: they keep {beyond} of {spans} that flat tags would lose to an overlap ({choice.gain:.1%})"
        )
    return overlap


def warn_of_overlap(documents: Iterable[Document], parts: Parts, what: str) -> None:
    """Warn of held-out notes that are also learned from: their scores would flatter."""
    learned = {document.text for document in documents}
    for name, part in (("evaluation", parts.evaluation), ("test", parts.test)):
        if seen := sum(document.text in learned for document in part):
            tell(f"warning: {seen} of {len(part)} {name} notes have the same text as {what}")
