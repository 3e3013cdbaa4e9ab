"""Spans as FHIR bundles, one for each note: R4B, which servers of R4 read too, or R5 (https://hl7.org/fhir)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid5

import pyarrow as pa
from fhir.resources import get_fhir_model_class
from fhir.resources.R4B import get_fhir_model_class as get_r4b_model_class

from cardioner.data.attributes import TRUE
from cardioner.tables.assertions import DEFAULT, NOT_THERE, THERE, Assertions
from cardioner.tables.columns import SPANS, Columns
from cardioner.tables.values import values_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from cardioner.tables.source import Tagged

Release = Literal["R4", "R5"]

SCHEMA = pa.schema([("bundle", pa.string())])
PLACE = "urn:cardioner:fhir:place-in-text"
"""The extension of a reference to a document that says which characters are meant: `start` and `end`, code points."""
SCORE = "urn:cardioner:fhir:score"
"""The extension of an observation, or a component, that holds the model's probability of exactly this."""
NOTE_ID = "urn:cardioner:fhir:note-id"
"""The system of the identifiers of notes."""

_NAMES = UUID("5f1c2f0e-3a52-5d3f-9c49-0d6a3f8f7a11")
"""The namespace of our ids: the same note or span has the same id in every run, so a server updates it."""
_MEANINGS = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_MODELS = {"R4": get_r4b_model_class, "R5": get_fhir_model_class}


@dataclass
class Bundles:
    """Makes a transaction bundle from each tagged note, validated by fhir.resources.

    It holds a `DocumentReference` without the text, an `Observation` for each span, which is `preliminary` and refers
    to its place in the document, and a `Provenance` that names the model. Attributes of a span are components of its
    observation, which is interpreted as negative or positive if they assert that the finding is there or not.

    Attributes:
        columns: Of the notes.
        system: What found the spans.
        release: Of FHIR.
        assertions: What attributes assert.
        left_out: What no bundle holds, counted.
    """

    columns: Columns
    system: str
    release: Release = "R4"
    assertions: Assertions = DEFAULT
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """What to call it."""
        return f"FHIR {self.release}"

    def __call__(self, batch: Tagged) -> pa.RecordBatch:
        """A bundle as JSON for each note of a batch that was tagged."""
        model = _MODELS[self.release]("Bundle")
        made = []
        ids = batch.tagged.column(self.columns.id).to_pylist()
        texts = batch.notes.column(self.columns.text)
        for row, spans in enumerate(values_of(batch.tagged.column(SPANS))):
            if spans is None:
                self.left_out["notes that were not tagged"] += 1
                continue
            resources = self._resources(str(ids[row]), texts[row].as_py(), spans, batch.when)
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": list(map(_entry, resources))}
            made.append(model.model_validate(bundle).model_dump_json())
        return pa.RecordBatch.from_arrays([pa.array(made, pa.string())], schema=SCHEMA)

    def _resources(self, note_id: str, text: str, spans: list[dict[str, Any]], when: datetime) -> list[dict[str, Any]]:
        document = {
            "resourceType": "DocumentReference",
            "id": _id("note", note_id),
            "status": "current",
            "identifier": [{"system": NOTE_ID, "value": note_id}],
            "content": [{"attachment": {"contentType": "text/plain"}}],
        }
        found = [self._observation(note_id, text, span, _reference(document)) for span in spans]
        provenance = {
            "resourceType": "Provenance",
            "id": _id("provenance", note_id, self.system),
            "target": [_reference(one) for one in found or [document]],
            "recorded": when.isoformat(timespec="seconds"),
            "agent": [{"who": {"display": self.system}}],
            "entity": [{"role": "source", "what": _reference(document)}],
        }
        return [document, *found, provenance]

    def _observation(
        self, note_id: str, text: str, span: Mapping[str, Any], document: Mapping[str, Any]
    ) -> dict[str, Any]:
        start, end, label = span["start"], span["end"], span["label"]
        place = [{"url": "start", "valueInteger": start}, {"url": "end", "valueInteger": end}]
        said, scores = span["attributes"] or {}, span["attribute_scores"] or {}
        exists = self.assertions.of(said, scores).exists
        meant = {"interpretation": [_INTERPRETATIONS[exists]]} if exists else {}
        components = [_component(name, value, scores.get(name)) for name, value in said.items()]
        return {
            "resourceType": "Observation",
            "id": _id("span", note_id, self.system, str(start), str(end), label),
            "extension": [_scored(span["score"])],
            "status": "preliminary",
            "code": {"text": label},
            "valueString": text[start:end],
            "derivedFrom": [{**document, "extension": [{"url": PLACE, "extension": place}]}],
            **meant,
            **({"component": components} if components else {}),
        }


def _component(name: str, value: str, score: float | None) -> dict[str, Any]:
    """What an attribute says of a span; one that is there or not is a truth value."""
    held = {"valueBoolean": True} if value == TRUE else {"valueString": value}
    scored = {} if score is None else {"extension": [_scored(score)]}
    return {**scored, "code": {"text": name}, **held}


def _scored(score: float) -> dict[str, Any]:
    return {"url": SCORE, "valueDecimal": round(score, 6)}


def _interpretation(code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": _MEANINGS, "code": code, "display": display}]}


def _id(*parts: str) -> str:
    return str(uuid5(_NAMES, "\n".join(parts)))


def _reference(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {"reference": f"{resource['resourceType']}/{resource['id']}"}


def _entry(resource: dict[str, Any]) -> dict[str, Any]:
    place = f"{resource['resourceType']}/{resource['id']}"
    return {"resource": resource, "request": {"method": "PUT", "url": place}}


_INTERPRETATIONS = {THERE: _interpretation("POS", "Positive"), NOT_THERE: _interpretation("NEG", "Negative")}
