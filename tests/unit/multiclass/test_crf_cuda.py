"""The GPU's kernel against the recursions: its source, run on the CPU, and the kernel itself where there is a GPU."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cardioner.multiclass import crf as crf_module
from cardioner.multiclass import crf_cuda
from cardioner.multiclass.crf import CRF, IGNORED, Legality, legal_transitions

TAGS = ["O", "B-X", "I-X", "B-Y", "I-Y", "E-Y", "S-Y"]

ON_CPU = """
#include <cmath>
#define __global__
#define __shared__ static
#define SYNC
#define EACH(i, count) \\
    for (int i, i##_count = (count), i##_done = 0; \\
         i##_done < i##_count && (i = backwards ? i##_count - 1 - i##_done : i##_done, true); i##_done++)
static int backwards;
static struct { int x; } blockIdx;
static int atomicAdd(int *sum, int more) { *sum += more; return *sum - more; }
"""
RUN = """
extern "C" void run(
    int order, int blocks, float *emissions, long long *labels, float *scores, Position *positions, float *value,
    float *by_emission, float *by_score, int *found, int length, int rows, int ignored
) {
    backwards = order;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        log_likelihood(
            emissions, labels, scores, positions, value, by_emission, by_score, found, length, rows, ignored);
}
"""


class OneThread:
    """The kernel's source as a loop: between two waits it does the work of the threads in either order."""

    def __init__(self, library: ctypes.CDLL, *, backwards: bool) -> None:
        self.library = library
        self.backwards = backwards
        self.calls = 0
        self.trusted = 0

    def __call__(self, blocks: int, *arguments: Tensor | int) -> None:
        self.calls += 1
        for each in arguments:
            assert not isinstance(each, Tensor) or each.is_contiguous()
        pointers = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else ctypes.c_int(a) for a in arguments]
        self.library.run(int(self.backwards), blocks, *pointers)

    def log_likelihood(self, *arguments: Any) -> tuple[Tensor, int] | None:
        """That of the module, and counted where the result is used."""
        found = crf_cuda.log_likelihood(*arguments)
        self.trusted += found is not None
        return found


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder: Path = tmp_path_factory.mktemp("kernel")
    (folder / "kernel.cpp").write_text(ON_CPU + crf_cuda.SOURCE + RUN)
    options = ["-O1", "-shared", "-fPIC", *crf_cuda.macros(len(TAGS))]
    command = ["c++", "-std=c++17", *options, "-o", str(folder / "kernel.so"), str(folder / "kernel.cpp")]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "kernel.so"))


@pytest.fixture(params=[False, True], ids=["in order", "backwards"])
def kernel(compiled: ctypes.CDLL, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> OneThread:
    kernel = OneThread(compiled, backwards=request.param)
    monkeypatch.setattr(crf_cuda, "_kernel", lambda *_: kernel)
    monkeypatch.setattr(crf_module, "log_likelihood", kernel.log_likelihood)
    monkeypatch.setattr(crf_module, "fits_kernel", lambda emissions, _: emissions.dtype != torch.float64)
    return kernel


def random_crf(
    chance: torch.Generator, *, legal: Legality | None, batch_first: bool = True, types: int | None = None
) -> CRF:
    crf = CRF(len(TAGS), batch_first=batch_first, legal=legal, types=types)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=chance))
    return crf


