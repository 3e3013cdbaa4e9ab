"""A client that speaks to the application piece by piece, and may go away; there is no socket between them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from cardioner.server.app import make_app
from cardioner.server.limits import Limits
from cardioner.server.messages import ModelMessage, TypeMessage
from cardioner.server.models import ServedModel, known_attributes
from cardioner.server.service import Service


def served(predictor: Any, name: str = "model", digest: str = "0" * 64) -> ServedModel:
    unknown = TypeMessage(notes="not known", gold_spans=None, strict_f1=None)
    message = ModelMessage(
        name=name,
        types=dict.fromkeys(predictor.labels, unknown),
        attributes=known_attributes(predictor) if hasattr(predictor, "attributes") else {},
        digest=digest,
        signatures=[],
        engine="torch",
        device="cpu",
        dtype=["float32"],
    )
    return ServedModel(predictor, message)


class Conversation:
    """One request to a server of its own, or to a service that runs already.

    Attributes:
        service: What answers.
        received: The pieces of the response's body, as they come.
        status: Of the response, once it began.
        answered: The task that ends when the application is done with the request.
    """

    def __init__(self, model: Any, path: str, *, limits: Limits | None = None, service: Service | None = None) -> None:
        self._scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
        self._scope["headers"] = [(b"content-type", b"application/json")]
        self._starts = service is None
        self.service = service or Service([served(model)], limits or Limits(wait_ms=1))
        self._sent = asyncio.Queue[dict[str, Any]]()
        self.received = asyncio.Queue[bytes]()
        self.status = 0
        self._stack = AsyncExitStack()
        self.answered: asyncio.Task[None]

    async def __aenter__(self) -> Conversation:
        if self._starts:
            await self._stack.enter_async_context(self.service.running())
        self.answered = asyncio.create_task(make_app(self.service)(self._scope, self._sent.get, self._take))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.answered.cancel()
        await asyncio.wait({self.answered})
        await self._stack.aclose()

    async def send(self, body: bytes, *, more: bool = True) -> None:
        """Send a piece of the body."""
        await self._sent.put({"type": "http.request", "body": body, "more_body": more})

    async def leave(self) -> None:
        """Close the connection."""
        await self._sent.put({"type": "http.disconnect"})

    async def _take(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)
        if message.get("body"):
            await self.received.put(message["body"])
