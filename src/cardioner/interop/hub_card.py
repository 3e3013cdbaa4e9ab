"""The card of a model that left as its encoder family's own class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cardioner import __version__
from cardioner.model_dir.card import front_matter, score_table, types_of
from cardioner.model_dir.json_files import object_under
from cardioner.multiclass.modeling import CardioNERConfig

_CARD = """\

# Entity tagger for {types}

Encoder: {encoder}. Head: one linear layer.
Trained with cardioner {trained_with}, and exported by cardioner {version} as transformers' own `{kind}`:
it needs no code but that of transformers, and its logits are those of the model it was made of.

## Use

```python
from transformers import pipeline

tagger = pipeline("token-classification", model="path/to/this/directory"{arguments})
tagger("No chest pain. Atrial fibrillation, on bisoprolol 2.5 mg.")
```

{reading}

Take white space off the edges of a span, and what belongs to the span before it: sub-tokens can share a character, and
the first span has it. A span's text is `note[start:end]`, not the `word` that the pipeline returns.

## Long notes

The tokenizer cuts every text, without a warning, to the {window} sub-tokens that the model was made to read at once.
{cutting}

## What is otherwise than in the model it was made of

{remarks}

## Scores

{scores}

## Limits

The scores hold for notes like those it was scored on. It marks flat, contiguous spans of the types above and knows
nothing of negation, of who is meant, or of time. It is no medical device.
"""
_BIO = """\
Each sub-token's best tag counts (argmax). A `B-` opens a span, an `I-` of the same type goes on with it, and an `I-`
that follows nothing of its type opens a span too. `aggregation_strategy="simple"` reads tags in just this way; the
others decide by word and find other spans."""
_BIOES = """\
Each sub-token's best tag counts (argmax). A `B-` opens a span, an `I-` or `E-` of the same type goes on with it, `E-`
ends it, `S-` is a whole one; an `I-` or `E-` that follows nothing of its type opens a span too. The pipeline returns
tags of sub-tokens here: its `aggregation_strategy` knows no `E-` and `S-`."""
_STRIDE = """\
`stride={shared}` has the pipeline cut longer ones into windows that share {shared} sub-tokens, as cardioner does. Where
neighbours disagree on what they share, its choice can be another one than cardioner's."""
_BY_HAND = """\
Cut longer ones yourself into windows that share {shared} sub-tokens, and take each sub-token's tag from the window in
which it lies farther from the edge."""


def hub_card(config: CardioNERConfig, training: Mapping[str, Any], *, kind: str, remarks: Sequence[str]) -> str:
    """The card, as `README.md` holds it.

    Args:
        config: Of the model that was exported.
        training: Content of its `training_args.json`; may be empty.
        kind: The class of transformers that it became.
        remarks: What did not travel.
    """
    tags, shared = config.tags, 2 * config.window_context
    bioes = any(tag.startswith(("E-", "S-")) for tag in tags)
    stride = f", stride={shared}" if shared else ""
    scores = object_under(training, "scores")
    about = object_under(training, "options")
    return front_matter(tags, scores, about) + _CARD.format(
        types=", ".join(types_of(tags)),
        encoder=f"{training.get('model', 'not recorded')} ({config.encoder_config['model_type']})",
        trained_with=object_under(training, "versions").get("cardioner", "(version not recorded)"),
        version=__version__,
        kind=kind,
        arguments="" if bioes else f', aggregation_strategy="simple"{stride}',
        reading=_BIOES if bioes else _BIO,
        window=config.window_length,
        cutting=(_BY_HAND if bioes or not shared else _STRIDE).format(shared=shared),
        remarks="\n".join(f"- {remark}" for remark in remarks),
        scores=score_table(scores),
    )
