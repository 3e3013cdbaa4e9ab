"""Which documents a model is fitted on, chosen by, and tested on: always whole documents, by id."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from cardioner._io import as_path, writing
from cardioner.data.stratify import deal, gather
from cardioner.errors import DataError, UsageError, listed, many

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cardioner.data.documents import Document
    from cardioner.data.near_duplicates import Group

WITHOUT_ENTITIES = "none"
"""Stands for a type in the older form of a splits file: documents without entities are listed under it."""

_OLDER_PARTS = {
    "train": "train",
    "validation": "validation",
    "dev": "validation",
    "devel": "validation",
    "val": "validation",
    "test": "test",
}
_EXPECTED = 'expected JSON such as {"train": ["id", ...], "validation": ["id", ...], "test": ["id", ...]}'


@dataclass(frozen=True, slots=True)
class Splits:
    """The document ids of each part.

    Attributes:
        train: A model is fitted on these.
        validation: The best epoch is chosen by these.
        test: The model is scored on these once, at the end.

    Raises:
        DataError: If an id appears twice, in one part or in two.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in fields(self):
            object.__setattr__(self, part.name, tuple(getattr(self, part.name)))
        if repeated := _repeated([*self.train, *self.validation, *self.test]):
            raise DataError(f"each document may be in one part, once; found more often: {listed(repeated)}")

    def count_left_out(self, documents: Iterable[Document]) -> int:
        """How many of the documents are in no part."""
        listed = {*self.train, *self.validation, *self.test}
        return sum(document.id not in listed for document in documents)


def make_splits(
    documents: Iterable[Document],
    ratios: tuple[float, float, float],
    *,
    seed: int,
    groups: Iterable[Group] | None = None,
) -> Splits:
    """Divide a corpus by document, such that each part has its share of every entity type.

    Near-identical documents go to the same part. Documents without entities are shared out like a type of their own.
    See `stratify.deal` for how. The result does not depend on the order of the documents.

    Args:
        documents: A corpus, read once.
        ratios: Shares of train, validation and test in any measure, such as 80, 10, 10; a part with 0 is empty.
        seed: Decides what types and sizes leave open.
        groups: Documents that must stay together; `None` finds near duplicates.

    Returns:
        The parts, each sorted by id.

    Raises:
        DataError: If there are fewer groups of near-identical documents than parts, or the corpus has an id twice.
        UsageError: If the ratios cannot be shares.
    """
    return Splits(*deal(gather(documents, groups), ratios, seed=seed))


def make_folds(
    documents: Iterable[Document], count: int, *, seed: int, groups: Iterable[Group] | None = None
) -> tuple[Splits, ...]:
    """Divide a corpus into equal parts for cross-validation, as `make_splits` divides it.

    Args:
        documents: A corpus, read once.
        count: Number of folds, two at least.
        seed: Decides what types and sizes leave open.
        groups: Documents that must stay together; `None` finds near duplicates.

    Returns:
        For each fold its documents as `validation` and all others as `train`, each sorted by id.

    Raises:
        DataError: If there are fewer groups of near-identical documents than folds, or the corpus has an id twice.
        UsageError: If there are fewer than two folds.
    """
    if count < 2:
        raise UsageError(f"cross-validation takes 2 folds or more; found {count}")
    parts = deal(gather(documents, groups), [1] * count, seed=seed)
    every = {name for part in parts for name in part}
    return tuple(Splits(tuple(sorted(every.difference(part))), part) for part in parts)


def read_splits(path: str | Path) -> Splits:
    """Read splits from a JSON file; `validation` and `test` may be missing.

    The older form with a level for languages and one for entity types is read too:
    `{"en": {"train": {"DISEASE": ["id", ...]}, "validation": {...}, "test": {...}}}`, where validation may be named
    `dev`, `devel` or `val`. Each part is then the union of its ids over languages and types, sorted.

    Raises:
        DataError: If the file cannot be read, is not JSON, has other keys, or puts a document into two parts.
    """
    path = as_path(path)
    try:
        return _parse(json.loads(path.read_bytes(), object_pairs_hook=_once_each))
    except DataError as error:
        problem = f"{path}: {error}"
    except OSError as error:
        problem = f"{path}: cannot be read ({error.strerror}); {_EXPECTED}"
    except json.JSONDecodeError as error:
        problem = f"{path}:{error.lineno}: not JSON; {_EXPECTED}"
    except (ValueError, RecursionError):
        problem = f"{path}: not JSON in UTF-8; {_EXPECTED}"
    raise DataError(problem)


def write_splits(splits: Splits, path: str | Path, *, overwrite: bool = False) -> None:
    """Write splits as a JSON file that `read_splits` reads; equal splits give equal bytes.

    Args:
        splits: The parts.
        path: The file.
        overwrite: Replace a file that is there.

    Raises:
        OutputError: If the file exists and may not be replaced, or cannot be written.
    """
    _write(asdict(splits), path, overwrite=overwrite)


