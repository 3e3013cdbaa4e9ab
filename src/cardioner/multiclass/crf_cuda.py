"""The CRF's log-likelihood and its gradients in one kernel, on an NVIDIA GPU.

In training, the recursions launch hundreds of kernels, and launching them takes longer than running them. The kernel
here does the same in double precision, each row in a block of threads of its own. CUDA's runtime compiler, which comes
with torch, compiles it when it is first needed. Where that fails, or a result cannot be trusted, `log_likelihood` gives
`None`, and the recursions take over. Decision 6 of CardioNER's documentation has what else was tried.

This file is copied into every saved model directory and imports nothing but the standard library and torch.
"""

from __future__ import annotations

import ctypes
from functools import cache
from logging import getLogger
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .crf_recursions import refuse_second_derivative

_THREADS = 128
"""Threads that compute one row."""

_MOST_TAGS = 64
"""With more tags the transitions do not fit into the fast memory that all GPUs have."""

_ON_GPU = """
#define EACH(i, count) for (int i = threadIdx.x; i < (count); i += blockDim.x)
#define SYNC __syncthreads();
"""

SOURCE = """
// EACH(i, count) shares the numbers below a count among the threads of a row; SYNC waits until all have done theirs.

struct Position {         // one kept position of a row
    double weight[TAGS];  // its exponentiated emissions, the largest of them 1
    double alpha[TAGS];   // the sums over all beginnings; later, their share of the total
    double ahead[TAGS];   // the sums over all that can follow, its own emission included
    double beta[TAGS];    // the same without its own emission; later, the probabilities of the tags
    double scale, behind; // what alpha and ahead were divided by
    double peak, term;    // its largest emission; its part of the log-likelihood
    int place, tag;       // where it stands in the row; its gold tag
};

extern "C" __global__ void log_likelihood(
    const float *emissions,    // (batch, length, tags)
    const long long *labels,   // (batch, length)
    const float *scores,       // (fields, scores): transitions (tags, tags), start (tags), end (tags)
    Position *positions,       // (batch, length), to work in
    float *value,              // (batch)
    float *by_emission,        // (batch, length, tags): gradients
    float *by_score,           // (batch, scores): gradients
    int *found,                // kept positions, and reasons not to trust all of this; 0 at first
    int length, int rows, int ignored  // rows of the same scores
) {
    scores += blockIdx.x / rows * (TAGS + 2) * TAGS;
    const float *start = scores + TAGS * TAGS, *end = start + TAGS;
    __shared__ double top[3], edge[TAGS][TAGS], opens[TAGS], closes[TAGS], reached[2][2][TAGS];
    __shared__ int kept;
    emissions += (long long)blockIdx.x * length * TAGS;
    by_emission += (long long)blockIdx.x * length * TAGS;
    labels += (long long)blockIdx.x * length;
    positions += (long long)blockIdx.x * length;
    by_score += (long long)blockIdx.x * (TAGS + 2) * TAGS;

    EACH(part, 3) {  // the largest transition, start score and end score
        const float *first = part == 0 ? scores : part == 1 ? start : end;
        double best = first[0];
        for (int i = 1; i < (part == 0 ? TAGS * TAGS : TAGS); i++) best = first[i] > best ? first[i] : best;
        top[part] = best;
        if (part == 0) kept = 0;
    }
    SYNC
    EACH(i, TAGS * TAGS) edge[i / TAGS][i % TAGS] = exp(scores[i] - top[0]);
    EACH(tag, TAGS) {
        opens[tag] = exp(start[tag] - top[1]);
        closes[tag] = exp(end[tag] - top[2]);
    }
    EACH(place, length) {
        const float *emitted = emissions + place * TAGS;
        const long long label = labels[place];
        if (label == ignored) {
            for (int tag = 0; tag < TAGS; tag++) by_emission[place * TAGS + tag] = 0;
            continue;
        }
        int before = 0;
        for (int other = 0; other < place; other++) before += labels[other] != ignored;
        Position &here = positions[before];
        here.place = place;
        here.tag = label < 0 || label >= TAGS ? 0 : label;
        if (here.tag != label) atomicAdd(found + 1, 1);
        atomicAdd(&kept, 1);
        here.peak = emitted[0];
        for (int tag = 1; tag < TAGS; tag++) here.peak = emitted[tag] > here.peak ? emitted[tag] : here.peak;
        for (int tag = 0; tag < TAGS; tag++) here.weight[tag] = exp(emitted[tag] - here.peak);
    }
    SYNC

    for (int step = 0; step < kept; step++) {  // both recursions, each from its own end
        EACH(i, 2 * TAGS) {
            const int way = i / TAGS, tag = i % TAGS;
            Position &here = positions[way ? kept - 1 - step : step];
            double moved = way ? closes[tag] : opens[tag], sum = 1;
            if (step > 0) {
                moved = sum = 0;
                for (int other = 0; other < TAGS; other++) {
                    const double state = reached[step % 2][way][other];
                    sum += state;
                    moved += state * (way ? edge[tag][other] : edge[other][tag]);
                }
            }
            moved *= here.weight[tag] / sum;
            reached[(step + 1) % 2][way][tag] = moved;
            (way ? here.ahead : here.alpha)[tag] = moved;
        }
        SYNC
    }
    EACH(index, kept) {
        Position &here = positions[index];
        here.scale = here.behind = 0;
        for (int tag = 0; tag < TAGS; tag++) here.scale += here.alpha[tag], here.behind += here.ahead[tag];
        for (int tag = 0; tag < TAGS; tag++) here.alpha[tag] /= here.scale, here.ahead[tag] /= here.behind;
    }
    SYNC

    EACH(index, kept) {
        Position &here = positions[index], &next = positions[index + 1], &last = positions[index - 1];
        const bool opening = index == 0, closing = index == kept - 1;
        double total = 0;
        for (int tag = 0; tag < TAGS; tag++) {
            here.beta[tag] = closing ? closes[tag] : 0;
            for (int other = 0; other < TAGS && !closing; other++)
                here.beta[tag] += edge[tag][other] * next.ahead[other];
            total += here.alpha[tag] * here.beta[tag];
        }
        // As in `crf_recursions`: the least share that a result came from must be far from the smallest number.
        const double share = closing || here.scale < next.behind ? here.scale : next.behind;
        if (!(total * (share < 1 ? share : 1) > FLOOR)) atomicAdd(found + 1, 1);
        const double gold = emissions[here.place * TAGS + here.tag] + (closing ? end[here.tag] : 0.0)
            + (opening ? start[here.tag] : scores[last.tag * TAGS + here.tag]);
        here.term = gold - here.peak - log(here.scale);
        here.term -= (opening ? top[1] : top[0]) + (closing ? log(total) + top[2] : 0);
        for (int tag = 0; tag < TAGS; tag++) {
            here.alpha[tag] /= total;
            here.beta[tag] *= here.alpha[tag];
            by_emission[here.place * TAGS + tag] = (tag == here.tag) - here.beta[tag];
        }
    }
    SYNC
    EACH(i, TAGS * TAGS) {
        const int before = i / TAGS, tag = i % TAGS;
        double expected = 0;
        int seen = 0;
        for (int index = 1; index < kept; index++) {
            const Position &here = positions[index], &last = positions[index - 1];
            expected += last.alpha[before] * here.ahead[tag];
            seen += last.tag == before && here.tag == tag;
        }
        by_score[i] = seen - expected * edge[before][tag];
    }
    EACH(tag, TAGS) {
        const Position &first = positions[0], &last = positions[kept - 1];
        by_score[TAGS * TAGS + tag] = kept ? (tag == first.tag) - first.beta[tag] : 0;
        by_score[(TAGS + 1) * TAGS + tag] = kept ? (tag == last.tag) - last.beta[tag] : 0;
    }
    EACH(once, 1) {
        double sum = 0;
        for (int index = 0; index < kept; index++) sum += positions[index].term;
        value[blockIdx.x] = sum;
        atomicAdd(found, kept);
    }
}
"""
"""What the kernel is compiled from, in the subset of CUDA C++ that is C++ once `EACH` and `SYNC` are loops."""


