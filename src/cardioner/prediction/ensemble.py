"""Several models as one: the mean of those with the same tags and tokenizer, or a vote on spans."""

from __future__ import annotations

from collections.abc import Sequence

from cardioner.errors import ModelError, UsageError
from cardioner.prediction.engines import Engine


def join(engines: Sequence[Engine], *, vote: bool = False) -> list[Engine]:
    """The members that decide on spans: one that averages all models, if they can be averaged; else the models.

    Args:
        engines: The models.
        vote: Whether they vote even if they can be averaged.

    Raises:
        ModelError: If there is none.
        UsageError: If one alone is to vote.
    """
    if not engines:
        raise ModelError("expected one model or more; found none")
    if vote and len(engines) == 1:
        raise UsageError("a vote needs two models or more; found one: name more, or leave the vote out")
    if len(engines) > 1 and not vote and all(_alike(engines[0], other) for other in engines[1:]):
        return [type(engines[0]).averaged(engines)]
    return list(engines)


def _alike(one: Engine, other: Engine) -> bool:
    """Whether emissions of the two mean the same, sub-token by sub-token, and are decoded in the same way."""
    known = [[group._replace(temperature=1.0) for group in engine.attributes] for engine in (one, other)]
    same_tags = list(one.tags) == list(other.tags) and known[0] == known[1]
    return same_tags and one.uses_crf == other.uses_crf and one.identity == other.identity
