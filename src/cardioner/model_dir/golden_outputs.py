"""Golden outputs: made-up input and what the model computed of it when it was saved, with torch.

They find what no comparison of files can: another version of a library, or another machine, that computes something
else. They hold random ids and made-up sentences, never a word of a note.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cardioner.model_dir.golden_comparison import TOLERANCE, Floats, Integers
from cardioner.model_dir.manifest import GoldenOutputs, GoldenText
from cardioner.multiclass.encoding import EncodedNote, encode_notes
from cardioner.multiclass.inference import columns_in, columns_of

_LENGTHS = (16, 9, 3)
_DIGITS = 6
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


class TorchComputer:
    """A model as `golden_comparison` sees it.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
    """

    tolerance = TOLERANCE

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self.tags = len(model.config.tags)
        self.columns = columns_in(model.config)
        self.sequences = len(model.config.tag_groups)
        self.window_length = int(model.config.window_length)
        self.vocabulary = len(model.get_input_embeddings().weight)

    def read(self, texts: Sequence[str]) -> list[EncodedNote]:
        """The sub-tokens of texts."""
        return encode_notes(self._tokenizer, texts)

    def emissions(self, ids: Integers, mask: Integers) -> Floats:
        """As `emit` has them."""
        found = emit(self._model, torch.from_numpy(ids), torch.from_numpy(mask))
        return found.numpy()

    def decode(self, emissions: Floats, mask: Integers) -> list[list[int]]:
        """The best tags."""
        return _decode(self._model, torch.from_numpy(emissions), torch.from_numpy(mask))

    @torch.no_grad()
    def score(self, emissions: Floats, tags: Sequence[int]) -> float:
        """The log score of a row's tags."""
        return score_of(self._model, torch.from_numpy(emissions), tags)


@torch.inference_mode()
def emit(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Emissions in float32, `(rows, positions, columns)`, 0 where a position is not attended.

    The columns are those of the tags, and behind them of the values of attributes.

    `ids` and `mask` are `(rows, positions)`; the model is left as it was found.
    """
    training = model.training
    kinds = {parameter.dtype for parameter in model.parameters()}
    read = model if kinds == {torch.float32} else copy.deepcopy(model).float()
    device = model.device
    try:
        with torch.autocast(device.type, enabled=False):
            found = columns_of(read.eval()(input_ids=ids.to(device), attention_mask=mask.to(device)))
    finally:
        model.train(training)
    return found.float().cpu().masked_fill(~mask.bool().unsqueeze(2), 0.0)


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
    rows = model.decode(emissions[:, :, : model.config.num_labels].to(model.device), mask.to(model.device))
    if model.types is not None:
        rows = [[tag for tags in row for tag in tags] for row in rows]
    return [list(map(int, row)) for row in rows]


@torch.no_grad()
def score_of(model: Any, emissions: Tensor, tags: Sequence[int]) -> float:
    """The log score of a sequence of tags, or of one a type after the other, up to a constant of its emissions.

    Emissions are `(length, columns)`, the tags first.

    That of an illegal sequence is lower than any other.
    """
    wide, ids = (
        emissions[:, : model.config.num_labels].double(),
        torch.tensor(tags).view(-1, len(emissions)).t(),
    )  # (length, tags), (length, groups)
    if model.uses_crf:  # of two log-likelihoods the normaliser is the same
        given = ids.squeeze(1) if model.types is None else ids
        return float(model.crf(wide.to(model.device).unsqueeze(0), given.to(model.device).unsqueeze(0)))
    return float(wide.gather(1, ids).sum())