def learned(
    crf: CRF, emissions: Tensor, labels: Tensor, mask: Tensor | None, reduction: str
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The value and its gradients, each row weighted differently."""
    leaf = emissions.detach().clone().requires_grad_()
    value = crf(leaf, labels, mask, reduction)
    weight = torch.arange(1.0, value.numel() + 1, device=value.device, dtype=value.dtype).view(value.shape)
    return value.detach(), torch.autograd.grad((value * weight).sum(), [leaf, *crf.parameters()])


def assert_equal_to_recursions(
    crf: CRF, emissions: Tensor, labels: Tensor, mask: Tensor | None, reduction: str, device: str = "cpu"
) -> None:
    """In double precision on the CPU, where no kernel is asked."""
    double = CRF(len(TAGS), batch_first=crf.batch_first, legal=crf.legal, types=crf.types).double()
    double.load_state_dict(crf.state_dict())
    expected, wanted = learned(double, emissions.double(), labels, mask, reduction)
    moved = [part if part is None else part.to(device) for part in (emissions, labels, mask)]
    value, gradients = learned(crf.to(device), *moved, reduction)  # type: ignore[arg-type]
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if emissions.dtype == torch.float32 else {"rtol": 1e-2, "atol": 1e-2}
    torch.testing.assert_close(value.cpu().double(), expected, rtol=1e-5, atol=1e-4)
    for found, gradient in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found.cpu().double(), gradient, **tolerance)


def some_batch(chance: torch.Generator, batch: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Emissions, labels that are legal throughout, ignored in places, and a mask with holes; the last row is empty."""
    emissions = 3 * torch.randn(batch, length, len(TAGS), generator=chance)
    labels = torch.where(torch.rand(batch, length, generator=chance) < 0.2, IGNORED, 6)
    labels = torch.where(torch.rand(batch, length, generator=chance) < 0.5, labels, labels.clamp(max=0))
    labels[-1] = IGNORED
    mask = torch.rand(batch, length, generator=chance) < 0.8
    return emissions, labels, mask


@pytest.mark.compiler
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "token_mean"])
@pytest.mark.parametrize(
    ("batch", "length", "batch_first"), [(3, 12, True), (2, 40, False), (1, 1, True), (2, 1, True)]
)
def test_source_of_the_kernel_gives_what_the_recursions_give(
    kernel: OneThread, reduction: str, batch: int, length: int, *, batch_first: bool
) -> None:
    chance = torch.Generator().manual_seed(length)
    for legal in (None, legal_transitions(TAGS)):
        for dtype in (torch.float32, torch.bfloat16):
            emissions, labels, mask = some_batch(chance, batch, length)
            crf = random_crf(chance, legal=legal, batch_first=batch_first)
            given = emissions.to(dtype), labels, mask
            if not batch_first:
                given = tuple(part.transpose(0, 1) for part in given)  # type: ignore[assignment]
            assert_equal_to_recursions(crf, *given, reduction)
            assert_equal_to_recursions(crf, given[0], given[1], None, reduction)
    assert kernel.calls == kernel.trusted == 8


@pytest.mark.compiler
@pytest.mark.parametrize("batch_first", [True, False])
def test_kernel_gives_each_type_its_own_scores(kernel: OneThread, *, batch_first: bool) -> None:
    chance = torch.Generator().manual_seed(0)
    parts = [some_batch(chance, 3, 12) for _ in range(3)]
    emissions = torch.cat([part[0] for part in parts], dim=2)
    labels = torch.stack([part[1] for part in parts], dim=2)
    labels = torch.where(labels == IGNORED, labels, labels + len(TAGS) * torch.arange(3))
    given = emissions, labels, parts[0][2]
    if not batch_first:
        given = tuple(part.transpose(0, 1) for part in given)  # type: ignore[assignment]
    crf = random_crf(chance, legal=legal_transitions(TAGS), batch_first=batch_first, types=3)
    for reduction in ("none", "token_mean"):
        assert_equal_to_recursions(crf, *given, reduction)
        assert_equal_to_recursions(crf, given[0], given[1], None, reduction)
    assert kernel.calls == kernel.trusted == 4


@pytest.mark.compiler
def test_a_tag_of_another_type_is_refused(kernel: OneThread) -> None:
    labels = torch.tensor([[[0, 7], [1, 7 - 100], [0, 7]]])
    labels[0, 2, 1] = 0
    with pytest.raises(ValueError, match="2 of 6 are not"):
        CRF(len(TAGS), batch_first=True, types=2)(torch.zeros(1, 3, 14), labels)
    assert kernel.calls == 1


@pytest.mark.compiler
def test_kernel_counts_every_path_where_emissions_are_far_apart(kernel: OneThread) -> None:
    """As far apart as makes single precision lose paths; double precision keeps them."""
    chance = torch.Generator().manual_seed(0)
    emissions, labels, _ = some_batch(chance, 4, 20)
    assert_equal_to_recursions(random_crf(chance, legal=legal_transitions(TAGS)), 20 * emissions, labels, None, "none")
    assert kernel.trusted == 1


