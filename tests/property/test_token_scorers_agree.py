"""Token files scored as spans give the figures of seqeval: strict for legal tags, as conlleval for any."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2, IOBES

from cardioner.data.formats import read_corpus
from cardioner.evaluation import score
from cardioner.multiclass.modeling import legal_transitions

TYPES = ("DIS", "MED")
TAGS = {
    "IOB2": ["O", *(f"{prefix}-{name}" for name in TYPES for prefix in "BI")],
    "IOBES": ["O", *(f"{prefix}-{name}" for name in TYPES for prefix in "BIES")],
}


@st.composite
def legal_sequences(draw: st.DrawFn, scheme: str) -> list[str]:
    """Tags that may follow one another, from a legal start to a legal end."""
    tags = TAGS[scheme]
    legality = legal_transitions(tags)
    sequence: list[int] = []
    for _ in range(draw(st.integers(1, 12))):
        allowed = legality.transitions[sequence[-1]] if sequence else legality.start
        sequence.append(draw(st.sampled_from([index for index, legal in enumerate(allowed) if legal])))
    while not legality.end[sequence[-1]]:
        sequence.append(
            next(i for i, legal in enumerate(legality.transitions[sequence[-1]]) if legal and legality.end[i])
        )
    return [tags[index] for index in sequence]


def sides(sequences: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[tuple[list[str], list[str]]]]:
    """Sentences with gold and predicted tags, padded with O to the same length."""

    def same_length(pair: tuple[list[str], list[str]]) -> tuple[list[str], list[str]]:
        length = max(map(len, pair))
        return tuple(tags + ["O"] * (length - len(tags)) for tags in pair)  # type: ignore[return-value]

    return st.lists(st.tuples(sequences, sequences).map(same_length), min_size=1, max_size=6)


def scored(folder: Path, pairs: list[tuple[list[str], list[str]]]) -> dict[str, Any]:
    """Our strict scores of the pairs as token files, one document a sentence."""
    parts = []
    for side, name in enumerate(("gold.conll", "predicted.conll")):
        lines = ["-DOCSTART- O\n\n" + "".join(f"w{n} {tag}\n" for n, tag in enumerate(pair[side])) for pair in pairs]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
        parts.append(read_corpus(folder / name).documents)
    return score(*parts).strict.to_dict()


def by_seqeval(pairs: list[tuple[list[str], list[str]]], **rules: Any) -> dict[str, Any]:
    gold, predicted = zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = classification_report(list(gold), list(predicted), output_dict=True, zero_division=0, **rules)
    return dict(found)


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
    rows = {"micro avg": ours["micro"], "macro avg": ours["macro"], **ours["per_type"]}
    assert set(theirs) - {"weighted avg"} == set(rows)
    for row, figures in rows.items():
        for own, other in names.items():
            assert figures[own] == pytest.approx(theirs[row][other]), (row, own)


@given(pairs=sides(legal_sequences("IOB2")))
def test_legal_iob2_scores_as_seqeval_strict(tmp_path_factory: pytest.TempPathFactory, pairs: Any) -> None:
    ours = scored(tmp_path_factory.mktemp("iob2"), pairs)
    if ours["per_type"]:
        assert_same(ours, by_seqeval(pairs, mode="strict", scheme=IOB2))


@given(pairs=sides(legal_sequences("IOBES")))
def test_legal_iobes_scores_as_seqeval_strict(tmp_path_factory: pytest.TempPathFactory, pairs: Any) -> None:
    ours = scored(tmp_path_factory.mktemp("iobes"), pairs)
    if ours["per_type"]:
        assert_same(ours, by_seqeval(pairs, mode="strict", scheme=IOBES))


@given(pairs=sides(st.lists(st.sampled_from(TAGS["IOB2"]), min_size=1, max_size=12)))
def test_any_iob2_tags_score_as_conlleval_has_them(tmp_path_factory: pytest.TempPathFactory, pairs: Any) -> None:
    ours = scored(tmp_path_factory.mktemp("conll"), pairs)
    if ours["per_type"]:
        assert_same(ours, by_seqeval(pairs))
