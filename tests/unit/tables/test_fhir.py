"""Spans as FHIR bundles: valid in both releases, the same in every run, without the text of the note."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any, Literal

import pyarrow as pa
import pytest
from fhir.resources.bundle import Bundle as BundleR5
from fhir.resources.R4B.bundle import Bundle as BundleR4

from cardioner.tables.columns import Columns
from cardioner.tables.fhir import PLACE, SCORE, Bundles
from cardioner.tables.source import Tagged
from cardioner.tables.tagging import tag_batch

WHEN = datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc)
TEXTS = ["no Angina, 🫀 Syncope", None, "nothing here", ""]
NAMES = ["a/1", "b", "c", "d"]


def tagged(finder: Any) -> Tagged:
    notes = pa.RecordBatch.from_pydict({"note_id": pa.array(NAMES), "note_text": pa.array(TEXTS)})
    return Tagged(notes, tag_batch(notes, finder, Columns()), WHEN)


@pytest.mark.parametrize(("release", "model"), [("R4", BundleR4), ("R5", BundleR5)])
def test_a_bundle_is_valid_and_names_place_and_model(release: Literal["R4", "R5"], model: Any, finder: Any) -> None:
    shape = Bundles(Columns(), "cardioner 1, model ab", release)
    lines = shape(tagged(finder)).column("bundle").to_pylist()
    assert len(lines) == 3
    assert dict(shape.left_out) == {"notes that were not tagged": 1}
    bundle = json.loads(lines[0])
    assert json.loads(model.model_validate(bundle).model_dump_json()) == bundle
    document, *found, provenance = [entry["resource"] for entry in bundle["entry"]]
    assert [one["resourceType"] for one in (document, *found, provenance)] == [
        "DocumentReference",
        "Observation",
        "Observation",
        "Provenance",
    ]
    assert document["identifier"][0]["value"] == "a/1"
    for one, mention, start in zip(found, ("Angina", "Syncope"), (3, 13), strict=True):
        (reference,) = one["derivedFrom"]
        (place,) = reference["extension"]
        assert reference["reference"] == f"DocumentReference/{document['id']}"
        assert place["url"] == PLACE
        assert [part["valueInteger"] for part in place["extension"]] == [start, start + len(mention)]
        assert (one["status"], one["valueString"]) == ("preliminary", mention)
        assert one["code"]["text"] == f"{mention[0]}-WORD"
    assert [target["reference"] for target in provenance["target"]] == [f"Observation/{one['id']}" for one in found]
    assert provenance["agent"][0]["who"]["display"] == "cardioner 1, model ab"
    assert provenance["recorded"].startswith("2024-05-06T07:08:09")
    assert TEXTS[0] not in lines[0], "the note itself is not there"
    for entry in bundle["entry"]:
        resource = entry["resource"]
        assert entry["request"] == {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}


@pytest.mark.parametrize(("release", "model"), [("R4", BundleR4), ("R5", BundleR5)])
def test_attributes_are_components_and_say_whether_a_finding_is_there(
    release: Literal["R4", "R5"], model: Any, asserting: Any
) -> None:
    notes = pa.RecordBatch.from_pydict({"note_id": ["a"], "note_text": ["no Angina, once Syncope"]})
    shape = Bundles(Columns(), "x", release)
    (line,) = shape(Tagged(notes, tag_batch(notes, asserting, Columns()), WHEN)).column("bundle").to_pylist()
    bundle = json.loads(line)
    assert json.loads(model.model_validate(bundle).model_dump_json()) == bundle
    first, second = (one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == "Observation")
    assert [one["interpretation"][0]["coding"][0]["code"] for one in (first, second)] == ["NEG", "POS"]
    (negation,), (temporality,) = first["component"], second["component"]
    assert (negation["code"]["text"], negation["valueBoolean"]) == ("Negation", True)
    assert (temporality["code"]["text"], temporality["valueString"]) == ("Temporality", "past")
    assert negation["extension"] == [{"url": SCORE, "valueDecimal": 0.75}]


def test_the_same_span_has_the_same_id_in_every_run(finder: Any) -> None:
    once, again, other = (Bundles(Columns(), system)(tagged(finder)).column("bundle").to_pylist() for system in "aab")
    assert once == again
    ids = [
        {entry["resource"]["id"] for line in lines for entry in json.loads(line)["entry"]} for lines in (once, other)
    ]
    assert len(ids[0]) == 2 + 3 + 3
    assert len(ids[0] & ids[1]) == 3, "only the notes"