def write_older_splits(
    splits: Splits, documents: Iterable[Document], path: str | Path, *, language: str, overwrite: bool = False
) -> None:
    """Write splits in the older form, which lists the documents of each part by the entity types they hold.

    A document with several types is listed under each of them, and one without entities under `none`. What
    `read_splits` reads back is the same but for the order: each part is sorted.

    Args:
        splits: The parts.
        documents: The corpus; those in no part are left out.
        path: The file.
        language: The one key of the upper level, such as `en`.
        overwrite: Replace a file that is there.

    Raises:
        DataError: If a part has an id that the corpus lacks, or if the corpus has an id twice.
        OutputError: If the file exists and may not be replaced, or cannot be written.
    """
    parts = dict(zip((part.name for part in fields(Splits)), apply_splits(documents, splits), strict=True))
    _write({language: {name: _by_type(part) for name, part in parts.items()}}, path, overwrite=overwrite)


def _by_type(documents: Iterable[Document]) -> dict[str, list[str]]:
    """The sorted ids of the documents that hold each type."""
    found: dict[str, list[str]] = {}
    for document in sorted(documents, key=lambda document: document.id):
        for label in {span.label for span in document.spans} or {WITHOUT_ENTITIES}:
            found.setdefault(label, []).append(document.id)
    return dict(sorted(found.items()))


def _write(content: object, path: str | Path, *, overwrite: bool) -> None:
    """Write JSON in ASCII."""
    with writing(as_path(path), overwrite=overwrite) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode("ascii"))


def apply_splits(
    documents: Iterable[Document], splits: Splits
) -> tuple[list[Document], list[Document], list[Document]]:
    """Sort documents into their parts; those in no part are left out (`Splits.count_left_out` counts them).

    Args:
        documents: A corpus.
        splits: The ids of each part.

    Returns:
        Train, validation and test documents, each in the order of the corpus.

    Raises:
        DataError: If a part has an id that the corpus lacks, or if the corpus has an id twice.
    """
    documents = list(documents)
    ids = [document.id for document in documents]
    if repeated := _repeated(ids):
        raise DataError(f"expected each document id once in the corpus; found more often: {listed(repeated)}")
    if unknown := {*splits.train, *splits.validation, *splits.test}.difference(ids):
        raise DataError(f"{many(len(unknown), 'id')} of the splits not in the corpus: {listed(unknown)}")
    train, validation, test = (set(part) for part in (splits.train, splits.validation, splits.test))
    return (
        [document for document in documents if document.id in train],
        [document for document in documents if document.id in validation],
        [document for document in documents if document.id in test],
    )


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a key that appears twice, of which JSON would keep the last in silence."""
    if len({key for key, _ in pairs}) != len(pairs):
        raise DataError(f"a key appears twice; {_EXPECTED}")
    return dict(pairs)


def _parse(content: object) -> Splits:
    if isinstance(content, dict) and content and all(isinstance(parts, dict) for parts in content.values()):
        return _parse_older(content)
    if not isinstance(content, dict) or "train" not in content:
        raise DataError(_EXPECTED)
    if unknown := content.keys() - {part.name for part in fields(Splits)}:
        raise DataError(_unknown_keys(unknown))
    return Splits(**{name: _parse_ids(ids) for name, ids in content.items()})


def _parse_older(languages: dict[str, dict[str, object]]) -> Splits:
    """The union of languages and types."""
    ids: dict[str, set[str]] = {part.name: set() for part in fields(Splits)}
    if unknown := {name for parts in languages.values() for name in parts} - _OLDER_PARTS.keys():
        raise DataError(_unknown_keys(unknown))
    if not any("train" in parts for parts in languages.values()):
        raise DataError(_EXPECTED)
    for parts in languages.values():
        for name, types in parts.items():
            if not isinstance(types, dict):
                raise DataError(f"a part below a language has no lists by entity type; {_EXPECTED}")
            ids[_OLDER_PARTS[name]].update(name for listed_ids in types.values() for name in _parse_ids(listed_ids))
    return Splits(**{name: tuple(sorted(part)) for name, part in ids.items()})


def _unknown_keys(names: Iterable[str]) -> str:
    """A file given by mistake may hold a note anywhere: only what looks like the name of a part is repeated."""
    names = list(names)
    shown = sorted(name for name in names if name.isidentifier() and len(name) <= 20)
    return f"{len(names)} unknown keys {shown}; {_EXPECTED}"


def _parse_ids(ids: object) -> tuple[str, ...]:
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise DataError(f"a part is not a list of document ids; {_EXPECTED}")
    return tuple(ids)


def _repeated(ids: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(ids).items() if count > 1]
