"""The stock recipe that benchmarks compare with: what a practitioner writes with transformers alone.

`AutoModelForTokenClassification`, every piece of a word labelled, windows of 256 without overlap, batches of 16, a
tenth of the steps to warm up, learning rate 2e-4, bfloat16 where the device computes it, the Hugging Face Trainer,
argmax. The epoch with the best strict F1 on the evaluation documents is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from cardioner.data.documents import Document, Span
from cardioner.multiclass.precision import computes_bfloat16

WINDOW = 256


class _Scoring(TrainerCallback):
    """Scores every epoch, on a clock of its own, and keeps the best one's weights on the disk."""

    def __init__(self, score: Callable[[Any], float], folder: Path) -> None:
        self.score, self.folder = score, folder
        self.epochs: list[dict[str, float]] = []
        self.trained, self.began = 0.0, 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, *_: Any, model: Any, **__: Any) -> None:
        """Stop the clock, and score."""
        self.trained += time.perf_counter() - self.began
        f1 = self.score(model)
        if f1 >= max((epoch["f1"] for epoch in self.epochs), default=0.0):
            model.save_pretrained(self.folder)
        self.epochs.append({"f1": f1, "seconds": self.trained})
        model.train()


def train_stock(
    documents: Sequence[Document],
    tags: Sequence[str],
    *,
    encoder: Path,
    output: Path,
    epochs: int,
    seed: int,
    score: Callable[[Any, Any], float],
) -> tuple[Any, Any, list[dict[str, float]]]:
    """Train; the best epoch's model, its tokenizer, and F1 and training seconds so far after each epoch."""
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = AutoModelForTokenClassification.from_pretrained(
        encoder, id2label=dict(enumerate(tags)), label2id={tag: index for index, tag in enumerate(tags)}
    )
    features = [window for document in documents for window in _windows(document, tokenizer, tags)]
    on_gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=16,
        learning_rate=2e-4,
        num_train_epochs=epochs,
        warmup_steps=0.1,
        bf16=computes_bfloat16(torch.device("cuda" if on_gpu else "cpu")),
        use_cpu=not on_gpu,
        save_strategy="no",
        report_to="none",
        seed=seed,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    collator = DataCollatorForTokenClassification(tokenizer)
    scoring = _Scoring(lambda model: score(model, tokenizer), output / "best")
    Trainer(model=model, args=arguments, train_dataset=features, data_collator=collator, callbacks=[scoring]).train()
    return AutoModelForTokenClassification.from_pretrained(output / "best"), tokenizer, scoring.epochs


def tag_stock(model: Any, tokenizer: Any, documents: Sequence[Document]) -> list[Document]:
    """Tag documents window by window with argmax."""
    model.eval()
    tagged = []
    for document in documents:
        spans: list[Span] = []
        for ids, offsets in _pieces(document, tokenizer):
            row = torch.tensor([[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]], device=model.device)
            with torch.inference_mode():
                best = model(input_ids=row).logits[0, 1:-1].argmax(-1).tolist()
            spans += _spans([model.config.id2label[index] for index in best], offsets)
        tagged.append(document.with_spans(spans))
    return tagged


def _pieces(document: Document, tokenizer: Any) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Ids and offsets of the windows of a note."""
    encoded = tokenizer(document.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, offsets, size = encoded["input_ids"], encoded["offset_mapping"], WINDOW - 2
    return [(ids[start : start + size], offsets[start : start + size]) for start in range(0, len(ids), size)]


def _windows(document: Document, tokenizer: Any, tags: Sequence[str]) -> list[dict[str, list[int]]]:
    """Training windows with every piece labelled."""
    rows = []
    for ids, offsets in _pieces(document, tokenizer):
        labels = []
        for start, end in offsets:
            span = next((span for span in document.spans if span.start < end and start < span.end), None)
            tag = "O" if span is None else f"{'B' if start <= span.start else 'I'}-{span.label}"
            labels.append(tags.index(tag))
        special = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
        rows.append({"input_ids": [*special[0], *ids, *special[1]], "labels": [-100, *labels, -100]})
    return rows


def _spans(tags: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[Span]:
    """Spans of BIO tags."""
    spans: list[Span] = []
    before = "O"
    for tag, (start, end) in zip(tags, offsets, strict=True):
        if tag.startswith("I-") and before[2:] == tag[2:]:
            spans[-1] = Span(spans[-1].start, end, tag[2:])
        elif tag != "O":
            spans.append(Span(start, end, tag[2:]))
        before = tag
    return spans
