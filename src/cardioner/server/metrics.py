"""What a server counts, for Prometheus: numbers, names of models and entity types, and never a word of a note."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cardioner.prediction.predictions import TaggedNote

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("cardioner_requests", "Requests answered.", ("path", "status"), registry=registry)
        self.seconds = Histogram(
            "cardioner_request_seconds", "Time to the last byte.", ("path",), buckets=_SECONDS, registry=registry
        )
        self.waiting = Gauge("cardioner_queue_texts", "Texts that wait to be tagged.", ("model",), registry=registry)
        self.refused = Counter("cardioner_queue_full", "Requests refused as the queue was full.", registry=registry)
        self.cancelled = Counter("cardioner_cancelled", "Requests whose clients had gone.", registry=registry)
        self.reloads = Counter("cardioner_reloads", "Reloads of all models.", ("outcome",), registry=registry)
        self._batches = Histogram(
            "cardioner_batch_texts", "Texts tagged together.", ("model",), buckets=_TEXTS, registry=registry
        )
        self._texts = Counter("cardioner_texts", "Texts read.", ("model", "outcome"), registry=registry)
        self._characters = Counter("cardioner_characters", "Characters read.", ("model",), registry=registry)
        self._spans = Counter("cardioner_spans", "Spans found.", ("model", "label"), registry=registry)

    def count(self, model: str, notes: Sequence[TaggedNote]) -> None:
        """Add what was tagged together."""
        self._batches.labels(model).observe(len(notes))
        self._characters.labels(model).inc(sum(len(note.document.text) for note in notes))
        for outcome, number in Counts("not tagged" if note.problem else "tagged" for note in notes).items():
            self._texts.labels(model, outcome).inc(number)
        for label, number in Counts(span.label for note in notes for span in note.document.spans).items():
            self._spans.labels(model, label).inc(number)

    def page(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
