"""The CRF against all sequences, one by one: any mask, legality, axis order, number format and way of computing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cardioner.multiclass import crf_scan
from cardioner.multiclass.modeling import CRF, IGNORED, legal_transitions
from cardioner.prediction.crf_statistics import entropy, sample

SCHEMES: tuple[tuple[str, ...], ...] = (
    ("O", "B-X", "I-X"),
    ("I-X", "O", "B-X"),
    ("B-X", "I-Y", "I-X", "B-Y"),
    ("O", "I-X", "I-Y"),
    ("O", "B-X", "I-X", "I-Y"),
    ("O", "B-X", "I-X", "E-X", "S-X"),
    ("E-X", "S-Y", "B-X", "O", "B-Y"),
    ("O",),
)
MASK_DTYPES = (torch.bool, torch.uint8, torch.int64, torch.float32)
EXAMPLES = settings(max_examples=40, deadline=None)
LONGEST = 7


class Case(NamedTuple):
    """A field and a batch: everything with the batch first; `masks` are `(batch, length)` of 0 and 1."""

    names: tuple[str, ...]
    constrained: bool
    batch_first: bool
    emissions: Tensor
    masks: list[list[int]]
    dtype: torch.dtype
    crf: CRF
    pieces: int

    def axes(self, values: Tensor) -> Tensor:
        """From batch first to the field's own order of axes, or back."""
        return values if self.batch_first else values.transpose(0, 1)

    @property
    def given(self) -> tuple[Tensor, Tensor]:
        """Emissions and mask as the field takes them."""
        return self.axes(self.emissions), self.axes(torch.tensor(self.masks).to(self.dtype))

    def kept(self, row: int) -> list[int]:
        return [index for index, keep in enumerate(self.masks[row]) if keep]

    def paths(self, row: int) -> tuple[Tensor, Tensor]:
        """Every legal sequence over the kept positions of a row `(sequences, kept)`, and its score."""
        kept = self.kept(row)
        sequences = all_sequences(self.names, len(kept), self.constrained)
        if not kept:
            return sequences, torch.zeros(1, dtype=torch.float64)
        scores = self.crf.start_transitions[sequences[:, 0]] + self.crf.end_transitions[sequences[:, -1]]
        for place, index in enumerate(kept):
            scores = scores + self.emissions[row, index, sequences[:, place]]
        for before, after in pairwise(range(len(kept))):
            scores = scores + self.crf.transitions[sequences[:, before], sequences[:, after]]
        return sequences, scores

    def log_partitions(self) -> list[float]:
        return [float(self.paths(row)[1].logsumexp(0)) for row in range(len(self.masks))]

    @contextmanager
    def in_pieces(self) -> Iterator[None]:
        """Long recursions are cut into pieces; here short ones are."""
        with patch.object(crf_scan, "_piece_count", lambda steps, *_: max(1, min(self.pieces, steps))):
            yield


@lru_cache
def all_sequences(names: tuple[str, ...], length: int, constrained: bool) -> Tensor:
    """Every sequence of a length, `(sequences, length)`; with a constraint, those that the scheme's grammar accepts."""
    axes = [torch.arange(len(names))] * length
    sequences = torch.cartesian_prod(*axes).view(-1, length) if length else torch.zeros(1, 0, dtype=torch.long)
    if not constrained:
        return sequences
    accepted = grammar(names)
    return sequences[[bool(accepted.fullmatch("".join(f"{names[tag]} " for tag in row))) for row in sequences.tolist()]]


def grammar(names: tuple[str, ...]) -> re.Pattern[str]:
    """What entities look like, per type: closed ones where there is an `E-`, open ones where there is only a `B-`."""
    forms = ["O "]
    for kind in sorted({name[2:] for name in names if name != "O"}):
        has = {name[0] for name in names if name[2:] == kind}
        inside = f"(?:I-{kind} )*"
        if {"B", "E"} <= has:
            forms.append(f"B-{kind} {inside}E-{kind} ")
        elif "B" in has:
            forms.append(f"B-{kind} {inside}")
        else:
            forms += [f"{prefix}-{kind} " for prefix in has & {"I", "E"}]
        forms.append(f"S-{kind} ")
    return re.compile(f"(?:{'|'.join(forms)})*")


def field(names: tuple[str, ...], *, constrained: bool, batch_first: bool, seed: int) -> CRF:
    legal = legal_transitions(list(names)) if constrained else None
    crf = CRF(len(names), batch_first, legal=legal).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in crf.parameters():
        parameter.normal_(std=1.5, generator=generator)
    return crf


@st.composite
def cases(draw: st.DrawFn) -> Case:
    names, constrained, batch_first = draw(st.sampled_from(SCHEMES)), draw(st.booleans()), draw(st.booleans())
    batch, length, seed = draw(st.integers(1, 3)), draw(st.integers(1, LONGEST)), draw(st.integers(0, 2**31))
    row = st.lists(st.integers(0, 1), min_size=length, max_size=length)
    shape = (batch, length, len(names))
    emissions = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1)) * 2
    masks = draw(st.lists(row, min_size=batch, max_size=batch))
    emissions[~torch.tensor(masks).bool()] = draw(st.sampled_from([0.0, 1e6, torch.nan, torch.inf]))
    return Case(
        names,
        constrained,
        batch_first,
        emissions,
        masks,
        draw(st.sampled_from(MASK_DTYPES)),
        field(names, constrained=constrained, batch_first=batch_first, seed=seed),
        draw(st.integers(1, 4)),
    )


