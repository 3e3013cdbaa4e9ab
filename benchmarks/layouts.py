"""What tags per type cost: a model of four types beside one of a single type, in turn, in one process.

    python benchmarks/layouts.py [--rounds 15]

MiniLM-L6 with a CRF. A training step, and notes from text to spans with scores; all types together tag a tenth of the
sub-tokens, so that both models find about as many spans.
"""

from __future__ import annotations

import platform
from functools import partial
from typing import Annotated, Any

import torch
import typer

from cardioner.data.labels import LabelSet
from cardioner.multiclass.encoding import encode_notes
from cardioner.multiclass.inference import emissions_of
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.multiclass.pipeline import tag_texts
from cardioner.training.hf_trainer import reduced_precision
from cardioner.training.initialization import build, read_source
from cardioner.training.optimizer import optimizer
from cardioner.training.options import TrainingOptions
from crf import MARKED, NOTES, TYPES
from pairs import Pair, in_turn

BATCH = 16


def models_and_tokenizer() -> tuple[TokenClassificationModel, TokenClassificationModel, Any]:
    """A model of one type and one of four, with fresh heads, and the tokenizer of both."""
    torch.manual_seed(0)
    source = read_source(None)
    one, four = (
        build(source, LabelSet.from_types(types, overlap=overlap), use_crf=True, window_length=128, window_context=4)
        for types, overlap in ((TYPES[:1], "flat"), (TYPES, "per-type"))
    )
    return one.model, four.model, one.tokenizer


def mark_some(model: TokenClassificationModel, tokenizer: Any, texts: list[str]) -> None:
    """Shift the head's bias for each `O`, so that all types together tag a realistic share of the sub-tokens."""
    rows = torch.cat(emissions_of(model, tokenizer, encode_notes(tokenizer, texts)))
    head = [module for module in model.classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
    for group in model.config.tag_groups:
        inside = rows[:, group.first + 1 : group.first + len(group.tags)].amax(1)
        with torch.no_grad():
            head.bias[group.first] += (inside - rows[:, group.first]).quantile(1 - MARKED / (model.types or 1))


def compare_steps(rounds: int, precision: torch.dtype) -> None:
    """A training step of each model."""
    one, four, _ = models_and_tokenizer()
    input_ids = torch.randint(1000, 20000, (BATCH, 128))

    def step(model: TokenClassificationModel, adam: torch.optim.Optimizer) -> None:
        wanted = input_ids.shape if model.types is None else (*input_ids.shape, model.types)
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            logits = model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).logits
        labels = model.tags_of_each * torch.arange(model.types or 1)  # everything is outside
        model.loss(logits, labels.expand(wanted) if model.types else torch.zeros(wanted, dtype=torch.long)).backward()
        adam.step()
        adam.zero_grad()

    settings = {"weight_decay": 0.01, "learning_rate": 2e-4}
    works = [partial(step, model.train(), optimizer(model, settings, TrainingOptions())) for model in (one, four)]
    show(f"training step, batch {BATCH} x 128, {precision}", in_turn(*works, rounds))


def compare_predictions(rounds: int, count: int, length: int, precision: str) -> None:
    """Text to spans with scores, of notes of so many sub-tokens."""
    one, four, tokenizer = models_and_tokenizer()
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(NOTES.glob("*.txt"))) * 20
    offsets = encode_notes(tokenizer, [text])[0].offsets
    texts = [text[offsets[k * length][0] : offsets[(k + 1) * length - 1][1]] for k in range(count)]
    for model in (one, four):
        mark_some(model, tokenizer, texts[:4])
        model.eval().config.inference_dtype = precision
    spans = [sum(map(len, tag_texts(model, tokenizer, texts))) for model in (one, four)]
    pair = in_turn(*(partial(tag_texts, model, tokenizer, texts) for model in (one, four)), rounds)
    show(f"prediction of {count} x {length} sub-tokens, {precision}, {spans[0]} and {spans[1]} spans", pair)


def show(name: str, pair: Pair) -> None:
    """One line: one type, four, and what they add."""
    print(
        f"  {name}: {pair.first:.1f} ms, four types {pair.second:.1f} ms, {100 * (pair.ratio - 1):+.1f} %", flush=True
    )


def main(rounds: Annotated[int, typer.Option(help="Pairs of runs.")] = 15) -> None:
    """Compare training steps and predictions."""
    kind = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    print(f"{kind}, threads: {torch.get_num_threads()}, rounds: {rounds}")
    reduced = reduced_precision(TrainingOptions())
    for precision in (torch.float32, torch.bfloat16)[: 2 if reduced else 1]:
        compare_steps(rounds, precision)
        for count, length in ((16, 250), (16, 2000), (1, 2000)):
            compare_predictions(rounds, count, length, str(precision).removeprefix("torch."))


if __name__ == "__main__":
    typer.run(main)
