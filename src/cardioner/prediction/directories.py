"""Which model directories a path stands for, and a digest of the files that decide what they find."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cardioner._io import as_path
from cardioner.errors import ModelError, many
from cardioner.model_dir.json_files import object_under, read_json
from cardioner.model_dir.layout import CONFIG, GRAPH_FILES, OLD_TOKENIZER_FILES, SUMMARY, TOKENIZER_FILES
from cardioner.model_dir.manifest import read_manifest, sha256_of

_WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")
_DECISIVE = (CONFIG, *TOKENIZER_FILES, *OLD_TOKENIZER_FILES, *_WEIGHTS, *GRAPH_FILES)


class TypeScore(NamedTuple):
    """What a model scored on an entity type when it was made.

    Attributes:
        notes: Which notes they were: `test notes`, `evaluation notes`, or `not known`.
        gold_spans: How many spans of the type these notes have.
        f1: Strict F1.
    """

    notes: str = "not known"
    gold_spans: int | None = None
    f1: float | None = None


def model_directories(places: str | Path | Sequence[str | Path]) -> list[Path]:
    """The model directories at some places; a folder of repeated trainings stands for all models in it.

    Args:
        places: Model directories, and folders in which `summary.json` names some.

    Raises:
        UsageError: If something else than a path, or a list of paths, is given.
        ModelError: If not all models of a folder are finished, or its summary names none.
    """
    given = places if isinstance(places, (list, tuple)) else [places]
    return [directory for place in given for directory in _members(as_path(place, "a model directory"))]


def models_digest(directories: Sequence[Path]) -> str:
    """A SHA-256 digest over the files of model directories that decide what the models find."""
    digests = []
    for directory in directories:
        files = {path for pattern in _DECISIVE for path in directory.glob(pattern)}
        digests.append([(path.name, sha256_of(path)) for path in sorted(files)])
    return hashlib.sha256(repr(digests).encode()).hexdigest()


def scores_by_type(directories: Sequence[Path], labels: Sequence[str]) -> dict[str, TypeScore]:
    """For each entity type, what a model that finds it scored when it was made."""
    found = dict.fromkeys(labels, TypeScore())
    for place in directories:
        scores = getattr(read_manifest(place), "scores", {})
        for part in ("evaluation", "test"):  # scores on test notes say more
            per_type = object_under(object_under(object_under(scores, part), "strict"), "per_type")
            for label in found.keys() & per_type.keys():
                figures = object_under(per_type, label)
                gold = figures.get("tp", 0) + figures.get("fn", 0)
                found[label] = TypeScore(f"{part} notes", gold, figures.get("f1"))
    return found


def _members(place: Path) -> list[Path]:
    """The models in a folder of repeated trainings, or the place itself."""
    if (place / CONFIG).is_file() or not (place / SUMMARY).is_file():
        return [place]
    content = read_json(place / SUMMARY)
    listed = content.get("members")
    members = [member for member in listed if isinstance(member, dict)] if isinstance(listed, list) else []
    names = [str(member.get("name")) for member in members]
    if not names or any(name == ".." or Path(name).name != name for name in names):
        raise ModelError(f"{place / SUMMARY} names no models in this folder: expected what cardioner train wrote there")
    if not content.get("complete"):
        finished = sum(member.get("scores") is not None for member in members)
        raise ModelError(
            f"{place}: {finished} of {many(len(names), 'model')} are finished: train the others, as before but with "
            "--resume, or name one of the model directories"
        )
    return [place / name for name in names]
