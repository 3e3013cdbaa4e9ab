"""Several models as one: the mean of those with the same tags, or side by side those with other entity types."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import TokenClassifierOutput

from cardioner._io import as_path
from cardioner.errors import ModelError, many
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import CONFIG, OLD_TOKENIZER_FILES, TOKENIZER_FILES
from cardioner.model_dir.manifest import sha256_of
from cardioner.multiclass.encoding import plan_windows
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.multiclass.precision import reader_of
from cardioner.multiclass.tagging import OUTSIDE, split_tag

SUMMARY = "summary.json"
"""What lies beside the models of a repeated training, and names them."""

_DECISIVE = (CONFIG, *TOKENIZER_FILES, *OLD_TOKENIZER_FILES, "model*.safetensors*", "pytorch_model*.bin*")
_EXPECTED = (
    "expected models with the same tags and the same tokenizer, to be averaged, or models without an entity type in "
    "common, whose spans are united"
)


class Tagger(NamedTuple):
    """A model and its tokenizer."""

    model: Any
    tokenizer: Any


class AveragedModel(nn.Module):
    """The mean of models with the same tags and the same tokenizer, to be used in the place of one.

    Emissions are averaged, and so are the CRF's parameters and the temperatures: one decoding follows. Notes are cut as
    the model with the shortest windows wants it. It computes in bfloat16 where all of them do. Means are taken in
    double precision, so that equal models give exactly what one of them gives.

    Args:
        models: The models, all with a CRF or none.
    """

    def __init__(self, models: Sequence[TokenClassificationModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(models)
        first = models[0]
        # A copy of everything but the encoder: it decodes and scores, and reads no text.
        self.decoder = copy.deepcopy(first, {id(first.backbone): nn.Identity()})
        self.config = self.decoder.config
        shortest = min((model.config for model in models), key=lambda config: config.window_length)
        self.config.window_length, self.config.window_context = shortest.window_length, shortest.window_context
        self.config.score_temperature = sum(model.config.score_temperature for model in models) / len(models)
        reduced = all(model.config.inference_dtype == "bfloat16" for model in models)
        for config in (self.config, *(model.config for model in models)):
            config.inference_dtype = "bfloat16" if reduced else "float32"
        if first.uses_crf:
            own = [dict(model.crf.named_parameters()) for model in models]
            with torch.no_grad():
                for name, parameter in self.decoder.crf.named_parameters():
                    parameter.copy_(_mean([parameters[name] for parameters in own]))

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        found: torch.device = self.decoder.device
        return found

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TokenClassifierOutput:
        """The mean emissions, `(batch, length, tags)`, of ids and a mask, both `(batch, length)`."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        return TokenClassifierOutput(logits=_mean([reader_of(model)(**given).logits for model in self.members]))

    def decode(self, logits: Tensor, attention_mask: Tensor | None = None) -> list[list[int]]:
        """As one of the models does, with the mean parameters."""
        return self.decoder.decode(logits, attention_mask)

    def span_scores(
        self, logits: Tensor, spans: list[tuple[int, int, list[int]]], attention_mask: Tensor | None = None
    ) -> list[float]:
        """As one of the models does, with the mean parameters."""
        return self.decoder.span_scores(logits, spans, attention_mask)


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


def join(taggers: Sequence[tuple[str, Tagger]]) -> list[Tagger]:
    """Models that go together: one that averages those with the same tags, or those with other types side by side.

    Args:
        taggers: Models, each with what to call it in a message.

    Raises:
        ModelError: If there is none, or two of them neither have the same tags nor wholly different types.
    """
    if not taggers:
        raise ModelError(f"{_EXPECTED}; found none")
    if len(taggers) == 1:
        return [taggers[0][1]]
    if all(entity_types(one) & entity_types(other) for (_, one), (_, other) in combinations(taggers, 2)):
        for name, tagger in taggers[1:]:
            _check_alike(taggers[0], (name, tagger))
        return [Tagger(AveragedModel([tagger.model for _, tagger in taggers]), taggers[0][1].tokenizer)]
    for (name, one), (other_name, other) in combinations(taggers, 2):
        if shared := entity_types(one) & entity_types(other):
            raise ModelError(
                f"{_EXPECTED}; of several types, {name} and {other_name} share {', '.join(sorted(shared))}"
            )
    return [tagger for _, tagger in taggers]


def _check_alike(first: tuple[str, Tagger], other: tuple[str, Tagger]) -> None:
    """Refuse models whose emissions do not mean the same.

    Raises:
        ModelError: Saying what differs.
    """
    (name, one), (other_name, two) = first, other
    pair = f"{name} and {other_name}"
    if one.model.config.label2id != two.model.config.label2id:
        shared = ", ".join(sorted(entity_types(one) & entity_types(two)))
        raise ModelError(f"{_EXPECTED}; {pair} share {shared}, but have not the same tags in the same order")
    if one.model.uses_crf != two.model.uses_crf:
        bare = name if two.model.uses_crf else other_name
        raise ModelError(f"expected models that all have a CRF, or none; of {pair}, {bare} has none")
    if _identity(one) != _identity(two):
        raise ModelError(f"{_EXPECTED}; {pair} have different tokenizers")


def entity_types(tagger: Tagger) -> set[str]:
    """The entity types that a model can find."""
    return {split_tag(tag)[1] for tag in tagger.model.config.label2id if tag != OUTSIDE}


def _identity(tagger: Tagger) -> tuple[Any, ...]:
    """What two tokenizers must have in common so that their sub-tokens are the same."""
    content = json.loads(tagger.tokenizer.backend_tokenizer.to_str())
    content |= {"truncation": None, "padding": None}  # of its last use
    return content, plan_windows(tagger.model.config, tagger.tokenizer).special, tagger.tokenizer.pad_token_id


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """The mean in double precision, as float32."""
    return torch.stack([tensor.double() for tensor in tensors]).mean(0).float()
