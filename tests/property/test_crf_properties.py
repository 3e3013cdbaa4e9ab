"""The CRF against the sum over all sequences, for any mask, legality, axis order and number format."""

from __future__ import annotations

from itertools import pairwise, product
from math import exp
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cardioner.multiclass.modeling import CRF, IGNORED, legal_transitions

SCHEMES: tuple[tuple[str, ...], ...] = (
    ("O", "B-X", "I-X"),
    ("I-X", "O", "B-X"),
    ("B-X", "I-Y", "I-X", "B-Y"),
    ("O", "I-X", "I-Y"),
    ("O", "B-X", "I-X", "I-Y"),
    ("O",),
)
MASK_DTYPES = (torch.bool, torch.uint8, torch.int64, torch.float32)
EXAMPLES = settings(max_examples=40, deadline=None)


class Case(NamedTuple):
    """A field and a batch: everything with the batch first; `masks` are `(batch, length)` of 0 and 1."""

    names: tuple[str, ...]
    constrained: bool
    batch_first: bool
    emissions: Tensor
    masks: list[list[int]]
    dtype: torch.dtype
    crf: CRF

    def axes(self, values: Tensor) -> Tensor:
        """From batch first to the field's own order of axes, or back."""
        return values if self.batch_first else values.transpose(0, 1)

    @property
    def mask(self) -> Tensor:
        return self.axes(torch.tensor(self.masks).to(self.dtype))

    def paths(self, row: int) -> dict[tuple[int, ...], float]:
        """Every legal sequence over the kept positions of a row, with its score."""
        kept = [index for index, keep in enumerate(self.masks[row]) if keep]
        emissions = self.emissions[row, kept].tolist()
        parts = [self.crf.start_transitions.tolist(), self.crf.end_transitions.tolist(), self.crf.transitions.tolist()]
        sequences = product(range(len(self.names)), repeat=len(kept))
        return {
            path: score(parts, emissions, path)
            for path in sequences
            if not self.constrained or is_legal([self.names[tag] for tag in path], self.names)
        }

    def log_partition(self, row: int) -> float:
        return float(torch.tensor(list(self.paths(row).values()), dtype=torch.float64).logsumexp(0))


def is_legal(path: list[str], names: tuple[str, ...]) -> bool:
    """Whether each inside tag of a type that has an opening one continues an entity of its type."""
    before = ["O", *path[:-1]]
    return all(
        tag[0] != "I" or f"B-{tag[2:]}" not in names or previous in (f"B-{tag[2:]}", f"I-{tag[2:]}")
        for previous, tag in zip(before, path, strict=False)
    )


def score(parts: list[Any], emissions: list[list[float]], path: tuple[int, ...]) -> float:
    """The sum of a sequence's parts, one after the other; `parts` are the start, end and transition scores."""
    start, end, transitions = parts
    if not path:
        return 0.0
    emitted = sum(row[tag] for row, tag in zip(emissions, path, strict=True))
    moved = sum(transitions[before][tag] for before, tag in pairwise(path))
    return float(start[path[0]] + end[path[-1]] + emitted + moved)


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
    batch, length, seed = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(0, 2**31))
    row = st.lists(st.integers(0, 1), min_size=length, max_size=length)
    shape = (batch, length, len(names))
    emissions = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1)) * 2
    return Case(
        names,
        constrained,
        batch_first,
        emissions,
        draw(st.lists(row, min_size=batch, max_size=batch)),
        draw(st.sampled_from(MASK_DTYPES)),
        field(names, constrained=constrained, batch_first=batch_first, seed=seed),
    )


@EXAMPLES
@given(cases())
def test_log_partition_is_the_sum_over_all_legal_sequences(case: Case) -> None:
    found = case.crf.log_partition(case.axes(case.emissions), case.mask)
    assert found.tolist() == pytest.approx([case.log_partition(row) for row in range(len(case.masks))], abs=1e-9)


