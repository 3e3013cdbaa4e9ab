"""The engine that runs a model with torch and transformers, on a GPU or a CPU."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cardioner.errors import UsageError
from cardioner.model_dir.load import read_model_dir
from cardioner.model_dir.positions import max_positions
from cardioner.multiclass.attributes import AttributeGroup, mean_groups
from cardioner.multiclass.encoding import encode_notes, plan_windows
from cardioner.multiclass.heads import TaggerOutput
from cardioner.multiclass.inference import batch_tokens_for
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.multiclass.pipeline import tag_texts
from cardioner.multiclass.precision import FULL, INT8, PRECISIONS, reader_of, set_precision
from cardioner.multiclass.tagging import Entity
from cardioner.multiclass.windows import Coverage, Window
from cardioner.prediction.emission_cache import EmissionCache

if TYPE_CHECKING:
    from typing_extensions import Self

DTYPES = ("auto", *PRECISIONS)


class TorchEngine:
    """A model and its tokenizer.

    Args:
        model: A model of `cardioner.multiclass.modeling`.
        tokenizer: Its tokenizer.
    """

    name = "torch"

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.cache: EmissionCache | None = None

    @classmethod
    def load(cls, directory: Path, *, device: str, dtype: str, key: Path | None) -> Self:
        """The model of a directory, with the installed classes; `auto` takes the dtype that suits the machine."""
        if dtype not in DTYPES:
            raise UsageError(f"the dtype must be one of {', '.join(DTYPES)}; found {dtype!r}")
        model, tokenizer, _ = read_model_dir(directory, device=device, key=key)
        if dtype == "auto":
            set_precision(model)
        else:
            model.config.inference_dtype = dtype
        if dtype == INT8 and reader_of(model) is model:
            raise UsageError(
                f"{directory}: its encoder cannot be computed in int8 on {model.device}: leave the dtype out"
            )
        return cls(model, tokenizer)

    @classmethod
    def averaged(cls, engines: Sequence[Self]) -> Self:
        """One model that computes the mean of all."""
        return cls(AveragedModel([engine.model for engine in engines]), engines[0].tokenizer)

    @property
    def tags(self) -> Sequence[str]:
        """The tags by id."""
        config = self.model.config
        return [config.id2label[index] for index in range(config.num_labels)]

    @property
    def attributes(self) -> tuple[AttributeGroup, ...]:
        """As the configuration has them."""
        found: tuple[AttributeGroup, ...] = self.model.config.attribute_groups
        return found

    @property
    def uses_crf(self) -> bool:
        """Whether the model has a CRF."""
        return bool(self.model.uses_crf)

    @property
    def device(self) -> str:
        """As torch names it."""
        return str(self.model.device)

    @property
    def dtype(self) -> str:
        """What the encoder computes in."""
        return str(self.model.config.inference_dtype)

    @property
    def default_batch_tokens(self) -> int:
        """More on a GPU than on a CPU."""
        return batch_tokens_for(self.model.device)

    @property
    def windows(self) -> tuple[int, int]:
        """As the configuration has them."""
        return self.model.config.window_length, self.model.config.window_context

    @property
    def special_count(self) -> int:
        """What the tokenizer adds to a text."""
        return plan_windows(self.model.config, self.tokenizer).extra

    @property
    def max_positions(self) -> int | None:
        """As the encoder's configuration has it."""
        return max_positions(self.model.config.encoder_config)

    @property
    def identity(self) -> tuple[Any, ...]:
        """The tokenizer, what it puts around a window, and the id of padding."""
        content = json.loads(self.tokenizer.backend_tokenizer.to_str())
        content |= {"truncation": None, "padding": None}  # of its last use
        return content, plan_windows(self.model.config, self.tokenizer).special, self.tokenizer.pad_token_id

    def set_windows(self, length: int, context: int) -> None:
        """Change the configuration."""
        self.model.config.window_length, self.model.config.window_context = length, context

    def cut(self, text: str) -> list[Window]:
        """The windows of a text."""
        (note,) = encode_notes(self.tokenizer, [text])
        return plan_windows(self.model.config, self.tokenizer)._replace(cache=self.cache).cut(note)

    def tag(
        self,
        texts: Sequence[str],
        *,
        viterbi: bool,
        batch_tokens: int | None,
        advance: Callable[[Coverage], None] | None,
    ) -> list[list[Entity]]:
        """The spans of each text."""
        return tag_texts(
            self.model,
            self.tokenizer,
            texts,
            viterbi=viterbi,
            batch_tokens=batch_tokens,
            advance=advance,
            cache=self.cache,
        )


class AveragedModel(nn.Module):
    """The mean of models with the same tags and the same tokenizer, to be used in the place of one.

    Emissions are averaged, and so are the CRF's parameters and the temperatures: one decoding follows. Notes are cut as
    the model with the shortest windows wants it. It computes in float32 unless all of them have the same
    dtype. Means are taken in double precision, so that equal models give exactly what one of them gives.

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
        known = mean_groups([model.config.attribute_groups for model in models])
        self.config.attribute_temperatures = {group.name: group.temperature for group in known}
        dtypes = {model.config.inference_dtype for model in models}
        for config in (self.config, *(model.config for model in models)):
            config.inference_dtype = min(dtypes) if len(dtypes) == 1 else FULL
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

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TaggerOutput:
        """The mean emissions, `(batch, length, tags)`, of ids and a mask, both `(batch, length)`; so of attributes."""
        outputs = [reader_of(model)(input_ids=input_ids, attention_mask=attention_mask) for model in self.members]
        said = _mean([output.attribute_logits for output in outputs]) if self.config.attributes else None
        return TaggerOutput(logits=_mean([output.logits for output in outputs]), attribute_logits=said)

    def decode(self, logits: Tensor, attention_mask: Tensor | None = None) -> list[Any]:
        """As one of the models does, with the mean parameters."""
        return self.decoder.decode(logits, attention_mask)

    def span_scores(
        self, logits: Tensor, spans: list[tuple[int, int, list[int]]], attention_mask: Tensor | None = None
    ) -> list[float]:
        """As one of the models does, with the mean parameters."""
        return self.decoder.span_scores(logits, spans, attention_mask)


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """The mean in double precision, as float32."""
    return torch.stack([tensor.double() for tensor in tensors]).mean(0).float()
