"""Which documents a model is fitted on, chosen by, and tested on: always whole documents, by id."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from cardioner.errors import DataError, OutputError, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cardioner.documents import Document

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


def read_splits(path: Path) -> Splits:
    """Read splits from a JSON file; `validation` and `test` may be missing.

    Raises:
        DataError: If the file cannot be read, is not JSON, has other keys, or puts a document into two parts.
    """
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


def write_splits(splits: Splits, path: Path, *, overwrite: bool = False) -> None:
    """Write splits as a JSON file that `read_splits` reads; equal splits give equal bytes.

    Args:
        splits: The parts.
        path: The file; the folder must exist.
        overwrite: Replace a file that is there.

    Raises:
        OutputError: If the file exists and may not be replaced, or cannot be written.
    """
    content = json.dumps(asdict(splits), indent=2) + "\n"
    try:
        with path.open("wb" if overwrite else "xb") as file:
            file.write(content.encode("ascii"))
    except FileExistsError:
        raise OutputError(f"{path} exists; choose another name, or ask to overwrite it") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


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
        raise DataError(f"{len(unknown)} ids of the splits are not in the corpus: {listed(unknown)}")
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
    if not isinstance(content, dict) or "train" not in content:
        raise DataError(_EXPECTED)
    if unknown := content.keys() - {part.name for part in fields(Splits)}:
        # A file given by mistake may hold a note anywhere: only what looks like the name of a part is repeated.
        names = [key for key in unknown if key.isidentifier() and len(key) <= 20]
        raise DataError(f"{len(unknown)} unknown keys {sorted(names)}; {_EXPECTED}")
    return Splits(**{name: _parse_ids(ids) for name, ids in content.items()})


def _parse_ids(ids: object) -> tuple[str, ...]:
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise DataError(f"a part is not a list of document ids; {_EXPECTED}")
    return tuple(ids)


def _repeated(ids: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(ids).items() if count > 1]
