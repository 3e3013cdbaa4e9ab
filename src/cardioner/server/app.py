"""The application: which paths there are, and what each answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ValidationError

from cardioner import __version__
from cardioner.server import annotation, inception, label_studio, page_files
from cardioner.server.batching import Batcher
from cardioner.server.guard import FAILED, STREAM, Guarded, Observed, log_unexpected
from cardioner.server.lines import MEDIA_TYPE, LinesResponse, answer_lines, split_lines
from cardioner.server.messages import (
    Line,
    LineProblem,
    LineResult,
    ModelMessage,
    Offsets,
    PredictRequest,
    PredictResponse,
    State,
)
from cardioner.server.notes import Workspace
from cardioner.server.problems import RefusedError, add_handlers, problems, what_is_wrong
from cardioner.server.service import Service, line_result, result_of, service_of

LINES_AHEAD = 32
"""Lines of one stream that are read ahead, so that they share batches."""

_DESCRIPTION = "Tags entities in clinical notes. No text is kept, logged or counted by its words."
_LINES = {
    "requestBody": {
        "required": True,
        "description": "JSON lines: an object with `text` and, if you like, `id` on each.",
        "content": {
            MEDIA_TYPE: {
                "schema": {"type": "string"},
                "example": '{"id": "a", "text": "No chest pain."}\n{"id": "b", "text": "Atrial fibrillation."}\n',
            }
        },
    }
}


router = APIRouter()


def make_app(
    service: Service,
    *,
    token: bytes | None = None,
    hosts: Sequence[str] | None = None,
    workspace: Workspace | None = None,
) -> FastAPI:
    """The application over a service.

    Args:
        service: The models, queues and limits.
        token: The SHA-256 digest of the token that requests must bring; `None` to ask for none.
        hosts: Names by which the server may be addressed; `None` for any.
        workspace: The notes and corrections of the page; `None` for neither.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="CardioNER",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )  # the pages of FastAPI load scripts from another host
    app.state.service, app.state.workspace = service, workspace or Workspace()
    for part in (router, annotation.router, label_studio.router, inception.router, page_files.router):
        app.include_router(part)
    add_handlers(app)
    app.add_middleware(Guarded, limits=service.limits, token=token, hosts=hosts)
    paths = frozenset(app.openapi()["paths"]) | page_files.PATHS | {"/openapi.json"}
    app.add_middleware(Observed, paths=paths, metrics=service.metrics)
    return app


@router.get("/health")
async def health() -> State:
    """Whether the process answers."""
    return State(status="ok", version=__version__)


@router.get("/ready", responses={503: {"model": State}})
async def ready(request: Request) -> Response:
    """Whether notes can be tagged."""
    is_ready = service_of(request).ready
    state = State(status="ok" if is_ready else "not ready", version=__version__)
    return JSONResponse(state.model_dump(), 200 if is_ready else 503)


@router.get("/models", responses=problems(401))
async def models(request: Request) -> list[ModelMessage]:
    """The models that are served, the default one first."""
    return [model.message for model in service_of(request).models]


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **problems(401)})
async def metrics(request: Request) -> Response:
    """What was counted since the start, for Prometheus."""
    return Response(service_of(request).metrics.page(), media_type=CONTENT_TYPE_LATEST)


@router.post("/predict", responses=problems(400, 401, 404, 408, 413, 415, 422, 500, 503))
async def predict(message: PredictRequest, request: Request) -> PredictResponse:
    """Find the spans of one text, or of several."""
    model, notes = await service_of(request).tag(request, message.texts, message.model)
    return PredictResponse(
        model=model.name,
        digest=model.message.digest,
        offsets=message.offsets,
        results=[result_of(note, message.min_score, message.offsets) for note in notes],
    )


@router.post(
    STREAM,
    response_class=Response,
    openapi_extra=_LINES,
    responses={200: {"content": {MEDIA_TYPE: {}}}, **problems(401, 404, 422)},
)
async def predict_stream(
    request: Request,
    model: str | None = None,
    min_score: Annotated[float, Query(ge=0, le=1)] = 0.0,
    offsets: Offsets = "code-points",
) -> Response:
    """Find the spans of as many texts as you like: a line of JSON in, a line of JSON out, in the same order.

    A line that cannot be tagged is answered with its problem, and the others go on. Read the answers while you send.
    """
    service = service_of(request)
    batcher = service.batcher(model)

    async def answer(number: int, line: bytes | str) -> bytes:
        return _as_line(await _answer_line(service, batcher, number, line, min_score, offsets))

    lines = _lines(request, service.limits.body_bytes)
    return LinesResponse(answer_lines(lines, answer, LINES_AHEAD))


async def _answer_line(
    service: Service, batcher: Batcher, number: int, line: bytes | str, min_score: float, offsets: Offsets
) -> LineResult | LineProblem:
    if isinstance(line, str):
        return LineProblem(line=number, problem=line)
    try:
        parsed = Line.model_validate_json(line)
    except ValidationError as error:
        return LineProblem(line=number, problem=what_is_wrong(error.errors(include_input=False, include_context=False)))
    try:
        note = await service.tag_line(parsed, batcher)
    except RefusedError as refused:
        return LineProblem(line=number, id=parsed.id, problem=refused.detail)
    except Exception as error:  # noqa: BLE001 - the other lines go on
        log_unexpected(error)
        return LineProblem(line=number, id=parsed.id, problem=FAILED)
    return line_result(number, parsed, note, result_of(note, min_score, offsets))


async def _lines(request: Request, limit: int) -> AsyncIterator[bytes | str]:
    """The lines of a body; if the rest of it is refused, the last one says why."""
    try:
        async for line in split_lines(request.stream(), limit):
            yield line
    except RefusedError as refused:
        yield f"the rest is not read: {refused.detail}"


def _as_line(message: BaseModel) -> bytes:
    return message.model_dump_json().encode() + b"\n"
