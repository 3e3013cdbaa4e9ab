"""Annotated corpora on disk: one door to read them, one to write them, whatever the format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from cardioner.data.formats.brat import is_brat, read_brat, write_brat
from cardioner.data.formats.conll import is_conll, read_conll, write_conll
from cardioner.data.formats.corpus import Corpus, Reading, Remark
from cardioner.data.formats.files import check_encoding
from cardioner.data.formats.jsonl import is_jsonl, read_jsonl, write_jsonl
from cardioner.data.formats.saved_dataset import is_dataset, read_dataset, write_dataset
from cardioner.data.formats.tsv import is_tsv, read_tsv, read_tsv_spans, write_tsv
from cardioner.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cardioner.data.documents import Annotations, Document, Note

__all__ = [
    "FORMATS",
    "Corpus",
    "Reading",
    "Remark",
    "detect_format",
    "read_corpus",
    "stream_corpus",
    "stream_spans",
    "write_corpus",
]


_EXPECTED = (
    "expected a folder of NAME.txt and NAME.ann files (brat) or one .txt note, a .tsv, .jsonl or .conll file or a "
    "folder of them, or a folder that datasets saved"
)


class Format(NamedTuple):
    """A way to keep documents on disk.

    Attributes:
        matches: Whether what lies at a path looks like it.
        read: The documents at a path, one at a time; what is set aside is reported to the `Reading`.
        write: Write documents to a path, one at a time, atomically; returns what the format cannot hold, counted.
        read_spans: As `read`, but a note whose text is not at hand gives `Annotations`; `None` for a format that always
            holds the texts.
    """

    matches: Callable[[Path], bool]
    read: Callable[[Path, Reading], Iterator[Document]]
    write: Callable[..., tuple[Remark, ...]]
    read_spans: Callable[[Path, Reading], Iterator[Document | Annotations]] | None = None


FORMATS: dict[str, Format] = {
    "datasets": Format(is_dataset, read_dataset, write_dataset),
    "jsonl": Format(is_jsonl, read_jsonl, write_jsonl),
    "conll": Format(is_conll, read_conll, write_conll),
    "tsv": Format(is_tsv, read_tsv, write_tsv, read_tsv_spans),
    "brat": Format(is_brat, read_brat, write_brat),
}
"""In the order in which what lies at a path is compared with them."""


def detect_format(path: Path) -> str:
    """The name of the format that what lies at a path has, found by its content.

    Raises:
        DataError: If nothing is there, or it looks like no format.
    """
    try:
        if not path.exists():
            raise DataError(f"{path} does not exist; {_EXPECTED}")
        found = next((name for name, form in FORMATS.items() if form.matches(path)), None)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from error
    if found is None and path.is_dir():
        found = "brat"  # whose reader says what a folder without notes lacks
    if found is None:
        raise DataError(f"{path} is no corpus by its name; {_EXPECTED}; or name its format (--format)")
    return found


def stream_corpus(path: Path, format: str | None = None, *, reading: Reading | None = None) -> Iterator[Document]:  # noqa: A002
    """The documents at a path, one at a time: a corpus may be larger than memory.

    Args:
        path: A folder or a file.
        format: A name in `FORMATS`; found by content without.
        reading: What is wanted; holds what was set aside when the last document is out.

    Raises:
        DataError: At the end, if files or lines cannot be used; all of them are named together.
        UsageError: For an unknown format or encoding.
    """
    reading = Reading() if reading is None else reading
    form = _format_at(path, format, reading)
    yield from _each_once(form.read(path, reading), path, reading)


def stream_spans(
    path: Path,
    format: str | None = None,  # noqa: A002
    *,
    reading: Reading,
) -> Iterator[Document | Annotations]:
    """The documents at a path as `stream_corpus` gives them, or of a table without its notes the spans alone.

    Args:
        path: A folder or a file.
        format: A name in `FORMATS`; found by content without.
        reading: What is wanted; holds what was set aside when the last document is out, and how many texts are missing.

    Raises:
        DataError: At the end, if files or lines cannot be used; all of them are named together.
        UsageError: For an unknown format or encoding.
    """
    form = _format_at(path, format, reading)
    yield from _each_once((form.read_spans or form.read)(path, reading), path, reading)


def _format_at(path: Path, name: str | None, reading: Reading) -> Format:
    check_encoding(reading.encoding)
    return _format(detect_format(path) if name is None else name)


def _each_once(documents: Iterator[Note], path: Path, reading: Reading) -> Iterator[Note]:
    """The documents, but of those with the same id only the first; in the end what was gathered is raised."""
    ids = set[str]()
    for document in documents:
        with reading.guarded(path):
            if document.id in ids:
                raise DataError(f"{path}: the document id {document.id!r} occurs more than once")
        if document.id not in ids:
            ids.add(document.id)
            yield document
    reading.finish()


def read_corpus(
    path: Path,
    format: str | None = None,  # noqa: A002 - the name that readers expect
    *,
    require_annotations: bool = False,
    encoding: str = "utf-8",
    texts: Path | None = None,
    on_error: Literal["stop", "skip"] = "stop",
) -> Corpus:
    """Read a corpus into memory.

    Args:
        path: A folder or a file.
        format: A name in `FORMATS`; found by content without.
        require_annotations: Refuse a note without annotations, as training and gold data need.
        encoding: Of the files; BOM and newlines are characters like any other.
        texts: The folder of the notes, for a TSV file that lies elsewhere.
        on_error: `skip` leaves out what is malformed, and counts it.

    Returns:
        The documents, of brat folders sorted by id, and a remark for everything that was set aside.

    Raises:
        DataError: If there is nothing to read, or if a file or a line cannot be used; all of them are named together.
        UsageError: For an unknown format or encoding.
    """
    reading = Reading(encoding, require_annotations, texts, on_error)
    documents = tuple(stream_corpus(path, format, reading=reading))
    return Corpus(documents, reading.tally.remarks())


def write_corpus(
    documents: Iterable[Document],
    path: Path,
    format: str = "brat",  # noqa: A002
    *,
    overwrite: bool = False,
) -> tuple[Remark, ...]:
    """Write documents, one at a time; what is there stays as it was if anything goes wrong.

    Args:
        documents: The notes; in brat a `/` in an id makes a sub-folder.
        path: The folder or the file; it is made if it is missing.
        format: A name in `FORMATS`.
        overwrite: Replace what is there; in a folder, files of other documents stay as they are.

    Returns:
        What the format cannot hold, counted: those spans, or those parts of spans, are left out.

    Raises:
        OutputError: If a document cannot be written there, or if it would replace something unasked.
        UsageError: For an unknown format.
    """
    return _format(format).write(documents, path, overwrite=overwrite)


def _format(name: str) -> Format:
    """A format by its name."""
    if name not in FORMATS:
        raise UsageError(f"there is no format {name!r}: expected one of {', '.join(FORMATS)}")
    return FORMATS[name]
