"""`cardioner.json`: what a model directory holds, what it was made of, how good it is, and what it must compute.

The file is JSON in one fixed layout, so that no byte of it can change unnoticed, and carries the SHA-256 of its own
canonical form: the content without `digest`, keys sorted, no white space, UTF-8.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cardioner.errors import ModelError

MANIFEST = "cardioner.json"
SIGNATURE = "cardioner.sig"
FORMAT: Literal[1] = 1

_LARGEST = 16 << 20
"""Most bytes of a manifest that are read."""
_CHUNK = 1 << 20
_LISTS = re.compile(r"\[\n\s*([-+.\deE,\s]+?)\s*\]")
"""Lists of numbers, which `json.dumps` puts on a line each; texts in JSON hold no raw line break."""
_BROKEN = "it was altered or cut: copy the directory again from whoever made it, or save the model again"


class _Part(BaseModel):
    """A part of a manifest: nothing may be missing, unknown, or changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileEntry(_Part):
    """A file.

    Attributes:
        sha256: Of its content.
        size: In bytes.
    """

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Notes(_Part):
    """What is said of the notes of a split.

    Attributes:
        documents: How many there were.
        spans: How many spans of each entity type.
        digest: Of texts and spans, under a secret key, see `notes_digest`; `None` where no key was given.
        ids: The names of the notes, if they were asked for.
    """

    documents: int = Field(ge=0)
    spans: dict[str, int]
    digest: str | None = None
    ids: list[str] | None = None


class CanaryText(_Part):
    """A made-up text and what the tokenizer makes of it.

    Attributes:
        text: The text.
        ids: Of its sub-tokens, special ones not among them.
        offsets: The characters of each sub-token, half-open, into the text.
    """

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]


class Canary(_Part):
    """What the model must compute.

    Attributes:
        input_ids: Random ids, `(rows, positions)`.
        attention_mask: Which of them are attended.
        emissions: In float32, `(rows, positions, tags)`; 0 where a position is not attended.
        tags: The best tag ids of each row's attended positions.
        texts: What the tokenizer must make of made-up texts.
    """

    input_ids: list[list[int]]
    attention_mask: list[list[int]]
    emissions: list[list[list[float]]]
    tags: list[list[int]]
    texts: list[CanaryText]


class Manifest(_Part):
    """The content of `cardioner.json`.

    Attributes:
        format: Of this file.
        versions: Of what wrote the directory.
        labels: The tags in the order of their ids.
        training: What the model was trained with; empty if it was saved before training.
        documents: The notes of each split.
        scores: Strict scores on held-out notes, with intervals.
        calibration: What the scores of spans are worth.
        canary: What the model must compute; `None` if its emissions were no numbers.
        files: Every file of the directory but this one and a signature.
    """

    format: Literal[1] = FORMAT
    versions: dict[str, str]
    labels: list[str]
    training: dict[str, Any]
    documents: dict[str, Notes]
    scores: dict[str, Any]
    calibration: dict[str, Any] | None
    canary: Canary | None
    files: dict[Annotated[str, Field(pattern=r"^[^./\\:\x00][^/\\:\x00]*$")], FileEntry]

    def to_bytes(self) -> bytes:
        """The file."""
        content = self.model_dump(mode="json")
        return _laid_out({**content, "digest": _digest(content)})


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of a directory; `None` if it has none.

    Raises:
        ModelError: If it was altered, or is of a version that this one does not know.
    """
    path = directory / MANIFEST
    if not path.exists():
        return None
    data = _read(path)
    try:
        content = json.loads(data)
        given = content.pop("digest", None) if isinstance(content, dict) else None
        found = content.get("format") if isinstance(content, dict) else None
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: expected JSON, found something else: {_BROKEN}") from None
    if isinstance(found, int) and found > FORMAT:
        raise ModelError(f"{path} is of format {found}, and this cardioner knows {FORMAT}: install a newer one")
    try:
        manifest = Manifest.model_validate_json(canonical(content))  # in Python there would be no tuples
        whole = given == _digest(content) and manifest.to_bytes() == data
    except (ValidationError, ValueError, RecursionError):
        whole = False
    if not whole and b"\r\n" in data:
        raise ModelError(
            f"{path} does not agree with its own digest: line ends were converted, as git does with core.autocrlf: "
            "copy the directory in another way, or give it a .gitattributes with the line `* -text`"
        )
    if not whole:
        raise ModelError(f"{path} does not agree with its own digest: {_BROKEN}")
    return manifest


def list_files(directory: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """The entries of files, sorted by name."""
    return {name: FileEntry(sha256=sha256_of(directory / name), size=_size(directory / name)) for name in sorted(names)}


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def canonical(content: Any) -> bytes:
    """The one form of a JSON value that digests are taken of.

    Raises:
        ValueError: If it holds a number that JSON has no name for.
    """
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(content)).hexdigest()


def _laid_out(content: Mapping[str, Any]) -> bytes:
    """JSON for people: indented, lists of numbers on one line."""
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return (_LISTS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n").encode()


def _read(path: Path) -> bytes:
    """The bytes of a manifest.

    Raises:
        ModelError: If it is no file, or of a size that none has.
    """
    if not path.is_file() or _size(path) > _LARGEST:
        raise ModelError(f"{path}: expected a file of at most {_LARGEST >> 20} MB: {_BROKEN}")
    return path.read_bytes()


def _size(path: Path) -> int:
    return path.stat().st_size