@EXAMPLES
@given(cases())
def test_log_partition_is_the_sum_over_all_legal_sequences(case: Case) -> None:
    with case.in_pieces():
        assert case.crf.log_partition(*case.given).tolist() == pytest.approx(case.log_partitions(), abs=1e-9)


@EXAMPLES
@given(cases(), st.data(), st.sampled_from(["mask", "labels", "both"]))
def test_log_likelihood_in_every_reduction(case: Case, data: st.DataObject, hidden_by: str) -> None:
    tags = torch.zeros(case.emissions.shape[:2], dtype=torch.long)
    expected = []
    for row, mask in enumerate(case.masks):
        sequences, scores = case.paths(row)
        chosen = data.draw(st.integers(0, len(scores) - 1))
        filler = data.draw(st.integers(0, len(case.names) - 1)) if hidden_by == "mask" else IGNORED
        tags[row] = filler
        tags[row, torch.tensor(mask).bool()] = sequences[chosen]
        expected.append(float(scores[chosen] - scores.logsumexp(0)))
    emissions, mask_given = case.given
    with case.in_pieces():
        found = {
            reduction: case.crf(
                emissions, case.axes(tags), None if hidden_by == "labels" else mask_given, reduction=reduction
            )
            for reduction in ("none", "sum", "mean", "token_mean")
        }
    tokens = sum(map(sum, case.masks))
    assert found["none"].tolist() == pytest.approx(expected, abs=1e-9)
    assert float(found["sum"]) == pytest.approx(sum(expected), abs=1e-9)
    assert float(found["mean"]) == pytest.approx(sum(expected) / len(expected), abs=1e-9)
    assert float(found["token_mean"]) == pytest.approx(sum(expected) / max(tokens, 1), abs=1e-9)


@EXAMPLES
@given(cases())
def test_marginals_are_the_share_of_the_sequences_with_that_tag_there(case: Case) -> None:
    expected = torch.zeros_like(case.emissions)
    for row in range(len(case.masks)):
        sequences, scores = case.paths(row)
        for place, position in enumerate(case.kept(row)):
            expected[row, position].index_add_(0, sequences[:, place], scores.softmax(0))
    with case.in_pieces():
        found = case.crf.marginals(*case.given)
    torch.testing.assert_close(case.axes(found), expected, atol=1e-9, rtol=0)


@EXAMPLES
@given(cases())
def test_entropy_is_that_of_the_distribution_over_all_sequences(case: Case) -> None:
    shares = [case.paths(row)[1].log_softmax(0) for row in range(len(case.masks))]
    with case.in_pieces():
        found = entropy(case.crf, *case.given)
    assert found.tolist() == pytest.approx([float(-(share.exp() * share).sum()) for share in shares], abs=1e-9)


@EXAMPLES
@given(cases())
def test_best_and_decode_find_the_highest_scoring_legal_sequence(case: Case) -> None:
    with case.in_pieces():
        tags, scores = case.crf.best(*case.given)
        decoded = case.crf.decode(*case.given)
    for row, mask in enumerate(case.masks):
        sequences, totals = case.paths(row)
        winner = sequences[totals.argmax()].tolist()
        remaining = iter(winner)
        assert case.axes(tags)[row].tolist() == [next(remaining) if keep else IGNORED for keep in mask]
        assert float(scores[row]) == pytest.approx(float(totals.max()), abs=1e-9)
        assert decoded[row] == winner


@EXAMPLES
@given(cases(), st.integers(1, 6))
def test_k_best_are_the_first_of_all_sequences_sorted(case: Case, k: int) -> None:
    tags, scores = case.crf.k_best(case.given[0], k, case.given[1])
    assert scores.shape == (k, len(case.masks))
    for row, mask in enumerate(case.masks):
        sequences, totals = case.paths(row)
        order = totals.argsort(descending=True)[:k]
        missing = k - len(order)
        assert scores[:, row].tolist() == pytest.approx([*totals[order].tolist(), *[-torch.inf] * missing], abs=1e-9)
        kept = torch.tensor(mask).bool()
        found = torch.stack([case.axes(one)[row] for one in tags])
        assert found[: len(order), kept].tolist() == sequences[order].tolist()
        assert found[len(order) :].eq(IGNORED).all()
        assert found[:, ~kept].eq(IGNORED).all()


