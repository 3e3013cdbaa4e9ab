"""What a GPU gives: training, tagging beside the stock pipeline, the CRF's share of a step, memory, the CPU's answers.

    python benchmarks/gpu.py                        # under 6 minutes on one GPU
    python benchmarks/gpu.py --tiny --device cpu    # half a minute, to see that all of it runs

Two encoders are built with random weights: one of MiniLM's size and one of RoBERTa-large's. Each is trained with a CRF
in bfloat16 on the bundled notes, repeated; then it tags. Nothing is downloaded. Where there are several GPUs, training
uses them all through DataParallel; for one process per GPU, keep the encoders of a first run and start the training
alone:

    python benchmarks/gpu.py --folder F
    torchrun --nproc-per-node 2 benchmarks/gpu.py --folder F --only-training

The script exits with 1 if a part fails, or if the GPU's float32 answers are not the CPU's.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import typer
from torch.nn import functional
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.utils import logging

from cardioner import Document, LabelSet, ModelTrainer, Predictor, TrainingOptions, read_corpus
from made_up import CORPUS, ENCODERS, VOCABULARY, take, write_encoder
from on_device import Clock, Session, describe
from pairs import in_turn, seconds

BATCH, LENGTH, CONTEXT = 16, 128, 16
"""Windows of a training batch, their sub-tokens, and what neighbouring ones share: the defaults."""

LARGE_BATCH = 128
"""Windows of a training batch that keeps a GPU busy."""

RATES = {"RoBERTa-large-size": (1e-6, 2e-2)}
"""Learning rates of encoder and head where the defaults would have random layers unlearn to tell words apart."""

STOCK_BATCHES = (8, 32, 128)
OUR_BATCHES = (2_048, 8_192, 32_768, 131_072)
TOLERANCE = 1e-3

MARKED = 0.04
"""Spans for each sub-token: about as many as in a clinical corpus."""


class Amounts(NamedTuple):
    """How much is done: training steps, notes to tag, pairs of runs."""

    steps: int
    notes: int
    rounds: int


def train_ours(session: Session, encoder: Path, output: Path, steps: int) -> ModelTrainer:
    """Train with `ModelTrainer`, and print what it took."""
    tokenizer = AutoTokenizer.from_pretrained(encoder)

    def windows(text: str) -> int:
        read = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        return math.ceil((read - 2 * CONTEXT) / (LENGTH - 2 - 2 * CONTEXT))

    training = take("train", steps * BATCH, windows)
    labels = LabelSet.from_types({span.label for document in training for span in document.spans})
    clock, device = Clock(), "cuda" if session.on_gpu else "cpu"
    rate, head_rate = RATES.get(encoder.name, (None, None))
    trainer = ModelTrainer(
        label2id=labels.label2id,
        model=encoder,
        use_crf=True,
        batch_size=BATCH,
        max_length=LENGTH,
        learning_rate=rate,
        num_train_epochs=1,
        output_dir=output,
        options=TrainingOptions(
            precision="bfloat16",
            device=device,
            head_learning_rate=head_rate,
            training_context=CONTEXT,
            overwrite=True,
            progress=clock,
        ),
    )
    evaluation = list(read_corpus(CORPUS / "validation").documents)[: 2 if session.tiny else None]
    result, memory = session.peak(lambda: trainer.train(training, eval_data=evaluation))
    if clock.ends:  # the first of several processes reports
        losses = [row["loss"] for row in result.history if "loss" in row]
        print(
            f"  training: {len(clock.ends)} steps of {BATCH} windows, {clock.step() * 1e3:.1f} ms a step, "
            f"{BATCH / clock.step():,.0f} windows a second, {result.sub_tokens / len(clock.ends) / clock.step():,.0f} "
            f"sub-tokens, each counted once; peak memory {memory}\n"
            f"  loss {losses[0]:.3f} to {losses[-1]:.3f}, strict F1 {result.evaluation.strict.micro.f1:.3f}; the loop "
            f"with scoring and checkpoint {result.seconds:.1f} s; {result.precision}"
        )
    return trainer


def train_stock(session: Session, encoder: Path, output: Path, steps: int) -> None:
    """Train with the Hugging Face Trainer on windows as long, without a CRF, and print what it took."""
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    ids: list[int] = []
    for document in take("train", steps, lambda _: 1):
        ids += tokenizer(document.text, add_special_tokens=False, verbose=False)["input_ids"]
    rows = [ids[start : start + LENGTH] for start in range(0, len(ids) - LENGTH, LENGTH)]
    arguments = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=BATCH,
        max_steps=steps,
        bf16=True,
        use_cpu=not session.on_gpu,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    clock = Clock()
    trainer = Trainer(
        model=AutoModelForTokenClassification.from_pretrained(encoder, num_labels=9),
        args=arguments,
        train_dataset=[{"input_ids": row, "labels": [0] * LENGTH} for row in rows],
        data_collator=DataCollatorForTokenClassification(tokenizer),
        callbacks=[clock],
    )
    _, memory = session.peak(trainer.train)
    print(
        f"  stock training: {steps} steps, {clock.step() * 1e3:.1f} ms a step, {BATCH / clock.step():,.0f} windows a "
        f"second, {BATCH * LENGTH / clock.step():,.0f} sub-tokens; peak memory {memory}"
    )


def share_of_crf(session: Session, trainer: ModelTrainer, batch: int) -> None:
    """Print what of a training step the CRF's loss takes, forward and backward."""
    model, device = trainer.model.to(session.device).train(), session.device
    ids = torch.randint(100, VOCABULARY, (batch, LENGTH), device=device)
    mask, labels = torch.ones_like(ids), torch.zeros_like(ids)
    learned = [value for value in model.parameters() if value.requires_grad]
    adam = torch.optim.AdamW(learned, lr=1e-6, fused=True)

    def cross_entropy(logits: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits.float().flatten(0, 1), tags.flatten())

    def step(loss: Callable[..., torch.Tensor]) -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = model(input_ids=ids, attention_mask=mask).logits
        loss(logits, labels).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        adam.step()
        adam.zero_grad()

    given = torch.randn(batch, LENGTH, model.config.num_labels, device=device)

    def crf() -> None:
        model.loss(given.clone().requires_grad_(), labels).backward()

    works = {"a step": partial(step, model.loss), "with cross-entropy": partial(step, cross_entropy), "the CRF": crf}
    taken = {name: session.timed(work, 3 if session.tiny else 30) for name, work in works.items()}
    for name, work in works.items():
        number, busy = session.launches(work)
        what = f"kernel launches, the GPU computing for {busy:.2f} ms" if session.on_gpu else "operators"
        print(f"  {batch} windows, {name}: {taken[name] * 1e3:.2f} ms, {number} {what}")
    print(f"  share of the CRF in a training step: {100 * taken['the CRF'] / taken['a step']:.1f} %")


