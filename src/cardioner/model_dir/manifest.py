"""`cardioner.json`: what a model directory holds, what it was made of, how good it is, and what it must compute.

The file is JSON in one fixed layout, so that no byte of it can change unnoticed, and carries the SHA-256 of its own
canonical form: the content without `digest`, keys sorted, no white space, UTF-8.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cardioner import __version__
from cardioner.errors import ModelError
from cardioner.model_dir.json_files import parse_object, read_bounded, shown
from cardioner.model_dir.layout import (
    CARD,
    CHECKPOINT_FILES,
    CONFIG,
    MANIFEST,
    PICKLED_WEIGHTS,
    SIGNATURE,
    WEIGHTS,
    foreign_files,
    matches,
)

FORMAT: Literal[1] = 1

_CHUNK = 1 << 20
_LONGEST_NAME = 255
_LISTS = re.compile(r"\[\n *([-+.\deE]+(?:,\n *[-+.\deE]+)*)\n *\]")
"""Lists of numbers, which `json.dumps` puts on a line each; texts in JSON hold no raw line break."""
_BROKEN = "it was altered or cut: copy the directory again from whoever made it, or save the model again"


class _Part(BaseModel):
    """A part of a manifest: nothing may be missing, unknown, or changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _short(name: str) -> str:
    """A name that a file can have: a longer one in bytes cannot even be looked for."""
    if len(name.encode()) > _LONGEST_NAME:
        raise ValueError
    return name


class FileEntry(_Part):
    """A file: the SHA-256 of its content, and its size in bytes."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Notes(_Part):
    """What a manifest records of the notes of a split.

    Attributes:
        documents: How many there were.
        spans: How many spans of each entity type.
        digest: Of texts and spans, under a secret key, see `keyed_digest`; `None` where no key was given.
        ids: The names of the notes, if they were asked for.
    """

    documents: int = Field(ge=0)
    spans: dict[str, int]
    digest: str | None = None
    ids: list[str] | None = None


class GoldenText(_Part):
    """A made-up text and what the tokenizer makes of it.

    Attributes:
        text: The text.
        ids: Of its sub-tokens, special ones not among them.
        offsets: The characters of each sub-token, half-open, into the text.
    """

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]


class GoldenOutputs(_Part):
    """Made-up input, and what the model must compute of it.

    Attributes:
        input_ids: Random ids, `(rows, positions)`.
        attention_mask: Which of them are attended.
        emissions: In float32, `(rows, positions, columns)`, the tags first, then values of attributes; 0 where a
            position is not attended.
        tags: The best tag ids of each row's attended positions; with tags per type those of one type after the other.
        texts: What the tokenizer must make of made-up texts.
    """

    input_ids: list[Annotated[list[int], Field(max_length=512)]] = Field(max_length=64)
    attention_mask: list[list[int]]
    emissions: list[list[list[float]]]
    tags: list[list[int]]
    texts: list[GoldenText]


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
        golden_outputs: What the model must compute, `canary` in the file; `None` if its emissions were no numbers.
        files: Every file of the directory but this one and a signature.
    """

    model_config = ConfigDict(populate_by_name=True)

    format: Literal[1] = FORMAT
    versions: dict[str, str]
    labels: list[str]
    training: dict[str, Any]
    documents: dict[str, Notes]
    scores: dict[str, Any]
    calibration: dict[str, Any] | None
    golden_outputs: GoldenOutputs | None = Field(validation_alias="canary", serialization_alias="canary")
    files: dict[Annotated[str, Field(pattern=r"^[^./\\:\x00][^/\\:\x00]*$"), AfterValidator(_short)], FileEntry]

    @property
    def record(self) -> dict[str, Any]:
        """What is known of the training, as `training_args.json` has it."""
        documents = {part: notes.model_dump() for part, notes in self.documents.items()}
        return {**self.training, "documents": documents, "scores": self.scores}

    def to_bytes(self) -> bytes:
        """The file."""
        content = self.model_dump(mode="json", by_alias=True)
        return _laid_out({**content, "digest": _digest(content)})


def read_manifest(directory: str | Path) -> Manifest | None:
    """The manifest of a directory; `None` if it has none.

    Raises:
        ModelError: If it was altered, or is of a version that this one does not know.
    """
    path = Path(directory) / MANIFEST
    if not path.exists():
        return None
    data = read_bounded(path)
    content = parse_object(path, data)
    given, found = content.pop("digest", None), content.get("format")
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


class Issue(NamedTuple):
    """Something in a directory that is not as it should be.

    Attributes:
        name: The file it is about, or the part.
        problem: What is wrong with it.
        serious: Whether the directory is not to be trusted for it.
    """

    name: str
    problem: str
    serious: bool = True


def compare_files(directory: Path, manifest: Manifest) -> list[Issue]:
    """Every file that is another than it was, missing, or too many, sorted by name."""
    found = [*_changed(directory, manifest), *_extra(directory, manifest)]
    essential = {name for name in (CONFIG, WEIGHTS, PICKLED_WEIGHTS) if name in manifest.files}
    if {issue.name for issue in found} >= essential:
        found.append(Issue(MANIFEST, "neither the configuration nor the weights are those that it lists"))
    return sorted(found)


def _changed(directory: Path, manifest: Manifest) -> Iterator[Issue]:
    for name, entry in manifest.files.items():
        path, serious = directory / name, name != CARD
        if not path.is_file():
            yield Issue(shown(name, _LONGEST_NAME), "it is missing", serious)
        elif path.stat().st_size != entry.size:
            yield Issue(
                shown(name, _LONGEST_NAME), f"it has {path.stat().st_size} bytes, and had {entry.size}", serious
            )
        elif sha256_of(path) != entry.sha256:
            yield Issue(shown(name, _LONGEST_NAME), "its content has changed" if serious else "it was edited", serious)


def _extra(directory: Path, manifest: Manifest) -> Iterator[Issue]:
    own = {*manifest.files, MANIFEST, SIGNATURE}
    foreign = foreign_files(directory, own)
    resuming = CHECKPOINT_FILES if (directory / CHECKPOINT_FILES[0]).is_file() else ()
    for name in foreign:
        yield Issue(shown(name, _LONGEST_NAME), "it does not belong to the model: move it out of the directory")
    for path in directory.iterdir():
        if not (path.name in {*own, *foreign} or path.name.startswith(".") or matches(path.name, resuming)):
            yield Issue(shown(path.name, _LONGEST_NAME), "it is no part of the model", serious=False)


def installed_versions() -> dict[str, str]:
    """The versions that a saved model depends on."""
    libraries = ("torch", "transformers", "tokenizers", "safetensors")
    return {"cardioner": __version__, **{name: version(name) for name in libraries}}


def own_files(directory: Path) -> list[str]:
    """The names of the files that a model directory is made of, sorted; without a manifest, of all that are visible.

    Raises:
        ModelError: As `read_manifest`.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        return sorted(path.name for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(name for name in (*manifest.files, MANIFEST, SIGNATURE) if (directory / name).is_file())


def list_files(directory: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """The entries of files, sorted by name."""
    paths = {name: directory / name for name in sorted(names)}
    return {name: FileEntry(sha256=sha256_of(path), size=path.stat().st_size) for name, path in paths.items()}


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def canonical(content: Any) -> bytes:
    """The one form of a JSON value that digests are taken of; a `ValueError` for numbers that JSON has no name for."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(content)).hexdigest()


def _laid_out(content: Mapping[str, Any]) -> bytes:
    """JSON for people: indented, lists of numbers on one line."""
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return (_LISTS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n").encode()
