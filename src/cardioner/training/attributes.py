"""Attributes of spans in training: which there are, what windows teach of them, and the loss."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch reader knows
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from cardioner.data.documents import Document, Span
from cardioner.errors import DataError, UsageError, listed, many
from cardioner.model_dir.untrusted.settings import AttributeValues
from cardioner.multiclass.attributes import AttributeGroup, Value, attribute_groups, value_ids
from cardioner.multiclass.encoding import EncodedNote
from cardioner.multiclass.inference import pad, span_means
from cardioner.multiclass.modeling import IGNORED
from cardioner.multiclass.windows import Window

NEIGHBOURS = 7
"""Sub-tokens on either side that the head reads of a tagger that stays as it is."""

MOST_VALUES = 20
"""Of an attribute that nobody named; one with more may be a comment, with words of a note."""

_LOADABLE: TypeAdapter[dict[str, list[Value]]] = TypeAdapter(AttributeValues)
"""What a configuration may hold."""

SPANS, VALUES = "attribute_spans", "attribute_values"
"""The names of what a batch holds for attributes."""

SPLIT = "entities that no window shows whole, whose attributes are not learned"
"""What is remarked of a training."""


def attributes_in(
    documents: Iterable[Document], names: Sequence[str] | None = None, part: str = "training"
) -> dict[str, list[Value]]:
    """The attributes of annotated spans, for `ModelTrainer`: for each its values, `None` first, the others sorted.

    Args:
        documents: The notes to learn from.
        names: Which attributes; by default all that occur.
        part: What the notes are called in a message.

    Raises:
        DataError: If no span has any attribute, or not one of those that are asked for; or, without names, if one has
            so many values that they may be comments.
    """
    found: dict[str, set[str | bool]] = {}
    for span in (span for document in documents for span in document.spans):
        for name, value in span.attributes.items():
            found.setdefault(name, set()).add(value)
    if not found:
        raise DataError(f"no span of the {part} notes has an attribute: there is none to learn")
    wanted = sorted(found) if names is None else list(dict.fromkeys(names))
    if missing := [name for name in wanted if name not in found]:
        quoted = (listed(map(repr, some)) for some in (missing, sorted(found)))
        raise DataError("no span of the {} notes has the attribute {}; found {}".format(part, *quoted))
    if names is None and (wide := [name for name in wanted if len(found[name]) > MOST_VALUES]):
        count = many(len(found[wide[0]]), "value")
        raise DataError(
            f"the attribute {wide[0]!r} has {count}, which may be comments: name the attributes that are to be learned"
        )
    return {name: [None, *sorted(found[name], key=lambda value: (isinstance(value, str), value))] for name in wanted}


def check_attributes(attributes: Mapping[str, Sequence[Value]] | None) -> dict[str, list[Value]]:
    """The attributes that a trainer is given, as a configuration has them.

    Raises:
        UsageError: If they are something else.
    """
    if attributes is not None and not isinstance(attributes, Mapping):
        raise UsageError(
            f"attributes must map names to lists of values, such as {{'Negation': [None, True]}}; found "
            f"{type(attributes).__name__} (cardioner.training.attributes.attributes_in makes it of notes)"
        )
    try:
        known = {group.name: list(group.values) for group in attribute_groups(attributes)}
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None
    try:
        return _LOADABLE.validate_python(known)
    except ValidationError as error:
        name = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"][:1]
    raise UsageError(
        f"attributes{': ' if name else ''}{', '.join(map(repr, name))}: expected printable names and values of at most "
        "1,000 characters, True for what is either present or absent, and fewer than 256 values"
    )


class Places(NamedTuple):
    """Where the spans of a note are among its sub-tokens, and the attributes of each: see `value_ids`."""

    spans: tuple[tuple[int, int], ...] = ()
    values: tuple[list[int], ...] = ()

    def within(self, window: Window, opening: int) -> dict[str, list[Any]]:
        """What a window teaches of the spans that it shows whole, by their positions in it."""
        shown = [
            ([first - window.start + opening, stop - window.start + opening], values)
            for (first, stop), values in zip(self.spans, self.values, strict=True)
            if window.start <= first and stop <= window.stop
        ]
        return {SPANS: [span for span, _ in shown], VALUES: [values for _, values in shown]}

    def split_by(self, windows: Sequence[Window]) -> int:
        """How many spans no window shows whole, of which nothing is learned."""
        return sum(
            not any(window.start <= first and stop <= window.stop for window in windows) for first, stop in self.spans
        )


def places_of(spans: Sequence[Span], note: EncodedNote, groups: Sequence[AttributeGroup]) -> Places:
    """The sub-tokens that share a character with each span, and its attributes; nothing without attributes to learn."""
    if not groups:
        return Places()
    starts, ends = [start for start, _ in note.offsets], [end for _, end in note.offsets]
    edges = [(bisect_right(ends, span.start), bisect_left(starts, span.end)) for span in spans]
    kept = [(edge, span) for edge, span in zip(edges, spans, strict=True) if edge[0] < edge[1]]
    return Places(tuple(edge for edge, _ in kept), tuple(value_ids(span.attributes, groups) for _, span in kept))


def collate_attributes(features: Sequence[Mapping[str, list[Any]]], count: int) -> dict[str, Tensor]:
    """Spans `(batch, spans, 2)` and their values `(batch, spans, attributes)`, of so many attributes.

    Padding is an empty span at the start, with values `IGNORED`; there is one at least, so that every batch has a loss.
    """
    return {
        SPANS: pad([[*feature.get(SPANS, ()), [0, 0]] for feature in features], [0, 0]),
        VALUES: pad([[*feature.get(VALUES, ()), [IGNORED] * count] for feature in features], [IGNORED] * count),
    }


def attribute_loss(scores: Tensor, spans: Tensor, values: Tensor, sizes: Sequence[int]) -> Tensor:
    """The cross-entropy of the values of all spans and attributes, added up.

    Args:
        scores: `(batch, length, values)`, as `TaggerOutput.attribute_logits`.
        spans: `(batch, spans, 2)`, as `span_means` takes them.
        values: `(batch, spans, attributes)`: the place of each value among those of its attribute; `IGNORED` in
            padding.
        sizes: How many values each attribute has.
    """
    parts = torch.split(span_means(scores.float(), spans).flatten(0, 1), list(sizes), dim=1)
    losses = [
        F.cross_entropy(part, wanted, ignore_index=IGNORED, reduction="sum")
        for part, wanted in zip(parts, values.flatten(0, 1).unbind(1), strict=True)
    ]
    return torch.stack(losses).sum()
