"""What commands that train take: notes to learn from, to pick the epoch with, and to score, and their tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cardioner.cli.console import tell
from cardioner.cli.inputs import read_parts
from cardioner.data.documents import Document
from cardioner.data.formats import ReadOptions
from cardioner.data.labels import LabelSet, Scheme
from cardioner.data.splits import apply_splits, read_splits
from cardioner.errors import DataError, UsageError


class Parts(NamedTuple):
    """Notes to learn from, to pick the epoch with, and to score at the end."""

    train: list[Document]
    evaluation: list[Document]
    test: list[Document]


class Places(NamedTuple):
    """Where the parts are: folders of their own, or one corpus and a file that divides it."""

    train: Path | None = None
    evaluation: Path | None = None
    test: Path | None = None
    corpus: Path | None = None
    splits: Path | None = None

    def read(self, mapping: dict[str, str], options: ReadOptions) -> Parts:
        """Read every part; one that was not given is empty.

        Raises:
            UsageError: If places are missing, or given twice.
            DataError: If a part cannot be used.
        """
        folders = {"--train": self.train, "--eval": self.evaluation, "--test": self.test}
        if self.corpus or self.splits:
            return _read_corpus(self.corpus, self.splits, folders, mapping=mapping, options=options)
        return _read_folders(folders, mapping=mapping, options=options)


def _read_corpus(
    corpus: Path | None,
    splits: Path | None,
    folders: Mapping[str, Path | None],
    *,
    mapping: dict[str, str],
    options: ReadOptions,
) -> Parts:
    """The parts of one folder, by a splits file."""
    if corpus is None or splits is None:
        raise UsageError("--corpus PATH and --splits FILE, which says which notes to train on, need each other")
    if given := [name for name, path in folders.items() if path is not None]:
        raise UsageError(f"--corpus with --splits takes the place of {', '.join(given)}: give one or the other")
    division = read_splits(splits)
    (documents,) = read_parts([corpus], mapping, options)
    if left_out := division.count_left_out(documents):
        tell(f"{left_out} of {len(documents)} notes are in no part of {splits} and are not used")
    return Parts(*apply_splits(documents, division))


def _read_folders(folders: Mapping[str, Path | None], *, mapping: dict[str, str], options: ReadOptions) -> Parts:
    """The parts given as folders of their own."""
    if folders["--train"] is None:
        raise UsageError("give the training notes: --train PATH, or --corpus PATH with --splits FILE")
    given = [path for path in folders.values() if path is not None]
    found = iter(read_parts(given, mapping, options))
    return Parts(*(next(found) if path is not None else [] for path in folders.values()))


def labels_of(documents: Sequence[Document], scheme: Scheme) -> LabelSet:
    """The tags of the types in the training notes.

    Raises:
        DataError: If there is none.
    """
    types = {span.label for document in documents for span in document.spans}
    if not types:
        raise DataError(
            f"the training set has {len(documents)} notes and no entity: expected annotated notes "
            "(does --map drop every type?)"
        )
    return LabelSet.from_types(types, scheme=scheme)


def warn_of_overlap(parts: Parts) -> None:
    """Tell of held-out notes that are also learned from: their scores would flatter."""
    learned = {document.text for document in parts.train}
    for name, part in (("evaluation", parts.evaluation), ("test", parts.test)):
        if seen := sum(document.text in learned for document in part):
            tell(f"warning: {seen} of {len(part)} {name} notes have the same text as a training note")
