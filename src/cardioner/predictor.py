"""Tag notes of any length with a saved model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from cardioner.documents import Document, Span
from cardioner.errors import UsageError
from cardioner.model_dir import read_model_dir
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.multiclass.pipeline import BATCH_TOKENS, READ_AHEAD, tag_texts

DECODERS = ("viterbi", "argmax")


class Predictor:
    """A model, its tokenizer, and how to decode.

    Args:
        model: A model of `cardioner.multiclass.modeling`.
        tokenizer: Its tokenizer.
        decoder: `viterbi`, or `argmax` to ignore a CRF; the same thing for a model without one.

    Raises:
        UsageError: For another decoder.
    """

    def __init__(self, model: TokenClassificationModel, tokenizer: Any, *, decoder: str = "viterbi") -> None:
        if decoder not in DECODERS:
            raise UsageError(f"the decoder must be one of {', '.join(DECODERS)}; found {decoder!r}")
        self.model = model
        self.tokenizer = tokenizer
        self.decoder = decoder

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, device: str = "auto", decoder: str = "viterbi") -> Predictor:
        """Load a saved directory with the installed classes; nothing in it is executed.

        Raises:
            ModelError: If it is missing, incomplete, cut, or not one of ours.
            UsageError: If the device or the decoder does not exist.
        """
        model, tokenizer, _ = read_model_dir(Path(directory), device=device)
        return cls(model, tokenizer, decoder=decoder)

    def predict(
        self, documents: Iterable[Document], *, advance: Callable[[int], None] | None = None
    ) -> Iterator[Document]:
        """Yield each note, in order, with the model's spans in place of its own.

        Args:
            documents: The notes; at most `READ_AHEAD` are held at a time.
            advance: Called with the number of characters each time some are done.
        """
        remaining = iter(documents)
        while group := list(islice(remaining, READ_AHEAD)):
            yield from self._tag(group, advance)

    def predict_text(self, text: str) -> tuple[Span, ...]:
        """The spans of one text."""
        return self._tag([Document("text", text)], None)[0].spans

    def _tag(self, documents: list[Document], advance: Callable[[int], None] | None) -> list[Document]:
        """Tag a group of notes together, so that their windows share batches."""
        tagged = tag_texts(
            self.model,
            self.tokenizer,
            [document.text for document in documents],
            viterbi=self.decoder == "viterbi",
            batch_tokens=BATCH_TOKENS,
            advance=advance,
        )
        return [
            document.with_spans(Span(entity.start, entity.end, entity.label, entity.score) for entity in entities)
            for document, entities in zip(documents, tagged, strict=True)
        ]


def load(directory: str | Path, *, device: str = "auto") -> Predictor:
    """Load a saved directory: `Predictor.from_pretrained` under a short name."""
    return Predictor.from_pretrained(directory, device=device)