@EXAMPLES
@given(cases())
def test_boolean_second_argument_scores_the_best_sequence(case: Case) -> None:
    emissions, mask = case.given
    totals = [case.paths(row)[1] for row in range(len(case.masks))]
    expected = [float(total.max() - total.logsumexp(0)) for total in totals]
    assert case.crf(emissions, mask.bool(), reduction="none").tolist() == pytest.approx(expected, abs=1e-9)
    assert float(case.crf(emissions, mask.bool())) == pytest.approx(sum(expected), abs=1e-9)


@EXAMPLES
@given(cases(), st.data(), st.sampled_from([1.0, 0.4, 2.5]))
def test_span_probability_is_the_share_of_the_sequences_with_that_span(
    case: Case, data: st.DataObject, temperature: float
) -> None:
    spans, expected = [], []
    for row in range(len(case.masks)):
        sequences, scores = case.paths(row)
        shares = (scores / temperature).softmax(0)
        for first in range(sequences.size(1)):
            stop = data.draw(st.integers(first + 1, sequences.size(1)))
            tags = sequences[data.draw(st.integers(0, len(sequences) - 1)), first:stop]
            here = sequences[:, first:stop].eq(tags).all(1)
            if stop < sequences.size(1) and case.constrained:
                onward = torch.tensor([goes_on(case.names[tags[-1]], name) for name in case.names])
                here &= ~onward[sequences[:, stop]]
            spans.append((row, first, tags.tolist()))
            expected.append(float(shares[here].sum()))
    emissions, mask = case.given
    with case.in_pieces():
        found = case.crf.span_log_probabilities(emissions, spans, mask, temperature=temperature)
    assert found.exp().tolist() == pytest.approx(expected, abs=1e-9)


def goes_on(tag: str, after: str) -> bool:
    """Whether the second tag is a further part of the entity that the first is a part of."""
    return tag[2:] == after[2:] and tag[0] in "BI" and after[0] in "IE"


@settings(max_examples=15, deadline=None)
@given(cases(), st.integers(0, 2**31))
def test_samples_are_legal_and_as_frequent_as_they_are_probable(case: Case, seed: int) -> None:
    count = 4000
    emissions, mask = case.given
    drawn = sample(case.crf, emissions, count, mask, generator=torch.Generator().manual_seed(seed))
    drawn = drawn if case.batch_first else drawn.transpose(1, 2)
    for row, kept in enumerate(torch.tensor(case.masks).bool()):
        assert drawn[:, row, ~kept].eq(IGNORED).all()
        sequences, scores = case.paths(row)
        found = {tuple(sequence): 0 for sequence in sequences.tolist()}
        for sequence in drawn[:, row, kept].tolist():
            found[tuple(sequence)] += 1  # KeyError: a sequence that is not legal
        expected = scores.softmax(0)
        shares = torch.tensor([found[tuple(sequence)] / count for sequence in sequences.tolist()]).double()
        deviation = (expected * (1 - expected) / count).sqrt()
        assert ((shares - expected).abs() < 6 * deviation + 3 / count).all()


@EXAMPLES
@given(
    st.sampled_from(SCHEMES[:6]),
    st.integers(0, 2**31),
    st.sampled_from([1.0, 1e2, 1e4]),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
    st.integers(1, 4),
)
def test_no_sequence_is_illegal_and_each_kept_position_gets_one_tag(
    names: tuple[str, ...], seed: int, size: float, dtype: torch.dtype, pieces: int
) -> None:
    crf = field(names, constrained=True, batch_first=True, seed=seed).float()
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(-1, 2, (4, 12, len(names)), generator=generator)
    emissions = (signs * size).to(dtype)
    mask = torch.rand(4, 12, generator=generator) < 0.7
    accepted = grammar(names)
    with patch.object(crf_scan, "_piece_count", lambda *_: pieces):
        decoded = crf.decode(emissions, mask)
        sampled = sample(crf, emissions, 2, mask, generator=generator)
        numbers = (crf.log_partition(emissions, mask), crf.marginals(emissions, mask), crf.best(emissions, mask)[1])
        uncertainty = entropy(crf, emissions, mask)
    assert [len(row) for row in decoded] == mask.sum(1).tolist()
    drawn = [row[kept].tolist() for rows in sampled for row, kept in zip(rows, mask, strict=True)]
    kept_best = [row[row.ne(IGNORED)].tolist() for rows in crf.k_best(emissions, 3, mask)[0] for row in rows]
    assert all(accepted.fullmatch("".join(f"{names[tag]} " for tag in row)) for row in decoded + drawn + kept_best)
    for values in (*numbers, uncertainty):
        assert values.dtype == torch.float32
        assert values.isfinite().all()


@EXAMPLES
@given(cases(), st.integers(0, 2), st.integers(0, 2))
def test_padding_on_either_side_changes_nothing(case: Case, left: int, right: int) -> None:
    padded = case.axes(torch.nn.functional.pad(case.emissions, (0, 0, left, right), value=7.0))
    masks = case.axes(torch.tensor([[*[0] * left, *mask, *[0] * right] for mask in case.masks]))
    torch.testing.assert_close(case.crf.log_partition(padded, masks), case.crf.log_partition(*case.given))
    assert case.crf.decode(padded, masks) == case.crf.decode(*case.given)
