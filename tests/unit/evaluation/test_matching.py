"""How spans are matched: what fragments are, and how many spans are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus
from cardioner.evaluation import matching, score


def test_fragments_that_touch_are_one_piece(tmp_path: Path) -> None:
    for name, extra in (("gold", ""), ("tagged", ', "fragments": [[0, 5], [5, 10]]')):
        line = f'{{"id": "n", "text": "abcdefghij", "entities": [{{"start": 0, "end": 10, "label": "A"{extra}}}]}}\n'
        (tmp_path / f"{name}.jsonl").write_text(line, encoding="utf-8")
    gold, tagged = (read_corpus(tmp_path / f"{name}.jsonl").documents for name in ("gold", "tagged"))
    assert tagged[0].spans[0].fragments
    scores = score(gold, tagged)
    assert [scores.by(name).micro.f1 for name in ("strict", "exact", "partial", "type")] == [1.0] * 4


@pytest.mark.parametrize("last", [3, 40_000], ids=["short", "from end to end"])
def test_one_discontinuous_span_does_not_make_all_spans_be_compared(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    compared = 0
    own = matching.overlap

    def counted(left: Span, right: Span) -> bool:
        nonlocal compared
        compared += 1
        return own(left, right)

    cut = Span(0, last, "A", None, ((0, 1), (last - 1, last)))
    spans = [cut, *(Span(start, start + 5, "A") for start in range(10, 39_990, 10))]
    shifted = [cut, *(Span(span.start + 1, span.end + 1, "A") for span in spans[1:])]
    document = Document("note", "x" * 40_000, tuple(spans))
    monkeypatch.setattr(matching, "overlap", counted)
    scores = score([document], [document.with_spans(shifted)])
    assert (scores.partial.micro.true_positives, scores.partial.micro.partial) == (1, 3998)
    assert scores.type.micro.true_positives == 3999
    assert compared < 8 * 4000
