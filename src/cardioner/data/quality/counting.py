"""Counters that see documents one at a time: what is in them, what flat tags lose, what occurs twice."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cardioner.data.quality.findings import FlatTags, Member, Part, Repeated
from cardioner.data.quality.tokens import kind_of
from cardioner.multiclass.encoding import TokenizerPanicError
from cardioner.multiclass.tagging import run_offsets, to_runs, to_tags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cardioner.data.documents import Document, Span
    from cardioner.data.quality.tokens import Tokens

UNREAD = "tokenizer fails on the note"
"""The kind of loss of every span in a note that has no sub-tokens for this reason."""

_REPEATED_SHOWN = 20
_EXAMPLES = 10


@dataclass(slots=True)
class FlatCount:
    """What flat tags lose, and what tags per type carry, so far."""

    tokens: Tokens
    gold: Counter[str] = field(default_factory=Counter)
    exact: Counter[str] = field(default_factory=Counter)
    exact_per_type: Counter[str] = field(default_factory=Counter)
    losses: Counter[tuple[str, str]] = field(default_factory=Counter)
    beyond_window: Counter[str] = field(default_factory=Counter)
    unread: list[Member] = field(default_factory=list)

    def add(self, member: Member, document: Document) -> None:
        """Tag a document's spans, read them back from the tags, and count what came back and what did not."""
        if not document.spans:
            return
        try:
            offsets = self.tokens.offsets(document.text)
        except TokenizerPanicError:  # the other documents are counted all the same
            labels = [span.label for span in document.spans]
            self.gold.update(labels)
            self.losses.update((UNREAD, label) for label in labels)
            self.unread.append(member)
            return
        tags, losses = to_tags(document.spans, offsets)
        found = _read_back(tags, offsets)
        every = Counter((span.start, span.end, span.label) for span in document.spans)
        kept = every - Counter((loss.start, loss.end, loss.label) for loss in losses)
        assert kept <= found, f"document {document.id}: a span is neither in the tags nor reported"
        whole = Counter((span.start, span.end, span.label) for span in document.spans if not span.fragments)
        self.gold.update(label for _, _, label in every.elements())
        self.exact.update(label for _, _, label in (whole & found).elements())
        for span_type in {span.label for span in document.spans}:
            own, _ = to_tags([span for span in document.spans if span.label == span_type], offsets)
            self.exact_per_type.update(label for _, _, label in (whole & _read_back(own, offsets)).elements())
        self.losses.update((kind_of(loss, document.text), loss.label) for loss in losses)
        self._count_long(document.spans, offsets)

    def _count_long(self, spans: Sequence[Span], offsets: Sequence[tuple[int, int]]) -> None:
        starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
        for span in spans:
            length = bisect_left(starts, span.end) - bisect_right(ends, span.start)
            self.beyond_window[span.label] += length > self.tokens.window

    def result(self) -> FlatTags:
        """The counts, sorted."""
        counts = (self.gold, self.exact, self.exact_per_type, self.beyond_window)
        gold, exact, exact_per_type, beyond = (dict(sorted((+count).items())) for count in counts)
        return FlatTags(
            unit=self.tokens.unit,
            window=self.tokens.window,
            gold=gold,
            exact=exact,
            exact_per_type=exact_per_type,
            losses=dict(sorted(self.losses.items())),
            beyond_window=beyond,
            unread=tuple(self.unread),
        )


def _read_back(tags: Sequence[str], offsets: Sequence[tuple[int, int]]) -> Counter[tuple[int, int, str]]:
    """The entities that the tags hold: characters, half-open, and type."""
    return Counter((*run_offsets(run, offsets), run.label) for run in to_runs(tags))


@dataclass(slots=True)
class RepeatCount:
    """Spans that a document has more than once, so far."""

    per_type: Counter[str] = field(default_factory=Counter)
    first: list[Repeated] = field(default_factory=list)

    def add(self, member: Member, document: Document) -> None:
        """Count every span but the first of those that agree in offsets, fragments and type."""
        keys = Counter((span.start, span.end, span.label, span.fragments) for span in document.spans)
        for (start, end, label, _), times in sorted(keys.items()):
            if times > 1:
                self.per_type[label] += times - 1
                if len(self.first) < _REPEATED_SHOWN:
                    self.first.append(Repeated(member, start, end, label, times))


@dataclass(slots=True)
class Count:
    """Everything that is counted of documents as they pass by."""

    parts: dict[str, Part]
    flat: FlatCount
    repeats: RepeatCount = field(default_factory=RepeatCount)
    members: list[Member] = field(default_factory=list)
    examples: list[tuple[Member, Document]] = field(default_factory=list)

    def add(self, part: str, document: Document) -> None:
        """Count a document; only the first few with entities are kept."""
        member = Member(part, document.id)
        self.members.append(member)
        self.parts[part].add(document)
        self.flat.add(member, document)
        self.repeats.add(member, document)
        if document.spans and len(self.examples) < _EXAMPLES:
            self.examples.append((member, document))
