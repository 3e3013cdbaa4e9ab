"""The models that a saved directory carries: configuration, head, taggers with and without a CRF, loader.

This file is copied into every saved model directory, with the files that it imports from beside it, and must load there
with nothing but torch and transformers: it imports nothing else, neither at the top nor inside functions.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from importlib.machinery import ModuleSpec
from itertools import accumulate
from logging import getLogger
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch reader knows
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module

if not __package__:  # loaded by its path alone: make a package of the files beside it, named by where and what they are
    _names = ("attributes", "checks", "code_files", "crf", "crf_cuda", "crf_recursions", "crf_scan", "heads", "tagging")
    _beside = [Path(__file__).with_name(f"{name}.py") for name in _names]
    _content = b"".join(bytes(path) + path.read_bytes() for path in _beside)
    __package__ = f"cardioner_{hashlib.sha256(_content).hexdigest()[:16]}"
    __spec__ = __spec__ and ModuleSpec(f"{__package__}.modeling", __spec__.loader, origin=__file__)
    sys.modules.setdefault(__package__, ModuleType(__package__)).__path__ = [str(_beside[0].parent)]

# All nine are named here, as older releases of transformers copy only the files that this one names.
from .attributes import AttributeGroup, attribute_groups
from .checks import IGNORED, check_labels, check_scores, check_spans
from .code_files import PIPELINES, OwnCode, check_loaded, copy_code, file_of, own_code_of, pipeline_home, tags_like
from .crf import CRF, entries, legal_transitions
from .crf_cuda import fits_kernel  # noqa: F401
from .crf_recursions import widened
from .crf_scan import scan  # noqa: F401
from .heads import AttributeHead, TaggerOutput, build_head, initialise
from .tagging import TagGroup, tag_groups

__all__ = [
    "CRF",
    "IGNORED",
    "CardioNERConfig",
    "OwnCode",
    "TokenClassificationModel",
    "TokenClassificationModelCRF",
    "legal_transitions",
    "load_custom_cardioner_multiclass_model",
]

_FOREIGN_KEYS = ("auto_map", "trust_remote_code", "custom_pipelines", "transformers_version")
_PLACE = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
"""Arguments of `from_pretrained` that say where files come from."""
_LEAST = 1e-30
"""The least probability that a loss takes the logarithm of; in float32 no gradient of it overflows."""


def _angles(given: Any) -> dict[str, float]:
    """The rotary angles of ModernBERT's layers, as transformers 4 names them; without these it uses its defaults."""
    names = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
    kinds = {kind: given.get(kind) for kind in names} if isinstance(given, dict) else {}
    return {names[kind]: value["rope_theta"] for kind, value in kinds.items() if value and "rope_theta" in value}


