"""Responses to what cannot be answered: they say what was expected, and never a word of what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cardioner.server.annotation_messages import AnnotatedSpan, Correction, Withdrawal
from cardioner.server.messages import Line, PredictRequest, Problem
from cardioner.server.tool_messages import FROM_TOOLS

CLIENT_GONE = 499
"""What is logged, and never received, if a client closed its connection: nginx's number for it."""

_MALFORMED = "json_invalid"
_SHOWN = 5
_RECEIVED = (PredictRequest, Line, AnnotatedSpan, Correction, Withdrawal, *FROM_TOOLS)
_NAMES = frozenset(
    {"body", "query", *(field.alias or name for message in _RECEIVED for name, field in message.model_fields.items())}
)
_DETAILS = {
    400: "the body cannot be read: expected JSON in UTF-8, as /openapi.json describes it",
    404: "there is no such path: /openapi.json lists those that there are",
    405: "this path does not know that method: /openapi.json lists those that it knows",
    415: "expected a body of the type application/json",
}


class RefusedError(HTTPException):
    """A request that is not answered; the detail is ours, and holds no word of it."""


def answer(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response to a problem."""
    titles = {CLIENT_GONE: "Client Closed Request", 413: "Content Too Large"}  # Python 3.13 renamed the latter
    problem = Problem(status=status, title=titles.get(status) or HTTPStatus(status).phrase, detail=detail)
    return JSONResponse(problem.model_dump(), status, headers)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How the OpenAPI description has refusals of these statuses."""
    return {status: {"model": Problem} for status in statuses}


def what_is_wrong(errors: Sequence[Mapping[str, Any]]) -> str:
    """The first errors of pydantic in one line: the places and what was expected there, without the input."""
    shown = [f"{shown_place(error['loc'])}: {_expectation(error)}" for error in errors[:_SHOWN]]
    more = [f"{len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
    return "; ".join(dict.fromkeys([*shown, *more]))


def add_handlers(app: FastAPI) -> None:
    """Have the application answer every refusal this way, its framework's own ones too."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)


def shown_place(location: tuple[Any, ...]) -> str:
    """Where in a request something is wrong; of keys only our own, as another may be a word of a note."""
    return ".".join(str(part) for part in location if isinstance(part, int) or part in _NAMES) or "body"


def _expectation(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = error.status_code
    detail = str(error.detail) if isinstance(error, RefusedError) else _DETAILS.get(status, "the request is refused")
    return answer(status, detail, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(one["type"] == _MALFORMED for one in found):
        return answer(400, _DETAILS[400])
    if found[0]["loc"] == ("body",) and "json" not in request.headers.get("content-type", ""):
        return answer(415, _DETAILS[415])
    return answer(422, what_is_wrong(found))
