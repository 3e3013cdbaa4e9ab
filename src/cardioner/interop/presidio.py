"""A recognizer of Presidio (https://microsoft.github.io/presidio/) that finds what a model directory finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from presidio_analyzer import AnalysisExplanation, EntityRecognizer, RecognizerResult

from cardioner.data.documents import Span
from cardioner.prediction.predictor import Predictor


class CardioNERRecognizer(EntityRecognizer):
    """Recognizes the entity types of a model, in texts of any length: nothing is cut off.

    Presidio itself drops a result that lies in another one of the same type.

    Args:
        model: The model directory, or a folder of repeated trainings.
        labels: The names that Presidio is to know types by; one without a name keeps its own, one with an empty name is
            left out.
        supported_language: The language of the texts, for Presidio's choice of recognizers.
        name: Of the recognizer in results.
        options: As `Predictor.from_pretrained` takes them: `engine`, `device`, `key` and others.

    Raises:
        ModelError: If the model cannot be loaded.
        UsageError: For an unknown option's value.
    """

    name: str

    def __init__(
        self,
        model: str | Path,
        *,
        labels: Mapping[str, str] | None = None,
        supported_language: str = "en",
        name: str = "CardioNER",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.predictor = Predictor.from_pretrained(model, **(options or {}))
        given = labels or {}
        self.names = {label: given.get(label, label) for label in self.predictor.labels}
        super().__init__(sorted({*self.names.values()} - {""}), name=name, supported_language=supported_language)

    def load(self) -> None:
        """Presidio asks for this; the model is loaded already."""

    def analyze(
        self,
        text: str,
        entities: Sequence[str],
        nlp_artifacts: Any = None,  # noqa: ARG002 - of Presidio
    ) -> list[RecognizerResult]:
        """The spans of a text as results of Presidio, with exact offsets, scores and attributes.

        Args:
            text: The text.
            entities: The types that are wanted, by Presidio's names; none for all.
            nlp_artifacts: Not used.

        Raises:
            DataError: If it cannot be tagged.
        """
        wanted = set(entities or self.supported_entities)
        spans = ((span, self.names[span.label]) for span in self.predictor.predict_text(text))
        return [self._result(span, name) for span, name in spans if name in wanted]

    def _result(self, span: Span, name: str) -> RecognizerResult:
        score = 1.0 if span.score is None else span.score
        known = {RecognizerResult.RECOGNIZER_NAME_KEY: self.name, RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: self.id}
        said = {"cardioner_label": span.label, "cardioner_attributes": dict(span.attributes)}
        explanation = AnalysisExplanation(self.name, score, textual_explanation=f"Found as {span.label}")
        return RecognizerResult(name, span.start, span.end, score, explanation, {**known, **said})
