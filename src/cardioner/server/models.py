"""The models that are served: loaded once, and again on request if they verify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cardioner.errors import ModelError, UsageError, listed
from cardioner.model_dir.manifest import read_manifest
from cardioner.model_dir.signing import signer
from cardioner.prediction.directories import model_directories, models_digest, scores_by_type
from cardioner.prediction.engines import chosen
from cardioner.prediction.predictor import Predictor
from cardioner.server.messages import ModelMessage, SignatureMessage, TypeMessage


@dataclass(frozen=True, slots=True)
class Source:
    """Where models are, and how they are loaded.

    Attributes:
        places: Model directories, or folders of repeated trainings. The name of a model is that of its folder.
        engine: As `Predictor.from_pretrained` takes it, like the others.
        device: Likewise.
        dtype: Likewise.
        key: Likewise.
    """

    places: tuple[Path, ...]
    engine: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    key: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models.

        Raises:
            UsageError: If two models would have the same.
        """
        names = tuple(place.resolve().name for place in self.places)
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(
                f"two models are called {listed(twice)}, after their folders: requests name a model, so rename a folder"
            )
        return names


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model in memory, and its description."""

    predictor: Predictor
    message: ModelMessage

    @property
    def name(self) -> str:
        """The name by which requests choose it."""
        return self.message.name


def load_models(source: Source) -> tuple[ServedModel, ...]:
    """Load all models.

    Raises:
        ModelError: As `Predictor.from_pretrained`.
        UsageError: Likewise; or if two models have the same name.
    """
    return tuple(_load(place, name, source) for place, name in zip(source.places, source.names, strict=True))


def load_verified(source: Source) -> tuple[ServedModel, ...]:
    """Load all models, if every directory is whole, unaltered, and computes what it did when it was saved.

    Raises:
        ModelError: If one of them is not.
    """
    for place in source.places:
        for directory in model_directories(place):
            _check_sound(directory, source)
    return load_models(source)


def _load(place: Path, name: str, source: Source) -> ServedModel:
    predictor = Predictor.from_pretrained(
        place, engine=source.engine, device=source.device, dtype=source.dtype, key=source.key
    )
    directories = model_directories(place)
    message = ModelMessage(
        name=name,
        types=_types(directories, predictor.labels),
        attributes=known_attributes(predictor),
        digest=models_digest(directories),
        signatures=[SignatureMessage(names=signer(one), proven=source.key is not None) for one in directories],
        engine=predictor.engines[0].name,
        device=predictor.engines[0].device,
        dtype=[engine.dtype for engine in predictor.engines],
    )
    return ServedModel(predictor, message)


def known_attributes(predictor: Predictor) -> dict[str, list[str | bool]]:
    """The attributes of spans that a model knows, each with its values."""
    return {name: [value for value in values if value] for name, values in predictor.attributes.items()}


def _types(directories: Sequence[Path], labels: Sequence[str]) -> dict[str, TypeMessage]:
    found = scores_by_type(directories, labels)
    return {
        label: TypeMessage(notes=score.notes, gold_spans=score.gold_spans, strict_f1=score.f1)
        for label, score in found.items()
    }


def _check_sound(directory: Path, source: Source) -> None:
    """Refuse a directory that does not verify; without torch, loading compares what it computes."""
    if read_manifest(directory) is None:
        raise ModelError(f"{directory} has no manifest, so nothing shows whether it is what was saved")
    if chosen(source.engine) != "torch":
        return
    from cardioner.model_dir.verify import verify  # noqa: PLC0415 - imports torch

    for issue in verify(directory, key=source.key).issues:
        if issue.serious:
            raise ModelError(f"{directory} is not sound: {issue.name}: {issue.problem}; see cardioner verify")