@cache
def illegal_scores(device: torch.device, *legal: tuple[bool, ...]) -> Tensor:
    """Which scores are illegal, from which are legal, joined; copied to each device once."""
    with torch.inference_mode(mode=False):
        return ~torch.tensor([each for part in legal for each in part], device=device)


class _Results(NamedTuple):
    """What the kernel computes.

    Attributes:
        value: The log-likelihood of each row, `(batch)`.
        by_emission: Its gradients, `(batch, length, tags)`.
        by_score: The gradients of transition, start and end scores, `(batch, scores)`.
    """

    value: Tensor
    by_emission: Tensor
    by_score: Tensor


class _WithGradients(torch.autograd.Function):
    """A value of each row whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, scores: Tensor, results: _Results) -> Tensor:  # noqa: ARG004 - autograd's
        """The value, `(batch)`."""
        ctx.fields = len(scores)
        ctx.save_for_backward(results.by_emission, results.by_score)
        return results.value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The known gradients, each row's multiplied by its incoming one."""
        refuse_second_derivative()
        by_emission, by_score = ctx.saved_tensors
        weight, fields = gradients[0].unsqueeze(1), ctx.fields  # (batch, 1)
        return by_emission * weight.unsqueeze(2), (by_score * weight).view(fields, -1, by_score.size(1)).sum(1), None


