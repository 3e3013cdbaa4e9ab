"""Several models as one by a vote on spans, whatever their tokenizers, encoders and tags are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from statistics import mean

from cardioner.errors import UsageError
from cardioner.multiclass.attributes import Said, Value
from cardioner.multiclass.tagging import Entity, tag_groups, types_of

SCORE, MAJORITY = "score", "majority"
THRESHOLD = 0.4
"""The least mean score of a span on which members disagree.

F1 is highest if a span is kept whose probability is at least half the F1 that can be reached (Lipton, Elkan and
Naryanaswamy 2014, https://arxiv.org/abs/1402.1892); taggers of notes reach about 0.8.
"""


@dataclass(frozen=True, slots=True)
class Vote:
    """How members decide on spans; made by `of`.

    Members vote on spans of the types that they can find. The score of a span is the mean over these members, of which
    those that did not find it count 0. What all of them found is kept. Other spans are kept if their score reaches the
    threshold or, by majority, if more than half of the members found them. Of spans that overlap and may not, the one
    with the highest score is kept, then the longest, the first, and the one whose label sorts first.

    Attributes:
        threshold: The least score; `None` for the majority.
        voters: For each type, how many members can find it.
        exclusive: For each type, those whose spans its spans may not overlap: itself, and every type that some members
            can find beside it, but none of them at the same place, as their tags are flat.
    """

    threshold: float | None
    voters: Mapping[str, int]
    exclusive: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, members: Sequence[Sequence[str]], rule: str | float = SCORE) -> Vote:
        """The vote of members with these tags, each in the order of their ids.

        Args:
            members: Their tags.
            rule: `score`, `majority`, or the threshold from 0 to 1.

        Raises:
            UsageError: For another rule.
        """
        types = [set(types_of(tags)) for tags in members]
        flat = [tag_groups(tags)[0].label is None for tags in members]
        labels = sorted(set[str]().union(*types))

        def exclude(one: str, other: str) -> bool:
            both = [alone for alone, own in zip(flat, types, strict=True) if {one, other} <= own]
            return one == other or (bool(both) and all(both))

        exclusive = {one: frozenset(other for other in labels if exclude(one, other)) for one in labels}
        return cls(_threshold(rule), Counter(label for own in types for label in own), exclusive)

    def elect(self, found: Iterable[Iterable[Entity]]) -> list[Entity]:
        """The spans of a note on which the members decide, in the order of the text, from what each of them found."""
        given: defaultdict[tuple[int, int, str], list[Entity]] = defaultdict(list)
        for entities in found:
            for entity in entities:
                given[entity.start, entity.end, entity.label].append(entity)
        scored = ((span, self._score(span[2], [one.score for one in of]), of) for span, of in given.items())
        kept = [Entity(*span, score, *_agreed(of)) for span, score, of in scored if score is not None]
        return sorted(entity for group in _touching(kept) for entity in self._best(group))

    def _score(self, label: str, given: Sequence[float]) -> float | None:
        """The score of a span that some members gave these scores; `None` if it is not kept."""
        voters = self.voters[label]
        if len(given) == voters and min(given) == max(given):
            return given[0]
        score = mean([*given, *[0.0] * (voters - len(given))])  # exact: the order of members must not matter
        enough = 2 * len(given) > voters if self.threshold is None else score >= self.threshold
        return score if enough or len(given) == voters else None

    def _best(self, group: Sequence[Entity]) -> list[Entity]:
        """Those of a group of spans that no better one of it excludes."""
        best: list[Entity] = []
        for entity in sorted(group, key=lambda one: (-one.score, one.start - one.end, one.start, one.label)):
            rivals = (other for other in best if other.label in self.exclusive[entity.label])
            if not any(other.start < entity.end and entity.start < other.end for other in rivals):
                best.append(entity)
        return best


def _agreed(entities: Sequence[Entity]) -> Said:
    """What members that found a span say of it: of each attribute the value with the highest mean score.

    The mean is over the members that know the attribute; those that say something else count 0.
    """
    if len(entities) == 1:
        return Said(entities[0].attributes, entities[0].attribute_scores)
    scores: defaultdict[str, defaultdict[Value, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entity in entities:
        said = dict(entity.attributes)
        for name, score in entity.attribute_scores:
            scores[name][said.get(name)].append(score)
    attributes, sure = [], []
    for name in sorted(scores):
        members = sum(map(len, scores[name].values()))
        means = {value: fsum(given) / members for value, given in scores[name].items()}
        best = max(sorted(means, key=str), key=means.__getitem__)
        sure.append((name, means[best]))
        if best is not None:
            attributes.append((name, best))
    return Said(tuple(attributes), tuple(sure))


def _threshold(rule: str | float) -> float | None:
    """The threshold of a rule; `None` for the majority."""
    if rule == MAJORITY:
        return None
    try:
        threshold = THRESHOLD if rule == SCORE else float(rule)
    except ValueError:
        threshold = -1
    if not 0 <= threshold <= 1:
        raise UsageError(f"a vote is by {SCORE}, {MAJORITY}, or a threshold from 0 to 1; found {rule!r}")
    return threshold


def _touching(entities: Iterable[Entity]) -> Iterator[list[Entity]]:
    """Groups of spans; those of different groups do not overlap."""
    group: list[Entity] = []
    reach = 0
    for entity in sorted(entities):
        if group and entity.start >= reach:
            yield group
            group = []
        group.append(entity)
        reach = max(reach, entity.end)
    if group:
        yield group
