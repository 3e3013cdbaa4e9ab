"""How fast a model tags notes, beside the stock pipeline with the same weights; F1, memory, length and start-up too.

    CARDIONER_DATA=... python benchmarks/predict.py MODEL [--notes 58] [--rounds 5]

MODEL is a directory of ours with a linear head (a CRF too, which the stock pipeline ignores). The stock pipeline is
`pipeline("token-classification")` over the same encoder and head as the encoder's own class, with stride 128 and the
best of the batch sizes 1, 4, 8 and 16. Sub-tokens are counted once, whatever overlaps. With `--stock-of TEACHER` the
stock pipeline has the weights of another directory: of the model that a smaller one was distilled from.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from transformers import AutoTokenizer, BertForTokenClassification, pipeline

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus
from cardioner.evaluation import score
from cardioner.multiclass.precision import reader_of
from cardioner.prediction.predictor import Predictor
from pairs import in_turn, peak_mib, seconds

STRIDE = 128
BATCH_SIZES = (1, 4, 8, 16)
LENGTHS = (100, 1_000, 10_000, 100_000)
ALONE, ALONE_BATCHES = (16, 128), 10
"""The windows and positions of a batch that the encoder alone reads, and how many batches."""


def as_stock(directory: Path, folder: Path) -> None:
    """Write the encoder and the linear head of a directory of ours as a model of the encoder's own class."""
    predictor = Predictor.from_pretrained(directory, device="cpu")
    model = predictor.model
    config = model.config.build_encoder_config()
    config.id2label, config.label2id = model.config.id2label, model.config.label2id
    stock = BertForTokenClassification(config)
    stock.bert.load_state_dict(model.backbone.state_dict(), strict=True)
    (head,) = (module for module in model.classifier.modules() if isinstance(module, torch.nn.Linear))
    stock.classifier.load_state_dict(head.state_dict(), strict=True)
    stock.save_pretrained(folder)
    predictor.tokenizer.save_pretrained(folder)


def stock_tagger(folder: Path) -> Callable[[Sequence[str], int], list[list[dict[str, Any]]]]:
    """The stock pipeline, which takes texts and a batch size."""
    tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=512)
    tagger = pipeline(
        "token-classification", model=str(folder), tokenizer=tokenizer, stride=STRIDE, aggregation_strategy="simple"
    )
    return lambda texts, size: tagger(list(texts), batch_size=size)


def stock_documents(documents: Sequence[Document], found: list[list[dict[str, Any]]]) -> list[Document]:
    """What the stock pipeline found, as documents."""
    return [
        document.with_spans(Span(span["start"], span["end"], span["entity_group"]) for span in spans)
        for document, spans in zip(documents, found, strict=True)
    ]


def ours_at_work(directory: str, texts: list[str]) -> Callable[[], object]:
    """Our tagging, for a process of its own."""
    predictor = Predictor.from_pretrained(directory, device="cpu")
    return lambda: list(predictor.predict(Document(str(n), text) for n, text in enumerate(texts)))


def stock_at_work(folder: str, texts: list[str], size: int) -> Callable[[], object]:
    """The stock tagging, for a process of its own."""
    tag = stock_tagger(Path(folder))
    return lambda: tag(texts, size)


def encoder_alone(predictor: Predictor) -> Callable[[], object]:
    """The encoder and its head on batches of random ids, in the precision of the predictor."""
    reader, ids = reader_of(predictor.model), torch.randint(1000, 20_000, ALONE)
    mask = torch.ones_like(ids)

    def read() -> None:
        with torch.inference_mode():
            for _ in range(ALONE_BATCHES):
                reader(input_ids=ids, attention_mask=mask)

    return read


def first_span(script: str) -> float:
    """Seconds from a fresh process to its first span: the median of three."""
    command = [sys.executable, "-c", script]
    return statistics.median(
        seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(3)
    )


