"""The CRF in numpy that an ONNX export carries, against every sequence there is and against the CRF in torch."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cardioner.multiclass import modeling
from cardioner.multiclass.modeling import legal_transitions
from cardioner.prediction.engines.viterbi import CRF, best_tags, span_probabilities

TAGS = {
    "BIO": ["O", "B-A", "I-A", "B-B", "I-B"],
    "BIOES": ["O", "B-A", "E-A", "I-A", "S-A"],
    "IO": ["O", "I-A", "I-B"],
    "another order": ["I-A", "B-A", "O"],
}
EXAMPLES = settings(max_examples=40, deadline=None)
CASES = st.tuples(
    st.sampled_from(sorted(TAGS)),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(0, 10_000),
    st.sampled_from([0.1, 1.0, 30.0]),
)


PLACES = {"start": "start_transitions", "transitions": "transitions", "end": "end_transitions"}


def case(scheme: str, lengths: list[int], seed: int, scale: float) -> tuple[modeling.CRF, CRF, torch.Tensor]:
    """The CRF in torch, the same in numpy, and emissions with nonsense behind each row's end."""
    tags, generator = TAGS[scheme], torch.Generator().manual_seed(seed)
    crf = modeling.CRF(len(tags), batch_first=True, legal=legal_transitions(tags))
    for parameter in crf.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    emissions = scale * torch.randn((len(lengths), max(lengths), len(tags)), generator=generator)
    for row, length in enumerate(lengths):
        emissions[row, length:] = 1e4
    written = {name: getattr(crf, place).tolist() for name, place in PLACES.items()}
    written["legal"] = legal_transitions(tags)._asdict()
    return crf, CRF.from_settings([written]), emissions


def score(crf: CRF, emissions: np.ndarray, tags: tuple[int, ...]) -> float:
    """The log score of one sequence; far below all others where it is illegal."""
    moved = sum(crf.transitions[0, one, two] for one, two in pairwise(tags))
    return float(crf.start[0, tags[0]] + emissions[range(len(tags)), tags].sum() + moved + crf.end[0, tags[-1]])


def best_of(rows: np.ndarray, lengths: list[int], crf: CRF) -> list[list[int]]:
    """The best tags of flat tags, which are one sequence a row."""
    return [tags for (tags,) in best_tags(rows, lengths, crf)]


def every(crf: CRF, emissions: np.ndarray) -> dict[tuple[int, ...], float]:
    """Every legal sequence and its score."""
    scores = {tags: score(crf, emissions, tags) for tags in product(range(emissions.shape[1]), repeat=len(emissions))}
    return {tags: value for tags, value in scores.items() if value > -1e20}


@EXAMPLES
@given(CASES)
def test_the_best_tags_are_the_best_of_all_legal_ones(found_in: tuple[str, list[int], int, float]) -> None:
    crf, ours, emissions = case(*found_in)
    lengths, rows = found_in[1], emissions.double().numpy()
    mask = torch.arange(rows.shape[1]) < torch.tensor(lengths).unsqueeze(1)
    best = best_of(rows, lengths, ours)
    assert [len(tags) for tags in best] == lengths
    for row, (tags, theirs) in enumerate(zip(best, crf.decode(emissions, mask), strict=True)):
        scores = every(ours, rows[row, : lengths[row]])
        assert scores[tuple(tags)] == pytest.approx(max(scores.values()), abs=1e-9)
        assert scores[tuple(theirs)] == pytest.approx(scores[tuple(tags)], abs=1e-9)


@EXAMPLES
@given(CASES, st.sampled_from([0.5, 1.0, 3.0]))
def test_the_probability_of_a_span_is_the_share_of_the_sequences_that_hold_exactly_it(
    found_in: tuple[str, list[int], int, float], temperature: float
) -> None:
    crf, ours, emissions = case(*found_in)
    lengths, rows, divided = found_in[1], emissions.double().numpy() / temperature, ours.divided(temperature)
    mask = torch.arange(rows.shape[1]) < torch.tensor(lengths).unsqueeze(1)
    spans, expected = [], []
    for row, tags in enumerate(best_of(rows, lengths, divided)):
        scores = every(divided, rows[row, : lengths[row]])
        top = max(scores.values())
        weights = {other: np.exp(value - top) for other, value in scores.items()}
        for first in range(len(tags)):
            for stop in range(first + 1, len(tags) + 1):
                spans.append((row, first, tags[first:stop]))
                share = sum(
                    weight
                    for other, weight in weights.items()
                    if list(other[first:stop]) == tags[first:stop]
                    and not (stop < len(other) and ours.continues[0, other[stop - 1], other[stop]])
                )
                expected.append(share / sum(weights.values()))
    assert span_probabilities(rows, lengths, spans, divided) == pytest.approx(expected, abs=1e-9)
    theirs = crf.span_log_probabilities(emissions, spans, mask, temperature=temperature).exp().tolist()
    assert theirs == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_of_notes_of_any_length_the_tags_and_probabilities_are_those_of_torch(scheme: str) -> None:
    lengths = [700, 1, 60, 699, 2]
    crf, ours, emissions = case(scheme, lengths, 3, 2.0)
    mask = torch.arange(700) < torch.tensor(lengths).unsqueeze(1)
    rows = emissions.double().numpy()
    best = best_of(rows, lengths, ours)
    assert best == crf.decode(emissions, mask)
    spans = [(row, first, tags[first : first + 3]) for row, tags in enumerate(best) for first in range(len(tags))]
    theirs = crf.span_log_probabilities(emissions, spans, mask).exp().tolist()
    assert span_probabilities(rows, lengths, spans, ours) == pytest.approx(theirs, abs=1e-6)


def test_with_tags_per_type_the_tags_and_probabilities_are_those_of_torch() -> None:
    lengths, types, tags = [90, 1, 33, 2], 3, ["O", "B-X", "I-X"]
    generator = torch.Generator().manual_seed(8)
    crf = modeling.CRF(len(tags), batch_first=True, legal=legal_transitions(tags), types=types)
    for parameter in crf.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    emissions = 2 * torch.randn((len(lengths), max(lengths), types * len(tags)), generator=generator)
    fields = [
        {
            **{name: getattr(crf, place)[index].tolist() for name, place in PLACES.items()},
            "legal": legal_transitions(tags)._asdict(),
        }
        for index in range(types)
    ]
    ours, rows = CRF.from_settings(fields), emissions.double().numpy()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    best = best_tags(rows, lengths, ours)
    assert best == crf.decode(emissions, mask)
    spans = [
        (row, first, tags[first : first + 2])
        for row, sequences in enumerate(best)
        for tags in sequences
        for first in range(len(tags))
    ]
    theirs = crf.span_log_probabilities(emissions, spans, mask).exp().tolist()
    assert span_probabilities(rows, lengths, spans, ours) == pytest.approx(theirs, abs=1e-6)
    crf.requires_grad_(requires_grad=False)
    likelihood = crf(emissions[:1].double(), torch.tensor(best[0]).t().unsqueeze(0))
    emitted = sum(rows[0, range(lengths[0]), sequence].sum() for sequence in best[0])
    score = ours.score([tag for sequence in best[0] for tag in sequence])
    assert score + emitted - float(crf.log_partition(emissions[:1].double())) == pytest.approx(float(likelihood))