class CardioNERConfig(PretrainedConfig):
    """Everything but the weights: the encoder's whole configuration is nested, so that loading needs no network.

    Args:
        encoder_config: The encoder's own configuration; keys that name code or other places are left out.
        classifier_hidden_layers: Widths of the MLP head's hidden layers; `None` for the single linear layer.
        classifier_activation: Behind a hidden layer: `relu` or `gelu`.
        classifier_dropout: Dropout before and inside the head.
        class_weights: A weight per tag id for the loss; `None` for none.
        use_crf: Whether there is a CRF on top of the head; set by the model class.
        freeze_backbone: Whether the encoder was left unchanged in training.
        window_length: Most sub-tokens in a window, special ones included.
        window_context: Sub-tokens that neighbouring windows share on either side of their border.
        temperature: Divides every score before it becomes a probability.
        inference_dtype: The number format of the encoder in prediction: see `precision.py`.
        inference_dtypes: Those that were measured to give the same spans; a machine takes its fastest.
        label_smoothing: Share of each label that the cross-entropy spreads over all tags; 0 with a CRF.
        attributes: Attributes that the model predicts: for each its values, `None` first, for its absence.
        attribute_neighbours: Sub-tokens on either side whose embeddings the head of attributes reads; 0 for the states
            of the encoder alone.
        attribute_temperatures: What divides the scores of an attribute's values before they become probabilities.
        **kwargs: For `PretrainedConfig`: `id2label`, `label2id` and the like.
    """

    model_type = "cardioner_multiclass"

    def __init__(  # noqa: PLR0913 - one argument a key of config.json
        self,
        encoder_config: dict[str, Any] | None = None,
        classifier_hidden_layers: tuple[int, ...] | list[int] | None = None,
        classifier_dropout: float = 0.1,
        class_weights: list[float] | None = None,
        use_crf: bool = False,
        freeze_backbone: bool = False,
        window_length: int = 128,
        window_context: int = 4,
        temperature: float = 1.0,
        inference_dtype: str = "float32",
        inference_dtypes: list[str] | tuple[str, ...] = (),
        label_smoothing: float = 0.0,
        classifier_activation: str = "relu",
        attributes: dict[str, list[str | bool | None]] | None = None,
        attribute_neighbours: int = 0,
        attribute_temperatures: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        given = (encoder_config or {}).items()
        own = {k: v for k, v in given if k not in _FOREIGN_KEYS and not k.endswith("name_or_path")}
        self.encoder_config = {**own, **_angles(own.get("rope_parameters"))}
        self.classifier_hidden_layers = list(classifier_hidden_layers) if classifier_hidden_layers else None
        self.classifier_activation = classifier_activation
        self.classifier_dropout = classifier_dropout
        self.class_weights = class_weights
        self.use_crf, self.freeze_backbone = use_crf, freeze_backbone
        self.window_length, self.window_context = window_length, window_context
        self.score_temperature = temperature  # transformers reserves the name `temperature` for text generation
        self.inference_dtype, self.inference_dtypes = inference_dtype, list(inference_dtypes)
        self.label_smoothing = label_smoothing
        self.attributes = {name: list(values) for name, values in (attributes or {}).items()}
        self.attribute_neighbours = attribute_neighbours
        self.attribute_temperatures = dict(attribute_temperatures or {})
        self.requires_trust_remote_code = True
        kwargs.setdefault("custom_pipelines", PIPELINES)
        super().__init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As inherited, with `temperature` under the name that the constructor takes."""
        output: dict[str, Any] = super().to_dict()
        output.pop("manifest", None)  # it describes the directory that this was read from, not one to be written
        output["temperature"] = output.pop("score_temperature", 1.0)
        for name in ("attributes", "attribute_neighbours", "attribute_temperatures"):  # most models have none
            if not output.get(name):
                output.pop(name, None)
        return output

    @property
    def tags(self) -> list[str]:
        """The tags in the order of their ids."""
        return [self.id2label[index] for index in range(len(self.id2label))]

    @property
    def tag_groups(self) -> tuple[TagGroup, ...]:
        """The tags that exclude each other: all of them, or those of each type."""
        return tag_groups(self.tags)

    @property
    def attribute_groups(self) -> tuple[AttributeGroup, ...]:
        """The attributes of spans that the model knows."""
        return attribute_groups(self.attributes, self.attribute_temperatures)

    def build_encoder_config(self) -> PretrainedConfig:
        """The encoder's configuration as an object of its own class."""
        if "model_type" not in self.encoder_config:
            raise ValueError("config.json names no encoder: 'encoder_config' must hold the encoder's configuration")
        return AutoConfig.for_model(**self.encoder_config)


def _build_encoder(config: PretrainedConfig) -> nn.Module:
    """The encoder with new weights and without a pooler: weights that no loss reaches break training on many GPUs."""
    try:
        return AutoModel.from_config(config, add_pooling_layer=False)  # type: ignore[no-any-return]
    except TypeError:  # families that have no such argument
        return AutoModel.from_config(config)  # type: ignore[no-any-return]


class TokenClassificationModel(PreTrainedModel):
    """Encoder, dropout, classifier head; token-wise cross-entropy and argmax.

    A subclass is saved with its own file if that was prepared (`own_code`), as `ModelTrainer` does, or came with a
    directory; otherwise as the class of this file that it builds on.
    """

    own_code: ClassVar[OwnCode | None] = None
    """The file of this very class, not of those it builds on."""

    config_class = CardioNERConfig
    base_model_prefix = "backbone"
    accepts_loss_kwargs = False
    uses_crf = False

    def __init__(self, config: CardioNERConfig) -> None:
        super().__init__(config)
        if not 0 <= config.label_smoothing <= (0 if self.uses_crf else 1):
            allowed = "0 with a CRF, whose likelihood has no label to smooth" if self.uses_crf else "from 0 to 1"
            raise ValueError(f"label_smoothing must be {allowed}; found {config.label_smoothing}")
        self._saved_type: str | None = getattr(config, "custom_model_type", None)
        config.use_crf = self.uses_crf
        self.num_labels = config.num_labels
        encoder_config = config.build_encoder_config()
        self.backbone = _build_encoder(encoder_config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        group, *others = groups = config.tag_groups
        hidden, tags = config.classifier_hidden_layers or (), [len(group.tags) for group in groups]
        inside, activation = config.classifier_dropout, config.classifier_activation
        self.classifier = build_head(encoder_config.hidden_size, hidden, tags, dropout=inside, activation=activation)
        self.types = None if group.label is None else 1 + len(others)
        self.tags_of_each = len(group.tags)
        if self.uses_crf:
            legal = legal_transitions(list(group.tags))  # the same for all types
            self.crf = CRF(self.tags_of_each, batch_first=True, legal=legal, types=self.types)
        asked = {"output_attentions", "output_hidden_states"}  # every encoder takes them, some unnamed
        self.attribute_head: AttributeHead | None = None
        if attributes := config.attribute_groups:
            widths = encoder_config.hidden_size, self.get_input_embeddings().weight.size(1)
            known = {"values": attributes[-1].stop, "neighbours": config.attribute_neighbours}
            self.attribute_head = AttributeHead(*widths, **known, dropout=inside)
        self._encoder_inputs = asked.union(inspect.signature(self.backbone.forward).parameters)
        self._name_class()
        self.post_init()
        self._freeze()

    def _init_weights(self, module: nn.Module) -> None:
        """As inherited, but an MLP head starts at its own scale."""
        super()._init_weights(module)
        initialise(self.classifier, module)
        if self.attribute_head is not None:
            initialise(self.attribute_head, module)

    def _name_class(self) -> None:
        """Write into the configuration which class this is, where its code is, and which class tags as it does."""
        kind, config = type(self), self.config
        home = next(base for base in kind.__mro__ if base.__module__ == __name__)
        own = own_code_of(kind)
        module, named = (own.name.removesuffix(".py"), kind) if own else ("modeling", home)
        config.custom_model_type = home.__name__ if tags_like(self, home) else named.__name__
        config.auto_map = {"AutoConfig": f"modeling.{CardioNERConfig.__name__}"}
        config.auto_map["AutoModelForTokenClassification"] = f"{module}.{named.__name__}"

    def _freeze(self) -> None:
        """Exclude from training: a pooler, which no loss reaches, and a frozen encoder."""
        pooler = getattr(self.backbone, "pooler", None)
        for part in (pooler, self.backbone if self.config.freeze_backbone else None):
            if isinstance(part, nn.Module):
                part.requires_grad_(False)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As inherited, but a missing, unexpected or misshapen weight is an error and not a random number.

        Where these classes are registered, the Auto classes call this whatever `trust_remote_code` is. If it is true,
        the class that the directory names in a file of its own is loaded, as it would be without registration.

        Raises:
            ValueError: If the weights in the directory are not exactly this model's, or were saved by another class,
                which decodes differently.
        """
        wants_report, place = kwargs.pop("output_loading_info", False), pretrained_model_name_or_path
        if kwargs.pop("trust_remote_code", False) and cls.__module__ == __name__:
            auto_map = getattr(kwargs.get("config"), "auto_map", None) or {}
            named = auto_map.get("AutoModelForTokenClassification", "modeling.")
            ours = {own.__name__: own for own in (TokenClassificationModel, TokenClassificationModelCRF)}
            kind = ours.get(named.rpartition(".")[2], cls)  # an Auto class keeps the class that it loaded first
            if not named.rpartition("--")[2].startswith("modeling."):
                source = {key: kwargs[key] for key in _PLACE if key in kwargs}
                for each in (auto_map.get("AutoConfig", named), named):  # the first brings what modeling.py imports
                    kind = get_class_from_dynamic_module(each, place, **source)
            if kind is not cls:
                return kind.from_pretrained(place, *args, output_loading_info=wants_report, **kwargs)
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # reported here, and refused
        model, report = super().from_pretrained(place, *args, **kwargs)
        check_loaded(model, report, place)
        model._freeze()  # loading makes every parameter trainable
        return (model, report) if wants_report else model

    def train(self, mode: bool = True) -> TokenClassificationModel:
        """As inherited, but a frozen encoder stays in evaluation mode: its dropout would only add noise to the head."""
        super().train(mode)
        if self.config.freeze_backbone:
            self.backbone.eval()
        return self

    def forward(  # noqa: PLR0913 - the encoder's arguments
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> TaggerOutput:
        """Emissions and, with labels, the loss. The arguments are the encoder's; those it does not take are ignored.

        Args:
            input_ids: `(batch, length)`, as `token_type_ids` and `position_ids` are.
            attention_mask: `(batch, length)`; without it, positions that hold the padding id are masked.
            token_type_ids: For encoders that read segments.
            position_ids: For encoders that read positions.
            inputs_embeds: `(batch, length, hidden)` in place of `input_ids`.
            labels: `(batch, length)` tag ids, with tags per type `(batch, length, types)`; `IGNORED` where there is
                nothing to learn.
            output_attentions: Whether to return the encoder's attentions.
            output_hidden_states: Whether to return the encoder's hidden states.

        Returns:
            `logits` `(batch, length, tags)`: the emissions, with and without a CRF. For a model with attributes
            `attribute_logits` `(batch, length, values)`: of a span, their mean over its sub-tokens counts.

        Raises:
            ValueError: If a label is out of range, or there is no input.
        """
        read = input_ids if input_ids is not None else inputs_embeds
        if read is None:
            raise ValueError("forward needs input_ids or inputs_embeds")
        if attention_mask is None:
            padding = self.config.encoder_config.get("pad_token_id")
            unpadded = input_ids is None or padding is None
            attention_mask = read.new_ones(read.shape[:2]).long() if unpadded else read.ne(padding).long()
        given: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        given |= {"token_type_ids": token_type_ids, "position_ids": position_ids, "inputs_embeds": inputs_embeds}
        given |= {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        encoded = self.backbone(**{k: v for k, v in given.items() if v is not None and k in self._encoder_inputs})
        states = self.dropout(encoded.last_hidden_state)
        logits = self.classifier(states)  # (batch, length, tags)
        said = None
        if self.attribute_head is not None:
            embedded = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
            said = self.attribute_head(states, embedded.to(states.dtype), attention_mask)
        loss = None
        if labels is not None:
            wanted = (*logits.shape[:2], *(() if self.types is None else (self.types,)))
            if labels.shape != wanted:
                raise ValueError(f"expected labels of shape {wanted}, found {tuple(labels.shape)}")
            unattended = (attention_mask == 0).view(*logits.shape[:2], *[1] * (labels.dim() - 2))
            loss = self.loss(logits, labels.masked_fill(unattended, IGNORED))
        hidden_states, attentions = encoded.get("hidden_states"), encoded.get("attentions")
        return TaggerOutput(loss, logits, hidden_states, attentions, attribute_logits=said)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy over the labels that are not `IGNORED`, weighted by `class_weights`.

        With `label_smoothing`, part of each label is spread over all tags (Szegedy et al. 2016), as in
        `torch.nn.functional.cross_entropy`.
        """
        check_labels(labels, self.tags_of_each, self.types)
        return self._weighted_loss(self._log_softmax(logits.float()), labels)

    def decode(self, logits: Tensor, attention_mask: Tensor | None = None) -> list[Any]:
        """The best tag ids of logits `(batch, length, tags)`, one per attended position: argmax, or Viterbi.

        Per row a list of ids; with tags per type a list of ids for each type.
        """
        grouped = self._grouped(logits)
        kept = (torch.ones_like(logits[:, :, 0]) if attention_mask is None else attention_mask).bool()
        check_scores(grouped[kept])
        first = self.tags_of_each * torch.arange(grouped.size(2), device=logits.device)
        best = (grouped.argmax(-1) + first).transpose(1, 2)  # (batch, types, length)
        rows = [row[:, mask].tolist() for row, mask in zip(best, kept, strict=True)]
        return [row[0] for row in rows] if self.types is None else rows

    @torch.no_grad()
    def span_scores(
        self, logits: Tensor, spans: list[tuple[int, int, list[int]]], attention_mask: Tensor | None = None
    ) -> list[float]:
        """The probability of each span: the product of its tokens', or with a CRF that of exactly this span.

        Args:
            logits: `(batch, length, tags)`.
            spans: Per span its row, its first position as `decode` counts them, and its tag ids.
            attention_mask: `(batch, length)`.
        """
        scores = self._log_softmax(widened(logits) / self.config.score_temperature)
        kept = torch.ones_like(scores[:, :, 0]) if attention_mask is None else attention_mask
        lengths = kept.bool().sum(1).tolist()
        check_spans(spans, [lengths] * (self.types or 1), self.tags_of_each)
        at = entries(spans, scores.device)
        before = at.row.new_tensor([0, *accumulate(lengths)])  # attended positions of the rows above, (batch + 1)
        tokens = scores[kept.bool()][before[at.row] + at.position, at.tag].cpu().double()  # (entries)
        return tokens.new_zeros(len(spans)).index_add_(0, at.span.cpu(), tokens).exp().tolist()

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As inherited, with the code files; `config.json` names no pipeline where its files are not found.

        Raises:
            ValueError: If the file of a subclass would be replaced by its own copy.
        """
        target, kind = Path(save_directory), type(self)
        home, own, file = pipeline_home(self.name_or_path), own_code_of(kind), file_of(kind)
        if own is None and kind.__module__ != __name__:
            getLogger(__name__).warning("%s has no file to travel in: saved as the class it builds on", kind.__name__)
        if own and file and file.is_file() and (target / own.name).is_file() and file.samefile(target / own.name):
            raise ValueError(f"{target / own.name} is the file of {kind.__name__} itself: save somewhere else")
        self._name_class()
        self.config.custom_pipelines = PIPELINES if home else {}
        super().save_pretrained(save_directory, *args, **kwargs)
        if not kwargs.get("is_main_process", True):
            return
        copy_code(target, home, own)
        named = self.config.auto_map["AutoModelForTokenClassification"].rpartition(".")[2]
        self.config.architectures = list(dict.fromkeys([named, self.config.custom_model_type]))
        self.config.save_pretrained(target)

    def _grouped(self, logits: Tensor) -> Tensor:
        """`(batch, length, groups, tags)`: with flat tags one group."""
        return logits.reshape(*logits.shape[:2], self.types or 1, self.tags_of_each)

    def _log_softmax(self, logits: Tensor) -> Tensor:
        """The log-probability of each tag among those that exclude it, shaped as the logits."""
        return F.log_softmax(self._grouped(logits), dim=-1).view(logits.shape)

    def _weighted_loss(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """The mean of `-log p(label)` over all labels, each weighted by its class weight."""
        labels = labels.reshape(*labels.shape[:2], self.types or 1)  # (batch, length, groups)
        losses = -log_probabilities.gather(2, labels.clamp(min=0))  # (batch, length, groups)
        given, smoothing = self.config.class_weights, self.config.label_smoothing
        by_tag = losses.new_ones(self.num_labels) if given is None else losses.new_tensor(given)
        kept = labels.ne(IGNORED).to(losses.dtype)
        weights = kept * by_tag[labels.clamp(min=0)]
        total = (losses * weights).sum()
        if smoothing:
            spread = -self._grouped(log_probabilities * by_tag).sum(3) * kept / self.tags_of_each
            total = (1 - smoothing) * total + smoothing * spread.sum()
        return total / weights.sum().clamp(min=torch.finfo(losses.dtype).tiny)


class TokenClassificationModelCRF(TokenClassificationModel):
    """Encoder, dropout, classifier head, CRF; sequence likelihood and Viterbi."""

    uses_crf = True

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Negative log-likelihood per labelled token; `class_weights` add their weighted token-marginal loss."""
        likelihood: Tensor = self.crf(logits, labels, reduction="token_mean")
        if self.config.class_weights is None:
            return -likelihood
        marginals = self.crf.marginals(logits, labels.ne(IGNORED))
        return self._weighted_loss(marginals.clamp(min=_LEAST).log(), labels) - likelihood

    def decode(self, logits: Tensor, attention_mask: Tensor | None = None) -> list[Any]:
        """The most probable legal tag ids, one per attended position, as above."""
        return self.crf.decode(logits, attention_mask)

    def span_scores(
        self, logits: Tensor, spans: list[tuple[int, int, list[int]]], attention_mask: Tensor | None = None
    ) -> list[float]:
        """As above, from the CRF: the span's tags, not followed by a tag that would continue it."""
        temperature = self.config.score_temperature
        scores = self.crf.span_log_probabilities(logits, spans, attention_mask, temperature=temperature)
        return scores.exp().tolist()


def load_custom_cardioner_multiclass_model(
    path: str | Path,
    device: str = "auto",
    *,
    model_class: type[TokenClassificationModel] | None = None,
    config: CardioNERConfig | None = None,
) -> tuple[TokenClassificationModel, Any, CardioNERConfig]:
    """Load a model in evaluation mode, its tokenizer and its configuration; nothing in the directory is executed.

    Args:
        path: A directory that `ModelTrainer` or `save_pretrained` wrote.
        device: `auto` takes the GPU where there is one; or a device as torch names it.
        model_class: The subclass that saved it, where that one decodes differently from these.
        config: The directory's configuration, if it has been read already.

    Raises:
        FileNotFoundError: If the directory, or a file that it needs, is missing.
        ValueError: If it holds another kind of model, or other weights than its configuration says.
    """
    directory = Path(path)
    config = config or _read_config(directory)
    kind = model_class or (TokenClassificationModelCRF if config.use_crf else TokenClassificationModel)
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    model = kind.from_pretrained(directory, config=config).to(chosen).eval()
    if len({parameter.dtype for parameter in model.parameters()}) > 1:  # an encoder in another precision than its head
        model = model.float()
    local = {"local_files_only": True, "trust_remote_code": False}  # else transformers may ask on the terminal
    return model, AutoTokenizer.from_pretrained(directory, config=config, **local), config


def _read_config(directory: Path) -> CardioNERConfig:
    """The configuration of a directory that has the files of a model of ours."""
    files = {path.name for path in directory.glob("*") if path.is_file()}
    missing = sorted({"config.json", "tokenizer_config.json"} - files)
    if not files & {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"}:
        missing.append("model.safetensors (or pytorch_model.bin)")
    if missing:
        raise FileNotFoundError(f"{directory} is no complete model directory: it lacks {', '.join(missing)}")
    found = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if (kind := found.get("model_type")) != CardioNERConfig.model_type:
        raise ValueError(f"{directory}: expected a model of type {CardioNERConfig.model_type!r}, found {kind!r}")
    return CardioNERConfig.from_dict(found)  # type: ignore[no-any-return]


if __name__ == "cardioner.multiclass.modeling":  # the installed package, and no copy in a model directory
    from transformers import AutoModelForTokenClassification

    AutoConfig.register(CardioNERConfig.model_type, CardioNERConfig, exist_ok=True)
    both = (TokenClassificationModel, TokenClassificationModelCRF)  # config.architectures says which one is meant
    AutoModelForTokenClassification.register(CardioNERConfig, both, exist_ok=True)
