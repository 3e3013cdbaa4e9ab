"""The card of a model that left as ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cardioner import __version__
from cardioner.model_dir.card import front_matter, score_table, types_of
from cardioner.model_dir.json_files import object_under
from cardioner.multiclass.modeling import CardioNERConfig

_CARD = """\

# Entity tagger for {types}, in ONNX

Encoder: {encoder}, {precision}. {decoding}
Trained with cardioner {trained_with}, and exported by cardioner {version}. No cardioner, torch or transformers is
needed.

## Use

```
pip install onnxruntime numpy tokenizers
python tag.py notes/ another-note.txt > spans.jsonl
```

Notes are `.txt` files in UTF-8, of any length, or folders of them. Each gives a line such as
`{{"id": "a", "spans": [{{"start": 3, "end": 13, "label": "{type}", "score": 0.97}}]}}`: characters (code points),
half-open, into the untouched text; the score is the probability of exactly this span. `--text` puts the text into the
line, `--threads` sets the number of processors. In Python, from this folder:

```python
from pathlib import Path
from tag import Tagger

(spans,) = Tagger(Path(".")).tag(["No chest pain. Atrial fibrillation, on bisoprolol 2.5 mg."])
```

`tag.py` is short, and made to be read and changed. What stands beside it:

- `model.onnx`: encoder and head. `input_ids` and `attention_mask` `(batch, length)` in, `logits` `(batch, length,
  tags)` out: a score per sub-token and tag, not yet divided by the temperature.
- `tokenizer.json`: for the library tokenizers; nothing is cut off or padded.
- `settings.json`: the tags in the order of their ids, the transitions of the CRF and which of them are legal, windows,
  special ids, temperature.
- `windows.py` cuts a note into windows of {window} sub-tokens, special ones included, that overlap; each sub-token is
  answered for by one of them.
- `viterbi.py` finds the best legal tags of the whole note, and the probability of a span.
- `tagging.py` turns tags into spans.

## Checked before it was written

{checked}

## Scores

Of the model in cardioner, before the export.

{scores}

## Limits

The scores hold for notes like those it was scored on. It marks flat, contiguous spans of the types above and knows
nothing of negation, of who is meant, or of time. It is no medical device.
"""
_VITERBI = "A CRF picks the best legal tag sequence."
_ARGMAX = "Each sub-token's best tag counts; an `I-` that follows nothing of its type opens a span."


def onnx_card(config: CardioNERConfig, training: Mapping[str, Any], *, precision: str, checked: Sequence[str]) -> str:
    """The card, as `README.md` holds it.

    Args:
        config: Of the model that was exported.
        training: Content of its `training_args.json`; may be empty.
        precision: What the graph computes in.
        checked: What was measured, and what stayed behind.
    """
    scores, types = object_under(training, "scores"), types_of(config.tags)
    head = front_matter(config.tags, scores, object_under(training, "options"))
    return head.replace("library_name: transformers", "library_name: onnx", 1) + _CARD.format(
        types=", ".join(types),
        type=types[0] if types else "TYPE",
        encoder=f"{training.get('model', 'not recorded')} ({config.encoder_config['model_type']})",
        precision=precision,
        decoding=_VITERBI if config.use_crf else _ARGMAX,
        trained_with=object_under(training, "versions").get("cardioner", "(version not recorded)"),
        version=__version__,
        window=config.window_length,
        checked="\n".join(f"- {line}" for line in checked),
        scores=score_table(scores),
    )
