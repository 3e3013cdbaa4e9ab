"""Tables of Hugging Face `datasets` as `save_to_disk` leaves them: a row for each note, its words and their tags.

The package is an optional extra, imported when it is first needed. Folders are described at
https://huggingface.co/docs/datasets/process#save.
"""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardioner._io import check_no_file, is_stream, staging
from cardioner.data.corpus import IssueCounter
from cardioner.data.formats.files import encoded
from cardioner.data.formats.words import Sentence, TagReader, parse_tag, tag_words
from cardioner.data.labels import LabelSet
from cardioner.errors import DataError, OutputError, UsageError, listed, many, missing_packages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cardioner.data.corpus import Issue
    from cardioner.data.documents import Document
    from cardioner.data.formats.reading import Reading

_WORDS = ("tokens", "words")
_TAGS = ("ner_tags", "tags", "labels")
_INFO, _STATE, _SPLITS = "dataset_info.json", "state.json", "dataset_dict.json"


def is_dataset(path: Path) -> bool:
    """Whether a path is a folder that `save_to_disk` made, of one table or of several splits."""
    return (path / _SPLITS).is_file() or ((path / _INFO).is_file() and (path / _STATE).is_file())


def read_dataset(path: Path, reading: Reading) -> Iterator[Document]:
    """Read a folder that `save_to_disk` made, row by row; of several splits all, one after the other.

    Nothing is downloaded, and nothing is written anywhere. See `documents_of` for what a row holds.

    Raises:
        DataError: If the folder cannot be loaded, or a split lacks the columns or the names of its tags.
        UsageError: If the package is not installed.
    """
    datasets = _package()
    if not is_dataset(path):
        raise DataError(f"{path} is not a folder that save_to_disk made; expected {_INFO} and {_STATE}, or {_SPLITS}")
    problem = f"{path}: expected a table that save_to_disk made, found one that cannot be loaded"
    with _translated(problem), _quiet(datasets):
        loaded = datasets.load_from_disk(str(path.absolute()))
    yield from documents_of(loaded, reading, path)


def documents_of(dataset: Any, reading: Reading, path: Path | None = None) -> Iterator[Document]:
    """The documents of a `Dataset` or a `DatasetDict` in memory, which may come from a path, row by row.

    Words are under `tokens` or `words`; tags under `ner_tags`, `tags` or `labels`, as class labels or as strings, of
    IOB1, IOB2, IOBES or BILOU, or bare types. The text is rebuilt with one space between words. A document's id is that
    of the column `id`, where it is there and every id occurs once; else its split and row, from 0: `train/0`.

    Raises:
        DataError: If a table lacks the columns or the names of its tags.
    """
    splits = dict(dataset) if isinstance(dataset, dict) else {str(getattr(dataset, "split", None) or "row"): dataset}
    tables = {}
    for name, table in splits.items():
        with reading.guarded(path or Path(name)):
            tables[name] = _Table(name, table, path)
    ids = _own_ids([*tables.values()], reading)
    for table in tables.values():
        yield from table.documents(reading, own_ids=ids)


