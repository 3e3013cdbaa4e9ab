"""Requests that are derived from the OpenAPI description, good and bad ones, get the answers that it describes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from cardioner.data.documents import Document, Span
from cardioner.server.corrections import Corrections
from cardioner.server.limits import Limits
from cardioner.server.lines import MEDIA_TYPE
from cardioner.server.notes import Notes, Workspace

OPERATIONS = {
    "/health": ["get"],
    "/ready": ["get"],
    "/models": ["get"],
    "/metrics": ["get"],
    "/predict": ["post"],
    "/predict/stream": ["post"],
    "/workspace": ["get"],
    "/notes": ["get"],
    "/note": ["get"],
    "/corrections": ["put", "delete"],
    "/export": ["get"],
    "/training": ["get"],
    "/label-studio/health": ["get"],
    "/label-studio/setup": ["post"],
    "/label-studio/versions": ["get"],
    "/label-studio/predict": ["post"],
    "/label-studio/train": ["post"],
    "/label-studio/webhook": ["post"],
    "/label-studio/interface": ["get"],
    "/inception/predict": ["post"],
    "/inception/train": ["post"],
}
CHECKED_BEYOND_THE_SCHEMA = (
    *("/corrections", "/note", "/training"),
    *("/label-studio/setup", "/label-studio/predict", "/inception/predict"),
)
"""What is good by the schema may be refused: a span behind the end of the text, an unknown note or model, no XML."""
NOT_DONE = ("/label-studio/train", "/inception/train")
"""What tools may ask for, and no server does."""


@schemathesis.serializer(MEDIA_TYPE)
def as_lines(_: Any, value: Any) -> bytes:
    return str(value).encode()


def test_the_description_has_every_operation(serve: Any) -> None:
    paths = serve().get("/openapi.json").json()["paths"]
    assert {path: list(methods) for path, methods in paths.items()} == OPERATIONS


@pytest.mark.parametrize(("path", "method"), [(path, one) for path, methods in OPERATIONS.items() for one in methods])
def test_answers_are_the_described_ones(path: str, method: str, serve: Any, tmp_path: Path) -> None:
    notes = Notes([Document("a", "No oedema.", (Span(3, 9, "SYMPTOM"),))])
    workspace = Workspace(notes, Corrections(tmp_path / "fixed", "jsonl"), {"model": tmp_path / "model"})
    client, statuses = serve(limits=Limits(wait_ms=0), workspace=workspace), Counter[int]()
    described = client.get("/openapi.json").json()
    operation = schemathesis.openapi.from_dict(described)[path][method]

    # The body of a stream is any bytes: what is wrong in it is answered line by line.
    excluded = [negative_data_rejection] if path == "/predict/stream" else []
    excluded += [positive_data_acceptance] if path in CHECKED_BEYOND_THE_SCHEMA else []
    excluded += [not_a_server_error, positive_data_acceptance] if path in NOT_DONE else []

    def check(case: Any) -> None:
        request = case.as_transport_kwargs(base_url="http://testserver")
        sent = {name: request[name] for name in ("method", "url", "headers", "params", "json") if name in request}
        answer = client.request(**sent, content=request.get("data"))
        case.validate_response(answer, excluded_checks=excluded)
        statuses[answer.status_code] += 1

    takes_input = path not in NOT_DONE and (method != "get" or path in {"/note", "/export"})
    for mode in GenerationMode if takes_input else [GenerationMode.POSITIVE]:
        setting = settings(max_examples=25, database=None, suppress_health_check=list(HealthCheck))
        setting(given(case=operation.as_strategy(generation_mode=mode))(check))()
    assert statuses.keys() & (
        {501}
        if path in NOT_DONE
        else {204}
        if path.endswith("/webhook")
        else {404}
        if path == "/note" or method == "delete"
        else {200, 422}
    )
    assert (422 in statuses) == takes_input
