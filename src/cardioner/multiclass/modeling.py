"""The models that a saved directory carries: configuration, head, conditional random field, loader.

This file is copied into every saved model directory and must load there on its own, next to nothing but torch and
transformers: it imports nothing else, neither at the top nor inside functions, and nothing by a relative path.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
import shutil
import sys
from itertools import accumulate, chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch reader knows
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.modeling_outputs import TokenClassifierOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

IGNORED = -100
"""The label of a position that neither loss nor decoding looks at."""

COMPANIONS = ("windows.py", "tagging.py", "encoding.py", "precision.py", "inference.py", "pipeline.py")
"""The files that a directory needs beside this one for `pipeline("token-classification")`."""

_OF_ANOTHER_MODEL = ("cardioner.json", "cardioner.sig")
"""A manifest and a signature, of what stood in a directory before."""
_PIPELINE = {"impl": "pipeline.CardioNERPipeline", "pt": ["AutoModelForTokenClassification"], "type": "text"}
_PIPELINES = {"token-classification": _PIPELINE}
_FOREIGN_KEYS = ("auto_map", "trust_remote_code", "custom_pipelines", "transformers_version")
_PLACE = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
"""Arguments of `from_pretrained` that say where files come from."""
_FORBIDDEN = -1e30
"""The score of an illegal transition: in float32 no sum of real scores reaches it, and no sum of it overflows."""
_LEAST = 1e-30
"""The least probability that a loss takes the logarithm of; in float32 no gradient of it overflows."""
_PIECES_PAY = 16384
"""Up to how many sums a step, `kinds * batch * tags ** 3`, a long recursion on a CPU is faster in pieces: `_scan`."""


_TRAINING_ALONE = {"loss", "accepts_loss_kwargs", "own_code", "_auto_class"}
"""What a subclass may have of its own and still tag as its base does; so it may what every class has."""
_EVERY_CLASS_HAS = {"__module__", "__qualname__", "__doc__", "__annotations__", "__static_attributes__"}
_EVERY_CLASS_HAS |= {"__firstlineno__", "__annotate__", "__annotate_func__", "__annotations_cache__"}

_log = logging.getLogger(__name__)


class OwnCode(NamedTuple):
    """The file that a subclass is saved with.

    Attributes:
        name: Its name in the directory, such as `focal.py`.
        content: What it holds there; it imports this file as `.modeling`.
    """

    name: str
    content: bytes


class Legality(NamedTuple):
    """What may stand where, by tag id.

    Attributes:
        start: Whether a tag may come first.
        transitions: Per tag and next tag, whether the second may follow the first.
        end: Whether a tag may come last.
        continues: Per tag and next tag, whether the second goes on with the span of the first.
    """

    start: tuple[bool, ...]
    transitions: tuple[tuple[bool, ...], ...]
    end: tuple[bool, ...]
    continues: tuple[tuple[bool, ...], ...]


def legal_transitions(tags: list[str]) -> Legality:
    """The rules of BIO and BIOES, for each type those of the tags that it has.

    `I-X` and `E-X` follow only `B-X` or `I-X`; where there is an `E-X`, nothing else may follow these two, and they may
    not come last. A type that has no `B-X` may open with `I-X` (the IO scheme).
    """
    openable = {tag[2:] for tag in tags if tag.startswith("B-")}
    closable = openable & {tag[2:] for tag in tags if tag.startswith("E-")}

    def continues(before: str, tag: str) -> bool:
        return before[:2] in {"B-", "I-"} and tag[:2] in {"I-", "E-"} and before[2:] == tag[2:]

    def may_follow(before: str, tag: str) -> bool:
        unfinished = before[:2] in {"B-", "I-"} and before[2:] in closable
        bound = tag[:2] in {"I-", "E-"} and tag[2:] in openable
        return continues(before, tag) or not (unfinished or bound)

    return Legality(
        start=tuple(may_follow("", tag) for tag in tags),
        transitions=tuple(tuple(may_follow(before, tag) for tag in tags) for before in tags),
        end=tuple(may_follow(tag, "") for tag in tags),
        continues=tuple(tuple(continues(before, tag) for tag in tags) for before in tags),
    )


def _angles(given: Any) -> dict[str, float]:
    """The rotary angles of ModernBERT's layers, as transformers 4 names them: it takes its defaults without a word."""
    names = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
    kinds = {kind: given.get(kind) for kind in names} if isinstance(given, dict) else {}
    return {names[kind]: value["rope_theta"] for kind, value in kinds.items() if value and "rope_theta" in value}


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
        label_smoothing: Share of each label that the cross-entropy spreads over all tags; 0 with a CRF.
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
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        given = (encoder_config or {}).items()
        own = {k: v for k, v in given if k not in _FOREIGN_KEYS and not k.endswith("name_or_path")}
        self.encoder_config = {**own, **_angles(own.get("rope_parameters"))}
        self.classifier_hidden_layers = list(classifier_hidden_layers) if classifier_hidden_layers else None
        self.classifier_dropout = classifier_dropout
        self.class_weights = class_weights
        self.use_crf = use_crf
        self.freeze_backbone = freeze_backbone
        self.window_length = window_length
        self.window_context = window_context
        self.score_temperature = temperature  # transformers reserves the name `temperature` for text generation
        self.inference_dtype = inference_dtype
        self.label_smoothing = label_smoothing
        self.requires_trust_remote_code = True
        kwargs.setdefault("custom_pipelines", _PIPELINES)
        super().__init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As inherited, with `temperature` under the name that the constructor takes, and without a manifest.

        The manifest is of the directory that this was read from, and not of one that it is written to.
        """
        output: dict[str, Any] = super().to_dict()
        output.pop("manifest", None)
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
    have holes: masked positions are left out and their neighbours joined. Sums are taken in float32 or wider, the best
    sequences found in double precision, so that the scores of a long note keep their small differences.

    Args:
        num_tags: Number of tags.
        batch_first: Whether tensors are `(batch, length, ...)` and not `(length, batch, ...)`, here and below.
        legal: Which transitions exist; all of them by default. Illegal ones have probability 0 everywhere and are never
            written into the parameters.
    """

    def __init__(self, num_tags: int, batch_first: bool = False, *, legal: Legality | None = None) -> None:
        if num_tags <= 0:
            raise ValueError(f"a CRF needs at least one tag, found {num_tags}")
        if legal is not None and len(legal.start) != num_tags:
            raise ValueError(f"expected the legality of {num_tags} tags, found that of {len(legal.start)}")
        super().__init__()
        self.num_tags = num_tags
        self.batch_first = batch_first
        self.legal = legal
        self.start_transitions = nn.Parameter(torch.empty(num_tags))
        self.end_transitions = nn.Parameter(torch.empty(num_tags))
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags))
        self.reset_parameters()

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"num_tags={self.num_tags}, batch_first={self.batch_first}, constrained={self.legal is not None}"

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
            emissions, kept, _, _ = self._arrange(emissions, tags if mask is None else tags & mask.bool())
            score = self._score(emissions, self._viterbi(emissions, kept).clamp(min=0), kept)
        else:
            check_labels(tags, self.num_tags)
            emissions, kept, _, tags = self._arrange(emissions, mask, tags.long())
            score = self._score(emissions, tags, kept)
        return _reduce(score - _log_partition(emissions, kept, *self._parameters_for(emissions)), kept, reduction)

    def log_partition(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """The logarithm of the sum over all legal sequences of their exponentiated scores, `(batch)`."""
        emissions, kept, _, _ = self._arrange(emissions, mask)
        return _log_partition(emissions, kept, *self._parameters_for(emissions))

    def marginals(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """The probability of each tag at each position, 0 at masked ones; shaped as the emissions."""
        emissions, kept, order, _ = self._arrange(emissions, mask)
        found = _marginals(emissions, kept, *self._parameters_for(emissions))
        return self._restore(found, order.unsqueeze(2).expand_as(found))

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

    def k_best(self, emissions: Tensor, k: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The `k` best legal sequences of each row, best first (list Viterbi, Seshadri and Sundberg 1994).

        Returns:
            Tag ids `(k, batch, length)`, or `(k, length, batch)` without `batch_first`, `IGNORED` at masked positions;
            and log scores `(k, batch)`. Where a row has fewer than `k` legal sequences, what is missing is `IGNORED`
            and `-inf`.

        Raises:
            ValueError: If `k` is not positive.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, found {k}")
        emissions, kept, order, _ = self._arrange(emissions, mask)
        tags = self._list_viterbi(emissions, kept, k)
        scores = [self._score(emissions, row.clamp(min=0), kept) for row in tags]
        missing = tags[:, :, 0].eq(IGNORED) & kept[:, 0]  # (k, batch)
        missing[1:] |= ~kept[:, 0]  # an empty row has one sequence, the empty one
        tags = torch.stack([self._restore(row, order) for row in tags])
        return tags, torch.stack(scores).masked_fill(missing, -torch.inf)

    @torch.no_grad()
    def sample(
        self, emissions: Tensor, count: int = 1, mask: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw legal sequences by their probability: tag ids `(count, batch, length)`, `IGNORED` at masked positions.

        The last tag is drawn first, then each tag given the one behind it; noise of Gumbel's distribution turns the
        draw into a maximum. Without `batch_first` the samples are `(count, length, batch)`.

        Raises:
            ValueError: If `count` is not positive.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, found {count}")
        emissions, kept, order, _ = self._arrange(emissions, mask)
        wide = _widened(emissions)
        start, transitions, end = self._parameters_for(wide)
        alpha = _forward_scores(wide, kept, start, transitions).expand(count, -1, -1, -1)
        into, path = transitions.t(), [_draw(alpha[:, :, -1] + end, generator)]  # (count, batch)
        for position in range(emissions.size(1) - 2, -1, -1):
            drawn = _draw(alpha[:, :, position] + into[path[-1]], generator)
            path.append(torch.where(kept[:, position + 1], drawn, path[-1]))
        tags = torch.stack(path[::-1], dim=2).masked_fill(~kept, IGNORED)
        return torch.stack([self._restore(row, order) for row in tags])

    @torch.no_grad()
    def entropy(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """The entropy of the distribution over all legal sequences, in nats, `(batch)`; without a gradient.

        The log partition less the expected score, in double precision, as the two are large and close.
        """
        emissions, kept, _, _ = self._arrange(emissions, mask)
        wide = _widened(emissions)
        start, transitions, end = self._parameters_for(wide)
        value, tags, pairs = _counts(wide, kept, start, transitions, end)
        last = tags[torch.arange(len(tags), device=tags.device), _last(kept)]  # (batch, tags)
        edges = (tags[:, 0] * start + last * end).sum(1)
        expected = torch.where(tags > 0, tags * wide, 0.0).sum((1, 2)) + edges + (pairs * transitions).sum((1, 2))
        return (value - expected).clamp(min=0.0).to(emissions.dtype)

    @torch.no_grad()
    def span_log_probabilities(
        self,
        emissions: Tensor,
        spans: list[tuple[int, int, list[int]]],
        mask: Tensor | None = None,
        *,
        temperature: float = 1.0,
    ) -> Tensor:
        """The log-probabilities of exactly these spans, `(spans)`, in double precision.

        A span's probability is that of its first tag, times those of each further tag given the one before it, times
        that of no tag behind them that would go on with the span (see `Legality.continues`). A type without an opening
        tag has no such spans: what stands before them may belong to them.

        Args:
            emissions: `(batch, length, tags)`.
            spans: Per span its row, its first position as `decode` counts them, and its tag ids.
            mask: `(batch, length)`; positions that are 0 are left out.
            temperature: Divides emissions and parameters.

        Raises:
            ValueError: If a span is not there, or the temperature is not positive.
        """
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, found {temperature}")
        emissions, kept, _, _ = self._arrange(emissions, mask)
        wide = _widened(emissions) / temperature
        if not spans:
            return wide.new_empty(0)
        check_spans(spans, kept.sum(1).tolist(), self.num_tags)
        parameters = (parameter / temperature for parameter in self._parameters_for(wide))
        alpha, beta, ahead, transitions = _log_messages(wide, kept, *parameters)

        def column(values: Iterable[int]) -> Tensor:
            return torch.tensor(list(values), dtype=torch.long, device=wide.device)

        sizes = column(len(tags) for _, _, tags in spans)
        ends = sizes.cumsum(0)
        span = torch.arange(len(spans), device=wide.device).repeat_interleave(sizes)  # (all tags), as the next three
        row, tag = column(row for row, _, _ in spans)[span], column(chain.from_iterable(tags for _, _, tags in spans))
        begin, last = ends - sizes, ends - 1  # (spans)
        position = (
            column(first for _, first, _ in spans)[span] + torch.arange(len(tag), device=wide.device) - begin[span]
        )
        entering, leaving = ahead[row, position, tag], beta[row, position, tag]
        moves = transitions[tag[:-1], tag[1:]] + entering[1:] - leaving[:-1]
        moves = moves.nan_to_num(nan=-torch.inf, neginf=-torch.inf)  # out of a tag that nothing may follow
        found = (alpha + beta)[row, position].log_softmax(1).gather(1, tag.unsqueeze(1)).squeeze(1)[begin]
        found = found.index_add(0, span[1:], torch.where(span[1:] == span[:-1], moves, 0.0)).clamp(max=0.0)
        if self.legal is None:
            return found
        row, position, tag, leaving = row[last], position[last], tag[last], leaving[last]
        following = transitions[tag] + ahead[row, (position + 1).clamp(max=ahead.size(1) - 1)]  # (spans, tags)
        goes_on = torch.tensor(self.legal.continues, device=wide.device)[tag]
        stops = following.masked_fill(goes_on, -torch.inf).logsumexp(1) - leaving
        stops = torch.where(position + 1 < kept.sum(1)[row], stops, 0.0)
        return found + stops.nan_to_num(nan=-torch.inf, neginf=-torch.inf).clamp(max=0.0)

    def _arrange(
        self, emissions: Tensor, mask: Tensor | None = None, tags: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Any]:
        """Batch first and kept positions at the front: emissions, what is kept, original positions, tags."""
        if emissions.dim() != 3 or emissions.size(2) != self.num_tags:
            raise ValueError(f"expected three axes of emissions with {self.num_tags} tags, found {emissions.shape}")
        if not emissions.size(1 if self.batch_first else 0):
            raise ValueError("expected emissions of at least one position, found none; an empty row is a masked one")
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
        flat = order + torch.arange(len(order), device=order.device).unsqueeze(1) * order.size(1)
        emissions = emissions.flatten(0, 1).index_select(0, flat.flatten()).view_as(emissions)
        kept = kept.gather(1, order)
        emissions = emissions.masked_fill(~kept.unsqueeze(2), 0.0)  # padding may hold anything, NaN too
        return emissions, kept, order, None if tags is None else tags.clamp(min=0).gather(1, order)

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
        opens, follows, closes = (torch.tensor(part, device=emissions.device) for part in self.legal[:3])
        return (
            start.masked_fill(~opens, _FORBIDDEN),
            transitions.masked_fill(~follows, _FORBIDDEN),
            end.masked_fill(~closes, _FORBIDDEN),
        )

    def _score(self, emissions: Tensor, tags: Tensor, kept: Tensor) -> Tensor:
        """The unnormalised log scores of given sequences, `(batch)`."""
        start, transitions, end = self._parameters_for(emissions)
        emitted = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)  # (batch, length)
        moved = transitions[tags[:, :-1], tags[:, 1:]]  # (batch, length - 1)
        last = tags.gather(1, _last(kept).unsqueeze(1)).squeeze(1)  # (batch)
        score = start[tags[:, 0]] + end[last] + emitted.sum(1)
        return (score + moved.masked_fill(~kept[:, 1:], 0.0).sum(1)).masked_fill(~kept[:, 0], 0.0)

    @torch.no_grad()
    def _viterbi(self, emissions: Tensor, kept: Tensor) -> Tensor:
        """Best tags `(batch, length)` of compact sequences, `IGNORED` behind a row's end.

        One recursion comes from either end, and they meet in the middle: half as many steps. The way there keeps scores
        alone; the way back asks again which tag gave them.
        """
        wide = _widened(emissions)
        start, transitions, end = self._parameters_for(wide)
        last = _last(kept)
        both = _both_ways(wide.transpose(0, 1), last)
        half, rows = (len(both) + 1) // 2, torch.arange(len(kept), device=kept.device)
        first = both[0] + torch.stack([start, end]).unsqueeze(1)
        edges = torch.stack([transitions, transitions.t()])
        scores = _scan(_MAXIMA, first, both[1:half], edges)  # (half, 2, batch, tags)
        entry = torch.stack([last.clamp(max=half - 1), last - half])  # (2, batch): where they meet; -1 or less, nowhere
        left, right = scores[entry[0], 0, rows], scores[entry[1].clamp(min=0), 1, rows]  # (batch, tags)
        met = (left.unsqueeze(2) + transitions + right.unsqueeze(1)).flatten(1).argmax(1)  # (batch)
        before = torch.where(entry[1] < 0, (left + end).argmax(1), met // self.num_tags)
        path = _trace(torch.stack([before, met % self.num_tags]), entry, scores, edges)  # (half, 2, batch)
        mirrored = last - torch.arange(half, len(both), device=kept.device).unsqueeze(1)
        path = torch.cat([path[:, 0], path[:, 1].gather(0, mirrored.clamp(min=0))]).t()
        return path.masked_fill(~kept, IGNORED)

    @torch.no_grad()
    def _list_viterbi(self, emissions: Tensor, kept: Tensor, k: int) -> Tensor:
        """The `k` best sequences `(k, batch, length)`; `IGNORED` behind a row's end, and where there is no such one."""
        wide = _widened(emissions)
        start, transitions, end = self._parameters_for(wide)
        state = F.pad((start + wide[:, 0]).unsqueeze(2), (0, k - 1), value=-torch.inf)  # (batch, tags, k)
        own = torch.arange(state[0].numel(), device=wide.device).view_as(state[0])
        pointers = []  # of each tag's k best to the flat index, tag * k + rank, of what stands before them
        for emitted, here in zip(wide.unbind(1)[1:], kept.unbind(1)[1:], strict=True):
            moved = (state.unsqueeze(3) + transitions.unsqueeze(1)).flatten(1, 2)  # (batch, tags * k, tags)
            top, chosen = (found.transpose(1, 2) for found in moved.topk(k, dim=1))  # (batch, tags, k)
            state = torch.where(here.view(-1, 1, 1), top + emitted.unsqueeze(2), state)
            pointers.append(torch.where(here.view(-1, 1, 1), chosen, own))
        scores, index = (state + end.unsqueeze(1)).flatten(1).topk(k)  # (batch, k)
        path = [index]
        for pointer in reversed(pointers):
            path.append(pointer.flatten(1).gather(1, path[-1]))
        tags = torch.stack(path[::-1], dim=2) // k  # (batch, k, length)
        return tags.masked_fill((scores < _FORBIDDEN / 2).unsqueeze(2) | ~kept.unsqueeze(1), IGNORED).transpose(0, 1)


class _LogPartition(torch.autograd.Function):
    """The log partition function of compact sequences; its gradient is the expected counts."""

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, kept: Tensor, *parameters: Tensor) -> Tensor:
        """`(batch)`, 0 for empty rows, from `(batch, length, tags)`, `(batch, length)` and the parameters."""
        value, tags, pairs = _counts(emissions, kept, *parameters)
        ctx.save_for_backward(tags, pairs, _last(kept))
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Expected counts, each row's weighed by its gradient."""
        _refuse_second_derivative()
        tags, pairs, last = ctx.saved_tensors
        weight = gradients[0].view(-1, 1, 1)
        return _gradients(tags * weight, pairs * weight, last)


class _Marginals(torch.autograd.Function):
    """The tag marginals of compact sequences.

    They are a gradient of the log partition function, whose matrix of second derivatives is symmetric: what backward
    owes for a gradient is how all expected counts change as the emissions move along it. That change is the imaginary
    part that an imaginary step of the emissions leaves on the counts (Squire and Trapp 1998): exact, and no graph over
    the positions.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, kept: Tensor, *parameters: Tensor) -> Tensor:
        """`(batch, length, tags)`, 0 at masked positions."""
        ctx.save_for_backward(emissions, kept, *parameters)
        return _counts(emissions, kept, *parameters)[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The change of the counts."""
        _refuse_second_derivative()
        emissions, kept, *parameters = ctx.saved_tensors
        wide = _widened(emissions)
        step = _imaginary_step(wide.dtype)
        stepped = torch.complex(wide, step * gradients[0].to(wide.dtype))
        _, tags, pairs = (part.imag / step for part in _counts(stepped, kept, *map(_widened, parameters)))
        return _gradients(tags.to(emissions.dtype), pairs.to(emissions.dtype), _last(kept))


def _refuse_second_derivative() -> None:
    """Refuse what would be a wrong number in silence."""
    if torch.is_grad_enabled():
        raise RuntimeError("the CRF has first derivatives only: call backward without create_graph=True")


def _gradients(tags: Tensor, pairs: Tensor, last: Tensor) -> tuple[Tensor | None, ...]:
    """What emissions, mask, start, transition and end scores receive, from weighed counts of tags and pairs."""
    final = tags.gather(1, last.view(-1, 1, 1).expand(-1, 1, tags.size(2))).squeeze(1)
    return tags, None, tags[:, 0].sum(0), pairs.sum(0), final.sum(0)


_log_partition: Callable[..., Tensor] = torch.compiler.disable(_LogPartition.apply)  # type: ignore[no-untyped-call]
_marginals: Callable[..., Tensor] = torch.compiler.disable(_Marginals.apply)  # type: ignore[no-untyped-call]


class _Messages(NamedTuple):
    """What both recursions say of compact sequences, each position's numbers scaled.

    Attributes:
        value: The log partition function, `(batch)`.
        alpha: The sum over all beginnings that end in a tag, `(length, batch, tags)`.
        beta: The sum over all that can follow a tag: `ahead` of the next position, moved by `edges`.
        ahead: `beta`, the position's own emission included.
        edges: The exponentiated transitions, `(tags, tags)`.
        total: The sum of `alpha * beta`, `(length, batch, 1)`.
        kept: Which positions there are, `(length, batch, 1)`.
        margin: The least share of what one scale holds that a position's sums came from, `(length, batch, 1)`.
    """

    value: Tensor
    alpha: Tensor
    beta: Tensor
    ahead: Tensor
    edges: Tensor
    total: Tensor
    kept: Tensor
    margin: Tensor

    def trusted(self) -> bool:
        """Whether nothing that counts can have fallen below the range of the numbers, nor an imaginary step of it."""
        info = torch.finfo(self.total.dtype)
        floor = info.tiny / info.eps / (_imaginary_step(self.total.dtype) if self.total.is_complex() else 1.0)
        return bool((self.margin > floor).logical_or(~self.kept).all())


def _imaginary_step(dtype: torch.dtype) -> float:
    """A step whose square is nothing beside 1, and which leaves room below it."""
    return float(torch.finfo(dtype).tiny ** (1 / 3))


def _linear_messages(emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor, end: Tensor) -> _Messages:
    """Both recursions side by side in linear space, each step scaled to sum 1 (Rabiner 1989, section V.A).

    The way back runs forward over the mirror image. Where scores some 80 apart (in double precision, some 700) speak
    against each other, what counts in the end may fall below the range of the numbers on the way: see `margin`.
    """
    last, kept = _last(kept), kept.t().unsqueeze(2)  # from here on, length first
    rows, positions = torch.arange(len(last), device=last.device), torch.arange(len(kept), device=last.device)
    steps = emissions.transpose(0, 1).contiguous()
    peak = steps.real.amax(2, keepdim=True)
    weights = (steps - peak).exp()
    both = _both_ways(weights, last)
    tops = start.max(), transitions.max(), end.max()
    scores = ((part - top).exp() for part, top in zip((start, transitions, end), tops, strict=True))
    opens, edges, closes = (score.to(weights.dtype) for score in scores)
    first = both[0] * torch.stack([opens, closes]).unsqueeze(1)
    states = _scan(_SUMS, first / first.sum(2, keepdim=True), both[1:], torch.stack([edges, edges.t()]))
    alpha, ahead = states[:, 0].contiguous(), _mirrored(states[:, 1], last)
    beta = torch.cat([ahead[1:] @ edges.t(), closes.expand_as(ahead[:1])])
    beta = torch.where((positions.unsqueeze(1) == last).unsqueeze(2), closes, beta)
    total = (alpha * beta).sum(2, keepdim=True)
    scales = [(opens * weights[:1]).sum(2, keepdim=True), ((alpha[:-1] @ edges) * weights[1:]).sum(2, keepdim=True)]
    scale = torch.cat(scales)
    behind = (weights * beta).sum(2, keepdim=True)[1:]
    behind = torch.where(positions.view(-1, 1, 1) < last.unsqueeze(1), F.pad(behind.real, (0, 0, 0, 0, 0, 1)), 1.0)
    margin = total.real * torch.minimum(scale.real, behind)
    value = torch.where(kept, scale.log() + peak, 0.0).sum(0).squeeze(1)
    value = value + total[last, rows, 0].log() + tops[0] + tops[2] + tops[1] * last
    return _Messages(torch.where(kept[0, :, 0], value, 0.0), alpha, beta, ahead, edges, total, kept, margin)


def _both_ways(steps: Tensor, last: Tensor) -> Tensor:
    """`(length, batch, tags)` and beside it each row's mirror image: `(length, 2, batch, tags)`."""
    return torch.stack([steps, _mirrored(steps, last)], dim=1)


def _mirrored(steps: Tensor, last: Tensor) -> Tensor:
    """Each row of `(length, batch, tags)` read from its own end; behind its beginning, that again."""
    length, batch, tags = steps.shape
    rows, positions = (torch.arange(size, device=steps.device) for size in (batch, length))
    index = (last - positions.unsqueeze(1)).clamp(min=0) * batch + rows  # (length, batch)
    return steps.reshape(length * batch, tags).index_select(0, index.flatten()).view_as(steps)


def _log_messages(
    emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor, end: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The logarithms of `alpha`, `beta`, `ahead`, `(batch, length, tags)`, and `edges`: right for any emissions."""
    found = _linear_messages(emissions, kept, start, transitions, end)
    if found.trusted():
        alpha, beta, ahead = (part.log().transpose(0, 1) for part in (found.alpha, found.beta, found.ahead))
        return alpha, beta, ahead, found.edges.log()
    beta = _backward_scores(emissions, kept, transitions, end)
    return _forward_scores(emissions, kept, start, transitions), beta, emissions + beta, transitions


def _counts(emissions: Tensor, kept: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log partition `(batch)`, tag marginals `(batch, length, tags)` and expected transitions `(batch, tags, tags)`.

    In linear space; where that leaves the range of the numbers, in double precision; where it leaves that too, in log
    space. In full precision under autocast.
    """
    with torch.autocast(emissions.device.type, enabled=False):
        found = _linear_messages(emissions, kept, *parameters)
        if found.trusted():
            share = torch.where(found.kept, found.alpha / found.total, 0.0)  # (length, batch, tags)
            marginals = (share * found.beta).transpose(0, 1)
            before = torch.where(found.kept[1:], share[:-1], 0.0).permute(1, 2, 0)
            return found.value, marginals, torch.bmm(before, found.ahead[1:].transpose(0, 1)) * found.edges
        if emissions.dtype == torch.float32 and _widened(emissions).dtype != emissions.dtype:
            value, marginals, pairs = _counts(_widened(emissions), kept, *map(_widened, parameters))
            return value.float(), marginals.float(), pairs.float()
        return _log_counts(emissions, kept, *parameters)


def _log_counts(
    emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor, end: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in log space: slower, and right for any emissions."""
    alpha = _forward_scores(emissions, kept, start, transitions)
    beta = _backward_scores(emissions, kept, transitions, end)
    joint = alpha + beta
    value = _log_sum(alpha[:, -1] + end, 1)
    marginals = torch.where(kept.unsqueeze(2), (joint - _log_sum(joint, 2).unsqueeze(2)).exp(), 0.0)
    pairs = torch.zeros_like(joint[:, 0]).unsqueeze(2).repeat(1, 1, joint.size(2))  # (batch, tags, tags)
    for position in range(1, emissions.size(1)):
        ahead = (emissions[:, position] + beta[:, position]).unsqueeze(1)
        moved = alpha[:, position - 1].unsqueeze(2) + transitions + ahead  # (batch, tags, tags)
        share = (moved - _log_sum(moved, (1, 2)).view(-1, 1, 1)).exp()
        pairs += torch.where(kept[:, position].view(-1, 1, 1), share, 0.0)
    return torch.where(kept[:, 0], value, 0.0), marginals, pairs


def _forward_scores(emissions: Tensor, kept: Tensor, start: Tensor, transitions: Tensor) -> Tensor:
    """Log sums over all prefixes that end in a tag; behind its end a row repeats; `(batch, length, tags)`."""
    alphas = [start + emissions[:, 0]]
    for position in range(1, emissions.size(1)):
        moved = _log_sum(alphas[-1].unsqueeze(2) + transitions, 1)  # (batch, tags)
        alphas.append(torch.where(kept[:, position, None], moved + emissions[:, position], alphas[-1]))
    return torch.stack(alphas, dim=1)


def _backward_scores(emissions: Tensor, kept: Tensor, transitions: Tensor, end: Tensor) -> Tensor:
    """Log sums over all suffixes that follow a tag, `(batch, length, tags)`."""
    betas = [end.expand_as(emissions[:, 0]).to(emissions.dtype)]
    for position in range(emissions.size(1) - 1, 0, -1):
        moved = _log_sum(transitions + (emissions[:, position] + betas[-1]).unsqueeze(1), 2)
        betas.append(torch.where(kept[:, position, None], moved, betas[-1]))
    return torch.stack(betas[::-1], dim=1)


def _log_sum(values: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """`logsumexp`, of numbers with a small imaginary part too."""
    peak = values.real.amax(dims, keepdim=True)
    sums: Tensor = (values - peak).exp().sum(dims, keepdim=True).log() + peak
    return sums.squeeze(dims)


class _Semiring(NamedTuple):
    """What a recursion over a sequence is made of.

    Attributes:
        product: Of states `(kinds, rows, tags)` and edges `(kinds, tags, tags)`.
        weigh: Brings the emissions of a position in, and keeps the numbers of each row in range.
        cross: The same for rows that belong together, each for a tag to enter with: weighed, and the logarithm of what
            each was divided by.
        enter: How much each tag to enter with counts, from the state `(rows, 1, tags)` before a piece and those
            logarithms `(rows, tags, 1)`.
        identity: Makes the edges that change nothing from a unit matrix.
        neutral: The emission that changes nothing.
    """

    product: Callable[[Tensor, Tensor], Tensor]
    weigh: Callable[[Tensor, Tensor | float], Tensor]
    cross: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | float]]
    enter: Callable[[Tensor, Tensor], Tensor]
    identity: Callable[[Tensor], Tensor]
    neutral: float


def _weigh_sums(moved: Tensor, weight: Tensor | float) -> Tensor:
    """Multiply, and scale to sum 1."""
    weighed = moved * weight
    return weighed / weighed.sum(2, keepdim=True)


def _cross_sums(moved: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Each entering tag's row has a scale of its own: one that vanishes beside another may be the one entered."""
    weighed = moved * weight
    total = weighed.sum(3, keepdim=True)
    return weighed / torch.where(total == 0, 1.0, total), total.log()


def _enter_sums(state: Tensor, logs: Tensor) -> Tensor:
    """The state times those scales, itself scaled."""
    weights = state.transpose(1, 2).log() + logs  # (rows, tags, 1)
    return (weights - weights.real.amax(1, keepdim=True)).exp().transpose(1, 2)


def _best_products(states: Tensor, edges: Tensor) -> Tensor:
    """The matrix product that adds where the usual one multiplies, and takes the maximum where it adds."""
    return (states.unsqueeze(3) + edges.unsqueeze(1)).amax(2)


def _cross_maxima(moved: Tensor, weight: Tensor) -> tuple[Tensor, float]:
    """Sums need no scale."""
    return moved + weight, 0.0


def _enter_maxima(state: Tensor, _: Tensor) -> Tensor:
    """Nor has one to be undone."""
    return state


_SUMS = _Semiring(torch.bmm, _weigh_sums, _cross_sums, _enter_sums, torch.clone, 1.0)
_MAXIMA = _Semiring(_best_products, torch.add, _cross_maxima, _enter_maxima, torch.log, 0.0)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _scan(semiring: _Semiring, first: Tensor, inputs: Tensor, edges: Tensor) -> Tensor:
    """All states of a recursion, `(steps + 1, kinds, batch, tags)`.

    A short batch of long sequences is cut into pieces that are worked on side by side: once from every tag that a
    piece can be entered with, which gives the tags it is entered with, and once from these.

    Args:
        semiring: How states, edges and inputs are joined.
        first: `(kinds, batch, tags)`.
        inputs: `(steps, kinds, batch, tags)`.
        edges: `(kinds, tags, tags)`.
    """
    kinds, batch, tags = first.shape

    def run(state: Tensor, rows: Tensor, edges: Tensor) -> list[Tensor]:
        return [state := semiring.weigh(semiring.product(state, edges), row) for row in rows]

    count = _piece_count(len(inputs), kinds * batch * tags**3, first.device)
    if count == 1:
        return torch.stack([first, *run(first, inputs, edges)])
    pieces = _cut(inputs, count, semiring.neutral).flatten(1, 2)  # (size, count * kinds, batch, tags)
    edges = edges.repeat(count, 1, 1)
    crossing = semiring.identity(torch.eye(tags, dtype=first.dtype, device=first.device))
    crossing = crossing.expand(count * kinds, batch, tags, tags)
    logs = crossing.new_zeros(count * kinds, batch, tags, 1)
    for row in pieces.unsqueeze(3):
        moved = semiring.product(crossing.flatten(1, 2), edges).view(crossing.shape)
        crossing, scale = semiring.cross(moved, row)
        logs = logs + scale
    entered = [first.reshape(kinds * batch, 1, tags)]
    moves, logs = (part.view(count, kinds * batch, tags, -1)[:-1] for part in (crossing, logs))
    for move, scale in zip(moves, logs, strict=True):
        state = semiring.product(semiring.enter(entered[-1], scale), move)
        entered.append(semiring.weigh(state, semiring.neutral))
    states = torch.stack(run(torch.stack(entered).view(count * kinds, batch, tags), pieces, edges))
    return torch.cat([first.unsqueeze(0), _join(states.view(-1, count, *first.shape), len(inputs))])


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _trace(ends: Tensor, entry: Tensor, scores: Tensor, edges: Tensor) -> Tensor:
    """Walk back along the best scores: tags `(length, kinds, batch)`.

    Cut into pieces where `_scan` does: each is walked from every tag, then from the one that it is entered with.

    Args:
        ends: The tags to begin with, `(kinds, batch)`.
        entry: Where they stand, `(kinds, batch)`; behind it they repeat.
        scores: `(length, kinds, batch, tags)`.
        edges: `(kinds, tags, tags)`.
    """
    length, kinds, batch, tags = scores.shape
    into = edges.transpose(1, 2).flatten(0, 1)  # (kinds * tags, tags)
    offset = tags * torch.arange(kinds, device=scores.device).view(-1, 1, 1)
    ended = torch.where(F.one_hot(ends, tags).bool(), 0.0, -torch.inf).to(scores.dtype)  # (kinds, batch, tags)
    positions = torch.arange(length - 1, device=scores.device).view(-1, 1, 1)
    before = torch.where((positions < entry).unsqueeze(3), scores[:-1], ended).flip(0)  # (steps, kinds, batch, tags)

    def walk(tags: Tensor, before: Tensor) -> list[Tensor]:
        path = [tags]
        for row in before.unsqueeze(-2):
            path.append((row + F.embedding(path[-1] + offset, into)).argmax(-1))
        return path

    count = _piece_count(length - 1, kinds * batch * tags**3, scores.device)
    if count == 1:
        return torch.stack(walk(ends.unsqueeze(2), before)[::-1]).squeeze(3)
    every = torch.arange(tags, device=ends.device).expand(count, kinds, batch, tags)
    walked = torch.stack(walk(every, _cut(before, count, 0.0))[1:])  # (size, count, kinds, batch, tags)
    entered = [ends.unsqueeze(2)]
    for row in walked[-1, :-1]:  # (kinds, batch, tags)
        entered.append(row.gather(2, entered[-1]))
    path = walked.gather(4, torch.stack(entered).expand(len(walked), -1, -1, -1, -1))
    return torch.cat([ends.unsqueeze(0), _join(path, length - 1).squeeze(3)]).flip(0)


def _piece_count(steps: int, work: int, device: torch.device) -> int:
    """Into how many pieces to cut a recursion: 1 where the extra work of a step costs more than the steps saved."""
    limit = _PIECES_PAY if device.type == "cpu" else 64 * _PIECES_PAY
    return math.isqrt(steps) if steps >= 64 and work <= limit else 1


def _cut(rows: Tensor, count: int, filler: float) -> Tensor:
    """Cut `(steps, ...)` into pieces side by side, `(size, count, ...)`, the last one filled up."""
    size = -(-len(rows) // count)
    missing = rows.new_full((size * count - len(rows), *rows.shape[1:]), filler)
    return torch.cat([rows, missing]).view(count, size, *rows.shape[1:]).transpose(0, 1)


def _join(pieces: Tensor, steps: int) -> Tensor:
    """The inverse of `_cut`."""
    return pieces.transpose(0, 1).flatten(0, 1)[:steps]


def _draw(scores: Tensor, generator: torch.Generator | None) -> Tensor:
    """One index of the last axis each, by the probabilities whose logarithms, up to a constant, are the scores."""
    waits = torch.empty_like(scores).exponential_(generator=generator)
    return (scores - waits.clamp(min=torch.finfo(scores.dtype).tiny).log()).argmax(-1)


def _last(kept: Tensor) -> Tensor:
    """The last position of each compact row, `(batch)`; 0 for an empty one."""
    return (kept.sum(1) - 1).clamp(min=0)


def _widened(values: Tensor) -> Tensor:
    """In double precision, where the device has it."""
    return values if values.device.type == "mps" else values.double()


def _reduce(values: Tensor, kept: Tensor, reduction: str) -> Tensor:
    """Reduce the values `(batch)`, with pytorch-crf's names."""
    if reduction not in {"none", "sum", "mean", "token_mean"}:
        raise ValueError(f"reduction must be none, sum, mean or token_mean; found {reduction!r}")
    if reduction == "token_mean":
        return values.sum() / kept.sum().clamp(min=1)
    return values if reduction == "none" else values.sum() if reduction == "sum" else values.mean()


def check_labels(labels: Tensor, num_labels: int) -> None:
    """Refuse label ids that the model does not have, before an index error or a device fault hides the cause."""
    if labels.is_floating_point():
        raise ValueError(f"labels must be whole numbers, found {labels.dtype}")
    if torch.compiler.is_compiling():
        return
    wrong = int((labels.ne(IGNORED) & ((labels < 0) | (labels >= num_labels))).sum())
    if wrong:
        raise ValueError(
            f"labels must be 0 to {num_labels - 1}, or {IGNORED} for positions to leave out; {wrong} of "
            f"{labels.numel()} are not: check label2id against the labels of the data"
        )


def check_spans(spans: list[tuple[int, int, list[int]]], lengths: list[int], num_tags: int) -> None:
    """Refuse spans that lie outside of their rows, or hold tags that there are not."""
    for index, (row, first, tags) in enumerate(spans):
        inside = 0 <= row < len(lengths) and 0 <= first < first + len(tags) <= lengths[row]
        if not inside or not all(0 <= tag < num_tags for tag in tags):
            raise ValueError(
                f"span {index}: expected positions within a row, rows having {lengths} of them, and tag ids below "
                f"{num_tags}; found row {row}, position {first}, tag ids {tags}"
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


def _file_of(kind: type) -> Path | None:
    """The file that a class stands in, if it stands in one."""
    name = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return Path(name) if name else None


def _own_code(kind: type) -> OwnCode | None:
    """The code of a subclass: what was prepared for it, or its file where it came with a directory, beside this one."""
    prepared: OwnCode | None = vars(kind).get("own_code")
    file, here = _file_of(kind), Path(__file__)
    if prepared or kind.__module__ == __name__ or file is None or kind.__qualname__ != kind.__name__:
        return prepared
    return OwnCode(file.name, file.read_bytes()) if file.parent == here.parent and file.is_file() else None


class TokenClassificationModel(PreTrainedModel):
    """Encoder, dropout, classifier head; token-wise cross-entropy and argmax.

    A subclass is saved with its own file if that has been prepared (`own_code`), as `ModelTrainer` does, or came with a
    directory; else as the class here that it builds on.
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
        self.classifier = _build_head(config, encoder_config.hidden_size)
        if self.uses_crf:
            self.crf = CRF(config.num_labels, batch_first=True, legal=legal_transitions(config.tags))
        asked = {"output_attentions", "output_hidden_states"}  # every encoder takes them, some unnamed
        self._encoder_inputs = asked.union(inspect.signature(self.backbone.forward).parameters)
        self._name_class()
        self.post_init()
        self._freeze()

    def _name_class(self) -> None:
        """Tell in the configuration which class this is, where its code is, and which class tags as it does."""
        kind, config = type(self), self.config
        home = next(base for base in kind.__mro__ if base.__module__ == __name__)
        own = _own_code(kind)
        module, named = (own.name.removesuffix(".py"), kind) if own else ("modeling", home)
        config.custom_model_type = home.__name__ if self._tags_as(home) else named.__name__
        config.auto_map = {"AutoConfig": f"modeling.{CardioNERConfig.__name__}"}
        config.auto_map["AutoModelForTokenClassification"] = f"{module}.{named.__name__}"

    def _tags_as(self, home: type) -> bool:
        """Whether only training can tell this class from one that it builds on."""
        known = {*dir(home), *vars(self), *self._modules, "training"} - _EVERY_CLASS_HAS - _TRAINING_ALONE
        return not any(
            name in known and value is not getattr(home, name, None)
            for kind in takewhile(lambda base: base is not home, type(self).__mro__)
            for name, value in vars(kind).items()
        )

    def _freeze(self) -> None:
        """Keep from learning what should not: a pooler, which no loss reaches, and a frozen encoder."""
        pooler = getattr(self.backbone, "pooler", None)
        for part in (pooler, self.backbone if self.config.freeze_backbone else None):
            if isinstance(part, nn.Module):
                part.requires_grad_(False)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As inherited, but a missing, unexpected or misshapen weight is an error and not a random number.

        Where these classes are registered, the Auto classes come here whatever `trust_remote_code` says: if it was
        given, the class that the directory names in a file of its own is loaded, as it would be elsewhere.

        Raises:
            ValueError: If the weights in the directory are not exactly this model's, or another class, which tags in a
                way of its own, saved them.
        """
        wants_report, place = kwargs.pop("output_loading_info", False), pretrained_model_name_or_path
        trusted = kwargs.pop("trust_remote_code", False)
        named = (getattr(kwargs.get("config"), "auto_map", None) or {}).get(
            "AutoModelForTokenClassification", "modeling."
        )
        if trusted and cls.__module__ == __name__ and not named.rpartition("--")[2].startswith("modeling."):
            kind = get_class_from_dynamic_module(named, place, **{key: kwargs[key] for key in _PLACE if key in kwargs})
            return kind.from_pretrained(place, *args, output_loading_info=wants_report, **kwargs)
        ours = {own.__name__: own for own in (TokenClassificationModel, TokenClassificationModelCRF)}
        meant = ours.get(named.rpartition(".")[2], cls)
        if trusted and cls.__module__ == __name__ and meant is not cls:  # the Auto class keeps what it was first shown
            return meant.from_pretrained(place, *args, output_loading_info=wants_report, **kwargs)
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
        if model._saved_type not in {None, *(kind.__name__ for kind in cls.__mro__)}:
            raise ValueError(
                f"{place}: saved by {model._saved_type}, which tags in a way of its own, not by {cls.__name__}: load "
                "it with that class, or through AutoModelForTokenClassification with trust_remote_code=True"
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
            if labels.shape != logits.shape[:2]:
                raise ValueError(f"expected labels of shape {tuple(logits.shape[:2])}, found {tuple(labels.shape)}")
            loss = self.loss(logits, labels.masked_fill(attention_mask == 0, IGNORED))
        hidden_states, attentions = encoded.get("hidden_states"), encoded.get("attentions")
        return TokenClassifierOutput(loss=loss, logits=logits, hidden_states=hidden_states, attentions=attentions)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy over the positions whose label is not `IGNORED`, weighted by `class_weights`.

        With `label_smoothing`, part of each label is spread over all tags (Szegedy et al. 2016), as in
        `torch.nn.functional.cross_entropy`.
        """
        check_labels(labels, self.num_labels)
        return self._weighted_loss(F.log_softmax(logits.float(), dim=-1), labels)

    def decode(self, logits: Tensor, attention_mask: Tensor | None = None) -> list[list[int]]:
        """The best tag ids of logits `(batch, length, tags)`, one per attended position: argmax, or Viterbi."""
        best = logits.argmax(-1)
        kept = torch.ones_like(best) if attention_mask is None else attention_mask
        return [row[mask].tolist() for row, mask in zip(best, kept.bool(), strict=True)]

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
        scores = F.log_softmax(_widened(logits) / self.config.score_temperature, dim=-1)
        kept = torch.ones_like(scores[:, :, 0]) if attention_mask is None else attention_mask
        lengths = kept.bool().sum(1).tolist()
        check_spans(spans, lengths, self.num_labels)
        before = [0, *accumulate(lengths)]  # attended positions of the rows above
        sizes = torch.tensor([len(tags) for *_, tags in spans], dtype=torch.long)
        owner = torch.arange(len(spans)).repeat_interleave(sizes)
        starts = torch.tensor([before[row] + first for row, first, _ in spans], dtype=torch.long)
        at = torch.arange(len(owner)) + (starts - sizes.cumsum(0) + sizes)[owner]
        ids = torch.tensor([tag for *_, tags in spans for tag in tags], dtype=torch.long)
        tokens = scores[kept.bool()][at.to(scores.device), ids.to(scores.device)].cpu().double()
        found: list[float] = tokens.new_zeros(len(spans)).index_add_(0, owner, tokens).exp().tolist()
        return found

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As inherited, with the code files; without those of the pipeline `config.json` does not promise one.

        Raises:
            ValueError: If the file of a subclass would be replaced by its own copy.
        """
        target, here = Path(save_directory), Path(__file__)
        homes = (here.parent, Path(self.name_or_path or here.parent))
        home = next((folder for folder in homes if all((folder / name).is_file() for name in COMPANIONS)), None)
        own = _own_code(type(self))
        if own is None and type(self).__module__ != __name__:
            _log.warning("%s has no file to travel in: saved as the class it builds on", type(self).__name__)
        if own and (target / own.name).is_file() and (target / own.name).samefile(_file_of(type(self)) or here):
            raise ValueError(f"{target / own.name} is the file of {type(self).__name__} itself: save somewhere else")
        self._name_class()
        self.config.custom_pipelines = _PIPELINES if home else {}
        super().save_pretrained(save_directory, *args, **kwargs)
        if not kwargs.get("is_main_process", True):
            return
        for name in _OF_ANOTHER_MODEL:
            (target / name).unlink(missing_ok=True)
        for source in (here, *(home / name for name in COMPANIONS if home)):
            if source.resolve() != (target / source.name).resolve():
                shutil.copyfile(source, target / source.name)
        if own:
            (target / own.name).write_bytes(own.content)
        named = self.config.auto_map["AutoModelForTokenClassification"].rpartition(".")[2]
        self.config.architectures = list(dict.fromkeys([named, self.config.custom_model_type]))
        self.config.save_pretrained(target)

    def _weighted_loss(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """The mean of `-log p(label)` over labelled positions, each weighted by its label's class weight."""
        losses = -log_probabilities.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)  # (batch, length)
        given, smoothing = self.config.class_weights, self.config.label_smoothing
        by_tag = losses.new_ones(self.num_labels) if given is None else losses.new_tensor(given)
        kept = labels.ne(IGNORED).to(losses.dtype)
        weights = kept * by_tag[labels.clamp(min=0)]
        total = (losses * weights).sum()
        if smoothing:
            spread = -(log_probabilities @ by_tag) * kept / self.num_labels  # (batch, length)
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

    def decode(self, logits: Tensor, attention_mask: Tensor | None = None) -> list[list[int]]:
        """The most probable legal tag ids, one per attended position."""
        return self.crf.decode(logits, attention_mask)

    def span_scores(
        self, logits: Tensor, spans: list[tuple[int, int, list[int]]], attention_mask: Tensor | None = None
    ) -> list[float]:
        """As above, from the CRF: not followed by a tag that would go on with the span."""
        temperature = self.config.score_temperature
        found: list[float] = (
            self.crf.span_log_probabilities(logits, spans, attention_mask, temperature=temperature).exp().tolist()
        )
        return found


def load_custom_cardioner_multiclass_model(
    path: str | Path, device: str = "auto", *, model_class: type[TokenClassificationModel] | None = None
) -> tuple[TokenClassificationModel, Any, CardioNERConfig]:
    """Load a saved directory with the classes of this file; nothing in the directory is executed.

    Args:
        path: A directory that `ModelTrainer` or `save_pretrained` wrote.
        device: `auto` takes the GPU where there is one; or a device as torch names it.
        model_class: The subclass that saved it, where one did that tags in a way of its own.

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
    kind = model_class or (TokenClassificationModelCRF if config.use_crf else TokenClassificationModel)
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    model = kind.from_pretrained(directory, config=config).to(chosen).eval()
    if len({parameter.dtype for parameter in model.parameters()}) > 1:  # an encoder in another precision than its head
        model = model.float()
    local = {"local_files_only": True, "trust_remote_code": False}  # else transformers may ask on the terminal
    return model, AutoTokenizer.from_pretrained(directory, config=config, **local), config


if __name__ == "cardioner.multiclass.modeling":  # the installed package, and no copy in a model directory
    AutoConfig.register(CardioNERConfig.model_type, CardioNERConfig, exist_ok=True)
    # One tuple, from which config.architectures picks: a second call of register would replace the first.
    AutoModelForTokenClassification.register(
        CardioNERConfig, (TokenClassificationModel, TokenClassificationModelCRF), exist_ok=True
    )