@pytest.mark.compiler
@pytest.mark.parametrize(("apart", "trusted"), [(600.0, 1), (690.0, 0), (2000.0, 0)])
def test_recursions_take_over_where_the_kernel_is_not_to_be_trusted(
    kernel: OneThread, apart: float, trusted: int
) -> None:
    chance = torch.Generator().manual_seed(0)
    crf = random_crf(chance, legal=legal_transitions(TAGS))
    emissions = torch.zeros(1, 2, len(TAGS))
    emissions[0, 0, 1] = emissions[0, 1, 4] = apart  # B-X, then I-Y: the best tags contradict each other
    assert_equal_to_recursions(crf, emissions, torch.zeros(1, 2, dtype=torch.long), None, "none")
    assert (kernel.calls, kernel.trusted) == (1, trusted)


@pytest.mark.compiler
@pytest.mark.parametrize("wrong", [-1, len(TAGS), 10**10])
def test_a_wrong_label_is_refused_and_reads_nothing_beyond_the_scores(kernel: OneThread, wrong: int) -> None:
    labels = torch.tensor([[0, wrong, 0]])
    with pytest.raises(ValueError, match="labels must be 0 to 6, or -100 for positions to leave out; 1 of 3 are not"):
        CRF(len(TAGS), batch_first=True)(torch.zeros(1, 3, len(TAGS)), labels)
    assert kernel.calls == 1


@pytest.mark.compiler
def test_misshapen_input_never_reaches_the_kernel(kernel: OneThread) -> None:
    crf, emissions, labels = CRF(len(TAGS), batch_first=True), torch.zeros(2, 3, len(TAGS)), torch.zeros(2, 3).long()
    for given in (
        (emissions[:, :2], labels, None),
        (emissions, labels, labels[:1]),
        (emissions[:, :, 1:], labels, None),
        (emissions, labels.float(), None),
    ):
        with pytest.raises(ValueError, match=r"expected|whole numbers"):
            crf(*given)
    assert kernel.calls == 0


@pytest.mark.compiler
@pytest.mark.parametrize("other", ["labels", "scores"])
def test_kernel_reads_from_its_own_device_alone(kernel: OneThread, other: str) -> None:
    given = {"emissions": torch.zeros(1, 3, 7), "labels": torch.zeros(1, 3).long(), "scores": torch.zeros(1, 63)}
    given[other] = given[other].to("meta")
    assert crf_cuda.log_likelihood(**given, ignored=IGNORED) is None
    assert kernel.calls == 0


@pytest.mark.compiler
def test_there_is_no_second_derivative_of_the_kernel(kernel: OneThread) -> None:
    emissions = torch.zeros(1, 3, len(TAGS), requires_grad=True)
    value = CRF(len(TAGS), batch_first=True)(emissions, torch.zeros(1, 3).long())
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(value, emissions, create_graph=True)
    assert kernel.calls == 1


def test_without_cuda_no_kernel_is_asked() -> None:
    assert not crf_cuda.fits_kernel(torch.zeros(1, 3, 5), 5)
    assert crf_cuda._kernel(torch.device("cuda:0"), 5) is None or torch.cuda.is_available()


@pytest.mark.gpu
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 12), (16, 128), (5, 700)])
def test_kernel_on_the_gpu_gives_what_the_recursions_give(batch: int, length: int) -> None:
    chance = torch.Generator().manual_seed(length)
    for legal in (None, legal_transitions(TAGS)):
        for dtype in (torch.float32, torch.bfloat16):
            emissions, labels, mask = some_batch(chance, batch, length)
            crf = random_crf(chance, legal=legal)
            assert crf_cuda._kernel(torch.device("cuda:0"), len(TAGS)) is not None
            assert_equal_to_recursions(crf, emissions.to(dtype), labels, mask, "none", "cuda:0")
            assert_equal_to_recursions(crf.cpu(), emissions.to(dtype), labels, mask, "token_mean", "cuda:0")
