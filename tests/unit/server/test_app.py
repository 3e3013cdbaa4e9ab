"""The HTTP service: the spans of the Predictor, limits that are kept, and refusals without a word of a note."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
from conversation import Conversation
from fastapi.testclient import TestClient

from cardioner.cli.serve import _log_to_console
from cardioner.multiclass import TokenClassificationModel
from cardioner.prediction.predictor import Predictor
from cardioner.server.limits import Limits
from cardioner.server.offsets import utf16_offsets
from cardioner.server.run import LOOPBACK_HOSTS

TEXTS = (
    "Atrial fibrillation since 2019, treated with bisoprolol 2.5 mg o.d. No oedema. ",
    "",
    "Paciente con disnea \U0001f9e1 e insuficiencia cardíaca;\r\nse inició furosemida 40 mg/12h.",
    "Geen orthopnoe. Ernstige aortaklepstenose met syncope; metoprolol 50 mg. " * 6,
)
WORD = "zyxwvcanary"
"""Planted in requests that fail: no answer, log line or metric may hold it."""
JSON = {"content-type": "application/json"}
TOKEN = "a-token-of-many-characters"


def spans_of(tagger: Predictor, text: str) -> list[dict[str, Any]]:
    return [
        {
            "start": one.start,
            "end": one.end,
            "label": one.label,
            "score": pytest.approx(one.score, abs=1e-5),
            "attributes": {},
            "attribute_scores": {},
        }
        for one in tagger(text)
    ]


def predict(client: TestClient, text: Any, **more: Any) -> Any:
    answer = client.post("/predict", json={"text": text, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_one_text_and_a_list_get_the_spans_of_the_predictor(serve: Any, tagger: Predictor) -> None:
    client = serve()
    expected = [spans_of(tagger, text) for text in TEXTS]
    assert sum(map(len, expected)) > 10
    assert [result["spans"] for result in predict(client, list(TEXTS))["results"]] == expected
    for text, spans in zip(TEXTS, expected, strict=True):
        answer = predict(client, text)
        assert [result["spans"] for result in answer["results"]] == [spans]
        assert (answer["model"], answer["digest"]) == ("model", "0" * 64)


def test_requests_that_arrive_together_get_their_own_spans_and_share_batches(serve: Any, tagger: Predictor) -> None:
    client = serve(limits=Limits(wait_ms=200))
    texts = [text * (1 + number % 3) for number, text in enumerate(TEXTS * 4)]
    with ThreadPoolExecutor(len(texts)) as pool:
        answers = list(pool.map(lambda text: predict(client, text), texts))
    assert [answer["results"][0]["spans"] for answer in answers] == [spans_of(tagger, text) for text in texts]
    assert metric(client, "cardioner_batch_texts_count") < len(texts)
    assert metric(client, "cardioner_texts_total") == len(texts)


def metric(client: TestClient, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_offsets_in_utf16_units_cut_the_same_words_from_the_encoded_text(serve: Any, tagger: Predictor) -> None:
    text = TEXTS[2] + " \U0001f600\U0001f9e1 " + TEXTS[0]
    units = text.encode("utf-16-le")
    (result,) = predict(serve(), text, offsets="utf-16")["results"]
    cut = [units[2 * one["start"] : 2 * one["end"]].decode("utf-16-le") for one in result["spans"]]
    assert cut == [text[one.start : one.end] for one in tagger(text)]
    assert result["spans"] != spans_of(tagger, text)


def test_utf16_offsets_are_those_of_pythons_encoder() -> None:
    text = "a\U0001f600b\U00010000\U0010ffff\uffff é"
    place = utf16_offsets(text)
    assert [place(end) for end in range(len(text) + 1)] == [
        len(text[:end].encode("utf-16-le")) // 2 for end in range(len(text) + 1)
    ]


def test_spans_below_the_minimum_score_are_left_out_and_counted(serve: Any, tagger: Predictor) -> None:
    scores = sorted(span.score for span in tagger(TEXTS[0]))
    least = scores[len(scores) // 2]
    (result,) = predict(serve(), TEXTS[0], min_score=least)["results"]
    assert [one["score"] for one in result["spans"]] == [
        pytest.approx(one.score, abs=1e-5) for one in tagger(TEXTS[0]) if one.score >= least
    ]
    assert result["left_out"] == len(scores) // 2 > 0


def test_a_request_chooses_among_models_by_name(
    serve: Any, tagger: Predictor, make_model: Callable[..., TokenClassificationModel], tokenizers: dict[str, Any]
) -> None:
    other = Predictor(make_model("bert"), tokenizers["wordpiece"])
    client = serve(other=other)
    answer = predict(client, TEXTS[0], model="other")
    assert (answer["model"], answer["digest"]) == ("other", "1" * 64)
    assert answer["results"][0]["spans"] == spans_of(other, TEXTS[0]) != spans_of(tagger, TEXTS[0])
    assert [model["name"] for model in client.get("/models").json()] == ["model", "other"]
    assert list(client.get("/models").json()[0]["types"]) == list(tagger.labels)


# Streams -------------------------------------------------------------------------------------------------------------


def lines(answer: Any) -> list[Any]:
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_stream_answers_every_line_in_order(serve: Any, tagger: Predictor) -> None:
    notes = [{"id": f"n{number}", "text": text, "spans": []} for number, text in enumerate(TEXTS * 20)]
    body = "\n".join(map(json.dumps, notes))
    found = lines(serve(limits=Limits(queue=8, texts=8)).post("/predict/stream", content=body))
    assert [(one["line"], one["id"]) for one in found] == [(number + 1, f"n{number}") for number in range(len(notes))]
    assert [one["spans"] for one in found] == [spans_of(tagger, text) for text in TEXTS] * 20


def test_a_line_that_cannot_be_tagged_is_named_and_the_others_go_on(serve: Any, tagger: Predictor) -> None:
    bad = [
        f'{{"text": "{WORD}"',
        f'["{WORD}"]',
        f'{{"{WORD}": 1}}',
        json.dumps({"text": "x" * 101}),
        json.dumps({"text": "y" * 3000}),
        '{"text": "\\ud800"}',
        f'{{"text": ["{WORD}"]}}',
    ]
    body = "\n\n".join([json.dumps({"text": TEXTS[0]}), *bad, json.dumps({"text": TEXTS[0], "id": 7})])
    limits = Limits(characters=100, body_bytes=2000)
    found = lines(serve(limits=limits).post("/predict/stream", content=body.encode()))
    assert [one["line"] for one in found] == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert found[0]["spans"] == found[-1]["spans"] == spans_of(tagger, TEXTS[0])
    assert found[-1]["id"] == 7
    problems = [one["problem"] for one in found[1:-1]]
    assert "100 characters; found 101" in problems[3]
    assert "2000 bytes" in problems[4]
    assert WORD not in json.dumps(found)


def test_a_stream_is_answered_while_it_is_sent_and_a_client_that_pauses_gets_its_last_line(tagger: Predictor) -> None:
    """Were all of it read first, its lines would have to fit into memory."""

    async def converse() -> tuple[list[Any], str]:
        async with Conversation(tagger, "/predict/stream", limits=Limits(idle_seconds=0.1)) as client:
            got = []
            for number in range(10):
                await client.send(json.dumps({"id": number, "text": TEXTS[0]}).encode() + b"\n")
                got.append(json.loads(await client.received.get()))
            return got, json.loads(await client.received.get())["problem"]

    answers, problem = asyncio.run(converse())
    assert [one["id"] for one in answers] == list(range(10))
    assert answers[7]["spans"] == spans_of(tagger, TEXTS[0])
    assert problem == "the rest is not read: no more of the body came for 0.1 seconds"


# Refusals ------------------------------------------------------------------------------------------------------------


class Broken:
    """A predictor that fails, and says so with words of the note."""

    labels = ("DISEASE",)

    def predict(self, texts: list[str], **_: Any) -> Any:
        raise RuntimeError(f"cannot tag {texts}")


REFUSALS: dict[str, tuple[int, dict[str, Any]]] = {
    "no JSON": (400, {"content": f"{{{WORD}".encode()}),
    "JSON that ends early": (400, {"content": f'{{"text": "{WORD}'.encode()}),
    "not UTF-8": (400, {"content": b'{"text": "' + WORD.encode() + b'\xff"}'}),
    "too deep": (400, {"content": b"[" * 80_000}),
    "a number of 5,000 digits": (400, {"content": b'{"text": ' + b"1" * 5000 + b"}"}),
    "no body": (422, {"content": b""}),
    "no object": (422, {"json": [WORD]}),
    "no text": (422, {"json": {"min_score": 0}}),
    "another type": (422, {"json": {"text": {WORD: WORD}}}),
    "an unknown key": (422, {"json": {"text": "a", WORD: WORD}}),
    "a number in the list": (422, {"json": {"text": [WORD, 7]}}),
    "a lone surrogate": (422, {"content": b'{"text": "' + WORD.encode() + b'\\ud800"}'}),
    "a score above 1": (422, {"json": {"text": WORD, "min_score": 1.5}}),
    "a score that is text": (422, {"json": {"text": "a", "min_score": WORD}}),
    "an endless score": (422, {"content": b'{"text": "a", "min_score": 1e999}'}),
    "a score that is none": (422, {"content": b'{"text": "a", "min_score": NaN}'}),
    "unknown offsets": (422, {"json": {"text": "a", "offsets": WORD}}),
    "an unknown model": (404, {"json": {"text": "a", "model": WORD}}),
    "too many texts": (413, {"json": {"text": [WORD] * 5}}),
    "too many characters": (413, {"json": {"text": [WORD * 2000, WORD * 2000]}}),
    "too large": (413, {"json": {"text": WORD * 9000}}),
    "too large in chunks": (413, {"content": iter([WORD.encode() * 5000] * 2)}),
    "no content type": (415, {"content": WORD, "headers": {}}),
    "another content type": (415, {"content": f"text={WORD}", "headers": {"content-type": "text/plain"}}),
}
LIMITS = Limits(texts=4, characters=40_000, body_bytes=90_000, wait_ms=0)


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_say_what_is_wrong_and_hold_no_word(name: str, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    status, request = REFUSALS[name]
    client = serve(limits=LIMITS)
    sent = {"headers": JSON, **request}
    with caplog.at_level(logging.DEBUG):
        answer = client.post("/predict", params={"note": WORD}, **sent)
        page = client.get("/metrics").text
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"status", "title", "detail"}
    assert answer.json()["status"] == status
    assert WORD not in answer.text + str(answer.headers) + page + own_lines(caplog)
    assert f"POST /predict {status}" in own_lines(caplog)


def own_lines(caplog: pytest.LogCaptureFixture) -> str:
    """What was logged, by the server and not by the client of the test."""
    records = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    return "\n".join(f"{record.getMessage()} {record.exc_text or ''} {record.exc_info or ''}" for record in records)


def test_a_failure_of_the_model_is_a_500_without_its_message(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    client = serve(Broken())
    with caplog.at_level(logging.DEBUG):
        answer = client.post("/predict", json={"text": WORD})
        page = client.get("/metrics").text
    assert answer.status_code == 500
    assert WORD not in answer.text + page + own_lines(caplog)
    assert "RuntimeError at test_app.py:" in own_lines(caplog)
    assert client.get("/health").status_code == 200


def test_a_failure_of_the_model_leaves_no_line_of_a_stream_without_an_answer(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(Broken())
    with caplog.at_level(logging.DEBUG):
        found = lines(client.post("/predict/stream", content=f'{{"text": "{WORD}"}}\n'.encode() * 40))
        gc.collect()  # asyncio logs what nobody asked for when it is collected
    assert [one["line"] for one in found] == list(range(1, 41))
    assert {one["problem"] for one in found} == {"the server failed; its log says where"}
    assert WORD not in json.dumps(found) + own_lines(caplog)


def test_a_body_that_does_not_come_is_given_up(tagger: Predictor) -> None:
    async def work() -> None:
        async with Conversation(tagger, "/predict", limits=Limits(idle_seconds=0.05)) as client:
            await client.send(f'{{"text": "{WORD}'.encode())
            await client.answered
            assert client.status == 408
            assert WORD.encode() not in await client.received.get()

    asyncio.run(work())


def test_what_asyncio_and_uvicorn_log_is_shown_without_what_may_quote_a_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cardioner.server", "uvicorn.error", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    _log_to_console()
    try:
        raise RuntimeError(WORD)
    except RuntimeError as error:
        logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=error)
        logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: %r", error, exc_info=True)
    shown = capsys.readouterr().err
    assert shown.count("(RuntimeError at test_app.py:") == 2
    assert WORD not in shown


def test_a_note_that_cannot_be_tagged_is_named_by_its_place(
    serve: Any, tagger: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = tagger._tag

    def fail(documents: Any, **options: Any) -> Any:
        if any(WORD in document.text for document in documents):
            raise RuntimeError(f"cannot tag {WORD}")
        return tag(documents, **options)

    monkeypatch.setattr(tagger, "_tag", fail)
    client = serve(limits=Limits(wait_ms=100))
    with ThreadPoolExecutor(2) as pool:
        bad = pool.submit(client.post, "/predict", json={"text": ["a", WORD]})
        good = pool.submit(predict, client, TEXTS[0])
    assert good.result()["results"]
    assert bad.result().status_code == 500
    assert bad.result().json()["detail"].startswith("text 1 of 2: its 11 characters could not be tagged (RuntimeError)")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", f"/{WORD}", 404), ("DELETE", "/predict", 405)])
def test_other_paths_and_methods_are_not_named(
    method: str, path: str, status: int, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve()
    with caplog.at_level(logging.DEBUG):
        answer = client.request(method, path)
    assert answer.status_code == answer.json()["status"] == status
    assert WORD not in answer.text + own_lines(caplog) + client.get("/metrics").text


def test_two_hundred_malformed_requests_never_give_a_500(serve: Any) -> None:
    client, random = serve(), Random(7)
    good = json.dumps({"text": [TEXTS[0], TEXTS[2]], "min_score": 0.5, "offsets": "utf-16", "model": None}).encode()
    statuses = []
    for _ in range(200):
        body = bytearray(good)
        for _ in range(random.randint(1, 4)):
            place = random.randrange(len(body))
            body[place : place + random.randint(0, 9)] = random.randbytes(random.randint(0, 3))
        statuses.append(client.post("/predict", content=bytes(body), headers=JSON).status_code)
    assert set(statuses) <= {200, 400, 422}
    assert statuses.count(400) + statuses.count(422) > 100


def test_without_the_token_only_the_state_is_told(serve: Any) -> None:
    client = serve(token=hashlib.sha256(TOKEN.encode()).digest())
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        for path in ("/predict", "/predict/stream", "/models", "/metrics", "/openapi.json", "/nothing"):
            answer = client.post(path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/health", headers=headers).status_code == 200
        assert client.get("/ready", headers=headers).status_code == 200
    answer = client.post("/predict", json={"text": TEXTS[0]}, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200


def test_a_server_of_this_machine_answers_to_its_own_names_alone(serve: Any) -> None:
    client = serve(hosts=LOOPBACK_HOSTS)
    assert client.get("/models", headers={"host": "localhost:8000"}).status_code == 200
    assert client.get("/models", headers={"host": "LocalHost"}).status_code == 200
    assert client.get("/models", headers={"host": "[::1]:8000"}).status_code == 200
    for other in ("elsewhere.example", "localhost.elsewhere.example:8000", ""):
        assert client.get("/models", headers={"host": other}).status_code == 421


def test_the_server_tells_when_it_is_not_ready(serve: Any) -> None:
    client = serve()
    assert client.get("/ready").json()["status"] == "ok"
    client.app.state.service.ready = False
    assert client.get("/ready").status_code == 503


def test_the_description_has_examples_that_are_answered(serve: Any) -> None:
    client = serve()
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for example in schemas["PredictRequest"]["examples"]:
        assert client.post("/predict", json=example).status_code == 200
    assert schemas["Problem"]["examples"]
