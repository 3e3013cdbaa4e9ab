"""JSON lines in and out: an answer for each line, in order, while later lines are still being sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

MEDIA_TYPE = "application/x-ndjson"

Answer = Callable[[int, "bytes | str"], Coroutine[Any, Any, bytes]]
"""Answers a line by its number; a `str` stands in place of what is not read, and says why."""


class LinesResponse(StreamingResponse):
    """A response that is sent while the request is still being received.

    The class that it derives from receives and throws away the rest of the request, to notice that a client has gone.
    """

    media_type = MEDIA_TYPE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send what the iterator gives."""
        await self.stream_response(send)


async def split_lines(chunks: AsyncIterable[bytes], limit: int) -> AsyncIterator[bytes | str]:
    """The lines of a body, without their ends; a problem in place of one that has more bytes than the limit.

    Args:
        chunks: The body.
        limit: Most bytes of a line; no more are held at a time, beside a chunk.
    """
    rest, skipping = bytearray(), False
    too_long = f"expected a line of at most {limit} bytes"
    async for chunk in chunks:
        *ended, last = chunk.split(b"\n")
        for piece in ended:
            rest += piece
            yield too_long if skipping or len(rest) > limit else bytes(rest)
            rest.clear()
            skipping = False
        rest += last
        if len(rest) > limit:
            rest.clear()
            skipping = True
    if rest or skipping:
        yield too_long if skipping else bytes(rest)


async def answer_lines(lines: AsyncIterable[bytes | str], answer: Answer, ahead: int) -> AsyncIterator[bytes]:
    """The answers to all lines that are not blank, in order.

    Args:
        lines: The lines. If they raise an error, what waits to be answered is dropped.
        answer: Answers one of them. As many as `ahead` run together.
        ahead: Most lines that are held at a time.
    """
    answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(ahead)

    async def read() -> None:
        number = 0
        async for line in lines:
            number += 1
            if line.strip():
                task = asyncio.ensure_future(answer(number, line))
                try:
                    await answers.put(task)
                except asyncio.CancelledError:
                    task.cancel()
                    raise

    async def read_all() -> None:
        try:
            await read()
        except BaseException:  # the client is gone
            _cancel_all(answers)
            raise
        finally:
            await answers.put(None)

    reader = asyncio.create_task(read_all())
    try:
        while (task := await answers.get()) is not None:
            yield await task
        await reader
    finally:
        reader.cancel()
        _cancel_all(answers)


def _cancel_all(answers: asyncio.Queue[Any]) -> None:
    """Have the lines that nobody waits for any more leave the queue."""
    while not answers.empty():
        task = answers.get_nowait()
        if task is not None and not task.cancel() and not task.cancelled():
            task.exception()  # else asyncio would log it with its message, which may quote a note