def write_dataset(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write a folder as `save_to_disk` does: the columns `id`, `tokens` and `ner_tags` (BIO class labels).

    Rebuilt texts, spans that are left out, widened or trimmed, and scores are counted.

    Raises:
        OutputError: If something is there that may not be replaced, there is no document, an id or a label is not
            Unicode text, or the disk is full.
        UsageError: If the package is not installed.
    """
    datasets = _package()
    _check_place(path, overwrite=overwrite)
    counter = IssueCounter()
    with staging(path) as stage:
        with _quiet(datasets):
            _save(datasets, documents, stage, counter)
        _check_place(path, overwrite=overwrite)
        _replace(path, stage)
    return counter.issues


def _package() -> Any:
    try:
        import datasets  # noqa: PLC0415 - optional
    except ImportError:
        datasets = None
    if datasets is None:
        raise UsageError(missing_packages("a saved dataset", ["datasets"]))
    return datasets


@contextmanager
def _translated(problem: str) -> Iterator[None]:
    """A `DataError` for what the package raises on a folder or a row that it cannot make sense of.

    Its own messages may quote the content: only the class is named.
    """
    arrow = import_module("pyarrow").ArrowException  # comes with the package
    try:
        yield
        return
    except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError, arrow) as error:
        kind = type(error).__name__
    raise DataError(f"{problem} ({kind})")  # outside: it must not carry the other error


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """No progress bars inside; the caller's own setting is restored."""
    if datasets.utils.are_progress_bars_disabled():
        yield
        return
    datasets.utils.disable_progress_bars()
    try:
        yield
    finally:
        datasets.utils.enable_progress_bars()


# Reading -------------------------------------------------------------------------------------------------------------


def _own_ids(tables: Sequence[_Table], reading: Reading) -> bool:
    """Whether the rows' own ids can name them: often each split numbers its rows, or the sentences of a note share."""
    places = [(f"{table.where}, row {number}", name) for table in tables for number, name in enumerate(table.ids())]
    if any(name is None for _, name in places):
        return False
    first = {name: where for where, name in reversed(places)}
    if repeated := [where for where, name in places if first[name] != where]:
        reading.add_issue("ids that occur before, all rows numbered instead", repeated[0], count=len(repeated))
    return not repeated


class _Table:
    """One split: its columns, and how its tags are written."""

    def __init__(self, name: str, table: Any, path: Path | None) -> None:
        self.name = name
        self.path = path or Path(name)
        self.where = f"{path} ({name})" if path else name
        self.words = _column(table, _WORDS, self.where)
        self.tags = _column(table, _TAGS, self.where)
        self.names = _names(table.features[self.tags], self.where, self.tags)
        self.others = sorted(set(table.column_names) - {"id", self.words, self.tags})
        wanted = [column for column in ("id", self.words, self.tags) if column in table.column_names]
        # Without the format that was saved with it, such as tensors.
        self.table = table.with_format(None).select_columns(wanted)

    def ids(self) -> Iterator[str | None]:
        """The rows' own ids; `None` for a row without one that can be a name."""
        try:
            with _translated("ids"):
                for row in self.table.select_columns(["id"]):
                    own = row["id"]
                    usable = isinstance(own, (str, int)) and not isinstance(own, bool) and own != ""
                    yield str(own) if usable else None
        except DataError:
            yield None

    def documents(self, reading: Reading, *, own_ids: bool) -> Iterator[Document]:
        for column in self.others:
            reading.add_issue(f"column {column}", self.where)
        tags = TagReader()
        for number in range(len(self.table)):
            with reading.guarded(self.path):
                where = f"{self.where}, row {number}"
                row = self._row(number, where)
                name = str(row["id"]) if own_ids else f"{self.name}/{number}"
                yield tags.document(name, [self._sentence(row, where)], reading)
        tags.report(reading)

    def _row(self, number: int, where: str) -> Mapping[str, Any]:
        with _translated(f"{where}: cannot be read"):
            row: Mapping[str, Any] = self.table[number]
        return row

    def _sentence(self, row: Mapping[str, Any], where: str) -> Sentence:
        words, tags = row[self.words], row[self.tags]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError(f"{where}: expected a list of strings under {self.words!r}")
        if not isinstance(tags, list) or len(tags) != len(words):
            found = f"{len(tags)} for {many(len(words), 'word')}" if isinstance(tags, list) else "none"
            raise DataError(f"{where}: expected a tag for each word under {self.tags!r}, found {found}")
        parsed = [self._tag(tag, f"{where}: the tag at position {index}") for index, tag in enumerate(tags)]
        return Sentence(words, parsed, where)

    def _tag(self, tag: Any, where: str) -> tuple[str, str]:
        """Position and type of a tag; a bare type counts as inside."""
        if self.names is not None:
            if not isinstance(tag, int) or not 0 <= tag < len(self.names):
                raise DataError(f"{where} is not one of the {len(self.names)} that the column has names for")
            tag = self.names[tag]
        if not isinstance(tag, str) or tag in {"", "B-", "I-", "E-", "S-", "L-", "U-"}:
            raise DataError(f"{where} is neither O nor an entity type, with or without a prefix")
        return parse_tag(tag) or ("I", tag)


def _column(table: Any, names: Sequence[str], where: str) -> str:
    """The first of several names that a table has a column of."""
    for name in names:
        if name in table.column_names:
            return name
    raise DataError(f"{where}: expected a column {' or '.join(names)}, found {listed(table.column_names) or 'none'}")


def _names(feature: Any, where: str, column: str) -> list[str] | None:
    """The names of a column's class labels; `None` if its tags are strings."""
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    names = getattr(inner, "names", None)
    if names:
        return list(names)
    if getattr(inner, "dtype", "") in {"string", "large_string", "null"}:
        return None
    raise DataError(
        f"{where}: expected lists of class labels or of strings in the column {column!r}, found "
        f"{getattr(inner, 'dtype', None) or type(feature).__name__}; give its numbers their names (ClassLabel)"
    )


# Writing -------------------------------------------------------------------------------------------------------------


def _check_place(path: Path, *, overwrite: bool) -> None:
    """Refuse a place that holds something, unless it is a table that may be replaced."""
    if is_stream(path):
        check_no_file(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not is_dataset(path):
        raise OutputError(f"{path} exists and is not a table that save_to_disk made; choose another name")
    if not overwrite:
        raise OutputError(f"{path} exists; choose another name, or ask to overwrite it")


def _save(datasets: Any, documents: Iterable[Document], stage: Path, counter: IssueCounter) -> None:
    """Make the table, without the cache that the package's own readers of files keep."""
    from datasets.arrow_writer import ArrowWriter  # noqa: PLC0415 - optional

    text, types = datasets.Value("string"), set[str]()
    texts = datasets.Features(id=text, tokens=datasets.Sequence(text), ner_tags=datasets.Sequence(text))
    with ArrowWriter(path=str(stage / "rows.arrow"), features=texts) as writer:
        for document in documents:
            rows = [pair for sentence in tag_words(document, counter, by_line=False) for pair in sentence]
            words, tags = [word for word, _ in rows], [tag for _, tag in rows]
            encoded(document.id + "".join(tags), document.id)
            types.update(tag[2:] for tag in tags if tag.startswith("B-"))
            writer.write({"id": document.id, "tokens": words, "ner_tags": tags})
        if not writer.finalize()[0]:
            raise OutputError("there are no documents to write, and save_to_disk cannot write a table without rows")
    names = datasets.Sequence(datasets.ClassLabel(names=list(LabelSet.from_types(types).tags)))
    table = datasets.Dataset.from_file(str(stage / "rows.arrow")).cast_column("ner_tags", names)
    table.save_to_disk(str(stage / "table"))


def _replace(path: Path, stage: Path) -> None:
    """Put the table in its place; what was there comes back if that fails."""
    if not path.exists():
        (stage / "table").rename(path)
        return
    path.rename(stage / "old")
    try:
        (stage / "table").rename(path)
    except OSError:
        (stage / "old").rename(path)
        raise