def emissions(model: Any, tokenizer: Any, texts: Sequence[str], length: int = LENGTH) -> torch.Tensor:
    """What a model computes of the first window of each text, on the CPU, padding 0."""
    rows = tokenizer(list(texts), truncation=True, max_length=length, padding=True, return_tensors="pt")
    given = {name: rows[name].to(model.device) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        logits = model.eval()(**given).logits.float().cpu()
    return logits.masked_fill(~rows["attention_mask"].bool().unsqueeze(2), 0.0)


def compare_devices(session: Session, directory: Path, notes: Sequence[Document]) -> None:
    """Compare the device's answers with those of the CPU in float32, and print how far apart they are."""
    device = str(session.device)
    cpu, same, reduced = (
        Predictor.from_pretrained(directory, device=place, dtype=dtype)
        for place, dtype in (("cpu", "float32"), (device, "float32"), (device, "bfloat16"))
    )
    texts = [document.text for document in notes]
    if not sum(len(document.spans) for document in cpu.predict(notes)):
        for one in (cpu, same, reduced):
            mark_some(one, texts)
    expected, found = (emissions(one.model, one.tokenizer, texts) for one in (cpu, same))
    worst = float((expected - found).abs().max())
    wanted, alike, rounded = (_scored(one.predict(notes)) for one in (cpu, same, reduced))
    apart = max((abs(score - alike.get(span, math.inf)) for span, score in wanted.items()), default=0.0)
    print(
        f"  float32 on {device} and on the CPU: emissions, up to {float(expected.abs().max()):.2g}, are {worst:.1e} "
        f"apart;\n  {len(wanted)} spans on the CPU, {len(alike)} on {device}, {len(wanted.keys() & alike.keys())} the "
        f"same, scores {apart:.1e} apart; in bfloat16 {len(rounded)}, {len(wanted.keys() & rounded.keys())} the same"
    )
    if not (worst <= TOLERANCE and apart <= TOLERANCE and wanted.keys() == alike.keys()):
        session.failures.append(f"float32 on {device} is not what it is on the CPU")


def _scored(documents: Iterable[Document]) -> dict[tuple[str, int, int, str], float]:
    """Each span's score."""
    return {
        (document.id, span.start, span.end, span.label): span.score or 0.0
        for document in documents
        for span in document.spans
    }


def mark_some(predictor: Predictor, texts: Sequence[str]) -> None:
    """Have a tagger find a realistic number of spans, however little it has learned."""
    predictor.model.crf.reset_parameters()  # what has hardly learned says `O` to everything
    shift_biases(predictor.model, predictor.tokenizer, texts, LENGTH)


def shift_biases(model: Any, tokenizer: Any, texts: Sequence[str], length: int) -> None:
    """Shift the head's biases so that `MARKED` of the sub-tokens are a span each.

    Of ours and of the stock model, whose windows are longer than what was learned from: both have as much to make.
    """
    rows = emissions(model, tokenizer, texts, length).flatten(0, 1)
    rows = rows[rows.ne(0.0).any(1)]
    tags = model.config.id2label
    opening, inside = ([index for index, tag in tags.items() if tag[:2] == kind] for kind in ("B-", "I-"))
    with torch.no_grad():
        for kind, share, beyond in ((opening, MARKED, 0.0), (inside, 0.0, 5.0)):
            margin = rows[:, kind].amax(1) - rows[:, 0]
            model.classifier.bias[kind] -= margin.quantile(1 - share).item() + beyond


def stock_tagger(session: Session, predictor: Predictor, texts: Sequence[str], dtype: torch.dtype) -> Any:
    """The stock pipeline over the encoder and head of a model of ours, as the encoder's own class."""
    model, config = predictor.model, predictor.model.config.build_encoder_config()
    config.id2label, config.label2id = model.config.id2label, model.config.label2id
    stock = AutoModelForTokenClassification.from_config(config)
    getattr(stock, stock.base_model_prefix).load_state_dict(model.backbone.state_dict(), strict=True)
    stock.classifier.load_state_dict(model.classifier.state_dict(), strict=True)
    shift_biases(stock.to(session.device), predictor.tokenizer, texts, 512)
    return pipeline(
        "token-classification",
        model=stock.to(dtype).eval(),
        tokenizer=predictor.tokenizer,
        device=session.device,
        stride=128,
        aggregation_strategy="simple",
    )


def compare_tagging(session: Session, directory: Path, notes: list[Document], rounds: int, dtype: str) -> None:
    """Print the speed from texts to spans, ours and the stock pipeline's at its best batch size."""
    predictor = Predictor.from_pretrained(directory, device=str(session.device), dtype=dtype)
    texts = [document.text for document in notes]
    few = texts[: max(1, len(texts) // 4)]
    mark_some(predictor, few)
    lengths = [len(ids) for ids in predictor.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]
    stock = stock_tagger(session, predictor, few, getattr(torch, dtype))

    def stock_rate(size: int) -> float:
        return sum(lengths[: len(few)]) / seconds(lambda: stock(few, batch_size=size))

    def our_rate(size: int) -> float:
        return sum(lengths) / seconds(lambda: list(predictor.predict(notes, batch_tokens=size)))

    stock_rate(STOCK_BATCHES[0]), our_rate(OUR_BATCHES[0])  # the first calls do not count
    by_stock = {size: stock_rate(size) for size in (STOCK_BATCHES[:1] if session.tiny else STOCK_BATCHES)}
    by_ours = {size: our_rate(size) for size in (OUR_BATCHES[:1] if session.tiny else OUR_BATCHES)}
    best = max(by_stock, key=lambda size: by_stock[size])
    ours = partial(lambda: list(predictor.predict(notes)))
    theirs = partial(stock, texts, batch_size=best)
    (mine, our_peak), (other, stock_peak) = session.peak(ours), session.peak(theirs)
    pair = in_turn(ours, theirs, rounds)
    one = session.timed(partial(predictor.predict_text, texts[0][:1000]), 3 if session.tiny else 15)
    print(
        f"  {dtype}: {len(notes)} notes, {sum(lengths):,} sub-tokens; {sum(len(note.spans) for note in mine)} spans, "
        f"stock {sum(map(len, other))}\n"
        f"  sub-tokens a second by batch: stock {_listed(by_stock)}; ours {_listed(by_ours)}\n"
        f"  text to spans: ours {sum(lengths) / pair.first * 1e3:,.0f} sub-tokens a second, stock "
        f"{sum(lengths) / pair.second * 1e3:,.0f}, ratio {pair.ratio:.2f} (median of {rounds} pairs)\n"
        f"  peak memory: ours {our_peak}, stock {stock_peak}; one note of 1,000 characters {one * 1e3:.1f} ms"
    )


def _listed(rates: dict[int, float]) -> str:
    """Rates by batch size on one line."""
    return ", ".join(f"{size}: {rate:,.0f}" for size, rate in rates.items())


def run(session: Session, name: str, place: Path, amounts: Amounts, *, only_training: bool) -> None:
    """All parts with one encoder."""
    print(name, flush=True)
    encoder, output = write_encoder(name, place, tiny=session.tiny), place / f"{name}-tagger"
    trainer = session.part("training", partial(train_ours, session, encoder, output, amounts.steps))
    if only_training or trainer is None:
        return
    for batch in (BATCH,) if session.tiny else (BATCH, LARGE_BATCH):
        session.part(f"the CRF, {batch} windows", partial(share_of_crf, session, trainer, batch))
    trainer.model.cpu()
    tagged = take("validation", amounts.notes, lambda _: 1)
    session.part("as on the CPU", partial(compare_devices, session, output, tagged[: 2 if session.tiny else 3]))
    for dtype in ("bfloat16", "float32"):
        session.part(f"tagging, {dtype}", partial(compare_tagging, session, output, tagged, amounts.rounds, dtype))
    stock_steps = max(4, amounts.steps // 3)
    session.part("stock training", partial(train_stock, session, encoder, place / "stock", stock_steps))


def main(
    device: Annotated[str, typer.Option(help="Where to run: auto, cpu or cuda.")] = "auto",
    tiny: Annotated[bool, typer.Option("--tiny", help="Small encoders and few notes: does it run?")] = False,
    steps: Annotated[int, typer.Option(help="Training steps.")] = 200,
    notes: Annotated[int, typer.Option(help="Notes to tag.")] = 48,
    rounds: Annotated[int, typer.Option(help="Pairs of runs.")] = 2,
    limit: Annotated[float, typer.Option(help="Seconds after which no further part begins.")] = 300,
    folder: Annotated[Path | None, typer.Option(help="Where encoders and models go, to be kept.")] = None,
    encoder: Annotated[str, typer.Option(help=f"Which of {', '.join(ENCODERS)}, separated by commas.")] = ",".join(
        ENCODERS
    ),
    only_training: Annotated[bool, typer.Option("--only-training", help="Train, and nothing else.")] = False,
) -> None:
    """Run all parts, and print what each finds as it ends."""
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    session = Session(torch.device(chosen), tiny, limit)
    amounts = Amounts(4, 4, 1) if tiny else Amounts(steps, notes, rounds)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    describe(session)
    with tempfile.TemporaryDirectory() as made:
        for name in encoder.split(","):
            run(session, name, folder or Path(made), amounts, only_training=only_training)
    print(f"{time.perf_counter() - session.began:.0f} s in all; {'; '.join(session.failures) or 'nothing failed'}")
    raise SystemExit(bool(session.failures))


if __name__ == "__main__":
    typer.run(main)
