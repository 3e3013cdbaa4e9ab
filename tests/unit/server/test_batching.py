"""The queue: bounded, left by those who are gone, emptied in order, and given another model without a pause."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from conversation import Conversation, served

from cardioner.data.documents import Document, Span
from cardioner.errors import ModelError, UsageError
from cardioner.prediction.predictions import TaggedNote
from cardioner.server.batching import LARGEST_REQUESTS, Batcher, QueueFullError
from cardioner.server.limits import Limits
from cardioner.server.lines import answer_lines, split_lines
from cardioner.server.metrics import Metrics
from cardioner.server.service import Service


class Held:
    """A predictor that tags nothing until it is let: which texts came together is remembered."""

    labels = ("DISEASE",)

    def __init__(self, label: str = "DISEASE") -> None:
        self.label = label
        self.batches: list[list[str]] = []
        self.began, self.may_end = threading.Semaphore(0), threading.Semaphore(0)

    def predict(self, texts: Sequence[str], **_: Any) -> Any:
        self.batches.append(list(texts))
        self.began.release()
        assert self.may_end.acquire(timeout=10)
        notes = [TaggedNote(Document(text, text, (Span(0, 1, self.label, 0.5),))) for text in texts]
        return type("Predictions", (), {"groups": staticmethod(lambda: iter([notes]))})

    async def begun(self) -> None:
        assert await asyncio.to_thread(self.began.acquire, timeout=10)

    def let(self, count: int = 1) -> None:
        self.may_end.release(count)


@pytest.fixture
def held() -> Held:
    return Held()


async def turns(count: int = 5) -> None:
    """Let other tasks go on."""
    for _ in range(count):
        await asyncio.sleep(0)


def request(*texts: str) -> bytes:
    return json.dumps({"text": list(texts)}).encode()


def service_of(held: Held, **limits: Any) -> Service:
    return Service([served(held)], Limits(**{"wait_ms": 0, **limits}))


def test_what_waits_while_a_batch_is_tagged_is_the_next_batch_and_a_full_queue_says_when_to_come_again(
    held: Held,
) -> None:
    async def work() -> None:
        service = service_of(held, texts=3, queue=3)
        async with service.running():
            clients = []
            for texts in (("a",), ("b", "c"), ("d",)):
                clients.append(await enter(service, *texts))
                if texts == ("a",):
                    await held.begun()
            refused = await enter(service, "e")
            await refused.answered
            assert refused.status == 503
            assert json.loads(await refused.received.get())["detail"] == "the queue is full: ask again in 1 s"
            assert b"cardioner_queue_full_total 1.0" in service.metrics.page()
            held.let(2)
            await asyncio.gather(*(client.answered for client in clients))
            assert [client.status for client in clients] == [200] * 3
            assert held.batches == [["a"], ["b", "c", "d"]]

    asyncio.run(work())


async def enter(service: Service, *texts: str) -> Conversation:
    client = await Conversation(None, "/predict", service=service).__aenter__()
    await client.send(request(*texts), more=False)
    await turns(20)
    return client


def test_a_queue_is_full_of_characters_too(held: Held) -> None:
    async def work() -> None:
        service = service_of(held, characters=10)
        async with service.running():
            clients = [await enter(service, "x" * 10) for _ in range(10)]
            assert [client.status for client in clients] == [0] * 9 + [503]
            assert service.batcher(None).waiting == LARGEST_REQUESTS
            held.let(9)
            await asyncio.gather(*(client.answered for client in clients))

    asyncio.run(work())


def test_a_refusal_names_the_seconds_that_the_queue_should_take(held: Held) -> None:
    async def work() -> None:
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(served(held), pool, Limits(queue=2, texts=2, wait_ms=0), Metrics())
            batcher._pace = 10.0
            waiting = asyncio.gather(batcher.tag(["x" * 95]), batcher.tag(["y" * 95]))
            await turns()
            with pytest.raises(QueueFullError) as caught:
                await batcher.tag(["z"])
            assert caught.value.retry_after == 19
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
            assert batcher.waiting == 0

    asyncio.run(work())


def test_a_client_that_leaves_takes_its_texts_out_of_the_queue(held: Held) -> None:
    async def work() -> None:
        service = service_of(held, texts=2, queue=2)
        async with service.running():
            first = await enter(service, "a")
            await held.begun()
            gone = await enter(service, "b", "c")
            assert service.batcher(None).waiting == 2
            await gone.leave()
            await gone.answered
            assert service.batcher(None).waiting == 0
            last = await enter(service, "d")
            held.let(2)
            await asyncio.gather(first.answered, last.answered)
            assert held.batches == [["a"], ["d"]]
            assert b"cardioner_cancelled_total 1.0" in service.metrics.page()

    asyncio.run(work())


def test_a_client_that_leaves_while_it_is_tagged_harms_no_other(held: Held) -> None:
    async def work() -> None:
        service = service_of(held)
        async with service.running():
            gone = await enter(service, "a")
            await held.begun()
            other = await enter(service, "b")
            await gone.leave()
            await gone.answered
            held.let(2)
            await other.answered
            assert (gone.status, other.status) == (499, 200)

    asyncio.run(work())


def test_a_stream_whose_client_leaves_takes_its_lines_out_of_the_queue(held: Held) -> None:
    async def work() -> None:
        service = service_of(held, texts=2, queue=2)
        async with service.running():
            client = await Conversation(None, "/predict/stream", service=service).__aenter__()
            await client.send(b'{"text": "a"}\n' * 20)
            await held.begun()
            await turns(50)
            assert service.batcher(None).waiting == 2
            await client.leave()
            held.let(20)
            await client.answered
            await turns(50)
            assert service.batcher(None).waiting == 0
            assert sum(map(len, held.batches)) < 20

    asyncio.run(work())


def test_requests_of_the_same_moment_wait_for_each_other(held: Held) -> None:
    async def work() -> None:
        held.let(9)
        service = service_of(held, wait_ms=100)
        async with service.running():
            await asyncio.gather(*(service.batcher(None).tag([text]) for text in "abcdef"))
        assert held.batches == [list("abcdef")]

    asyncio.run(work())


def test_a_batch_holds_what_the_predictor_reads_ahead(held: Held) -> None:
    async def work() -> None:
        held.let(9)
        service = service_of(held, queue=300)
        async with service.running():
            await asyncio.gather(*(service.batcher(None).tag(["a", "b", "c"]) for _ in range(50)))
        assert list(map(len, held.batches)) == [66, 66, 18]

    asyncio.run(work())


# Another model -------------------------------------------------------------------------------------------------------


def test_a_reload_serves_the_new_model_from_the_next_batch_on(held: Held) -> None:
    async def work() -> None:
        new = Held("SYMPTOM")
        service = Service([served(held)], Limits(wait_ms=0), load=lambda: [served(new, digest="2" * 64)])
        async with service.running():
            first = await enter(service, "a")
            await held.begun()
            await service.reload()
            held.let()
            new.let()
            second = await enter(service, "b")
            for client, label, digest in ((first, "DISEASE", "0"), (second, "SYMPTOM", "2")):
                await client.answered
                answer = json.loads(await client.received.get())
                assert answer["results"][0]["spans"][0]["label"] == label
                assert answer["digest"] == digest * 64

    asyncio.run(work())


@pytest.mark.parametrize(
    ("error", "said", "outcome"),
    [
        (ModelError("weights: its content has changed"), "content has changed", "refused"),
        (KeyError("secret"), "KeyError at", "failed"),
    ],
)
def test_a_reload_that_fails_leaves_the_models_that_are_served(
    error: Exception, said: str, outcome: str, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Any:
        raise error

    async def work() -> None:
        service = Service([served(held)], Limits(), load=fail)
        await service.reload()
        assert service.models[0].predictor is held
        assert f'cardioner_reloads_total{{outcome="{outcome}"}} 1.0'.encode() in service.metrics.page()

    asyncio.run(work())
    assert said in caplog.text
    assert "secret" not in caplog.text


# Lines ---------------------------------------------------------------------------------------------------------------


async def pieces(*chunks: bytes) -> Any:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_the_same_however_the_body_is_cut(size: int) -> None:
    body = b"ab\ncd\n\n123456789\nefgh\nlast"
    chunks = [body[start : start + size] for start in range(0, len(body), size)]

    async def work() -> list[bytes | str]:
        return [line async for line in split_lines(pieces(*chunks), 5)]

    assert asyncio.run(work()) == [b"ab", b"cd", b"", "expected a line of at most 5 bytes", b"efgh", b"last"]


def test_no_more_lines_than_asked_for_are_held() -> None:
    running: list[int] = []

    async def answer(number: int, _: bytes | str) -> bytes:
        running.append(number)
        await turns()
        return b"%d" % number

    async def endless() -> Any:
        while True:
            yield b"line"

    async def work() -> None:
        answers = answer_lines(endless(), answer, 4)
        for count in range(1, 30):
            assert await anext(answers) == b"%d" % count
            await turns(50)
            assert len(running) <= count + 6
        await answers.aclose()

    asyncio.run(work())


# Limits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"texts": 0}, {"wait_ms": -1}, {"queue": 3, "texts": 4}])
def test_limits_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Limits(**wrong)
