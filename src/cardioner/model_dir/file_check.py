"""Whether the files of a model directory are those that its manifest lists."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from cardioner.errors import ModelError, OutputError, listed
from cardioner.model_dir.layout import CARD
from cardioner.model_dir.manifest import MANIFEST, SIGNATURE, Manifest, read_manifest, sha256_of

_ESSENTIAL = ("config.json", "model.safetensors", "pytorch_model.bin")
_READ_BY_LOADERS = (
    *("*.bin", "*.gguf", "*.h5", "*.jinja", "*.model", "*.msgpack", "*.pickle", "*.pkl", "*.pt", "*.pth", "*.tiktoken"),
    *("*.py", "*.pyc", "*.pyd", "*.safetensors", "*.so", "*config*.json", "*index.json", "*processor*.json"),
    *("*token*.json", "*vocab*.json", "*vocab*.txt", "chat_template*", "merges.txt", "bpe.codes", "dict.txt"),
)
"""Files that transformers, or a model's code, may look for in a model directory, and load without being asked."""
_OF_A_CHECKPOINT = ("checkpoint.json", "optimizer.pt", "scheduler.pt", "rng_state*.pth", "trainer_state.json")
"""What training puts into its checkpoints beside the model; nothing of it is read when a model is loaded."""


class Finding(NamedTuple):
    """Something that is not as the manifest says.

    Attributes:
        name: The file it is about, or the part.
        problem: What is wrong with it.
        serious: Whether the directory is not to be trusted for it.
    """

    name: str
    problem: str
    serious: bool = True


def checked_manifest(directory: Path, config: Mapping[str, Any]) -> Manifest | None:
    """The manifest of a directory whose files are all as it lists them; `None` for one that never had a manifest.

    Args:
        directory: The directory.
        config: The content of its `config.json`.

    Raises:
        ModelError: Naming every file that is another, missing, or too many.
    """
    manifest = promised_manifest(directory, config)
    if manifest is None:
        return None
    wrong = [finding for finding in compare_files(directory, manifest) if finding.serious]
    if wrong:
        told = listed(f"{finding.name} ({finding.problem})" for finding in wrong)
        raise ModelError(
            f"{directory} is not what was saved there: {told}. Copy it again from whoever made it; see cardioner verify"
        )
    return manifest


def promised_manifest(directory: Path, config: Mapping[str, Any]) -> Manifest | None:
    """The manifest, whatever the files are; `None` for a directory that never had one.

    Raises:
        ModelError: If it was altered, or is missing where `config.json` names it.
    """
    manifest = read_manifest(directory)
    if manifest is None and (directory / SIGNATURE).exists():
        raise ModelError(f"{directory / MANIFEST} is missing, which {SIGNATURE} signs: copy the whole directory again")
    if manifest is None and config.get("manifest") is not None:
        raise ModelError(f"{directory / MANIFEST} is missing, which config.json names: copy the whole directory again")
    return manifest


def compare_files(directory: Path, manifest: Manifest) -> list[Finding]:
    """Every file that is another than it was, missing, or too many, sorted by name."""
    found = [*_changed(directory, manifest), *_extra(directory, manifest)]
    if {finding.name for finding in found} >= {name for name in _ESSENTIAL if name in manifest.files}:
        found.append(Finding(MANIFEST, "neither the configuration nor the weights are those that it lists"))
    return sorted(found)


def _changed(directory: Path, manifest: Manifest) -> Iterator[Finding]:
    for name, entry in manifest.files.items():
        path, serious = directory / name, name != CARD  # the one file that people may edit
        if not path.is_file():
            yield Finding(name, "it is missing", serious)
        elif path.stat().st_size != entry.size:
            yield Finding(name, f"it has {path.stat().st_size} bytes, and had {entry.size}", serious)
        elif sha256_of(path) != entry.sha256:
            yield Finding(name, "its content is another" if serious else "it was edited", serious)


def _extra(directory: Path, manifest: Manifest) -> Iterator[Finding]:
    own = {*manifest.files, MANIFEST, SIGNATURE}
    foreign = foreign_files(directory, own)
    resuming = _OF_A_CHECKPOINT if (directory / _OF_A_CHECKPOINT[0]).is_file() else ()
    yield from (Finding(name, "it does not belong to the model: move it out of the directory") for name in foreign)
    for path in directory.iterdir():
        if not (path.name in {*own, *foreign} or path.name.startswith(".") or _matches(path.name, resuming)):
            yield Finding(path.name, "it is no part of the model", serious=False)


def check_foreign(directory: Path, own: Collection[str]) -> None:
    """Refuse a place for a model with files that would be taken for a part of it.

    Args:
        directory: The place; there may be nothing yet.
        own: The names of files that a model writes or replaces.

    Raises:
        OutputError: Naming them.
    """
    if directory.is_dir() and (foreign := foreign_files(directory, own)):
        raise OutputError(
            f"{directory} holds {listed(foreign)}, which would be taken for a part of the model: choose another one"
        )


def foreign_files(directory: Path, own: Collection[str]) -> list[str]:
    """Files beside those of a model that would be loaded with it, sorted.

    Args:
        directory: The model directory, or what is to become one.
        own: The names of the model's files.
    """
    names = (path.name for path in directory.iterdir() if path.name not in own and not path.is_dir())
    visible = [name for name in names if not name.startswith(".") and not _matches(name, _OF_A_CHECKPOINT)]
    return sorted(name for name in visible if _matches(name.lower(), _READ_BY_LOADERS))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