def main(
    model: Annotated[Path, typer.Argument(help="A directory of ours.")],
    notes: Annotated[int, typer.Option(help="How many of the notes.")] = 58,
    rounds: Annotated[int, typer.Option(help="Pairs of runs.")] = 5,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or int8.")] = "auto",
    only_speed: bool = False,
    stock_of: Annotated[
        Path | None, typer.Option(help="Whose weights the stock pipeline has; MODEL's by default.")
    ] = None,
) -> None:
    """Compare, and print."""
    gold = list(read_corpus(Path(os.environ["CARDIONER_DATA"], "cardioccc-en-med", "dev")).documents)[:notes]
    texts = [document.text for document in gold]
    predictor = Predictor.from_pretrained(model, device="cpu", dtype=dtype)
    count = sum(len(ids) for ids in predictor.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
    config = predictor.model.config
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    kind = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    print(f"{kind}, {torch.get_num_threads()} threads, {versions}")
    print(f"{len(gold)} notes, {count} sub-tokens; ours in {config.inference_dtype}, windows of {config.window_length}")
    with tempfile.TemporaryDirectory() as place:
        as_stock(stock_of or model, Path(place))
        stock = stock_tagger(Path(place))
        speeds = {size: count / seconds(lambda size=size: stock(texts, size)) for size in BATCH_SIZES}
        print("stock, by batch size:", ", ".join(f"{size}: {speed:.0f}" for size, speed in speeds.items()))
        best = max(speeds, key=lambda size: speeds[size])
        pair = in_turn(lambda: list(predictor.predict(gold)), lambda: stock(texts, best), rounds)
        print(f"sub-tokens a second: ours {count / pair.first * 1e3:.0f}, stock {count / pair.second * 1e3:.0f}")
        print(f"ratio {pair.ratio:.2f} (median of {rounds} pairs)")
        reads = encoder_alone(predictor)
        pair = in_turn(lambda: list(predictor.predict(gold)), reads, rounds)
        share = count / (ALONE_BATCHES * ALONE[0] * ALONE[1]) / pair.first * pair.second
        print(f"the encoder alone: {ALONE_BATCHES * ALONE[0] * ALONE[1] / pair.second * 1e3:.0f} positions a second")
        print(f"from text to spans beside it: {share:.2f}")
        ours, theirs = list(predictor.predict(gold)), stock_documents(gold, stock(texts, best))
        for name, tagged in (("ours", ours), ("stock", theirs)):
            micro = score(gold, tagged).strict.micro
            print(f"{name}: strict precision {micro.precision:.4f}, recall {micro.recall:.4f}, F1 {micro.f1:.4f}")
        if only_speed:
            return
        peaks = peak_mib(ours_at_work, str(model), texts), peak_mib(stock_at_work, place, texts, best)
        print(f"peak memory beyond the loaded model: ours {peaks[0]:.0f} MiB, stock {peaks[1]:.0f} MiB")
        by_length(predictor, texts)
        text = "Given bisoprolol 2.5 mg for atrial fibrillation."
        own = f"import cardioner; cardioner.load({str(model)!r}, device='cpu').predict_text({text!r})"
        other = f"from transformers import pipeline; pipeline('token-classification', model={place!r})({text!r})"
        print(f"from start to the first span: ours {first_span(own):.1f} s, stock {first_span(other):.1f} s")


def by_length(predictor: Predictor, texts: Sequence[str]) -> None:
    """The speed for notes of different length, each time at least 20,000 sub-tokens of them."""
    words = " ".join(texts).split()
    per_word = len(predictor.tokenizer(" ".join(words[:2000]), verbose=False)["input_ids"]) / 2000
    for length in LENGTHS:
        take = int(length / per_word)
        repeated = words * (1 + take // len(words))
        amount = max(1, 20_000 // length)
        documents = [Document(str(n), " ".join(repeated[n * 7 : n * 7 + take])) for n in range(amount)]
        predictions = predictor.predict(documents)
        taken = seconds(lambda predictions=predictions: list(predictions))
        print(f"notes of {length:7,} sub-tokens: {predictions.coverage.tokens / taken:6.0f} a second")


if __name__ == "__main__":
    typer.run(main)
