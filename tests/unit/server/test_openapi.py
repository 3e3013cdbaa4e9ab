"""Requests that are derived from the OpenAPI description, good and bad ones, get the answers that it describes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from cardioner.server.limits import Limits
from cardioner.server.lines import MEDIA_TYPE

PATHS = ("/health", "/ready", "/models", "/metrics", "/predict", "/predict/stream")


@schemathesis.serializer(MEDIA_TYPE)
def as_lines(_: Any, value: Any) -> bytes:
    return str(value).encode()


@pytest.mark.parametrize("path", PATHS)
def test_answers_are_the_described_ones(path: str, serve: Any) -> None:
    client, statuses = serve(limits=Limits(wait_ms=0)), Counter[int]()
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == set(PATHS)
    (method,) = described["paths"][path]
    operation = schemathesis.openapi.from_dict(described)[path][method]

    # The body of a stream is any bytes: what is wrong in it is answered line by line.
    excluded = [negative_data_rejection] if path == "/predict/stream" else []

    def check(case: Any) -> None:
        request = case.as_transport_kwargs(base_url="http://testserver")
        sent = {name: request[name] for name in ("method", "url", "headers", "params", "json") if name in request}
        answer = client.request(**sent, content=request.get("data"))
        case.validate_response(answer, excluded_checks=excluded)
        statuses[answer.status_code] += 1

    for mode in GenerationMode if path.startswith("/predict") else [GenerationMode.POSITIVE]:
        setting = settings(max_examples=25, database=None, suppress_health_check=list(HealthCheck))
        setting(given(case=operation.as_strategy(generation_mode=mode))(check))()
    assert statuses[200]
    assert (422 in statuses) == path.startswith("/predict")
