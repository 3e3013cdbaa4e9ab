"""Our CRF against pytorch-crf, in turn, in one process; and what it adds to the work of a model.

    python benchmarks/crf.py [--rounds 9] [--threads 1] [--model-rounds 15]

For each shape: the median milliseconds of log-likelihood forward and backward, and of decoding, the median of ratios
of neighbouring runs, and the peak memory of each in a process of its own. Then a training step and the prediction of
whole notes with MiniLM-L6, without and with a CRF.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import torchcrf
import typer

from cardioner.data.labels import LabelSet
from cardioner.multiclass.encoding import encode_notes
from cardioner.multiclass.inference import emissions_of
from cardioner.multiclass.modeling import CRF, TokenClassificationModel
from cardioner.multiclass.pipeline import tag_texts
from cardioner.training.hf_trainer import reduced_precision
from cardioner.training.initialization import build, read_source
from cardioner.training.optimizer import optimizer
from cardioner.training.options import TrainingOptions
from pairs import Pair, in_turn, peak_mib

SHAPES = ((16, 128, 9), (32, 512, 9), (32, 512, 25), (8, 512, 49), (1, 8192, 9))
BATCH, LENGTH = 16, 256
TYPES = ("DISEASE", "MEDICATION", "PROCEDURE", "SYMPTOM")
NOTES = Path(__file__).parents[1] / "examples" / "corpus" / "train"
MARKED = 0.1
"""The share of sub-tokens that an untrained head is made to tag, about that of a clinical corpus."""


def likelihood(crf: torch.nn.Module, emissions: torch.Tensor, tags: torch.Tensor) -> None:
    """Forward and backward."""
    given = emissions.clone().requires_grad_()
    (-crf(given, tags)).backward()


def decode(crf: torch.nn.Module, emissions: torch.Tensor) -> list[list[int]]:
    """The best tags."""
    with torch.no_grad():
        best: list[list[int]] = crf.decode(emissions)
    return best


def work_of(ours: bool, what: str, shape: tuple[int, int, int], threads: int) -> Callable[[], object]:
    """One of the two pieces of work on one of the two fields."""
    warnings.simplefilter("ignore")  # pytorch-crf uses what torch means to remove
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    batch, length, count = shape
    emissions, tags = torch.randn(batch, length, count), torch.randint(count, (batch, length))
    peer = torchcrf.CRF(count, batch_first=True)
    crf: torch.nn.Module = peer
    if ours:
        crf = CRF(count, batch_first=True)
        crf.load_state_dict(peer.state_dict())
    return partial(likelihood, crf, emissions, tags) if what == "likelihood" else partial(decode, crf, emissions)


def compare_fields(rounds: int, threads: int) -> None:
    """Both pieces of work on every shape."""
    for shape in SHAPES:
        print("batch {}, length {}, {} tags".format(*shape))
        for what in ("likelihood", "decode"):
            ours, theirs = (work_of(own, what, shape, threads) for own in (True, False))
            pair = in_turn(ours, theirs, rounds)
            peaks = [peak_mib(work_of, own, what, shape, threads) for own in (True, False)]
            name = "forward and backward" if what == "likelihood" else "decode"
            print(
                f"  {name:<21}{pair.first:8.1f} ms {peaks[0]:6.0f} MiB   pytorch-crf {pair.second:8.1f} ms "
                f"{peaks[1]:6.0f} MiB   {pair.ratio:6.1f} times as fast",
                flush=True,
            )


def models_and_tokenizer(length: int) -> tuple[TokenClassificationModel, TokenClassificationModel, Any]:
    """MiniLM-L6 with a fresh head for nine tags, without and with a CRF, and its tokenizer."""
    torch.manual_seed(0)
    source, labels = read_source(None), LabelSet.from_types(TYPES)
    plain, field = (
        build(source, labels, use_crf=use_crf, window_length=length, window_context=16) for use_crf in (False, True)
    )
    field.model.classifier.load_state_dict(plain.model.classifier.state_dict())
    return plain.model, field.model, plain.tokenizer


def compare_steps(rounds: int, precision: torch.dtype) -> None:
    """A training step of each model."""
    plain, field, _ = models_and_tokenizer(LENGTH)
    inputs = {
        "input_ids": torch.randint(1000, 20000, (BATCH, LENGTH)),
        "attention_mask": torch.ones(BATCH, LENGTH, dtype=torch.long),
        "labels": torch.zeros(BATCH, LENGTH, dtype=torch.long),
    }

    def step(model: TokenClassificationModel, adam: torch.optim.Optimizer) -> None:
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        model.loss(logits, inputs["labels"]).backward()
        adam.step()
        adam.zero_grad()

    settings = {"weight_decay": 0.01, "learning_rate": 2e-4}
    works = [partial(step, model.train(), optimizer(model, settings, TrainingOptions())) for model in (plain, field)]
    show(f"training step, batch {BATCH}, length {LENGTH}, {precision}", in_turn(*works, rounds))


def compare_losses(rounds: int) -> None:
    """What differs between the two training steps, by itself."""
    plain, field, _ = models_and_tokenizer(LENGTH)
    logits, labels = torch.randn(BATCH, LENGTH, plain.num_labels), torch.zeros(BATCH, LENGTH, dtype=torch.long)

    def both_ways(model: TokenClassificationModel) -> None:
        model.loss(logits.clone().requires_grad_(), labels).backward()

    show(
        "of which the loss, forward and backward", in_turn(partial(both_ways, plain), partial(both_ways, field), rounds)
    )


def compare_predictions(rounds: int, count: int, length: int, precision: str) -> None:
    """Text to spans with scores, of notes of so many sub-tokens."""
    plain, field, tokenizer = models_and_tokenizer(LENGTH)
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(NOTES.glob("*.txt")))
    offsets = encode_notes(tokenizer, [text * 20])[0].offsets
    texts = [(text * 20)[offsets[k * length][0] : offsets[(k + 1) * length - 1][1]] for k in range(count)]
    mark_some(plain, tokenizer, texts[:4])
    field.classifier.load_state_dict(plain.classifier.state_dict())
    for model in (plain, field):
        model.eval().config.inference_dtype = precision
    spans = [sum(map(len, tag_texts(model, tokenizer, texts))) for model in (plain, field)]
    pair = in_turn(*(partial(tag_texts, model, tokenizer, texts) for model in (plain, field)), rounds)
    name = f"prediction of {count} {'note' if count == 1 else 'notes'} of {length} sub-tokens, {precision}"
    show(f"{name}, {spans[0]} and {spans[1]} spans", pair)


def mark_some(model: TokenClassificationModel, tokenizer: Any, texts: list[str]) -> None:
    """Shift the head's bias for `O` so that it tags a realistic share of the sub-tokens."""
    rows = torch.cat(emissions_of(model, tokenizer, encode_notes(tokenizer, texts)))
    margin = rows[:, 1:].amax(1) - rows[:, 0]
    assert isinstance(model.classifier, torch.nn.Linear)
    with torch.no_grad():
        model.classifier.bias[0] += margin.quantile(1 - MARKED)


