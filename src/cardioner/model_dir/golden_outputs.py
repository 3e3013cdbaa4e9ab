"""Golden outputs: made-up input and what the model computed of it when it was saved.

They find what no comparison of files can: another version of a library, or another machine, that computes something
else. They hold random ids and made-up sentences, never a word of a note.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from cardioner.errors import many
from cardioner.model_dir.manifest import GoldenOutputs, GoldenText
from cardioner.multiclass.encoding import character_offsets, encode_notes

TOLERANCE = 1e-3
"""How far an emission may be from what it was."""

_LENGTHS = (16, 9, 3)
_DIGITS = 6
_MOST_CHARACTERS = 10_000
_SEED = 20
_TEXTS = (
    "No chest pain.\tAtrial fibrillation (NYHA II-III), on bisoprolol 2.5 mg o.d.; QTc 450 ms\r\n",
    "Sin disnea; insuficiencia cardíaca, ácido acetilsalicílico 100 mg/24h. Façade naïve œdème.",
    "Geen orthopnoe – «ernstige» aortaklepstenose… ﬁbrillatie\u00a0½ µg \u2603 \U0001fac0 e\u0301 心房颤动 تسرع",
)
"""Edges of words, accents composed and not, ligatures, characters beyond the Basic Multilingual Plane."""


def record_golden_outputs(model: Any, tokenizer: Any) -> GoldenOutputs | None:
    """Draw ids, and record what model and tokenizer make of them and of the texts.

    `None` for a model whose scores are no numbers; the model is left as it was found.
    """
    ids, mask = _draw(model)
    emissions = emit(model, ids, mask)
    try:
        tags = _decode(model, emissions, mask)
    except FloatingPointError:
        return None
    return GoldenOutputs(
        input_ids=ids.tolist(),
        attention_mask=mask.tolist(),
        emissions=[[[round(value, _DIGITS) for value in row] for row in rows] for rows in emissions.tolist()],
        tags=tags,
        texts=[GoldenText(text=text, ids=ids, offsets=offsets) for text, ids, offsets in _read(tokenizer, _TEXTS)],
    )


def compare_golden_outputs(golden: GoldenOutputs | None, model: Any, tokenizer: Any) -> Iterator[str]:
    """Say what comes out otherwise than it did when the model was saved."""
    if golden is None:
        yield "its scores were no numbers already when it was saved"
        return
    if problem := next(_misfits(golden, model), None):
        yield f"those of the manifest test nothing, or another model: {problem}"
        return
    try:
        yield from _differences(golden, model, tokenizer)
    except FloatingPointError as error:
        yield str(error)


def _misfits(golden: GoldenOutputs, model: Any) -> Iterator[str]:
    """Why golden outputs cannot be those of a model; only the first reason is meant, as others rely on it."""
    rows, tags = len(golden.input_ids), len(model.config.tags)
    lengths = {len(row) for name in ("input_ids", "attention_mask", "emissions") for row in getattr(golden, name)}
    size = len(model.get_input_embeddings().weight)
    if not rows or any(len(part) != rows for part in (golden.attention_mask, golden.emissions, golden.tags)):
        yield f"expected as many rows of each kind, found {rows} of ids"
    if len(lengths) != 1 or not 0 < max(lengths) <= model.config.window_length:
        yield f"expected rows of one length, at most a window of {model.config.window_length}"
    if any(set(row) - {0, 1} or 1 not in row for row in golden.attention_mask):
        yield "expected a mask of 0 and 1 in which every row attends to something"
    if not all(0 <= index < size for row in golden.input_ids for index in row):
        yield f"expected ids below {size}"
    if any(len(scores) != tags for row in golden.emissions for scores in row):
        yield f"expected {tags} emissions a position"
    if [len(row) for row in golden.tags] != [sum(row) for row in golden.attention_mask]:
        yield "expected a tag for each attended position"
    yield from _misfitting_texts(golden.texts)


def _misfitting_texts(texts: Sequence[GoldenText]) -> Iterator[str]:
    if not 0 < sum(len(one.text) for one in texts) <= _MOST_CHARACTERS:
        yield f"expected texts that the tokenizer cuts, of at most {_MOST_CHARACTERS:,} characters"
    if any(not 0 <= start <= end <= len(one.text) for one in texts for start, end in one.offsets):
        yield "expected sub-tokens inside their texts"


def _differences(golden: GoldenOutputs, model: Any, tokenizer: Any) -> Iterator[str]:
    texts = [one.text for one in golden.texts]
    # Earlier versions let sub-tokens end before marks that none of them has.
    then = [(list(one.ids), character_offsets(one.text, one.offsets)) for one in golden.texts]
    now = [(ids, offsets) for _, ids, offsets in _read(tokenizer, texts)]
    if changed := sum(one != other for one, other in zip(then, now, strict=True)):
        yield f"the tokenizer cuts {changed} of {many(len(texts), 'text')} otherwise than when the model was saved"
    ids, mask = torch.tensor(golden.input_ids), torch.tensor(golden.attention_mask)
    expected, found = torch.tensor(golden.emissions), emit(model, ids, mask)
    worst = float((expected - found).abs().nan_to_num(nan=torch.inf).max())
    if worst > TOLERANCE:
        yield f"emissions differ by up to {worst:.2g} from what they were, and {TOLERANCE:g} is the most"
        return
    decoded = _decode(model, found, mask)
    sure = _sure(model, expected, mask)
    rows = zip(golden.tags, decoded, sure, strict=True)
    if wrong := sum(
        one != other and certain
        for then, now, sures in rows
        for one, other, certain in zip(then, now, sures, strict=True)
    ):
        yield f"{wrong} tags are others than they were"


@torch.inference_mode()
def emit(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Emissions in float32, `(rows, positions, tags)`, 0 where a position is not attended.

    `ids` and `mask` are `(rows, positions)`; the model is left as it was found.
    """
    training = model.training
    kinds = {parameter.dtype for parameter in model.parameters()}
    read = model if kinds == {torch.float32} else copy.deepcopy(model).float()
    device = model.device
    try:
        with torch.autocast(device.type, enabled=False):
            logits = read.eval()(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
    finally:
        model.train(training)
    return logits.float().cpu().masked_fill(~mask.bool().unsqueeze(2), 0.0)  # type: ignore[no-any-return]


def _draw(model: Any) -> tuple[Tensor, Tensor]:
    """Random ids and a mask with a row of each length, as long as a window at most."""
    config = model.config
    size = len(model.get_input_embeddings().weight)
    padding = config.encoder_config.get("pad_token_id") or 0
    lengths = [min(length, int(config.window_length)) for length in _LENGTHS]
    ids = torch.randint(size, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(_SEED))
    ids[ids == padding] = (padding + 1) % size
    mask = (torch.arange(ids.size(1)) < torch.tensor(lengths).unsqueeze(1)).long()
    return ids.masked_fill(mask == 0, padding), mask


def _read(tokenizer: Any, texts: Any) -> list[tuple[str, list[int], list[tuple[int, int]]]]:
    """What a tokenizer makes of texts."""
    return [
        (note.text, list(note.ids), [(start, end) for start, end in note.offsets])
        for note in encode_notes(tokenizer, texts)
    ]


@torch.inference_mode()
def _decode(model: Any, emissions: Tensor, mask: Tensor) -> list[list[int]]:
    return [list(map(int, row)) for row in model.decode(emissions.to(model.device), mask.to(model.device))]


@torch.inference_mode()
def _sure(model: Any, emissions: Tensor, mask: Tensor) -> list[list[bool]]:
    """Per attended position whether its tag stays what it is where emissions change by the tolerance.

    A position's score and that of a rival can each change by the tolerance; a sequence's, by that at every position.
    """
    lengths = mask.sum(1).tolist()
    if model.uses_crf:
        _, scores = model.crf.k_best(emissions.to(model.device), 2, mask.to(model.device))  # (2, rows)
        margins = (scores[0] - scores[1]).tolist()
        return [[margin > 2 * TOLERANCE * length] * length for margin, length in zip(margins, lengths, strict=True)]
    first, second = emissions.topk(2, dim=2).values.unbind(2)  # (rows, positions)
    return [row[:length] for row, length in zip((first - second > 2 * TOLERANCE).tolist(), lengths, strict=True)]
