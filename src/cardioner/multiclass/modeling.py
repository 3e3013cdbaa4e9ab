"""The models that a saved directory carries: configuration, head, conditional random field, loader.

This file is copied into every saved model directory and must load there on its own, next to nothing but torch and
transformers: it imports nothing else, neither at the top nor inside functions, and nothing by a relative path.
"""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch reader knows
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

IGNORED = -100
"""The label of a position that neither loss nor decoding looks at."""

COMPANIONS = ("windows.py", "tagging.py", "pipeline.py")
"""The files that a directory needs beside this one for `pipeline("token-classification")`."""

_PIPELINE = {"impl": "pipeline.CardioNERPipeline", "pt": ["AutoModelForTokenClassification"], "type": "text"}
_PIPELINES = {"token-classification": _PIPELINE}
_FOREIGN_KEYS = ("auto_map", "trust_remote_code", "custom_pipelines", "_name_or_path", "transformers_version")
_FORBIDDEN = -1e30
"""The score of an illegal transition: in float32 no sum of real scores reaches it, and no sum of it overflows."""


class Legality(NamedTuple):
    """Per tag, whether it may come first; per tag and next tag, whether the second may follow the first."""

    start: tuple[bool, ...]
    transitions: tuple[tuple[bool, ...], ...]


def legal_transitions(tags: list[str]) -> Legality:
    """The BIO rule: `I-X` follows only `B-X` or `I-X`. A type that has no `B-X` may open with `I-X` (the IO scheme)."""
    openable = {tag[2:] for tag in tags if tag.startswith("B-")}

    def may_follow(before: str, tag: str) -> bool:
        bound = tag.startswith("I-") and tag[2:] in openable
        return not bound or before in {f"B-{tag[2:]}", f"I-{tag[2:]}"}

    rows = [tuple(may_follow(before, tag) for tag in tags) for before in ["", *tags]]
    return Legality(rows[0], tuple(rows[1:]))


class CardioNERConfig(PretrainedConfig):
    """Everything but the weights: the encoder's whole configuration is nested, so that loading needs no network.

    Args:
        encoder_config: The encoder's own configuration; keys that name code or other places are left out.
        classifier_hidden_layers: Widths of the MLP head's hidden layers; `None` for the single linear layer.
        classifier_dropout: Dropout before and inside the head.
        class_weights: A weight per tag id for the loss; `None` for none.
        use_crf: Whether a CRF stands on the head; set by the model class.
        freeze_backbone: Whether the encoder was kept as it came during training.
        window_length: Most sub-tokens in a window, special ones included.
        window_context: Sub-tokens that neighbouring windows share on either side of their border.
        temperature: Divides every score before probabilities are taken.
        inference_dtype: `float32` or `bfloat16`: what prediction computes the encoder in.
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
        window_context: int = 16,
        temperature: float = 1.0,
        inference_dtype: str = "float32",
        **kwargs: Any,
    ) -> None:
        self.encoder_config = {key: value for key, value in (encoder_config or {}).items() if key not in _FOREIGN_KEYS}
        self.classifier_hidden_layers = list(classifier_hidden_layers) if classifier_hidden_layers else None
        self.classifier_dropout = classifier_dropout
        self.class_weights = class_weights
        self.use_crf = use_crf
        self.freeze_backbone = freeze_backbone
        self.window_length = window_length
        self.window_context = window_context
        self.score_temperature = temperature  # transformers reserves the name `temperature` for text generation
        self.inference_dtype = inference_dtype
        self.requires_trust_remote_code = True
        kwargs.setdefault("custom_pipelines", _PIPELINES)
        super().__init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As inherited, with `temperature` under the name that the constructor takes."""
        output: dict[str, Any] = super().to_dict()
        output["temperature"] = output.pop("score_temperature", 1.0)
        return output

    @property
    def tags(self) -> list[str]:
        """The tags in the order of their ids."""
        return [self.id2label[index] for index in range(len(self.id2label))]

    def build_encoder_config(self) -> PretrainedConfig:
        """The encoder's configuration as an object of its own class."""
        if "model_type" not in self.encoder_config:
            raise ValueError("config.json names no encoder: 'encoder_config' must hold the encoder's configuration")
        return AutoConfig.for_model(**self.encoder_config)


