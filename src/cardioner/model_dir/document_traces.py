"""What a model directory records of its training notes: their ids, and digests of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cardioner._io import reporting_failed_writes, writing
from cardioner.errors import ModelError, OutputError
from cardioner.model_dir.json_files import read_object
from cardioner.model_dir.layout import MANIFEST, SIGNATURE, TRAINING_ARGS
from cardioner.model_dir.manifest import Manifest, canonical, list_files, read_manifest

_KEYED = "hmac-"
"""How digests of notes begin, other than those of files."""


class _Trace(NamedTuple):
    """A value that tells something of single notes: the object that has it, and the keys that lead to it."""

    holder: dict[str, Any]
    keys: tuple[str, ...]


def document_traces(directory: Path) -> list[str]:
    """Where ids and digests of notes are: in the manifest and in the record of the training.

    Raises:
        ModelError: If one of these files cannot be read.
    """
    files = {name: _traces(_content(directory, name)) for name in (MANIFEST, TRAINING_ARGS)}
    return [f"{'.'.join(trace.keys)} in {name}" for name, traces in files.items() for trace in traces]


def forget_documents(directory: Path) -> None:
    """Remove ids and digests of notes from a directory, whose manifest stays true.

    Raises:
        ModelError: If it has no manifest, or one that cannot be read.
        OutputError: If it is signed, as a signature is of the manifest as it was, or cannot be written.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        raise ModelError(f"{directory} has no {MANIFEST}: save the model again with this version")
    if (directory / SIGNATURE).exists():
        raise OutputError(
            f"{directory} is signed, and without ids and digests of notes the manifest is another one: delete "
            f"{SIGNATURE}, try again, and sign the directory again"
        )
    with reporting_failed_writes(directory):
        if TRAINING_ARGS in manifest.files:
            text = json.dumps(_without_traces(directory, TRAINING_ARGS), indent=2, sort_keys=True, ensure_ascii=False)
            with writing(directory / TRAINING_ARGS, overwrite=True) as file:
                file.write((text + "\n").encode())
        content = _without_traces(directory, MANIFEST)
        del content["digest"]
        kept = Manifest.model_validate_json(canonical(content))
        files = {**manifest.files, **list_files(directory, {TRAINING_ARGS} & manifest.files.keys())}
        with writing(directory / MANIFEST, overwrite=True) as file:
            file.write(kept.model_copy(update={"files": files}).to_bytes())


def _content(directory: Path, name: str) -> dict[str, Any]:
    path = directory / name
    return read_object(path) if path.exists() else {}


def _without_traces(directory: Path, name: str) -> dict[str, Any]:
    content = _content(directory, name)
    for holder, keys in list(_traces(content)):
        holder[keys[-1]] = None
    return content


def _traces(value: Any, keys: tuple[str, ...] = ()) -> Iterator[_Trace]:
    """The ids and digests of notes below a value."""
    for one in value if isinstance(value, list) else ():
        yield from _traces(one, keys)
    for key, held in value.items() if isinstance(value, dict) else ():
        if _is_trace(key, held):
            yield _Trace(value, (*keys, key))
        else:
            yield from _traces(held, (*keys, key))


def _is_trace(key: str, held: Any) -> bool:
    """Whether it is of notes: ids of sub-tokens are numbers, and digests of files begin otherwise."""
    if key == "ids":
        return isinstance(held, list) and any(isinstance(one, str) for one in held)
    return key == "digest" and isinstance(held, str) and held.startswith(_KEYED)
