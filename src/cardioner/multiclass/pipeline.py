"""From the text of notes to spans: the one path that training, the library, the command line and `pipeline()` share.

A note is tokenised once, whole (`encoding`); cut into windows (`windows`); the windows of many notes are batched by
length, and the emissions of the sub-tokens that each window owns are stitched to one row per sub-token (`inference`);
one decoding runs over the whole note; its tags become spans (`tagging`).
This file travels with every saved model and imports only the files that travel with it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from transformers import TokenClassificationPipeline

from .attributes import Said  # noqa: F401 - some releases of transformers copy only what this file imports itself
from .encoding import EncodedNote, SpecialIds, encode_notes, plan_windows
from .inference import decode_notes, describe_spans, emissions_of, one_at_a_time, score_spans, side_by_side
from .int8 import INT8_OPERATOR  # noqa: F401 - likewise
from .precision import set_precision
from .tagging import Entity, Run, entities_in, runs_in, tag_names
from .windows import Coverage, apart, in_groups, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .encoding import Cache


def runs_of(model: Any, note: EncodedNote, tags: list[int], special: SpecialIds) -> list[tuple[Run, tuple[int, int]]]:
    """A note's entities in the decoded tags of a group: their sub-tokens, and the characters these cover."""
    opening, names = len(special.opening), tag_names(model.config.tags)
    return runs_in([names[tag] for tag in tags[opening : opening + len(note.ids)]], note.offsets)


def tag_texts(  # noqa: PLR0913 - the one path, which every door takes
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    viterbi: bool = True,
    batch_tokens: int | None = None,
    advance: Callable[[Coverage], None] | None = None,
    cache: Cache | None = None,
) -> list[list[Entity]]:
    """The spans of each text: see `emissions_of` and `decode_notes` for the arguments.

    Raises:
        FloatingPointError: If a score is not a finite number.
        TokenizerPanicError: If the tokenizer gives up on a text.
    """
    opening, names = len(plan_windows(model.config, tokenizer).special.opening), tag_names(model.config.tags)
    told = advance and one_at_a_time(advance)

    def tag(notes: Sequence[EncodedNote]) -> list[list[Entity]]:
        emissions = emissions_of(model, tokenizer, notes, batch_tokens=batch_tokens, advance=told, cache=cache)
        tags = decode_notes(model, emissions, viterbi=viterbi)
        read = [(note.text, note.offsets) for note in notes]
        score, describe = partial(score_spans, model, emissions), partial(describe_spans, model, emissions)
        return entities_in(read, tags, names, score, describe, opening=opening)

    notes = encode_notes(tokenizer, texts)
    return tag(notes) if cache else side_by_side(tag, notes, model.device)  # a cache knows what the share before found


class CardioNERPipeline(TokenClassificationPipeline):
    """`pipeline("token-classification")` for notes of any length, decoded as the model was trained.

    Takes a text, a list of texts, or an iterator of them (read as `in_groups` says). Spans are always grouped, and
    windows are those of the model, so the stock pipeline's `aggregation_strategy` and `stride` change nothing.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        set_precision(self.model)

    def __call__(self, inputs: str | Iterable[str], **_: Any) -> Any:
        """Per text a list of `{"entity_group", "score", "word", "start", "end"}`; for one text that list alone.

        A model that knows attributes of spans adds `attributes` and `attribute_scores`, both by name.

        Raises:
            RuntimeError: Naming the first text that cannot be tagged, by its place.
        """
        if isinstance(inputs, str):
            return next(self._stream([inputs]))
        if isinstance(inputs, (list, tuple)):
            return list(self._stream(inputs))
        return self._stream(inputs)

    def _stream(self, texts: Iterable[str]) -> Iterator[list[dict[str, Any]]]:
        """Tag an iterator's texts in groups."""
        number = 0
        for group in in_groups(texts, len):
            for found in apart(group, self._tag):
                number += 1
                if isinstance(found, Exception):
                    raise RuntimeError(f"text {number} could not be tagged ({reason_of(found)})")
                yield found

    def _tag(self, texts: Sequence[str]) -> list[list[dict[str, Any]]]:
        """The stock output form of each text's spans."""
        return [
            [
                {
                    "entity_group": entity.label,
                    "score": entity.score,
                    "word": text[entity.start : entity.end],
                    "start": entity.start,
                    "end": entity.end,
                    **self._said(entity),
                }
                for entity in entities
            ]
            for text, entities in zip(texts, tag_texts(self.model, self.tokenizer, texts), strict=True)
        ]

    def _said(self, entity: Entity) -> dict[str, Any]:
        """What the model says of a span, if it knows attributes."""
        if not self.model.config.attributes:
            return {}
        return {"attributes": dict(entity.attributes), "attribute_scores": dict(entity.attribute_scores)}
