"""What a manifest records of training notes: counts, and a digest that only a secret key can check."""

from __future__ import annotations

import hmac
import os
import secrets
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from cardioner.data.documents import Document
from cardioner.errors import OutputError, UsageError
from cardioner.model_dir.manifest import Notes, canonical

_BYTES = 32
_SCHEME = "hmac-sha256:"


def describe_notes(documents: Sequence[Document], *, key: bytes | None = None, ids: bool = False) -> Notes:
    """What to say of a split.

    Args:
        documents: Its notes.
        key: Secret; without one there is no digest, as a plain one would let anyone test which notes were used.
        ids: Whether to name the notes.
    """
    spans = Counter(span.label for document in documents for span in document.spans)
    return Notes(
        documents=len(documents),
        spans=dict(sorted(spans.items())),
        digest=None if key is None else keyed_digest(documents, key),
        ids=[document.id for document in documents] if ids else None,
    )


def keyed_digest(documents: Sequence[Document], key: bytes) -> str:
    """HMAC-SHA256 (RFC 2104) over the texts and spans of notes, whatever their order and names.

    Args:
        documents: The notes.
        key: The secret key.
    """
    parts = sorted(_of_note(document, key) for document in documents)
    return _SCHEME + hmac.new(key, b"".join(parts), "sha256").hexdigest()


def read_key(path: Path) -> bytes:
    """The secret key in a file.

    Raises:
        UsageError: If there is none.
    """
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != _BYTES:
        raise UsageError(f"{path}: expected {_BYTES} bytes in hexadecimal digits, a key that cardioner made")
    return key


def check_key_place(key: Path | None, directory: Path) -> None:
    """Refuse a key that would be given away with a model.

    Raises:
        UsageError: If it lies in the model's directory.
    """
    if key is not None and key.resolve().is_relative_to(directory.resolve()):
        raise UsageError(f"{key} lies in {directory}, and would be given away with the model: choose another place")


def make_key(path: Path) -> bytes:
    """The secret key in a file, which is made, for its owner's eyes alone, if it is missing.

    Raises:
        OutputError: If it cannot be written.
        UsageError: If the file holds something else.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", encoding="ascii") as file:
                file.write(secrets.token_hex(_BYTES) + "\n")
                file.flush()
                with suppress(FileExistsError):  # of several processes, the first one's stays
                    os.link(file.name, path)
    except OSError as error:
        raise OutputError(f"{path}: a key for digests of notes cannot be written ({error.strerror})") from error
    return read_key(path)


def _of_note(document: Document, key: bytes) -> bytes:
    spans = sorted([span.start, span.end, span.label, list(map(list, span.fragments))] for span in document.spans)
    return hmac.new(key, canonical([document.text, spans]), "sha256").digest()
