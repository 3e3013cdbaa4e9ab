"""Annotated corpora on disk: one door to read them, one to write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cardioner.formats.brat import check_brat_target, read_brat, read_brat_texts, write_brat
from cardioner.formats.corpus import Corpus, Remark

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cardioner.documents import Document

__all__ = ["Corpus", "Remark", "check_target", "read_corpus", "read_texts", "write_corpus"]


def read_corpus(path: Path, *, require_annotations: bool = False) -> Corpus:
    """Read a corpus: a folder of brat files, or a single `.txt` note.

    Args:
        path: The folder (sub-folders are read too), or the note.
        require_annotations: Refuse a note without annotations, as training and gold data need.

    Returns:
        The documents sorted by id, and a remark for everything that was set aside.

    Raises:
        DataError: If there is nothing to read, or if a file or a line cannot be used; all of them are named together.
    """
    return read_brat(path, require_annotations=require_annotations)


def read_texts(path: Path) -> tuple[Document, ...]:
    """Read the notes of a corpus without their annotations, which need not be there, or be right.

    Raises:
        DataError: If there is no note, or a note cannot be read.
    """
    return read_brat_texts(path)


def write_corpus(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> None:
    """Write documents as a folder of brat files.

    Args:
        documents: The notes; a `/` in an id makes a sub-folder.
        path: The folder; it is made if it is missing.
        overwrite: Replace files that are there; files of other documents stay as they are.

    Raises:
        OutputError: If a document cannot be written there, or if it would replace something unasked.
    """
    write_brat(documents, path, overwrite=overwrite)


def check_target(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> None:
    """Check whether `write_corpus` could write the documents there, before the work that would end in it.

    Raises:
        OutputError: As `write_corpus` does.
    """
    check_brat_target(documents, path, overwrite=overwrite)
