"""The cards of exported models, `README.md`: what they are, how to use them, what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cardioner import __version__
from cardioner.model_dir.card import front_matter, score_table
from cardioner.model_dir.json_files import object_under
from cardioner.multiclass.modeling import CardioNERConfig
from cardioner.multiclass.tagging import types_of

_END = """
## Scores

{scores}

## Limits

The scores hold for notes like those that the model was scored on. It marks flat, contiguous spans of the types above;
it does not tell whether a finding is negated, whom it concerns, or when it was made. It is not a medical device.
"""
_HUB = """\

# Entity tagger for {types}

Encoder: {encoder}. Head: one linear layer.
Trained with cardioner {trained_with} and exported by cardioner {version} as transformers' own `{kind}`.
It needs no code besides transformers, and its logits equal those of the original model.

## Use

```python
from transformers import pipeline

tagger = pipeline("token-classification", model="path/to/this/directory"{arguments})
tagger("No chest pain. Atrial fibrillation, on bisoprolol 2.5 mg.")
```

{reading}

Strip white space from the edges of each span, and drop characters that the span before it already has: two sub-tokens
can share a character, and the first span keeps it. A span's text is `note[start:end]`, not the pipeline's `word`.

## Long notes

The tokenizer silently cuts every text to {window} sub-tokens, the longest input that the model was trained on.
{cutting}

## What differs from the original model

{warnings}
"""
_BIO = """\
The best tag of each sub-token counts (argmax). `B-` opens a span, `I-` of the same type continues it, and an `I-` that
follows nothing of its type opens a span too. `aggregation_strategy="simple"` reads tags in exactly this way; the other
strategies decide word by word and find other spans."""
_BIOES = """\
The best tag of each sub-token counts (argmax). `B-` opens a span, `I-` or `E-` of the same type continues it, `E-` ends
it, and `S-` is a whole span; an `I-` or `E-` that follows nothing of its type opens a span too. Here the pipeline
returns the tags of sub-tokens, because its `aggregation_strategy` does not know `E-` and `S-`."""
_STRIDE = """\
`stride={shared}` makes the pipeline cut longer texts into windows that share {shared} sub-tokens, as cardioner does.
Where two windows disagree about the sub-tokens they share, the pipeline may choose differently than cardioner."""
_BY_HAND = """\
Cut longer texts yourself into windows that share {shared} sub-tokens, and take the tag of each sub-token from the
window in which it is farther from the edge."""
_ONNX = """\

# Entity tagger for {types}, in ONNX

Encoder: {encoder}, {precision}. {decoding}
Trained with cardioner {trained_with} and exported by cardioner {version}. It needs neither cardioner nor torch nor
transformers.

## Use

```
pip install onnxruntime numpy tokenizers
python tag.py notes/ another-note.txt > spans.jsonl
```

Notes are `.txt` files in UTF-8, of any length, or folders of them. Each becomes one line such as
`{{"id": "a", "spans": [{{"start": 3, "end": 13, "label": "{type}", "score": 0.97}}]}}`. Offsets are characters (code
points), half-open, into the untouched text; the score is the probability of exactly this span. `--text` adds the text
to the line, `--threads` sets the number of processors. Notes that cannot be read or tagged are named on standard error,
and the exit code is 3. In Python, from this folder:

```python
from tag import Tagger

(spans,) = Tagger.from_folder(".").tag(["No chest pain. Atrial fibrillation, on bisoprolol 2.5 mg."])
```

`tag.py` is short and meant to be read and changed. It reads `tokenizer.json`, `onnx.json` (tags by id, transitions
of the CRF, windows, special ids, temperature) and `model.onnx`: encoder and head, from `input_ids` and
`attention_mask`, `(batch, length)`, to `logits`, `(batch, length, tags)`, not yet divided by the temperature. `tagger/`
cuts a note into overlapping windows of {window} sub-tokens, special ones included, takes the scores of each sub-token
from one of them, finds the best legal tags of the whole note, and turns tags into spans.

## Checked before it was written

{checked}
"""
_VITERBI = "A CRF picks the best legal tag sequence."
_ARGMAX = "The best tag of each sub-token counts; an `I-` that follows nothing of its type opens a span."


def hub_card(config: CardioNERConfig, training: Mapping[str, Any], *, kind: str, warnings: Sequence[str]) -> str:
    """The card of a model that became its encoder family's own class.

    Args:
        config: Of the model that was exported.
        training: Content of its `training_args.json`; may be empty.
        kind: The class of transformers that it became.
        warnings: What differs from the original model.
    """
    shared, bioes = 2 * config.window_context, any(tag.startswith(("E-", "S-")) for tag in config.tags)
    stride = f", stride={shared}" if shared else ""
    return _card(
        _HUB,
        config,
        training,
        kind=kind,
        arguments="" if bioes else f', aggregation_strategy="simple"{stride}',
        reading=_BIOES if bioes else _BIO,
        cutting=(_BY_HAND if bioes or not shared else _STRIDE).format(shared=shared),
        warnings=_list(warnings),
    )


def onnx_card(config: CardioNERConfig, training: Mapping[str, Any], *, precision: str, checked: Sequence[str]) -> str:
    """The card of a model in ONNX.

    Args:
        config: Of the model that was exported.
        training: Content of its `training_args.json`; may be empty.
        precision: What the graph computes in.
        checked: What was measured, and what differs from the original model.
    """
    card = _card(
        _ONNX,
        config,
        training,
        type=next(iter(types_of(config.tags)), "TYPE"),
        precision=precision,
        decoding=_VITERBI if config.use_crf else _ARGMAX,
        checked=_list(checked),
    )
    return card.replace("library_name: transformers", "library_name: onnx", 1)


def _card(template: str, config: CardioNERConfig, training: Mapping[str, Any], **values: str) -> str:
    """A template with what every card tells: the types, what the model was made with, its scores."""
    scores = object_under(training, "scores")
    head = front_matter(config.tags, scores, object_under(training, "options"))
    return head + (template + _END).format(
        types=", ".join(types_of(config.tags)),
        encoder=f"{training.get('model', 'not recorded')} ({config.encoder_config['model_type']})",
        trained_with=object_under(training, "versions").get("cardioner", "(version not recorded)"),
        version=__version__,
        window=config.window_length,
        scores=score_table(scores),
        **values,
    )


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
