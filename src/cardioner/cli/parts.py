"""What commands that train read: the parts of a corpus, and their tags."""

from __future__ import annotations

from collections.abc import Sequence

from cardioner.cli.console import tell
from cardioner.cli.inputs import parse_mapping, read_parts
from cardioner.cli.train_options import NotesOptions
from cardioner.data.documents import Document
from cardioner.data.formats import ReadOptions
from cardioner.data.labels import LabelSet, Scheme
from cardioner.data.splits import apply_splits, read_splits
from cardioner.errors import DataError, UsageError, many
from cardioner.training.sweep.trial import Parts


def read_notes(notes: NotesOptions) -> tuple[Parts, LabelSet]:
    """Read every part, and the tags of the types in the training notes; a part that was not given is empty.

    Raises:
        UsageError: If places are missing, or given twice.
        DataError: If a part cannot be used.
    """
    parts = _read_corpus(notes) if notes.corpus or notes.splits else _read_folders(notes)
    labels = _labels_of(parts.train, notes.scheme)
    labels.check([*parts.evaluation, *parts.test])
    _warn_of_overlap(parts)
    return parts, labels


def _read_corpus(notes: NotesOptions) -> Parts:
    """The parts of one folder, by a splits file."""
    if notes.corpus is None or notes.splits is None:
        raise UsageError("--corpus PATH and --splits FILE, which says which notes to train on, need each other")
    folders = {"--train": notes.train, "--eval": notes.evaluation, "--test": notes.test}
    if given := [name for name, path in folders.items() if path is not None]:
        raise UsageError(f"--corpus with --splits takes the place of {', '.join(given)}: give one or the other")
    division = read_splits(notes.splits)
    (documents,) = read_parts([notes.corpus], parse_mapping(notes.mapping), _reading(notes))
    if left_out := division.count_left_out(documents):
        tell(f"{left_out} of {many(len(documents), 'note')} are in no part of {notes.splits} and are not used")
    return Parts(*apply_splits(documents, division))


def _read_folders(notes: NotesOptions) -> Parts:
    """The parts given as folders of their own."""
    if notes.train is None:
        raise UsageError("give the training notes: --train PATH, or --corpus PATH with --splits FILE")
    places = (notes.train, notes.evaluation, notes.test)
    given = [path for path in places if path is not None]
    found = iter(read_parts(given, parse_mapping(notes.mapping), _reading(notes)))
    return Parts(*(next(found) if path is not None else [] for path in places))


def _reading(notes: NotesOptions) -> ReadOptions:
    required = not notes.allow_unannotated
    return ReadOptions(notes.format, notes.encoding, notes.texts, notes.on_error, require_annotations=required)


def _labels_of(documents: Sequence[Document], scheme: Scheme) -> LabelSet:
    """The tags of the types in the training notes."""
    types = {span.label for document in documents for span in document.spans}
    if not types:
        raise DataError(
            f"the training set has {many(len(documents), 'note')} and no entity: expected annotated notes "
            "(does --map drop every type?)"
        )
    return LabelSet.from_types(types, scheme=scheme)


def _warn_of_overlap(parts: Parts) -> None:
    """Warn of held-out notes that are also trained on: their scores would flatter."""
    learned = {document.text for document in parts.train}
    for name, part in (("evaluation", parts.evaluation), ("test", parts.test)):
        if seen := sum(document.text in learned for document in part):
            tell(f"warning: {seen} of {len(part)} {name} notes have the same text as a training note")
