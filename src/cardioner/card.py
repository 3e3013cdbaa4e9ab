"""The model card that a directory carries as `README.md`, made of what its other files say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADER = """\
---
library_name: transformers
pipeline_tag: token-classification
tags:
- cardioner
- clinical
- named-entity-recognition
---
"""
"""What the hub reads of a card."""

_CARD = """\

# Entity tagger for {types}

Encoder: {encoder}. Head: {head}. {decoding}
Made with cardioner {version}.

## Use

```python
from transformers import pipeline

tagger = pipeline("token-classification", model="path/to/this/directory", trust_remote_code=True)
tagger("No chest pain. Atrial fibrillation, on bisoprolol 2.5 mg.")
```

`trust_remote_code=True` runs `modeling.py`, `windows.py`, `tagging.py`, `inference.py` and `pipeline.py` of this
directory{own_file}: read them first{other_door}. Notes may have any length.

## Scores

{scores}

## Limits

The scores hold for notes like those it was scored on. It marks flat, contiguous spans of the types above and knows
nothing of negation, of who is meant, or of time. It is no medical device.
"""


def model_card(config: Mapping[str, Any], training: Mapping[str, Any], *, head: str) -> str:
    """The card of a model.

    Args:
        config: Content of `config.json`.
        training: Content of `training_args.json`; may be empty.
        head: The widths of the head.
    """
    encoder = config["encoder_config"]
    crf = "A CRF picks the best legal tag sequence." if config.get("use_crf") else "Each sub-token's best tag counts."
    return HEADER + _CARD.format(
        types=", ".join(sorted({tag.partition("-")[2] or tag for tag in config["id2label"].values() if tag != "O"})),
        encoder=f"{training.get('model', 'not recorded')} ({encoder.get('model_type')})",
        head=head,
        decoding=crf,
        version=training.get("versions", {}).get("cardioner", "not recorded"),
        **_doors(config),
        scores="\n\n".join([_scores(training.get("scores", {})), *_calibration(training.get("calibration"))]),
    )


def _doors(config: Mapping[str, Any]) -> dict[str, str]:
    """The file of a user's class, if there is one, and how to load without running anything from the directory."""
    file = config.get("auto_map", {}).get("AutoModelForTokenClassification", "modeling.").partition(".")[0]
    ours = str(config.get("custom_model_type")) in ("TokenClassificationModel", "TokenClassificationModelCRF")
    door = ',\nor use `cardioner.load("path/to/this/directory")`, which runs nothing from it'
    return {
        "own_file": "" if file == "modeling" else f", and `{file}.py`, its own class",
        "other_door": door if ours else "",
    }


def _scores(scores: Mapping[str, Any]) -> str:
    """A table of strict span scores, a row per part of the data and type."""
    if not scores:
        return "Not scored yet: the model was saved before training, or trained without held-out notes."
    rows = ["Strict: a span counts if both edges and its type are right.", ""]
    rows += ["| notes | type | precision | recall | F1 |", "|---|---|---|---|---|"]
    for part, found in scores.items():
        figures = {**found["strict"]["per_type"], "all": found["strict"]["micro"]}
        for name, row in figures.items():
            where = f"{part} ({found['documents']})"
            rows.append(f"| {where} | {name} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} |")
    return "\n".join(rows)


def _calibration(found: Mapping[str, Any] | None) -> list[str]:
    """What the scores of spans are worth."""
    if not found or found["value"] == 1.0:
        return ["The score of a span is the model's probability of exactly this span, not calibrated."]
    return [
        f"The score of a span is the model's probability of exactly this span at temperature {found['value']:.2f}, "
        f"fitted to {found['spans']} spans of the evaluation notes (mean loss {found['before']:.3f} before, "
        f"{found['after']:.3f} after). `cardioner evaluate` shows what accepting spans above a score would mean."
    ]
