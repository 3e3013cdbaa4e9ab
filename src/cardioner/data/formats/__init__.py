"""Annotated corpora on disk: one function to read them and one to write them, whatever the format."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from cardioner._io import as_path, is_stream
from cardioner.data.corpus import Corpus, Issue, ReadReport
from cardioner.data.documents import Annotations, Document, check_unique
from cardioner.data.formats.bioc_xml import read_bioc, write_bioc
from cardioner.data.formats.brat import read_brat, read_brat_spans, write_brat
from cardioner.data.formats.conll import read_conll, write_conll
from cardioner.data.formats.docbin import read_docbin, write_docbin
from cardioner.data.formats.doccano import write_doccano
from cardioner.data.formats.files import check_encoding
from cardioner.data.formats.jsonl import read_jsonl, write_jsonl
from cardioner.data.formats.label_studio import write_label_studio
from cardioner.data.formats.prodigy import write_prodigy
from cardioner.data.formats.pubtator import read_pubtator, write_pubtator
from cardioner.data.formats.reading import Reading, ReadOptions
from cardioner.data.formats.recognition import form_of_file, form_of_folder
from cardioner.data.formats.saved_dataset import is_dataset, read_dataset, write_dataset
from cardioner.data.formats.tsv import read_tsv, read_tsv_spans, write_tsv
from cardioner.data.formats.xmi import read_xmi, write_xmi
from cardioner.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cardioner.data.documents import Note

__all__ = [
    "FORMATS",
    "NOTE_FILES",
    "PREDICTION_WRITERS",
    "READERS",
    "SPAN_READERS",
    "WRITERS",
    "Corpus",
    "Issue",
    "Notes",
    "ReadOptions",
    "ReadReport",
    "Reading",
    "detect_format",
    "each_once",
    "format_of_name",
    "notes_of",
    "read_corpus",
    "stream_corpus",
    "stream_spans",
    "write_corpus",
]


Notes: TypeAlias = "str | Path | Iterable[Document] | Iterable[Document | Annotations]"
"""A corpus, documents, or the path of a corpus."""

Value = TypeVar("Value")

_EXPECTED = (
    "expected a folder of NAME.txt and NAME.ann files (brat) or one .txt note, a .tsv, .jsonl, .conll, .pubtator, "
    ".xmi, .bioc or .spacy file or a folder of them, or a folder that datasets saved"
)


READERS: dict[str, Callable[[Path, Reading], Iterator[Document]]] = {
    "brat": read_brat,
    "tsv": read_tsv,
    "jsonl": read_jsonl,
    "conll": read_conll,
    "datasets": read_dataset,
    "pubtator": read_pubtator,
    "xmi": read_xmi,
    "bioc": read_bioc,
    "docbin": read_docbin,
    **dict.fromkeys(("doccano", "label-studio", "prodigy", "spacy"), read_jsonl),
}
"""What gives the documents at a path, one at a time; what is left out or repaired is reported to the `Reading`."""

SPAN_READERS: dict[str, Callable[[Path, Reading], Iterator[Document | Annotations]]] = READERS | {
    "brat": read_brat_spans,
    "tsv": read_tsv_spans,
}
"""As `READERS`, but a note whose text is missing gives `Annotations`."""

WRITERS: dict[str, Callable[..., tuple[Issue, ...]]] = {
    "brat": write_brat,
    "tsv": write_tsv,
    "jsonl": write_jsonl,
    "conll": write_conll,
    "datasets": write_dataset,
    "pubtator": write_pubtator,
    "xmi": write_xmi,
    "bioc": write_bioc,
    "docbin": write_docbin,
    "doccano": write_doccano,
    "label-studio": write_label_studio,
    "prodigy": write_prodigy,
}
"""What writes documents to a path, one at a time, atomically; returns what the format cannot hold, counted."""

PREDICTION_WRITERS = WRITERS | {
    "label-studio": partial(write_label_studio, predicted=True),
    "prodigy": partial(write_prodigy, predicted=True),
}
"""As `WRITERS`, for what a model found, where that is not the same as what a person marked."""

NOTE_FILES = {"brat": (".txt", ".ann"), "xmi": (".xmi",)}
"""Of the formats in which each note is files of its own, the suffixes of these: then an id is the name of a file."""

TABLES = (".parquet", ".pq", ".arrow", ".feather", ".ipc", ".csv")
"""The suffixes of tables, which are no corpora."""

FORMATS = tuple(WRITERS)
"""The formats that are both read and written."""


def detect_format(path: str | Path, encoding: str = "utf-8") -> str:
    """The name of the format of what is at a path, found by its content.

    Raises:
        DataError: If nothing is there, or it looks like no format.
    """
    path = as_path(path)
    try:
        if not path.exists():
            raise DataError(f"{path} does not exist; {_EXPECTED}")
        if is_dataset(path):
            return "datasets"
        found = form_of_folder(path, encoding) if path.is_dir() else form_of_file(path, encoding)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from error
    if found is None and path.suffix.lower() in TABLES:
        raise DataError(
            f"{path} is a table, which `cardioner predict` alone reads; write its notes to JSON lines with the keys id "
            "and text, or to .txt files"
        )
    if found is None:
        raise DataError(f"{path}: the format is not clear from the name; {_EXPECTED}; or name the format (--from)")
    return found


def stream_corpus(
    path: str | Path,
    format: str | None = None,  # noqa: A002 - the name that readers expect
    *,
    reading: Reading | None = None,
) -> Iterator[Document]:
    """The documents at a path, one at a time: a corpus may be larger than memory.

    Args:
        path: A folder or a file.
        format: A name in `READERS`; `None` takes that of `reading`, or finds it by the content.
        reading: How to read; its report is complete when the last document is out.

    Raises:
        DataError: At the end, if files or lines cannot be used or an id occurs twice; all of them are named together.
        UsageError: For an unknown format or encoding.
    """
    return _stream(path, format, reading, READERS)


def stream_spans(
    path: str | Path,
    format: str | None = None,  # noqa: A002
    *,
    reading: Reading | None = None,
) -> Iterator[Document | Annotations]:
    """As `stream_corpus`, but tables and `.ann` files without their notes give only spans; such notes are counted."""
    return _stream(path, format, reading, SPAN_READERS)


def _stream(
    path: str | Path,
    name: str | None,
    reading: Reading | None,
    readers: Mapping[str, Callable[[Path, Reading], Iterator[Note]]],
) -> Iterator[Note]:
    path, reading = as_path(path), reading or Reading()
    encoding = check_encoding(reading.options.encoding)
    name = name or reading.options.format or detect_format(path, encoding)
    yield from each_once(_called(name, readers)(path, reading), path, reading)


def each_once(documents: Iterator[Note], path: Path, reading: Reading) -> Iterator[Note]:
    """The documents, but of those with the same id only the first; in the end the collected problems are raised."""
    ids = set[str]()
    for document in documents:
        if document.id not in ids:
            ids.add(document.id)
            yield document
            continue
        with reading.guarded(path):
            raise DataError(f"{path}: the document id {document.id!r} occurs more than once")
    reading.finish()


def read_corpus(
    path: str | Path,
    format: str | None = None,  # noqa: A002 - the name that readers expect
    *,
    require_annotations: bool = False,
    encoding: str = "utf-8",
    texts: str | Path | None = None,
    on_error: Literal["stop", "skip"] = "stop",
) -> Corpus:
    """Read a corpus into memory.

    Args:
        path: A folder or a file.
        format: A name in `READERS`; `None` finds it by the content.
        require_annotations: Refuse a note without annotations, as training and gold data need.
        encoding: Of the files; BOM and newlines are characters like any other.
        texts: The folder of the notes, for a TSV file that lies elsewhere.
        on_error: `skip` leaves out what is malformed, and counts it.

    Returns:
        The documents, those of brat folders sorted by id, with a report of what was left out or repaired.

    Raises:
        DataError: If there is nothing to read, a file or a line cannot be used, or an id occurs twice; all of them are
            named together.
        UsageError: For an unknown format or encoding.
    """
    where = None if texts is None else as_path(texts)
    reading = Reading(ReadOptions(format, encoding, where, on_error, require_annotations))
    documents = tuple(stream_corpus(path, reading=reading))
    return Corpus(documents, reading.report)


def notes_of(source: Notes, name: str, *, require_annotations: bool = True) -> list[Document | Annotations]:
    """The notes that a caller gave as a corpus, as documents or as a path.

    Args:
        source: What was given.
        name: What the caller knows it by, for messages.
        require_annotations: Of a path, whether to refuse notes without annotations.

    Raises:
        DataError: If what is at a path cannot be read.
        UsageError: If something else was given.
    """
    if isinstance(source, (str, Path)):
        return list(stream_spans(source, reading=Reading(ReadOptions(require_annotations=require_annotations))))
    if not isinstance(source, Iterable):
        raise UsageError(f"{name}: expected a corpus, documents or the path of a corpus; found {type(source).__name__}")
    notes = list(source)
    for place, note in enumerate(notes, start=1):
        if not isinstance(note, (Document, Annotations)):
            raise UsageError(f"{name}: item {place} must be a Document; found {type(note).__name__}")
    return notes


def write_corpus(
    documents: Iterable[Document],
    path: str | Path,
    format: str | None = None,  # noqa: A002
    *,
    overwrite: bool = False,
    predicted: bool = False,
) -> tuple[Issue, ...]:
    """Write documents, one at a time; what is there stays as it was if anything goes wrong.

    Args:
        documents: The notes; in brat a `/` in an id makes a sub-folder.
        path: The folder or the file; it is made if it is missing.
        format: A name in `WRITERS`; `None` takes it from the suffix of `path`, and brat for a name without one.
        overwrite: Replace what is there; in a folder, files of other documents stay as they are.
        predicted: Whether a model found the spans: tools for annotation then take them as what is to be corrected.

    Returns:
        What the format cannot hold, counted: those spans, or those parts of spans, are left out.

    Raises:
        DataError: If two documents have the same id.
        OutputError: If a document cannot be written there, or if it would replace something unasked.
        UsageError: For an unknown format.
    """
    path = as_path(path)
    write = _called(format or format_of_name(path), PREDICTION_WRITERS if predicted else WRITERS)
    return write(check_unique(documents), path, overwrite=overwrite)


def format_of_name(path: Path) -> str:
    """The format that the name of a new file or folder stands for: JSON lines for a stream, brat without a suffix.

    Raises:
        UsageError: If it has a suffix of none.
    """
    if is_stream(path):
        return "jsonl"
    names = {".tsv": "tsv", ".jsonl": "jsonl", ".conll": "conll", ".pubtator": "pubtator", ".bioc": "bioc"}
    names |= {".spacy": "docbin", "": "brat"}
    if path.suffix.lower() not in names:
        raise UsageError(
            f"{path}: no format has the suffix {path.suffix}; expected {', '.join(filter(None, names))}, or no suffix "
            "for a folder (brat); or name the format (--to)"
        )
    return names[path.suffix.lower()]


def _called(name: str, table: Mapping[str, Value]) -> Value:
    """What a table has under the name of a format."""
    if name not in table:
        raise UsageError(f"there is no format {name!r}: expected one of {', '.join(table)}")
    return table[name]
