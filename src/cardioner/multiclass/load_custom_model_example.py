"""Load a saved directory with torch and transformers alone, decode a text, and list its spans.

    python -m cardioner.multiclass.load_custom_model_example DIRECTORY [TEXT]

Or copy this file anywhere and run it there: it needs no cardioner. `trust_remote_code=True` runs the code files of the
directory, so use it on directories that you trust; with cardioner installed, `cardioner.load` runs none of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

TEXT = "Patient has chest pain."


def main(arguments: list[str] | None = None) -> None:
    """Print the tags of a text, how likely they are, and the spans."""
    parser = argparse.ArgumentParser(description="Tag a text with a saved CardioNER directory.")
    parser.add_argument("directory", type=Path, help="a saved model directory")
    parser.add_argument("text", nargs="?", default=TEXT, help=f"what to tag; by default {TEXT!r}")
    given = parser.parse_args(arguments)
    for name in ("config.json", "modeling.py"):
        if not (given.directory / name).is_file():
            parser.error(f"{given.directory} is no saved model directory: it has no {name}")
    model, tokenizer = load(given.directory)
    show_tags(model, tokenizer, given.text)
    show_spans(given.directory, given.text)


def load(directory: Path) -> tuple[Any, Any]:
    """The model, ready for use, and its tokenizer, through the Auto classes; nothing is fetched."""
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=True)  # else it asks first on a terminal
    model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)
    return model.eval(), tokenizer


def show_tags(model: Any, tokenizer: Any, text: str) -> None:
    """Decode one text that fits into one window: Viterbi with a CRF, argmax without."""
    inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=model.config.window_length)
    mask = inputs["attention_mask"].bool()
    with torch.no_grad():
        outputs = model(**inputs)
        if hasattr(model, "crf"):
            predictions = model.crf.decode(outputs.logits, mask=mask)
        else:
            predictions = model.decode(outputs.logits, mask)
    rows = predictions[0] if model.types else [predictions[0]]  # one tag a sub-token, or one for each type
    for token, *tags in zip(tokenizer.convert_ids_to_tokens(inputs["input_ids"][0]), *rows, strict=True):
        say(f"{token:<20} {' '.join(model.config.id2label[tag] for tag in tags)}")
    if hasattr(model, "crf"):
        show_likelihoods(model, outputs.logits, mask)


def show_likelihoods(model: Any, logits: torch.Tensor, mask: torch.Tensor) -> None:
    """The log-likelihood of the best tags, and of tags of one's own: here `O` everywhere."""
    outside = torch.tensor([group.first + group.tags.index("O") for group in model.config.tag_groups])
    own = outside.expand(*mask.shape, -1) if model.types else torch.full(mask.shape, outside.item())
    with torch.no_grad():
        say(f"log-likelihood of the best tags: {model.crf(logits, mask).item():.4f}")
        say(f"log-likelihood of O everywhere: {model.crf(logits, own, mask=mask).item():.4f}")


def show_spans(directory: Path, text: str) -> None:
    """The spans of a text of any length."""
    tagger = pipeline("token-classification", model=str(directory), trust_remote_code=True)
    for span in tagger(text):
        say(f"{span['start']}-{span['end']} {span['entity_group']} {span['score']:.4f} {span['word']}")


def say(line: str) -> None:
    """Print a line."""
    print(line)  # noqa: T201 - an example shows what it finds


if __name__ == "__main__":
    main()
