"""The CRF: legality from tag names, gradients, drop-in for pytorch-crf, refusals."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
import torchcrf
from torch import Tensor

from cardioner.multiclass import crf_recursions, crf_scan
from cardioner.multiclass.checks import IGNORED, check_labels
from cardioner.multiclass.crf import CRF, Legality, legal_transitions
from cardioner.prediction.crf_statistics import entropy, sample

BIO = ["O", "B-X", "I-X", "B-Y", "I-Y"]


def filled(crf: torch.nn.Module, std: float = 1.0) -> torch.nn.Module:
    torch.manual_seed(3)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return crf


def bio_field() -> CRF:
    crf = CRF(len(BIO), batch_first=True, legal=legal_transitions(BIO))
    filled(crf)
    return crf


def batch(count: int = 3, length: int = 6, tags: int = 5, scale: float = 1.0) -> Tensor:
    return torch.randn(count, length, tags, generator=torch.Generator().manual_seed(5)) * scale


def test_inside_follows_only_its_own_opening_or_inside() -> None:
    legal = legal_transitions(BIO)
    pairs = {(a, b) for i, a in enumerate(BIO) for j, b in enumerate(BIO) if not legal.transitions[i][j]}
    assert [tag for tag, may in zip(BIO, legal.start, strict=True) if not may] == ["I-X", "I-Y"]
    assert pairs == {("O", "I-X"), ("O", "I-Y"), ("B-X", "I-Y"), ("I-X", "I-Y"), ("B-Y", "I-X"), ("I-Y", "I-X")}


@pytest.mark.parametrize("tags", [["O", "I-X", "I-Y"], ["O", "X", "Y"], ["O", "B-X", "B-Y"]])
def test_schemes_without_opening_and_inside_pairs_forbid_nothing(tags: list[str]) -> None:
    legal = legal_transitions(tags)
    assert all(legal.start)
    assert all(map(all, legal.transitions))


def test_legality_is_decided_per_type_and_in_the_order_of_the_ids() -> None:
    legal = legal_transitions(["I-X", "I-Y", "B-X", "O"])
    assert legal.start == (False, True, True, True)
    assert [row[0] for row in legal.transitions] == [True, False, True, False]
    assert all(row[1] for row in legal.transitions)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "token_mean"])
def test_log_likelihood_and_its_gradient_equal_those_of_pytorch_crf(batch_first: bool, reduction: str) -> None:
    peer = filled(torchcrf.CRF(5, batch_first=batch_first)).double()
    own = CRF(5, batch_first=batch_first).double()
    own.load_state_dict(peer.state_dict())
    emissions = batch().double()
    tags = torch.randint(0, 5, (3, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]], dtype=torch.bool)
    if not batch_first:
        emissions, tags, mask = emissions.transpose(0, 1), tags.T, mask.T
    results = []
    for crf in (own, peer):
        leaf = emissions.detach().clone().requires_grad_()
        value = crf(leaf, tags, mask, reduction=reduction)
        gradients = torch.autograd.grad(value.sum(), [leaf, *crf.parameters()])
        results.append((value, *gradients))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert own.decode(emissions, mask) == peer.decode(emissions, mask)
    assert own.decode(emissions) == peer.decode(emissions, torch.ones_like(mask))


def test_state_dicts_are_interchangeable_with_those_of_pytorch_crf() -> None:
    own, peer = filled(CRF(4)), torchcrf.CRF(4)
    peer.load_state_dict(own.state_dict())
    assert {name: value.shape for name, value in own.state_dict().items()} == {
        "start_transitions": (4,),
        "end_transitions": (4,),
        "transitions": (4, 4),
    }
    assert torch.equal(peer.transitions, own.transitions)


def test_new_field_has_no_opinion() -> None:
    crf, emissions = CRF(5, batch_first=True), batch()
    assert crf.decode(emissions) == emissions.argmax(2).tolist()
    torch.testing.assert_close(crf.marginals(emissions), emissions.softmax(2))


@pytest.mark.parametrize("what", ["likelihood", "marginals", "log_partition", "best"])
@pytest.mark.parametrize("tags", [("O", "B-X", "I-X"), ("O", "B-X", "I-X", "E-X", "S-X")], ids=["BIO", "BIOES"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_every_value_passes_gradcheck_with_holes_ignored_labels_and_legality(
    what: str, tags: tuple[str, ...], pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crf_scan, "_piece_count", lambda *_: pieces)
    crf = CRF(len(tags), batch_first=True, legal=legal_transitions(list(tags))).double()
    filled(crf)
    labels = torch.tensor([[1, 0, 3 if "E-X" in tags else 2, IGNORED], [IGNORED, 0, 0, 0], [IGNORED] * 4])
    mask = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]])
    names, values = zip(*crf.named_parameters(), strict=True)

    class Asked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.crf = crf

        def forward(self, emissions: Tensor) -> Tensor:
            if what == "likelihood":
                return crf(emissions, labels, mask, reduction="none")  # type: ignore[no-any-return]
            found = getattr(crf, what)(emissions, mask * labels.ne(IGNORED))
            return found[1] if what == "best" else found  # type: ignore[no-any-return]

    def value(emissions: Tensor, *parameters: Tensor) -> Tensor:
        replaced = {f"crf.{name}": parameter for name, parameter in zip(names, parameters, strict=True)}
        found: Tensor = torch.func.functional_call(Asked(), replaced, (emissions,))
        return found

    assert torch.autograd.gradcheck(value, (batch(3, 4, len(tags)).double().requires_grad_(), *values))


def test_every_legal_parameter_learns_and_no_illegal_one_is_touched() -> None:
    crf = bio_field()
    before = {name: value.detach().clone() for name, value in crf.named_parameters()}
    optimizer = torch.optim.SGD(crf.parameters(), lr=0.1)
    (-crf(batch(), torch.tensor([[1, 2, 0, 3, 4, 0]] * 3))).backward()
    optimizer.step()
    legal = legal_transitions(BIO)
    changed = {name: value.detach() != before[name] for name, value in crf.named_parameters()}
    assert torch.equal(changed["start_transitions"], torch.tensor(legal.start))
    assert torch.equal(changed["transitions"], torch.tensor(legal.transitions))
    assert changed["end_transitions"].all()
    assert all(value.abs().max() < 100 for value in crf.state_dict().values())


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize(
    "objective",
    [
        lambda crf, emissions, tags: crf(emissions, tags),
        lambda crf, emissions, tags: crf.log_partition(emissions, tags.ne(IGNORED)).sum(),
        lambda crf, emissions, tags: crf.marginals(emissions, tags.ne(IGNORED)).square().sum(),
        lambda crf, emissions, tags: crf.best(emissions, tags.ne(IGNORED))[1].sum(),
        lambda crf, emissions, tags: crf(emissions, tags.ne(IGNORED)),
    ],
    ids=["likelihood", "log_partition", "marginals", "best", "best likelihood"],
)
def test_values_and_gradients_stay_finite_for_extreme_emissions_and_empty_rows(
    objective: Callable[[CRF, Tensor, Tensor], Tensor], scale: float
) -> None:
    crf, emissions = bio_field(), (batch().sign() * scale).requires_grad_()
    tags = torch.tensor([[1, 2, 0, 3, 4, 0], [IGNORED] * 6, [IGNORED, 0, IGNORED, 1, 2, IGNORED]])
    value = objective(crf, emissions, tags)
    value.backward()
    assert value.isfinite()
    assert emissions.grad is not None
    assert emissions.grad.isfinite().all()
    assert not emissions.grad[tags.eq(IGNORED)].any()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in crf.parameters())


def test_empty_rows_give_zero_and_empty_sequences() -> None:
    crf, emissions, nothing = bio_field(), batch(), torch.zeros(3, 6)
    ignored = torch.full((3, 6), IGNORED)
    for reduction in ("none", "sum", "mean", "token_mean"):
        assert not crf(emissions, ignored, reduction=reduction).any()
    assert not crf.log_partition(emissions, nothing).any()
    assert not crf.marginals(emissions, nothing).any()
    assert crf.best(emissions, nothing)[1].tolist() == [0.0, 0.0, 0.0]
    assert crf.decode(emissions, nothing) == [[], [], []]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_emissions_are_summed_in_float32(dtype: torch.dtype) -> None:
    crf, emissions = bio_field(), batch(scale=30.0).to(dtype)
    tags = torch.tensor([[1, 2, 0, 3, 4, 0]] * 3)
    found = crf(emissions, tags)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, crf(emissions.float(), tags))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(crf(emissions, tags), found)


def test_illegal_labels_are_all_but_impossible() -> None:
    crf = bio_field()
    assert crf(batch(), torch.tensor([[0, 2, 0, 0, 0, 0]] * 3), reduction="none").max() < -1e20


@pytest.mark.parametrize("wrong", [5, -1, -99, 400])
def test_label_out_of_range_is_refused_with_the_range(wrong: int) -> None:
    tags = torch.tensor([[0, IGNORED, wrong]])
    with pytest.raises(ValueError, match=r"0 to 4, or -100 .*1 of 3"):
        bio_field()(batch(1, 3), tags)
    with pytest.raises(ValueError, match="0 to 4"):
        check_labels(tags, 5)
    check_labels(tags.clamp(min=IGNORED, max=4).where(tags == IGNORED, torch.tensor(4)), 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CRF(0), "at least one tag, found 0"),
        (lambda: CRF(4, True).decode(batch()), "with 4 tags, found"),
        (lambda: CRF(5, True).decode(batch()[0]), "three axes of emissions"),
        (lambda: CRF(5, True).decode(batch(), torch.ones(6, 3)), r"mask of shape \(3, 6\), found \(6, 3\)"),
        (lambda: CRF(5, True)(batch(), torch.zeros(3, 5).long()), r"tags of shape \(3, 6\), found \(3, 5\)"),
        (lambda: CRF(5, True)(batch(), torch.zeros(3, 6).long(), reduction="max"), "token_mean; found 'max'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_spans_without_any_give_an_empty_answer() -> None:
    assert bio_field().span_log_probabilities(batch(), []).shape == (0,)


def test_span_probabilities_of_a_certain_field_are_certain() -> None:
    emissions = torch.full((1, 4, 5), -1e4)
    emissions[0, range(4), [1, 2, 0, 3]] = 1e4
    found = bio_field().span_log_probabilities(emissions, [(0, 0, [1, 2]), (0, 3, [3]), (0, 0, [1]), (0, 1, [1])])
    assert found.exp().tolist() == pytest.approx([1.0, 1.0, 0.0, 0.0])
    assert found[:2].max() <= 0.0


def test_spans_out_of_a_tag_that_nothing_may_follow_are_impossible() -> None:
    dead_end = Legality((True, True), ((True, True), (False, False)), (True, False), ((False, False),) * 2)
    crf = CRF(2, batch_first=True, legal=dead_end)
    spans = [(0, 0, [0, 0]), (0, 0, [0, 1]), (0, 0, [1, 0]), (0, 1, [1, 1]), (0, 2, [1])]
    found = crf.span_log_probabilities(torch.zeros(1, 3, 2), spans).exp().tolist()
    assert found == pytest.approx([1.0, 0.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    "span", [(3, 0, [1]), (-1, 0, [1]), (0, -1, [1]), (0, 5, [1, 2]), (1, 2, [1]), (0, 0, []), (0, 0, [5])]
)
def test_spans_that_are_not_there_are_refused(span: tuple[int, int, list[int]]) -> None:
    mask = torch.tensor([[1] * 6, [0, 1, 0, 1, 0, 0], [1] * 6])
    with pytest.raises(ValueError, match="span 1: expected positions within a row"):
        bio_field().span_log_probabilities(batch(), [(0, 0, [1]), span], mask)


@pytest.mark.parametrize("k", [0, -1])
def test_fewer_than_one_best_sequence_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        bio_field().k_best(batch(), k)


def test_the_best_of_k_is_the_best_and_has_its_gradient() -> None:
    crf, emissions = bio_field(), batch().requires_grad_()
    tags, scores = crf.k_best(emissions, 4)
    one, score = crf.best(emissions)
    assert torch.equal(tags[0], one)
    assert torch.equal(scores[0], score)
    (gradient,) = torch.autograd.grad(scores[3].sum(), emissions)
    assert torch.equal(gradient, torch.nn.functional.one_hot(tags[3], 5).float())


def test_seeded_samples_repeat_and_unseeded_ones_do_not() -> None:
    crf, emissions = bio_field(), batch(scale=0.1, length=30)
    draws = [sample(crf, emissions, 2, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*draws)
    assert not torch.equal(sample(crf, emissions, 2), sample(crf, emissions, 2))


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("legal", [False, True])
def test_linear_space_and_log_space_count_alike(scale: float, legal: bool) -> None:
    field = bio_field() if legal else filled(CRF(5, batch_first=True))
    assert isinstance(field, CRF)
    field.double().requires_grad_(False)
    torch.manual_seed(3)
    emissions, kept, _, _ = field.arrange(scale * torch.randn(6, 9, 5).double(), torch.rand(6, 9) > 0.3)
    parameters = field.parameters_for(emissions)
    assert crf_recursions._linear_messages(emissions, kept, *parameters).trusted() or scale == 1e4
    for fast, slow in zip(
        crf_recursions.counts(emissions, kept, *parameters),
        crf_recursions._log_counts(emissions, kept, *parameters),
        strict=True,
    ):
        torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-6)


def test_emissions_that_leave_the_linear_range_are_counted_in_log_space() -> None:
    field = CRF(3, batch_first=True, legal=legal_transitions(["O", "B-X", "I-X"]))
    emissions = torch.tensor([[[1e4, 0.0, 0.0], [0.0, 0.0, 1e4], [1e4, 0.0, 0.0]]], requires_grad=True)
    kept = torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        assert not crf_recursions._linear_messages(emissions, kept, *field.parameters_for(emissions)).trusted()
    likelihood = field(emissions, torch.tensor([[0, 0, 0]]))
    likelihood.backward()
    assert likelihood.isfinite()
    assert emissions.grad is not None
    assert emissions.grad.isfinite().all()
    assert field.span_log_probabilities(emissions, [(0, 0, [1, 2])]).exp().tolist() == pytest.approx(
        [1 / 3]
    )  # as probable as O O O and O B O


@pytest.mark.parametrize("length", [64, 65, 200])
def test_long_sequences_in_pieces_equal_the_peer(length: int) -> None:
    peer, own = filled(torchcrf.CRF(5, batch_first=True)).double(), CRF(5, batch_first=True).double()
    own.load_state_dict(peer.state_dict())
    emissions, tags = batch(2, length).double(), torch.randint(5, (2, length))
    mask = torch.arange(length) < torch.tensor([[length], [length - 11]])
    assert crf_scan._piece_count(length // 2 + 64, 2 * 2 * 5**3, emissions.device) > 1
    results = []
    for crf in (own, peer):
        leaf = emissions.detach().clone().requires_grad_()
        value = crf(leaf, tags, mask, reduction="none")
        results.append((value, *torch.autograd.grad(value.sum(), [leaf, *crf.parameters()])))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert own.decode(emissions, mask) == peer.decode(emissions, mask)


def test_small_differences_decide_at_the_end_of_a_long_note() -> None:
    emissions = torch.zeros(1, 50_000, 2)
    emissions[:, :, 0] = 50.0
    emissions[0, -1] = torch.tensor([1.0, 1.001])  # float32 cannot tell these apart from a sum of 2.5 million
    assert CRF(2, batch_first=True).decode(emissions) == [[0] * 49_999 + [1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradients_under_autocast_are_those_of_full_precision(dtype: torch.dtype, scale: float) -> None:
    crf, tags = bio_field(), torch.tensor([[1, 2, 0, 3, 4, 0]] * 3)
    gradients = []
    for enabled in (True, False):
        emissions = (batch().sign() * scale).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            loss = -crf(emissions, tags) + crf.marginals(emissions).square().sum()
        gradients.append(torch.autograd.grad(loss, [emissions, *crf.parameters()]))
    for under, outside in zip(*gradients, strict=True):
        assert under.isfinite().all()
        assert torch.equal(under, outside)


@pytest.mark.parametrize("tags", [BIO, ["O", "B-X", "I-X", "E-X", "S-X"]], ids=["BIO", "BIOES"])
@pytest.mark.parametrize("scale", [10.0, 30.0, 100.0, 300.0, 1e4])
@pytest.mark.parametrize("pieces", [1, 6])
def test_no_emissions_are_counted_wrong_in_silence(
    tags: list[str], scale: float, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crf_scan, "_piece_count", lambda steps, *_: min(pieces, steps))
    for seed in range(40):
        torch.manual_seed(seed)
        legal = legal_transitions(tags) if seed % 3 else None
        crf = CRF(5, batch_first=True, legal=legal).requires_grad_(False)
        for parameter in crf.parameters():
            parameter.normal_(std=(0.0, 3.0, 25.0)[seed % 3])
        emissions = torch.randn(3, 30, 5)
        emissions, kept, _, _ = crf.arrange(
            (emissions.sign() if seed % 2 else emissions) * scale, torch.rand(3, 30) > 0.1
        )
        wide = [part.double() for part in crf.parameters_for(emissions)]
        found = crf_recursions.counts(emissions, kept, *crf.parameters_for(emissions))
        expected = crf_recursions._log_counts(emissions.double(), kept, *wide)
        for ours, log_space in zip(found[1:], expected[1:], strict=True):
            torch.testing.assert_close(ours.double(), log_space, atol=2e-4 + scale * 1e-6, rtol=1e-3)
        torch.testing.assert_close(found[0].double(), expected[0], atol=1e-3, rtol=1e-5)


def test_a_path_that_vanishes_beside_a_peak_it_does_not_use_is_still_counted() -> None:
    emissions = torch.full((1, 3, 5), -300.0)
    emissions[0, 0, :2] = torch.tensor([0.0, -46.0])
    emissions[0, 1, 2:4] = torch.tensor([0.0, -106.0])
    emissions[0, 2] = -67.0
    emissions[0, 2, 4] = 0.0
    crf, tags = CRF(5, batch_first=True, legal=legal_transitions(BIO)), torch.tensor([[0, 3, 4]])
    assert crf.decode(emissions) == tags.tolist()
    assert crf(emissions, tags).tolist() == pytest.approx(-0.0036, abs=1e-4)
    assert crf.marginals(emissions)[0, range(3), tags[0]].tolist() == pytest.approx([0.996] * 3, abs=1e-3)


def test_long_notes_with_extreme_emissions_have_probabilities_that_sum_to_one() -> None:
    generator = torch.Generator().manual_seed(0)
    emissions = torch.randn(2, 700, 5, generator=generator).sign() * 1e4
    emissions[1] /= 1e4
    sums = CRF(5, batch_first=True, legal=legal_transitions(BIO)).marginals(emissions).sum(2)
    torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize("scale", [400.0, 500.0, 600.0, 650.0, 700.0, 1e4])
def test_gradients_of_marginals_hold_where_the_imaginary_step_would_vanish(scale: float) -> None:
    crf = CRF(3, batch_first=True, legal=legal_transitions(["O", "B-X", "I-X"])).double()
    given = torch.tensor([[[scale, 0, 0], [0, 0, scale], [scale, 0, 0]]]).double().requires_grad_()
    weights = torch.tensor([[[1.0, -2, 0.5], [0.3, 0.2, -1], [2, 1, 1]]])
    emissions, kept, _, _ = crf.arrange(given)
    _, exact, _ = crf_recursions._log_counts(emissions, kept, *crf.parameters_for(emissions))
    (expected,) = torch.autograd.grad((exact * weights).sum(), given)
    (found,) = torch.autograd.grad((crf.marginals(given) * weights).sum(), given)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected)


def test_spans_beside_what_is_certain_are_impossible_and_not_undefined() -> None:
    crf, emissions = CRF(5, batch_first=True, legal=legal_transitions(BIO)), torch.full((1, 2, 5), -1e4)
    emissions[0, 0, 3] = emissions[0, 1, 4] = 1e4
    assert crf.span_log_probabilities(emissions, [(0, 0, [1])]).tolist() == [-torch.inf]
    unlikely = torch.zeros(1, 2, 5)
    unlikely[0, 1, 2] = 60.0
    assert float(crf.span_log_probabilities(unlikely, [(0, 0, [1])])) == pytest.approx(
        log(3) - 60
    )  # before O, B-X and B-Y


@pytest.mark.parametrize("what", ["log_partition", "marginals"])
def test_a_second_derivative_is_refused(what: str) -> None:
    emissions = batch().requires_grad_()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(getattr(bio_field(), what)(emissions).square().sum(), emissions, create_graph=True)


def test_a_batch_of_nothing_gives_nothing() -> None:
    crf, emissions = bio_field(), torch.randn(0, 4, 5)
    assert crf(emissions, torch.zeros(0, 4).long()).tolist() == 0.0
    assert crf.decode(emissions) == []
    assert crf.marginals(emissions).shape == (0, 4, 5)


def test_a_mask_beside_a_boolean_second_argument_counts_too() -> None:
    crf, emissions = bio_field(), batch()
    mask = torch.tensor([[1, 1, 0, 0, 1, 1]] * 3)
    found = crf(emissions, torch.ones(3, 6, dtype=torch.bool), mask)
    assert torch.equal(found, crf(emissions, mask.bool()))


def test_tags_that_are_forbidden_by_minus_infinity_leave_entropy_defined() -> None:
    emissions = torch.zeros(1, 3, 5)
    emissions[0, 1, 4] = -torch.inf
    assert entropy(CRF(5, batch_first=True), emissions).tolist() == pytest.approx([float(torch.tensor(100.0).log())])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CRF(3, legal=legal_transitions(BIO)), "legality of 3 tags, found that of 5"),
        (lambda: sample(bio_field(), batch(), 0), "count must be at least 1"),
        (lambda: bio_field().span_log_probabilities(batch(), [], temperature=0.0), "temperature must be above 0"),
        (lambda: bio_field()(batch(), torch.zeros(3, 6)), "whole numbers"),
        (lambda: bio_field().decode(torch.zeros(2, 0, 5)), "at least one position"),
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("types", [None, 2])
def test_a_batch_without_rows_has_no_sequences(types: int | None) -> None:
    crf = CRF(3, batch_first=True, types=types)
    emissions = torch.zeros(0, 4, 3 * (types or 1))
    each = () if types is None else (types,)
    assert crf.decode(emissions) == []
    assert crf.marginals(emissions).shape == emissions.shape
    tags, scores = crf.k_best(emissions, 2)
    assert (tags.shape, scores.shape) == ((2, 0, 4, *each), (2, 0, *each))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_have_no_best_sequence(value: float) -> None:
    crf, emissions, mask = bio_field(), batch(), torch.ones(3, 6).bool()
    emissions[1, 5, 2] = value
    for search in (crf.decode, crf.best, crf, lambda *given: crf.k_best(given[0], 2, given[1])):
        with pytest.raises(FloatingPointError, match="not finite"):
            search(emissions, mask)
    mask[1, 5] = False  # nobody looks there
    assert len(crf.decode(emissions, mask)[1]) == 5
    for name, _ in crf.named_parameters():
        damaged = bio_field()
        with torch.no_grad():
            getattr(damaged, name)[0] = value
        with pytest.raises(FloatingPointError, match="not finite"):
            damaged.decode(emissions, mask)


def test_minus_infinity_forbids_a_tag_but_not_all_of_them() -> None:
    crf, emissions = bio_field(), batch()
    emissions[0, 2, 1:] = -torch.inf
    assert crf.decode(emissions)[0][2] == 0
    emissions[0, 2] = -torch.inf
    with pytest.raises(FloatingPointError, match="not finite"):
        crf.decode(emissions)