class CRF(nn.Module):
    """A linear-chain conditional random field over tags (Lafferty, McCallum and Pereira 2001).

    Drop-in for the class of the same name in pytorch-crf: the same parameters and calls. Masks may be of any dtype and
    have holes: masked positions are left out and their neighbours joined. Sums are taken in float32 or wider.

    Args:
        num_tags: Number of tags.
        batch_first: Whether tensors are `(batch, length, ...)` and not `(length, batch, ...)`, here and below.
        legal: Which transitions exist; all of them by default. Illegal ones have probability 0 in loss and decoding
            and are never written into the parameters.
    """

    def __init__(self, num_tags: int, batch_first: bool = False, *, legal: Legality | None = None) -> None:
        if num_tags <= 0:
            raise ValueError(f"a CRF needs at least one tag, found {num_tags}")
        super().__init__()
        self.num_tags = num_tags
        self.batch_first = batch_first
        self.legal = legal
        self.start_transitions = nn.Parameter(torch.empty(num_tags))
        self.end_transitions = nn.Parameter(torch.empty(num_tags))
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set all parameters to 0: the head's own opinion, by which an untrained CRF can be told."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None, reduction: str = "sum") -> Tensor:
        """The log-likelihood of tag sequences; of the best sequences where `tags` is a boolean mask.

        Args:
            emissions: `(batch, length, tags)`.
            tags: `(batch, length)` tag ids, `IGNORED` counting as masked; or a boolean mask of that shape.
            mask: `(batch, length)`; positions that are 0 are left out.
            reduction: `none` `(batch)`, `sum`, `mean` over sequences, or `token_mean` over kept positions.

        Raises:
            ValueError: For another reduction, or a tag id that the CRF does not have.
        """
        if tags.dtype == torch.bool:
            emissions, kept, _, _ = self._arrange(emissions, tags)
            score = self._score(emissions, self._viterbi(emissions, kept).clamp(min=0), kept)
        else:
            check_labels(tags, self.num_tags)
            emissions, kept, _, tags = self._arrange(emissions, mask, tags)
            score = self._score(emissions, tags, kept)
        return _reduce(score - self._log_partition(emissions, kept), kept, reduction)

    def log_partition(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """The logarithm of the sum over all legal sequences of their exponentiated scores, `(batch)`."""
        emissions, kept, _, _ = self._arrange(emissions, mask)
        return self._log_partition(emissions, kept)

    def log_marginals(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """The log-probability of each tag at each position, 0 at masked ones; shaped as the emissions."""
        emissions, kept, order, _ = self._arrange(emissions, mask)
        start, transitions, end = self._parameters_for(emissions)
        joint = _forward_scores(emissions, kept, start, transitions)
        joint = joint + _backward_scores(emissions, kept, transitions, end)
        found = joint.log_softmax(dim=2).masked_fill(~kept.unsqueeze(2), 0.0)
        return self._restore(found, order.unsqueeze(2).expand_as(found))

    def marginals(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """The probability of each tag at each position, 0 at masked ones; shaped as the emissions."""
        found = self.log_marginals(emissions, mask).exp()
        return found if mask is None else found * mask.bool().unsqueeze(2)

    def best(self, emissions: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The best legal sequences (Viterbi): tag ids, `IGNORED` at masked positions, and log scores, `(batch)`."""
        emissions, kept, order, _ = self._arrange(emissions, mask)
        tags = self._viterbi(emissions, kept)
        return self._restore(tags, order), self._score(emissions, tags.clamp(min=0), kept)

    def decode(self, emissions: Tensor, mask: Tensor | None = None) -> list[list[int]]:
        """The most probable legal sequences, one tag id per kept position."""
        emissions, kept, _, _ = self._arrange(emissions, mask)
        tags = self._viterbi(emissions, kept)
        return [row[:count] for row, count in zip(tags.tolist(), kept.sum(1).tolist(), strict=True)]

    def span_log_probabilities(
        self, emissions: Tensor, spans: list[tuple[int, int, int, int]], temperature: float = 1.0
    ) -> Tensor:
        """The log-probabilities of exactly these spans in one sequence, `(spans)`, in double precision.

        A span's probability is that of its opening tag, its inside tags, and no further inside tag behind them.

        Args:
            emissions: `(length, tags)`, nothing masked.
            spans: Per span its first position, the position behind its last, its opening and its inside tag id.
            temperature: Divides emissions and parameters.
        """
        cooled = CRF(self.num_tags, True, legal=self.legal).to(self.transitions.device, torch.float64)
        cooled.load_state_dict({name: value / temperature for name, value in self.state_dict().items()})
        rows, kept, _, _ = cooled._arrange(emissions.double().unsqueeze(0) / temperature)
        start, transitions, end = cooled._parameters_for(rows)
        alpha = _forward_scores(rows, kept, start, transitions)[0]  # (length, tags)
        beta = _backward_scores(rows, kept, transitions, end)[0]
        columns = torch.tensor(spans, dtype=torch.long, device=rows.device).reshape(-1, 4)
        first, stop, opening, inside = columns.unbind(1)
        last, long = stop - 1, stop - first > 1
        following = stop.clamp(max=rows.size(1) - 1)
        before = F.pad(rows[0].cumsum(0), (0, 0, 1, 0))  # (length + 1, tags): the sum of what lies before a position
        moves = transitions[opening, inside] + transitions[inside, inside] * (stop - first - 2)
        inner = before[stop, inside] - before[first + 1, inside] + torch.where(long, moves, 0.0)
        tag = torch.where(long, inside, opening)
        joint = alpha[first, opening] + inner + beta[last, tag] - torch.logsumexp(alpha[0] + beta[0], dim=0)
        goes_on = transitions[tag, inside] + rows[0][following, inside] + beta[following, inside] - beta[last, tag]
        goes_on = goes_on.exp().clamp(max=1.0).masked_fill(stop >= rows.size(1), 0.0)
        return joint.clamp(max=0.0) + torch.log1p(-goes_on)

    def _arrange(
        self, emissions: Tensor, mask: Tensor | None = None, tags: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Any]:
        """Batch first and kept positions at the front: emissions, what is kept, original positions, tags."""
        if emissions.dim() != 3 or emissions.size(2) != self.num_tags:
            raise ValueError(f"expected three axes of emissions with {self.num_tags} tags, found {emissions.shape}")
        for name, given in (("mask", mask), ("tags", tags)):
            if given is not None and given.shape != emissions.shape[:2]:
                raise ValueError(f"expected {name} of shape {tuple(emissions.shape[:2])}, found {tuple(given.shape)}")
        kept = emissions.new_ones(emissions.shape[:2]).bool() if mask is None else mask.bool()
        kept = kept if tags is None else kept & tags.ne(IGNORED)
        if not self.batch_first:
            emissions, kept = emissions.transpose(0, 1), kept.transpose(0, 1)
            tags = None if tags is None else tags.transpose(0, 1)
        order = torch.argsort(~kept, dim=1, stable=True)
        emissions = emissions.to(torch.promote_types(emissions.dtype, torch.float32))
        emissions = emissions.gather(1, order.unsqueeze(2).expand_as(emissions))
        return emissions, kept.gather(1, order), order, None if tags is None else tags.clamp(min=0).gather(1, order)

    def _restore(self, values: Tensor, order: Tensor) -> Tensor:
        """Move rows back to their original positions, and the axes to the caller's order."""
        restored = torch.empty_like(values).scatter(1, order, values)
        return restored if self.batch_first else restored.transpose(0, 1)

    def _parameters_for(self, emissions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Start `(tags)`, transition `(tags, tags)` and end `(tags)` scores, illegal ones forbidden."""
        given = (self.start_transitions, self.transitions, self.end_transitions)
        start, transitions, end = (parameter.to(emissions.dtype) for parameter in given)
        if self.legal is None:
            return start, transitions, end
        opens, follows = (torch.tensor(part, device=emissions.device) for part in self.legal)
        return start.masked_fill(~opens, _FORBIDDEN), transitions.masked_fill(~follows, _FORBIDDEN), end

    def _score(self, emissions: Tensor, tags: Tensor, kept: Tensor) -> Tensor:
        """The unnormalised log scores of given sequences, `(batch)`."""
        start, transitions, end = self._parameters_for(emissions)
        emitted = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)  # (batch, length)
        moved = transitions[tags[:, :-1], tags[:, 1:]]  # (batch, length - 1)
        last = tags.gather(1, (kept.sum(1, keepdim=True) - 1).clamp(min=0)).squeeze(1)  # (batch)
        score = start[tags[:, 0]] + end[last] + emitted.masked_fill(~kept, 0.0).sum(1)
        return (score + moved.masked_fill(~kept[:, 1:], 0.0).sum(1)).masked_fill(~kept[:, 0], 0.0)

    def _log_partition(self, emissions: Tensor, kept: Tensor) -> Tensor:
        """The log partition function, 0 for an empty row, `(batch)`."""
        apply: Any = _LogPartition.apply
        found: Tensor = apply(emissions, kept, *self._parameters_for(emissions))
        return found

    @torch.no_grad()
    def _viterbi(self, emissions: Tensor, kept: Tensor) -> Tensor:
        """Best tags `(batch, length)` of compact sequences, `IGNORED` behind a row's end.

        The way forward keeps scores alone; the way back asks again which tag gave them, for one tag a step.
        """
        start, transitions, end = self._parameters_for(emissions)
        into = transitions.t().contiguous()  # (to, from)
        steps = emissions.transpose(0, 1).contiguous()  # (length, batch, tags)
        scores, moved = torch.empty_like(steps), steps.new_empty(steps.size(1), *into.shape)
        torch.add(steps[0], start, out=scores[0])
        for before, emitted, after in zip(scores[:-1].unsqueeze(2), steps[1:], scores[1:], strict=True):
            torch.add(before, into, out=moved)  # (batch, to, from)
            torch.amax(moved, 2, out=after).add_(emitted)
        last = (kept.sum(1) - 1).clamp(min=0)  # (batch)
        tag = (scores[last, torch.arange(len(last), device=last.device)] + end).argmax(1)
        path = [tag]
        for before, there in zip(scores[:-1].flip(0), kept[:, 1:].flip(1).t(), strict=True):
            path.append(torch.where(there, (before + into[path[-1]]).argmax(1), path[-1]))
        return torch.stack(path[::-1], dim=1).masked_fill(~kept, IGNORED)


class _LogPartition(torch.autograd.Function):
    """The log partition function of compact sequences, with its gradient: the expected counts.

    The forward and the backward recursion run side by side in one loop, in linear space, each step scaled to sum 1
    (Rabiner 1989, section V.A). Where that loses all precision, which takes emissions some 80 apart on both sides of an
    illegal transition, the log space takes over.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor, end: Tensor) -> Tensor:
        """`(batch)`, 0 for empty rows, from `(batch, length, tags)`, `(batch, length)` and the parameters."""
        found = _scaled_counts(emissions, kept, start, transitions, end)
        if not bool(torch.isfinite(found[0] + found[1].sum((1, 2))).all()):
            found = _log_counts(emissions, kept, start, transitions, end)
        value, tags, pairs = found
        last = (kept.sum(1) - 1).clamp(min=0)
        ctx.save_for_backward(tags, pairs, last)
        return value.masked_fill(~kept[:, 0], 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Expected counts, each row's weighed by its gradient."""
        tags, pairs, last = ctx.saved_tensors
        (given,) = gradients
        weighed = tags * given.view(-1, 1, 1)
        final = weighed.gather(1, last.view(-1, 1, 1).expand(-1, 1, tags.size(2))).squeeze(1)
        return weighed, None, weighed[:, 0].sum(0), (pairs * given.view(-1, 1, 1)).sum(0), final.sum(0)


def _scaled_counts(
    emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor, end: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log partition `(batch)`, tag marginals `(batch, length, tags)` and expected transitions `(batch, tags, tags)`.

    Not finite where a row's probabilities leave the range of the numbers.
    """
    batch, length, _ = emissions.shape
    counts, positions = kept.sum(1), torch.arange(length, device=emissions.device)
    peak = emissions.amax(2, keepdim=True)  # (batch, length, 1)
    weights = (emissions - peak).exp()
    mirror = (counts.unsqueeze(1) - 1 - positions).clamp(min=0).unsqueeze(2).expand_as(weights)
    both = torch.stack([weights, weights.gather(1, mirror)], dim=1)  # (batch, 2, length, tags)
    both = both.permute(2, 1, 0, 3).contiguous()  # (length, 2, batch, tags)
    tops = start.max(), transitions.max(), end.max()
    step = (transitions - tops[1]).exp()
    steps = torch.stack([step, step.t()])
    moved, state, scale = torch.empty_like(both), torch.empty_like(both), both.new_empty(length, 2, batch, 1)
    moved[0] = torch.stack([(start - tops[0]).exp(), (end - tops[2]).exp()]).unsqueeze(1)
    torch.mul(moved[0], both[0], out=state[0])
    state[0].div_(torch.sum(state[0], 2, keepdim=True, out=scale[0]))
    for before, into, weight, after, total in zip(state[:-1], moved[1:], both[1:], state[1:], scale[1:], strict=True):
        torch.bmm(before, steps, out=into)
        torch.mul(into, weight, out=after)
        after.div_(torch.sum(after, 2, keepdim=True, out=total))
    alpha = state[:, 0].transpose(0, 1)  # (batch, length, tags)
    beta, ahead = (part[:, 1].transpose(0, 1).gather(1, mirror) for part in (moved, state))
    joint = alpha * beta
    total = joint.sum(2, keepdim=True)  # (batch, length, 1)
    total = total.masked_fill(total < 1e-30, torch.nan)  # too few bits are left
    marginals = torch.where(kept.unsqueeze(2), joint / total, 0.0)
    before = torch.where(kept[:, 1:].unsqueeze(2), alpha[:, :-1] / total[:, :-1], 0.0)
    pairs = torch.bmm(before.transpose(1, 2), ahead[:, 1:]) * step
    last = (counts - 1).clamp(min=0).unsqueeze(1)
    scales = torch.where(kept, scale[:, 0, :, 0].transpose(0, 1).log() + peak.squeeze(2), 0.0).sum(1)
    value = scales + total.squeeze(2).gather(1, last).squeeze(1).log() + tops[0] + tops[2] + tops[1] * last.squeeze(1)
    return torch.where(counts > 0, value, 0.0), marginals, pairs


def _log_counts(
    emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor, end: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in log space: slower, and right for any emissions."""
    alpha = _forward_scores(emissions, kept, start, transitions)
    beta = _backward_scores(emissions, kept, transitions, end)
    value = torch.logsumexp(alpha[:, -1] + end, dim=1)
    marginals = torch.where(kept.unsqueeze(2), torch.softmax(alpha + beta, dim=2), 0.0)
    pairs = emissions.new_zeros(len(value), *transitions.shape)
    for position in range(1, emissions.size(1)):
        ahead = (emissions[:, position] + beta[:, position]).unsqueeze(1)
        joint = alpha[:, position - 1].unsqueeze(2) + transitions + ahead  # (batch, tags, tags)
        share = torch.softmax(joint.flatten(1), dim=1).view_as(joint)
        pairs += torch.where(kept[:, position].view(-1, 1, 1), share, 0.0)
    return value, marginals, pairs


def _forward_scores(emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor) -> Tensor:
    """Log sums over all prefixes that end in a tag; behind its end a row repeats; `(batch, length, tags)`."""
    alphas = [start + emissions[:, 0]]
    for position in range(1, emissions.size(1)):
        moved = torch.logsumexp(alphas[-1].unsqueeze(2) + transitions, dim=1)  # (batch, tags)
        alphas.append(torch.where(kept[:, position, None], moved + emissions[:, position], alphas[-1]))
    return torch.stack(alphas, dim=1)


def _backward_scores(emissions: Tensor, kept: Tensor, transitions: Tensor, end: Tensor) -> Tensor:
    """Log sums over all suffixes that follow a tag, `(batch, length, tags)`."""
    betas = [end.expand(emissions.size(0), -1)]
    for position in range(emissions.size(1) - 1, 0, -1):
        moved = torch.logsumexp(transitions + (emissions[:, position] + betas[-1]).unsqueeze(1), dim=2)
        betas.append(torch.where(kept[:, position, None], moved, betas[-1]))
    return torch.stack(betas[::-1], dim=1)


def _reduce(values: Tensor, kept: Tensor, reduction: str) -> Tensor:
    """Reduce the values `(batch)`, with pytorch-crf's names."""
    if reduction not in {"none", "sum", "mean", "token_mean"}:
        raise ValueError(f"reduction must be none, sum, mean or token_mean; found {reduction!r}")
    if reduction == "token_mean":
        return values.sum() / kept.sum().clamp(min=1)
    return values if reduction == "none" else values.sum() if reduction == "sum" else values.mean()


def check_labels(labels: Tensor, num_labels: int) -> None:
    """Refuse label ids that the model does not have, before an index error or a device fault hides the cause."""
    if torch.compiler.is_compiling():
        return
    wrong = int((labels.ne(IGNORED) & ((labels < 0) | (labels >= num_labels))).sum())
    if wrong:
        raise ValueError(
            f"labels must be 0 to {num_labels - 1}, or {IGNORED} for positions to leave out; {wrong} of "
            f"{labels.numel()} are not: check label2id against the labels of the data"
        )


def _build_encoder(config: PretrainedConfig) -> nn.Module:
    """The encoder with fresh weights, without a pooler: weights that no loss reaches break training on many GPUs."""
    try:
        return AutoModel.from_config(config, add_pooling_layer=False)  # type: ignore[no-any-return]
    except TypeError:  # families that have no such argument
        return AutoModel.from_config(config)  # type: ignore[no-any-return]


def _build_head(config: CardioNERConfig, width: int) -> nn.Module:
    """One linear layer, or `Linear -> ReLU -> Dropout` for each hidden width with a linear layer behind them."""
    layers: list[nn.Module] = []
    for hidden in config.classifier_hidden_layers or ():
        layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.classifier_dropout)]
        width = hidden
    last = nn.Linear(width, config.num_labels)
    return nn.Sequential(*layers, last) if layers else last


class TokenClassificationModel(PreTrainedModel):
    """Encoder, dropout, classifier head; token-wise cross-entropy and argmax."""

    config_class = CardioNERConfig
    base_model_prefix = "backbone"
    accepts_loss_kwargs = False
    uses_crf = False

    def __init__(self, config: CardioNERConfig) -> None:
        super().__init__(config)
        home = next(kind.__name__ for kind in type(self).__mro__ if kind.__module__ == __name__)
        config.use_crf = self.uses_crf
        config.custom_model_type = home
        config.auto_map = {"AutoConfig": f"modeling.{CardioNERConfig.__name__}"}
        config.auto_map["AutoModelForTokenClassification"] = f"modeling.{home}"
        self.num_labels = config.num_labels
        encoder_config = config.build_encoder_config()
        self.backbone = _build_encoder(encoder_config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = _build_head(config, encoder_config.hidden_size)
        if self.uses_crf:
            self.crf = CRF(config.num_labels, batch_first=True, legal=legal_transitions(config.tags))
        asked = {"output_attentions", "output_hidden_states"}  # every encoder takes them, some unnamed
        self._encoder_inputs = asked.union(inspect.signature(self.backbone.forward).parameters)
        self.post_init()
        self._freeze()

    def _freeze(self) -> None:
        """Keep from learning what should not: a pooler, which no loss reaches, and a frozen encoder."""
        pooler = getattr(self.backbone, "pooler", None)
        for part in (pooler, self.backbone if self.config.freeze_backbone else None):
            if isinstance(part, nn.Module):
                part.requires_grad_(False)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As inherited, but a missing, unexpected or misshapen weight is an error and not a random number.

        Raises:
            ValueError: If the weights in the directory are not exactly this model's.
        """
        wants_report, place = kwargs.pop("output_loading_info", False), pretrained_model_name_or_path
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # reported here, and refused
        model, report = super().from_pretrained(place, *args, **kwargs)
        kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
        wrong = {kind: sorted(map(str, report[kind])) for kind in kinds if report.get(kind)}
        if wrong:
            counted = "; ".join(f"{len(keys)} {kind}, {keys[0]} the first" for kind, keys in wrong.items())
            raise ValueError(
                f"{place}: the weights are not those of {cls.__name__}: {counted}. The directory was saved as "
                f"{model.config.architectures}: load it with that class, or save the model again"
            )
        model._freeze()  # loading makes every parameter trainable
        return (model, report) if wants_report else model

    def train(self, mode: bool = True) -> TokenClassificationModel:
        """As inherited, but a frozen encoder stays in evaluation mode: its dropout would only disturb the head."""
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
    ) -> TokenClassifierOutput:
        """Emissions and, with labels, the loss. Arguments are the encoder's, those that it does not know ignored.

        Args:
            input_ids: `(batch, length)`, as `token_type_ids` and `position_ids` are.
            attention_mask: `(batch, length)`; without it, positions that hold the padding id are masked.
            token_type_ids: For encoders that read segments.
            position_ids: For encoders that read positions.
            inputs_embeds: `(batch, length, hidden)` in place of `input_ids`.
            labels: `(batch, length)` tag ids, `IGNORED` where the loss should not look.
            output_attentions: Whether to return the encoder's attentions.
            output_hidden_states: Whether to return the encoder's hidden states.

        Returns:
            `logits` `(batch, length, tags)`: the emissions, with and without a CRF.

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
        given = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
            "inputs_embeds": inputs_embeds,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
        }
        encoded = self.backbone(**{k: v for k, v in given.items() if v is not None and k in self._encoder_inputs})
        logits = self.classifier(self.dropout(encoded.last_hidden_state))  # (batch, length, tags)
        loss = None
        if labels is not None:
            check_labels(labels, self.num_labels)
            loss = self.loss(logits, labels.masked_fill(attention_mask == 0, IGNORED))
        hidden_states, attentions = encoded.get("hidden_states"), encoded.get("attentions")
        return TokenClassifierOutput(loss=loss, logits=logits, hidden_states=hidden_states, attentions=attentions)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy over the positions whose label is not `IGNORED`, weighted by `class_weights`."""
        return self._weighted_loss(F.log_softmax(logits.float(), dim=-1), labels)

    def decode(self, logits: Tensor, attention_mask: Tensor | None = None) -> list[list[int]]:
        """The best tag ids of logits `(batch, length, tags)`, one per attended position: argmax, or Viterbi."""
        best = logits.argmax(-1)
        kept = torch.ones_like(best) if attention_mask is None else attention_mask
        return [row[mask].tolist() for row, mask in zip(best, kept.bool(), strict=True)]

    def span_scores(self, logits: Tensor, tags: list[int], spans: list[tuple[int, int]]) -> list[float]:
        """The probability of each span of a note: the product of its tokens', or of exactly this span with a CRF.

        `logits` are `(length, tags)`, `tags` the decoded ids, `spans` first positions and those behind the last.
        """
        log_probabilities = F.log_softmax(logits.detach().double() / self.config.score_temperature, dim=-1)
        chosen = log_probabilities.gather(1, torch.tensor(tags, device=logits.device).unsqueeze(1)).squeeze(1)
        return [float(chosen[first:stop].sum().exp()) for first, stop in spans]

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As inherited, with the code files; without those of the pipeline `config.json` does not promise one."""
        target, here = Path(save_directory), Path(__file__)
        homes = (here.parent, Path(self.name_or_path or here.parent))
        home = next((folder for folder in homes if all((folder / name).is_file() for name in COMPANIONS)), None)
        self.config.custom_pipelines = _PIPELINES if home else {}
        super().save_pretrained(save_directory, *args, **kwargs)
        if not kwargs.get("is_main_process", True):
            return
        for source in (here, *(home / name for name in COMPANIONS if home)):
            if source.resolve() != (target / source.name).resolve():
                shutil.copyfile(source, target / source.name)
        self.config.architectures = [self.config.custom_model_type]
        self.config.save_pretrained(target)

    def _weighted_loss(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """The mean of `-log p(label)` over labelled positions, each weighted by its label's class weight."""
        losses = -log_probabilities.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)  # (batch, length)
        weights = labels.ne(IGNORED).to(losses.dtype)
        if self.config.class_weights is not None:
            weights = weights * losses.new_tensor(self.config.class_weights)[labels.clamp(min=0)]
        return (losses * weights).sum() / weights.sum().clamp(min=torch.finfo(losses.dtype).tiny)


class TokenClassificationModelCRF(TokenClassificationModel):
    """Encoder, dropout, classifier head, CRF; sequence likelihood and Viterbi."""

    uses_crf = True

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Negative log-likelihood per labelled token; `class_weights` add their weighted token-marginal loss."""
        with torch.autocast(device_type=logits.device.type, enabled=False):
            likelihood: Tensor = self.crf(logits.float(), labels, reduction="token_mean")
            if self.config.class_weights is None:
                return -likelihood
            return self._weighted_loss(self.crf.log_marginals(logits, labels.ne(IGNORED)), labels) - likelihood

    def decode(self, logits: Tensor, attention_mask: Tensor | None = None) -> list[list[int]]:
        """The most probable legal tag ids, one per attended position."""
        return self.crf.decode(logits, attention_mask)

    def span_scores(self, logits: Tensor, tags: list[int], spans: list[tuple[int, int]]) -> list[float]:
        """The probability of exactly these spans, not followed by their own inside tag."""
        names, ids = self.config.id2label, self.config.label2id
        inside = [ids.get(f"I-{names[tags[first]][2:]}", tags[first]) for first, _ in spans]
        rows = [(*span, tags[span[0]], tag) for span, tag in zip(spans, inside, strict=True)]
        found = self.crf.span_log_probabilities(logits.detach(), rows, self.config.score_temperature)
        return [float(probability) for probability in found.detach().exp()]


def load_custom_cardioner_multiclass_model(
    path: str | Path, device: str = "auto"
) -> tuple[TokenClassificationModel, Any, CardioNERConfig]:
    """Load a saved directory with the classes of this file; nothing in the directory is executed.

    Args:
        path: A directory that `ModelTrainer` or `save_pretrained` wrote.
        device: `auto` takes the GPU where there is one; or a device as torch names it.

    Returns:
        The model in evaluation mode, its tokenizer, its configuration.

    Raises:
        FileNotFoundError: If the directory, or a file that it needs, is missing.
        ValueError: If it holds another kind of model, or other weights than its configuration says.
    """
    directory = Path(path)
    weights = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    missing = [name for name in ("config.json", "tokenizer_config.json") if not (directory / name).is_file()]
    if not any((directory / name).is_file() for name in weights):
        missing.append("model.safetensors (or pytorch_model.bin)")
    if missing:
        raise FileNotFoundError(f"{directory} is no complete model directory: it lacks {', '.join(missing)}")
    found = json.loads((directory / "config.json").read_text(encoding="utf-8")).get("model_type")
    if found != CardioNERConfig.model_type:
        raise ValueError(f"{directory}: expected a model of type {CardioNERConfig.model_type!r}, found {found!r}")
    config = CardioNERConfig.from_pretrained(directory)
    kind = TokenClassificationModelCRF if config.use_crf else TokenClassificationModel
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    model = kind.from_pretrained(directory, config=config).to(chosen).eval()
    return model, AutoTokenizer.from_pretrained(directory, config=config), config