def show(name: str, pair: Pair) -> None:
    """One line: without, with, and what the CRF adds."""
    added = 100 * (pair.ratio - 1)
    print(f"  {name}: {pair.first:.1f} ms, with a CRF {pair.second:.1f} ms, {added:+.1f} %", flush=True)


def main(
    rounds: Annotated[int, typer.Option(help="Pairs of runs of the fields.")] = 9,
    threads: Annotated[int, typer.Option(help="Threads of torch for the fields.")] = 1,
    model_rounds: Annotated[int, typer.Option(help="Pairs of runs of the models, with all threads; 0 for none.")] = 15,
) -> None:
    """Compare the fields on every shape, then the models."""
    every = torch.get_num_threads()
    print(f"{platform.machine()}, threads: {threads}, torch {torch.__version__}, pytorch-crf 0.7.2, rounds: {rounds}")
    if rounds:
        compare_fields(rounds, threads)
    if not model_rounds:
        return
    torch.set_num_threads(every)
    print(f"MiniLM-L6, nine tags, threads: {every}, rounds: {model_rounds}")
    precisions = [torch.float32, torch.bfloat16] if reduced_precision(TrainingOptions()) else [torch.float32]
    for precision in precisions:
        compare_steps(model_rounds, precision)
    compare_losses(model_rounds)
    for precision in precisions:
        for count, length in ((16, 250), (16, 2000), (1, 250), (1, 2000), (1, 20000)):
            compare_predictions(model_rounds, count, length, str(precision).removeprefix("torch."))


if __name__ == "__main__":
    typer.run(main)
