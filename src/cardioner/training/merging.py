"""Merge trained models into one whose weights lie between theirs: no slower than one of them.

This works for models that learned the same task from the same weights, those of the head included: they lie in one
basin of the loss, whose middle is often as good as the best of them (Wortsman et al. 2022, Model Soups,
https://arxiv.org/abs/2203.05482). Models that began apart have no such middle, so they are refused; what the mean is
worth is seen on annotated notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import sqrt
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from cardioner._io import as_path
from cardioner._progress import Progress, silent
from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet
from cardioner.errors import DataError, ModelError, UsageError
from cardioner.evaluation import Scores, score_pairs
from cardioner.model_dir.json_files import object_under, read_json
from cardioner.model_dir.layout import MANIFEST, TRAINING_ARGS
from cardioner.model_dir.load import Loaded, read_model_dir
from cardioner.model_dir.manifest import installed_versions
from cardioner.model_dir.save import check_output, write_model_dir
from cardioner.prediction.directories import model_directories
from cardioner.prediction.engines.torch import TorchEngine
from cardioner.training.document_digests import describe_notes
from cardioner.training.features import Dataset
from cardioner.training.post_training import (
    InferenceSettings,
    choose_attribute_temperatures,
    choose_inference_settings,
)
from cardioner.training.run_metadata import scores_of
from cardioner.training.scoring import HeldOut, tag_dataset

MOST_DISTANCE = 0.5
"""How far apart two encoders or two heads may be: the norm of the difference over that of the first. Trainings from the
same weights end a few hundredths apart; weights that were drawn apart are about 1.4 from each other."""

Method: TypeAlias = Literal["mean", "slerp"]
_PARALLEL = 1e-6
"""The sine of an angle below which an arc is a straight line."""
_PARTS = {"backbone": "encoder", "classifier": "head", "attribute_head": "head of attributes"}
_SETTINGS = (
    "encoder_config",
    "classifier_hidden_layers",
    "classifier_activation",
    "use_crf",
    "class_weights",
    "attributes",
    "attribute_neighbours",
)
_ABOUT = ("language", "license", "data_name", "data_license")
"""Options of a training that say what the model is for."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What merging gave.

    Attributes:
        output_dir: The model directory of the merged model.
        parts: Scores of each model on the evaluation notes, by its directory.
        scored: The merged model on the same notes.
        distance: How far apart the encoders or heads are that differ most; see `MOST_DISTANCE`.
        inference: Precision and temperature of the merged model.
        method: How the weights were merged.
    """

    output_dir: Path
    parts: Mapping[Path, Scores]
    scored: HeldOut
    distance: float
    inference: InferenceSettings
    method: Method = "mean"

    @property
    def gain(self) -> float:
        """Strict F1 of the merged model less that of the best part."""
        best = max(scores.strict.micro.f1 for scores in self.parts.values())
        return self.scored.scores.strict.micro.f1 - best

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; models by the names of their folders."""
        parts = [{"model": place.name, **scores.to_dict()} for place, scores in self.parts.items()]
        known = {"method": self.method, "distance": self.distance, "gain": self.gain}
        return {"parts": parts, "merged": self.scored.scores.to_dict(), **known}


