"""The vote on spans against its definition, found by trying all sets of spans."""

from __future__ import annotations

from fractions import Fraction
from itertools import chain, combinations, permutations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cardioner.data.labels import LabelSet
from cardioner.multiclass.tagging import Entity
from cardioner.prediction.vote import THRESHOLD, Vote

TYPES = ("A", "B", "C")
RULES = st.sampled_from(["score", "majority", 0.0, 0.3, 1.0])
SCORES = st.sampled_from([0.0, 0.1, 0.3, 0.35, 0.7, 0.8, 1.0]) | st.floats(0, 1)
Member = tuple[tuple[str, ...], str, list[Entity]]


@st.composite
def members(draw: Any) -> Member:
    """The types that a member finds, its layout of tags, and its spans, which overlap only where its tags allow it."""
    types = tuple(sorted(draw(st.sets(st.sampled_from(TYPES), min_size=1))))
    overlap = draw(st.sampled_from(["flat", "per-type"]))
    found: list[Entity] = []
    for start, length, label, score in draw(
        st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3), st.sampled_from(types), SCORES), max_size=3)
    ):
        rivals = [one for one in found if overlap == "flat" or one.label == label]
        if not any(one.start < start + length and start < one.end for one in rivals):
            found.append(Entity(start, start + length, label, score))
    return types, overlap, sorted(found)


def hold(group: list[Member], rule: str | float) -> list[Entity]:
    tags = [LabelSet.from_types(types, overlap=overlap).tags for types, overlap, _ in group]  # type: ignore[arg-type]
    return Vote.of(tags, rule).elect([found for _, _, found in group])


def expected(group: list[Member], rule: str | float) -> list[Entity]:
    """By definition: the one set of candidates without rivals in which each candidate left out has a better rival."""
    candidates = []
    for place in sorted({entity[:3] for _, _, found in group for entity in found}):
        voters = [{one[:3]: one.score for one in found} for types, _, found in group if place[2] in types]
        given = [Fraction(own[place]) for own in voters if place in own]
        score = sum(given, Fraction()) / len(voters)
        threshold = THRESHOLD if rule == "score" else rule
        kept = len(given) > len(voters) / 2 if rule == "majority" else float(score) >= threshold
        if kept or len(given) == len(voters):
            candidates.append(Entity(*place, float(score)))

    def rivals(one: Entity, other: Entity) -> bool:
        both = [overlap for types, overlap, _ in group if {one.label, other.label} <= set(types)]
        bound = one.label == other.label or ("flat" in both and "per-type" not in both)
        return bound and bool(set(range(*one[:2])) & set(range(*other[:2])))

    def rank(one: Entity) -> tuple[Any, ...]:
        return -one.score, one.start - one.end, one.start, one.label

    sets = chain.from_iterable(combinations(candidates, size) for size in range(len(candidates) + 1))
    (elected,) = [
        chosen
        for chosen in sets
        if not any(rivals(one, other) for one, other in combinations(chosen, 2))
        and all(
            any(rivals(one, other) and rank(other) < rank(one) for other in chosen)
            for one in candidates
            if one not in chosen
        )
    ]
    return sorted(elected)


@given(st.lists(members(), min_size=1, max_size=3), RULES)
def test_a_vote_elects_what_its_definition_says(group: list[Member], rule: str | float) -> None:
    assert hold(group, rule) == expected(group, rule)


@given(st.lists(members(), min_size=2, max_size=3), RULES)
def test_the_order_of_members_does_not_matter(group: list[Member], rule: str | float) -> None:
    first = hold(group, rule)
    assert all(hold(list(order), rule) == first for order in permutations(group))


@given(members(), st.integers(1, 7), RULES)
def test_members_that_agree_are_one(member: Member, copies: int, rule: str | float) -> None:
    assert hold([member] * copies, rule) == member[2]


@given(members(), RULES)
def test_members_of_other_types_are_united(member: Member, rule: str | float) -> None:
    other: Member = (("D", "E"), "flat", [Entity(0, 6, "D", 0.01)])
    assert hold([member, other], rule) == sorted([*member[2], *other[2]])