@EXAMPLES
@given(cases(), st.data(), st.sampled_from(["mask", "labels", "both"]))
def test_log_likelihood_in_every_reduction(case: Case, data: st.DataObject, hidden_by: str) -> None:
    tags = torch.zeros(case.emissions.shape[:2], dtype=torch.long)
    expected = []
    for row, mask in enumerate(case.masks):
        paths = case.paths(row)
        path = data.draw(st.sampled_from(sorted(paths)))
        filler = data.draw(st.integers(0, len(case.names) - 1)) if hidden_by == "mask" else IGNORED
        remaining = iter(path)
        tags[row] = torch.tensor([next(remaining) if keep else filler for keep in mask])
        expected.append(paths[path] - case.log_partition(row))
    mask_given = None if hidden_by == "labels" else case.mask
    found = {
        reduction: case.crf(case.axes(case.emissions), case.axes(tags), mask_given, reduction=reduction)
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
    for row, mask in enumerate(case.masks):
        kept = [index for index, keep in enumerate(mask) if keep]
        log_partition = case.log_partition(row)
        for path, total in case.paths(row).items():
            for position, tag in zip(kept, path, strict=True):
                expected[row, position, tag] += exp(total - log_partition)
    given_emissions = case.axes(case.emissions)
    marginals = case.axes(case.crf.marginals(given_emissions, case.mask))
    logs = case.axes(case.crf.log_marginals(given_emissions, case.mask))
    kept_rows = torch.tensor(case.masks).bool()
    torch.testing.assert_close(marginals, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(logs[kept_rows].exp(), expected[kept_rows], atol=1e-9, rtol=0)
    assert not logs[~kept_rows].any()


@EXAMPLES
@given(cases())
def test_best_and_decode_find_the_highest_scoring_legal_sequence(case: Case) -> None:
    given_emissions = case.axes(case.emissions)
    tags, scores = case.crf.best(given_emissions, case.mask)
    decoded = case.crf.decode(given_emissions, case.mask)
    for row, mask in enumerate(case.masks):
        paths = case.paths(row)
        winner = max(paths, key=lambda path: paths[path])
        remaining = iter(winner)
        assert case.axes(tags)[row].tolist() == [next(remaining) if keep else IGNORED for keep in mask]
        assert float(scores[row]) == pytest.approx(paths[winner], abs=1e-9)
        assert decoded[row] == list(winner)


@EXAMPLES
@given(cases())
def test_boolean_second_argument_scores_the_best_sequence(case: Case) -> None:
    kept = case.mask.bool()
    given_emissions = case.axes(case.emissions)
    expected = [max(case.paths(row).values()) - case.log_partition(row) for row in range(len(case.masks))]
    found = case.crf(given_emissions, kept, reduction="none")
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    assert float(case.crf(given_emissions, kept)) == pytest.approx(sum(expected), abs=1e-9)


@EXAMPLES
@given(
    st.sampled_from([(SCHEMES[0], True), (SCHEMES[2], True), (SCHEMES[0], False), (SCHEMES[3], True)]),
    st.integers(1, 5),
    st.integers(0, 2**31),
    st.sampled_from([1.0, 0.4, 2.5]),
)
def test_span_probability_is_the_share_of_the_sequences_with_that_span(
    scheme: tuple[tuple[str, ...], bool], length: int, seed: int, temperature: float
) -> None:
    names, constrained = scheme
    crf = field(names, constrained=constrained, batch_first=True, seed=seed)
    shape = (1, length, len(names))
    emissions = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2
    case = Case(names, constrained, True, emissions, [[1] * length], torch.bool, crf)
    paths = {path: exp(total / temperature) for path, total in case.paths(0).items()}
    inside = names.index("I-X")
    opening = names.index("B-X") if "B-X" in names else inside
    spans = [(first, stop) for first in range(length) for stop in range(first + 1, length + 1)]

    def holds(path: tuple[int, ...], first: int, stop: int) -> bool:
        expected = (opening, *[inside] * (stop - first - 1))
        return path[first:stop] == expected and path[stop : stop + 1] != (inside,)

    expected = [sum(p for path, p in paths.items() if holds(path, *span)) / sum(paths.values()) for span in spans]
    rows = [(*span, opening, inside) for span in spans]
    found = crf.span_log_probabilities(emissions[0], rows, temperature)
    assert found.exp().tolist() == pytest.approx(expected, abs=1e-9)


@EXAMPLES
@given(
    st.sampled_from(SCHEMES[:5]),
    st.integers(0, 2**31),
    st.sampled_from([1.0, 1e2, 1e4]),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
)
def test_no_sequence_is_illegal_and_each_kept_position_gets_one_tag(
    names: tuple[str, ...], seed: int, size: float, dtype: torch.dtype
) -> None:
    crf = field(names, constrained=True, batch_first=True, seed=seed).float()
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(-1, 2, (4, 12, len(names)), generator=generator)
    emissions = (signs * size).to(dtype)
    mask = torch.rand(4, 12, generator=generator) < 0.7
    decoded = crf.decode(emissions, mask)
    assert [len(row) for row in decoded] == mask.sum(1).tolist()
    assert all(is_legal([names[tag] for tag in row], names) for row in decoded)
    for values in (crf.log_partition(emissions, mask), crf.marginals(emissions, mask), crf.best(emissions, mask)[1]):
        assert values.dtype == torch.float32
        assert values.isfinite().all()


@EXAMPLES
@given(cases(), st.integers(0, 2), st.integers(0, 2))
def test_padding_on_either_side_changes_nothing(case: Case, left: int, right: int) -> None:
    padded = torch.nn.functional.pad(case.emissions, (0, 0, left, right), value=7.0)
    masks = torch.tensor([[*[0] * left, *mask, *[0] * right] for mask in case.masks])
    before = case.crf.log_partition(case.axes(case.emissions), case.mask)
    torch.testing.assert_close(case.crf.log_partition(case.axes(padded), case.axes(masks)), before)
    assert case.crf.decode(case.axes(padded), case.axes(masks)) == case.crf.decode(case.axes(case.emissions), case.mask)