def merge(
    models: str | Path | Sequence[str | Path],
    output_dir: str | Path,
    *,
    evaluation: Sequence[Document],
    method: Method = "mean",
    overwrite: bool = False,
    progress: Progress = silent,
) -> Merged:
    """Write what lies in the middle of the weights of some models as a model directory, scored beside them.

    Args:
        models: Model directories; a folder of repeated trainings stands for all its models.
        output_dir: The model directory to write.
        evaluation: Annotated notes that none of the models learned from. They show what is gained, and choose precision
            and temperature of the merged model.
        method: `mean` of any number of models, or `slerp` between two: halfway along an arc, see `slerp_weights`.
        overwrite: Whether to replace a model that is there.
        progress: Called with how many characters of the notes are done.

    Raises:
        DataError: If there are no notes, or they have other entity types.
        ModelError: If a model cannot be read, or the models cannot be merged.
        OutputError: If the output directory holds a model, or cannot be written.
        UsageError: If there are fewer than two models, more than two for `slerp`, or one is named twice.
    """
    place, places = as_path(output_dir, "output_dir"), model_directories(models)
    check_count(len(places), method)
    check_different(places)
    if not evaluation:
        raise DataError("merging needs annotated notes, to see whether the merged model is any good: there are none")
    loaded = [read_model_dir(one, device="cpu") for one in places]
    distance = check_alike(places, loaded)
    LabelSet(tuple(loaded[0].config.tags)).check(evaluation)
    # The last check, as it makes the directory: nothing is left of a merge that is refused.
    check_output(place, overwrite=overwrite, made_from=places)
    data = Dataset(tuple(evaluation))
    parts = {one: score_pairs(_tagged(model, data, progress)) for one, model in zip(places, loaded, strict=True)}
    merged = loaded[0]
    merged.model.load_state_dict(_METHODS[method](*(one.model.state_dict() for one in loaded)))
    inference = choose_inference_settings(merged.model, merged.tokenizer, data, progress=progress)
    choose_attribute_temperatures(merged.model, merged.tokenizer, data, progress=progress)
    scored = HeldOut.of(_tagged(merged, data, progress), merged.model)
    result = Merged(place, parts, scored, distance, inference, method)
    write_model_dir(merged.model, merged.tokenizer, place, training_args=_record(result, merged, data))
    return result


def check_count(count: int, method: str) -> None:
    """Refuse a number of models that cannot be merged in this way.

    Raises:
        UsageError: Saying how many are expected, or which methods there are.
    """
    if method not in _METHODS:
        raise UsageError(f"the method must be one of {', '.join(_METHODS)}; found {method!r}")
    if count < 2:
        raise UsageError(f"expected two models or more to merge, or a folder with several; found {count}")
    if method == "slerp" and count > 2:
        raise UsageError(f"slerp is between two models; found {count}: merge these by their mean")


def check_different(places: Sequence[Path]) -> None:
    """Refuse to merge a model with itself.

    Raises:
        UsageError: Naming it.
    """
    seen: dict[Path, Path] = {}
    for place in places:
        if seen.setdefault(place.resolve(), place) is not place:
            raise UsageError(f"{place} is named twice: a model merged with itself is the same model")


Weights: TypeAlias = Mapping[str, Tensor]
"""Of a model, by name."""


def mean_weights(*states: Weights) -> dict[str, Tensor]:
    """The mean of each weight, taken in double precision: of equal weights, exactly these.

    Args:
        states: Of models of the same shape; whole numbers, such as positions, are those of the first.
    """
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


def slerp_weights(first: Weights, second: Weights) -> dict[str, Tensor]:
    """What lies halfway on the arc between two models: spherical linear interpolation of each weight as a vector.

    With the angle a between two vectors, `sin(a/2) / sin(a)` of each is taken (Shoemake 1985, Animating rotation with
    quaternion curves), which is their mean over `cos(a/2)`: it is as long as they are, where the mean is shorter.
    Vectors of which one is 0, and parallel or opposite ones, have no one arc: their mean is taken.

    Args:
        first: Of one model; whole numbers are those of it.
        second: Of another one of the same shape.
    """
    means = mean_weights(first, second)
    return {
        name: (means[name].double() / _cosine_of_half(value, second[name])).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in first.items()
    }


def _cosine_of_half(one: Tensor, other: Tensor) -> float:
    """The cosine of half the angle between two tensors as vectors; 1 where there is no one arc between them."""
    left, right = one.double().flatten(), other.double().flatten()
    lengths = (left.norm() * right.norm()).item()
    if lengths == 0:
        return 1.0
    cosine = max(-1.0, min(1.0, torch.dot(left, right).item() / lengths))
    return sqrt((1 + cosine) / 2) if sqrt(1 - cosine**2) > _PARALLEL else 1.0


_METHODS: dict[str, Callable[..., dict[str, Tensor]]] = {"mean": mean_weights, "slerp": slerp_weights}


