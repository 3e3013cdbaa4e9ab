"""CRFs of several types as one batch: what each type's CRF gives alone."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from cardioner.multiclass.checks import IGNORED
from cardioner.multiclass.crf import CRF, legal_transitions
from cardioner.prediction.crf_statistics import entropy, sample

TAGS = ["O", "B-X", "I-X"]
TYPES, ROWS, LENGTH = 3, 4, 7
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0, 1], [0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]]).bool()


def together_and_alone(*, legal: bool, batch_first: bool = True) -> tuple[CRF, list[CRF]]:
    rules = legal_transitions(TAGS) if legal else None
    torch.manual_seed(2)
    together = CRF(3, batch_first, legal=rules, types=TYPES).double()
    for parameter in together.parameters():
        torch.nn.init.normal_(parameter)
    alone = []
    for index in range(TYPES):
        one = CRF(3, batch_first, legal=rules).double()
        one.load_state_dict({name: value[index] for name, value in together.state_dict().items()})
        alone.append(one)
    return together, alone


def emissions_of(length: int = LENGTH, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(ROWS, length, TYPES * 3, generator=generator, dtype=torch.float64) * scale


def some_tags() -> Tensor:
    """Tag ids of each type, some of them left out for one type alone."""
    tags = torch.randint(0, 3, (ROWS, LENGTH, TYPES), generator=torch.Generator().manual_seed(6))
    tags[tags == 2] = 1  # legal everywhere
    tags = tags + 3 * torch.arange(TYPES)
    tags[0, 2, 1] = IGNORED
    return tags


def local(tags: Tensor, index: int) -> Tensor:
    return torch.where(tags[..., index] == IGNORED, IGNORED, tags[..., index] - 3 * index)


@pytest.mark.parametrize("legal", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_likelihoods_and_gradients_are_the_sums_of_those_of_each_type(legal: bool, batch_first: bool) -> None:
    together, alone = together_and_alone(legal=legal, batch_first=batch_first)
    given = emissions_of().requires_grad_()
    tags = some_tags()

    def turned(values: Tensor) -> Tensor:
        return values if batch_first else values.transpose(0, 1)

    value = together(turned(given), turned(tags), turned(MASK), reduction="none")
    parts = [
        one(turned(given[..., 3 * index : 3 * index + 3]), turned(local(tags, index)), turned(MASK), reduction="none")
        for index, one in enumerate(alone)
    ]
    torch.testing.assert_close(value, torch.stack(parts).sum(0))
    weights = torch.arange(1.0, ROWS + 1).double()
    found = torch.autograd.grad((value * weights).sum(), [given, *together.parameters()])
    wanted = torch.autograd.grad((sum(parts) * weights).sum(), [given, *(p for one in alone for p in one.parameters())])
    torch.testing.assert_close(found[0], wanted[0])
    for place, gradient in enumerate(found[1:]):
        torch.testing.assert_close(gradient, torch.stack(wanted[1 + place :: 3]))


def test_means_over_tokens_count_each_type_s_positions() -> None:
    together, alone = together_and_alone(legal=True)
    tags = some_tags()
    sums = [one(emissions_of()[..., 3 * i : 3 * i + 3], local(tags, i), MASK) for i, one in enumerate(alone)]
    kept = (MASK.unsqueeze(2) & tags.ne(IGNORED)).sum()
    torch.testing.assert_close(together(emissions_of(), tags, MASK, reduction="token_mean"), sum(sums) / kept)


@pytest.mark.parametrize("length", [1, 2, LENGTH, 130])  # the last is cut into pieces
@pytest.mark.parametrize("scale", [1.0, 400.0])  # the second underflows in linear space
def test_best_sequences_marginals_partition_and_entropy_are_those_of_each_type(length: int, scale: float) -> None:
    together, alone = together_and_alone(legal=True)
    given = emissions_of(length, scale)
    mask = MASK[:, torch.arange(length) % LENGTH] if length > 2 else torch.ones(ROWS, length).bool()
    apart = [given[..., 3 * index : 3 * index + 3] for index in range(TYPES)]
    torch.testing.assert_close(
        together.marginals(given, mask), torch.cat([c.marginals(e, mask) for c, e in zip(alone, apart, strict=True)], 2)
    )
    partition = sum(c.log_partition(e, mask) for c, e in zip(alone, apart, strict=True))
    torch.testing.assert_close(together.log_partition(given, mask), partition)
    torch.testing.assert_close(
        entropy(together, given, mask), sum(entropy(c, e, mask) for c, e in zip(alone, apart, strict=True))
    )
    decoded = [c.decode(e, mask) for c, e in zip(alone, apart, strict=True)]
    wanted = [[[tag + 3 * index for tag in decoded[index][row]] for index in range(TYPES)] for row in range(ROWS)]
    assert together.decode(given, mask) == wanted
    tags, scores = together.best(given, mask)
    torch.testing.assert_close(scores, sum(c.best(e, mask)[1] for c, e in zip(alone, apart, strict=True)))
    for index, (crf, part) in enumerate(zip(alone, apart, strict=True)):
        assert torch.equal(local(tags, index), crf.best(part, mask)[0])
        many, many_scores = together.k_best(given, 3, mask)
        own, own_scores = crf.k_best(part, 3, mask)
        assert torch.equal(local(many, index), own)
        torch.testing.assert_close(many_scores[..., index], own_scores)


@torch.no_grad()
def test_best_sequences_and_partition_are_those_of_trying_them_all() -> None:
    together, _ = together_and_alone(legal=True)
    given = emissions_of(4)[:1]
    legal = legal_transitions(TAGS)
    total, best = 0.0, []
    for index in range(TYPES):
        start, moves, end = (value[index] for value in together.parameters_for(given))
        scores = {}
        for path in product(range(3), repeat=4):
            steps = list(pairwise(path))
            if legal.start[path[0]] and all(legal.transitions[one][two] for one, two in steps):
                score = start[path[0]] + end[path[-1]] + sum(moves[step] for step in steps)
                scores[path] = float(score + sum(given[0, p, 3 * index + tag] for p, tag in enumerate(path)))
        total += float(torch.tensor(list(scores.values())).double().logsumexp(0))
        best.append([tag + 3 * index for tag in max(scores, key=lambda path: scores[path])])
    assert float(together.log_partition(given)) == pytest.approx(total)
    assert together.decode(given) == [best]


def test_probabilities_of_spans_are_those_of_each_type() -> None:
    together, alone = together_and_alone(legal=True)
    given = emissions_of()
    spans = [(0, 1, [4, 5]), (0, 1, [1, 2]), (1, 0, [7]), (2, 0, [4]), (0, 6, [1])]
    found = together.span_log_probabilities(given, spans, MASK, temperature=1.5)
    for (row, first, tags), value in zip(spans, found, strict=True):
        index = tags[0] // 3
        own = [(row, first, [tag - 3 * index for tag in tags])]
        part = given[..., 3 * index : 3 * index + 3]
        torch.testing.assert_close(value, alone[index].span_log_probabilities(part, own, MASK, temperature=1.5)[0])
    with pytest.raises(ValueError, match="of one type"):
        together.span_log_probabilities(given, [(0, 0, [1, 5])], MASK)


def test_samples_are_drawn_from_each_type_s_own_distribution() -> None:
    together, _ = together_and_alone(legal=True)
    given = emissions_of(5)[:2]
    drawn = sample(together, given, 4000, generator=torch.Generator().manual_seed(1))
    shares = torch.nn.functional.one_hot(drawn - 3 * torch.arange(TYPES), 3).double().mean(0).flatten(2)
    torch.testing.assert_close(shares, together.marginals(given).detach(), atol=0.05, rtol=0)


def test_one_type_gives_the_same_bits_as_a_field_without_types() -> None:
    plain = CRF(3, True, legal=legal_transitions(TAGS))
    one = CRF(3, True, legal=legal_transitions(TAGS), types=1)
    torch.manual_seed(0)
    for parameter, other in zip(plain.parameters(), one.parameters(), strict=True):
        torch.nn.init.normal_(parameter)
        other.data = parameter.data.unsqueeze(0)
    for length in (LENGTH, 130):
        given, again = (emissions_of(length)[..., :3].float().requires_grad_() for _ in range(2))
        tags = torch.randint(0, 2, (ROWS, length), generator=torch.Generator().manual_seed(6))
        value, other = plain(given, tags), one(again, tags.unsqueeze(2))
        assert torch.equal(value, other)
        mine = torch.autograd.grad(value, [given, *plain.parameters()])
        theirs = torch.autograd.grad(other, [again, *one.parameters()])
        assert all(torch.equal(a, b.view_as(a)) for a, b in zip(mine, theirs, strict=True))
        assert [[row] for row in plain.decode(given)] == one.decode(again)
        assert torch.equal(plain.marginals(given), one.marginals(again))


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (torch.zeros(ROWS, LENGTH, TYPES).long(), "0 to 8, of each type its own, or -100"),
        (torch.zeros(ROWS, LENGTH).long(), "expected tags of shape"),
    ],
)
def test_tags_of_another_type_or_shape_are_refused(tags: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        together_and_alone(legal=True)[0](emissions_of(), tags)


def test_a_batch_of_nothing_gives_nothing() -> None:
    together, _ = together_and_alone(legal=True)
    nothing = emissions_of()[:0].requires_grad_()
    assert together.decode(nothing) == []
    together(nothing, some_tags()[:0]).backward()
    assert together.marginals(nothing).shape == nothing.shape


def test_spans_are_counted_among_the_positions_of_their_type() -> None:
    together, alone = together_and_alone(legal=True)
    given = emissions_of()
    masks = torch.stack([MASK, MASK.flip(0), ~MASK], dim=2)  # (rows, length, types)
    spans = [
        (row, first, [3 * index + 1, 3 * index + 2])
        for index, row in product(range(TYPES), range(ROWS))
        for first in range(int(masks[row, :, index].sum()) - 1)
    ]
    assert {span[2][0] // 3 for span in spans} == {0, 1, 2}
    found = together.span_log_probabilities(given, spans, masks)
    wanted = [
        alone[tags[0] // 3].span_log_probabilities(
            given[..., tags[0] - 1 : tags[0] + 2], [(row, first, [1, 2])], masks[..., tags[0] // 3]
        )
        for row, first, tags in spans
    ]
    torch.testing.assert_close(found, torch.cat(wanted))
    beyond = int(masks[1, :, 1].sum())
    with pytest.raises(ValueError, match="expected positions within a row"):
        together.span_log_probabilities(given, [(1, beyond, [4])], masks)