def fits_kernel(emissions: Tensor, tags: int) -> bool:
    """Whether the kernel may be asked: on an NVIDIA GPU, in float32 at most, with few enough tags."""
    if not emissions.is_cuda or torch.version.cuda is None or emissions.dim() != 3 or not emissions.numel():
        return False
    return emissions.dtype in {torch.float32, torch.bfloat16, torch.float16} and tags <= _MOST_TAGS


def log_likelihood(emissions: Tensor, labels: Tensor, scores: Tensor, ignored: int) -> tuple[Tensor, int] | None:
    """The log-likelihood of label sequences, `(batch)`, and the number of labelled positions.

    Args:
        emissions: `(batch, length, tags)`.
        labels: `(batch, length)` tag ids.
        scores: Transition `(tags, tags)`, start and end scores, flattened and joined, `(fields, scores)`; as many rows
            of the batch belong to each field, one field's after another's. `-1e30` for illegal ones.
        ignored: The label of positions that are left out.

    Returns:
        `None` if there is no kernel, something lies on another device, a label is out of range, or a number that
        matters can have underflowed.
    """
    batch, length, tags = emissions.shape
    kernel = _kernel(emissions.device, tags)
    if kernel is None or {labels.device, scores.device} != {emissions.device}:
        return None
    emissions, labels, scores = emissions.float().contiguous(), labels.long().contiguous(), scores.float()
    results = _Results(
        value=emissions.new_empty(batch),
        by_emission=torch.empty_like(emissions),
        by_score=emissions.new_empty(batch, scores.size(1)),
    )
    positions = emissions.new_empty(batch, length, 4 * tags + 5, dtype=torch.float64)  # as large as a Position
    found = labels.new_zeros(2, dtype=torch.int32)
    rows = batch // len(scores)
    kernel(batch, emissions, labels, scores, positions, *results, found, length, rows, ignored)
    kept, doubts = found.tolist()
    if doubts:
        return None
    value: Tensor = _WithGradients.apply(emissions, scores, results)  # type: ignore[no-untyped-call]
    return value, kept


class _Kernel(NamedTuple):
    """A compiled kernel on its device.

    Attributes:
        device: Where it was loaded.
        driver: The library that launches it.
        function: The driver's handle of it.
    """

    device: torch.device
    driver: ctypes.CDLL
    function: ctypes.c_void_p

    def __call__(self, blocks: int, *arguments: Tensor | int) -> None:
        """Launch it on the device's current stream."""
        values = [
            ctypes.c_void_p(each.data_ptr()) if isinstance(each, Tensor) else ctypes.c_int(each) for each in arguments
        ]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        stream = ctypes.c_void_p(torch.cuda.current_stream(self.device).cuda_stream)
        with torch.cuda.device(self.device):
            _check(self.driver.cuLaunchKernel(self.function, blocks, 1, 1, _THREADS, 1, 1, 0, stream, pointers, None))


@cache
def _kernel(device: torch.device, tags: int) -> _Kernel | None:
    """The kernel for so many tags; `None` where it cannot be compiled or loaded."""
    try:
        code, driver = _compiled(device, tags), ctypes.CDLL("libcuda.so.1")
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        with torch.cuda.device(device):
            _check(driver.cuModuleLoadData(ctypes.byref(module), code))
            _check(driver.cuModuleGetFunction(ctypes.byref(function), module, b"log_likelihood"))
    except (OSError, RuntimeError) as error:
        getLogger(__name__).info("the CRF runs without its kernel on %s: %s", device, error)
        return None
    return _Kernel(device, driver, function)


def _compiled(device: torch.device, tags: int) -> bytes:
    """The kernel in the device's machine code, from NVIDIA's runtime compiler.

    Raises:
        OSError: If that library cannot be found.
        RuntimeError: If it refuses.
    """
    compiler = ctypes.CDLL(f"libnvrtc.so.{str(torch.version.cuda).partition('.')[0]}")  # torch has loaded it
    major, minor = torch.cuda.get_device_capability(device)
    options = [option.encode() for option in (f"--gpu-architecture=sm_{major}{minor}", *macros(tags))]
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    source = (_ON_GPU + SOURCE).encode()
    _check(compiler.nvrtcCreateProgram(ctypes.byref(program), source, b"crf.cu", 0, None, None))
    try:
        _check(compiler.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options)))
        _check(compiler.nvrtcGetCUBINSize(program, ctypes.byref(size)))
        code = ctypes.create_string_buffer(size.value)
        _check(compiler.nvrtcGetCUBIN(program, code))
    finally:
        compiler.nvrtcDestroyProgram(ctypes.byref(program))
    return code.raw


def macros(tags: int) -> list[str]:
    """The compiler's options that say what the source leaves open."""
    info = torch.finfo(torch.float64)
    return [f"-DTAGS={tags}", f"-DFLOOR={info.tiny / info.eps!r}"]


def _check(code: int) -> None:
    """Raise if a call failed.

    Raises:
        RuntimeError: With its error code.
    """
    if code:
        raise RuntimeError(f"CUDA's error code {code}")
