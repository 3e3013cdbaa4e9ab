"""A server in this process, over a tiny model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

sys.path.append(str(Path(__file__).parent))  # for the module of these tests that is none itself
from conversation import served

from cardioner.multiclass import TokenClassificationModel
from cardioner.prediction.predictor import Predictor
from cardioner.server.app import make_app
from cardioner.server.limits import Limits
from cardioner.server.service import Service


@pytest.fixture
def tagger(make_model: Callable[..., TokenClassificationModel], tokenizers: dict[str, Any]) -> Predictor:
    return Predictor(make_model("bert", use_crf=True), tokenizers["wordpiece"])


Serve = Callable[..., TestClient]


@pytest.fixture
def serve(tagger: Predictor) -> Iterator[Serve]:
    """Starts servers; each answers requests until the test ends."""
    with ExitStack() as stack:

        def start(
            predictor: Any = tagger, *, limits: Limits | None = None, other: Any = None, **options: Any
        ) -> TestClient:
            models = [served(predictor), *([served(other, "other", "1" * 64)] if other else [])]
            service = Service(models, limits or Limits(wait_ms=1), load=options.pop("load", None))
            client = TestClient(make_app(service, **options), raise_server_exceptions=False)
            return stack.enter_context(client)

        yield start