def check_alike(places: Sequence[Path], loaded: Sequence[Loaded]) -> float:
    """Refuse models whose weights do not mean the same.

    Returns:
        How far apart the encoders or heads are that differ most; see `MOST_DISTANCE`.

    Raises:
        ModelError: If tags, tokenizers or shapes differ, or encoders or heads did not begin from the same weights.
    """
    first = loaded[0]
    for place, other in zip(places[1:], loaded[1:], strict=True):
        both = f"{places[0]} and {place}"
        if other.config.tags != first.config.tags:
            raise ModelError(
                f"{both} have different tags ({', '.join(first.config.tags)}; {', '.join(other.config.tags)}): only "
                "models with the same can be merged"
            )
        if _identity(other) != _identity(first):
            raise ModelError(f"{both} have different tokenizers: only models with the same can be merged")
        if type(other.model) is not type(first.model) or _settings(other) != _settings(first):
            names = [name for name, value in _settings(other).items() if value != _settings(first)[name]]
            raise ModelError(
                f"{both} differ in {', '.join(names) or 'their class'}: only models of one shape can be merged"
            )
    gaps = [
        (_distance(*(loaded[index].model.get_submodule(part) for index in pair)), pair, part)
        for pair in combinations(range(len(loaded)), 2)
        for part in _PARTS
        if getattr(first.model, part, None) is not None
    ]
    distance, pair, part = max(gaps)
    if not distance <= MOST_DISTANCE:
        raise ModelError(
            f"{places[pair[0]]} and {places[pair[1]]} did not begin from the same {_PARTS[part]}: the weights are "
            f"{distance:.2f} apart, and those that can be merged {MOST_DISTANCE} at most. Models of several folds have "
            "the same start, and so have trainings from one model (train --backbone MODEL); use others side by side "
            "(predict --ensemble), or distil one model from them (distill)"
        )
    return distance


def _distance(one: nn.Module, other: nn.Module) -> float:
    """The norm of the difference of the weights of two modules, over that of the first."""
    theirs = dict(other.named_parameters())
    squares = [
        (value.detach().sub(theirs[name].detach()).square().sum(), value.detach().square().sum())
        for name, value in one.named_parameters()
    ]
    gap, size = (torch.stack(column).double().sum().sqrt().item() for column in zip(*squares, strict=True))
    return gap / size if size else float(gap > 0)


def _identity(loaded: Loaded) -> Any:
    """What tells tokenizer and windows of a model from others."""
    return TorchEngine(loaded.model, loaded.tokenizer).identity


def _settings(loaded: Loaded) -> dict[str, Any]:
    """What decides which weights there are, and what they mean."""
    return {name: getattr(loaded.config, name) for name in _SETTINGS}


def _tagged(loaded: Loaded, data: Dataset, progress: Progress) -> Any:
    """What a model finds, beside what is there."""
    return tag_dataset(loaded.model, loaded.tokenizer, data, progress=progress)


def _record(result: Merged, merged: Loaded, data: Dataset) -> dict[str, Any]:
    """What `training_args.json` says of the merged model: what it was made of, and what it scores."""
    records = [read_json(place / TRAINING_ARGS) for place in result.parts]
    manifests = [read_json(place / MANIFEST).get("digest") for place in result.parts]
    learned = [object_under(record, "documents").get("training") for record in records]
    documents = {"training": learned[0]} if learned[0] and all(one == learned[0] for one in learned) else {}
    about, (precision, temperature) = object_under(records[0], "options"), result.inference
    return {
        "model": records[0].get("model", "not recorded"),
        "merged": {"method": result.method, "manifests": manifests, "distance": round(result.distance, 4)},
        "labels": merged.config.tags,
        "versions": installed_versions(),
        "options": {name: about[name] for name in _ABOUT if name in about},
        "documents": {**documents, "evaluation": describe_notes(data.documents, key=None, ids=False).model_dump()},
        "scores": {"evaluation": scores_of(result.scored)},
        "calibration": None if temperature is None else asdict(temperature),
        "inference": None if precision is None else asdict(precision),
    }
