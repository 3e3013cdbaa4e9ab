"""The paths that Label Studio asks a machine learning backend for (https://labelstud.io/guide/ml_create).

Its URL is that of the server with `/label-studio`. Label Studio sends all tasks that a person selected in one request,
and skips those that have predictions of the same `model_version`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fastapi import APIRouter, Request, Response

from cardioner.data.documents import Document
from cardioner.data.formats.labeling_interface import Interface, labeling_interface, read_interface
from cardioner.errors import DataError, listed
from cardioner.prediction.predictions import TaggedNote
from cardioner.server.models import ServedModel, known_attributes
from cardioner.server.problems import RefusedError, problems
from cardioner.server.service import service_of
from cardioner.server.tool_messages import (
    BackendState,
    Event,
    Prediction,
    Predictions,
    Setup,
    TasksToPredict,
    Version,
    Versions,
)

log = logging.getLogger("cardioner.server")

router = APIRouter(prefix="/label-studio", responses=problems(401))


@router.get("/health")
async def backend_health() -> BackendState:
    """Whether the backend answers."""
    return BackendState()


@router.post("/setup", responses=problems(400, 408, 413, 415, 422))
async def backend_setup(message: Setup, request: Request) -> Version:
    """Check that the labeling interface of a project can show what the model finds."""
    model = service_of(request).models[0]
    _interface(message.interface, model.predictor.labels, "schema")
    return Version(model_version=_version(model))


@router.get("/versions")
async def backend_versions(request: Request) -> Versions:
    """The model that is served."""
    return Versions(versions=[_version(service_of(request).models[0])])


@router.post("/predict", responses=problems(400, 408, 413, 415, 422, 500), response_model_exclude_none=True)
async def backend_predict(message: TasksToPredict, request: Request) -> Predictions:
    """Find the spans of the texts of tasks, as many as there are."""
    service = service_of(request)
    interface = _interface(message.label_config, service.models[0].predictor.labels, "label_config")
    texts = []
    for number, task in enumerate(message.tasks):
        text = task.data.get(interface.key)
        if not isinstance(text, str) or _has_surrogate(text):
            raise RefusedError(
                422, f"body.tasks.{number}.data: expected a text under the key that the labeling interface names"
            )
        texts.append(text)
    tagged = await service.tag_in_turn(request, texts)
    return Predictions(results=[_prediction(model, note, interface) for model, note in tagged])


@router.post("/train", responses=problems(501))
async def backend_train() -> Response:
    """Refused: a server does not train."""
    raise _does_not_train()


@router.post("/webhook", status_code=204, responses=problems(400, 408, 413, 415, 422, 501))
async def backend_webhook(message: Event) -> None:
    """What Label Studio tells of every change in the project: nothing to do, except that training is refused."""
    if message.action == "START_TRAINING":
        raise _does_not_train()


def _does_not_train() -> RefusedError:
    return RefusedError(501, "this server does not train: export the annotations as JSON, and use cardioner train")


@router.get("/interface", response_class=Response, responses={200: {"content": {"application/xml": {}}}})
async def interface(request: Request) -> Response:
    """A labeling interface for what the model finds, to paste into a project."""
    predictor = service_of(request).models[0].predictor
    shown = labeling_interface(predictor.labels, known_attributes(predictor))
    return Response(shown, media_type="application/xml")


def _version(model: ServedModel) -> str:
    """The name and what decides what it finds, so that a model that was exchanged predicts again."""
    return f"{model.name} {model.message.digest[:12]}"


def _interface(config: str, labels: Iterable[str], where: str) -> Interface:
    try:
        found = read_interface(config, labels)
    except DataError as error:
        problem = str(error)
    else:
        if found.labels:
            return found
        problem = f"expected a labeling interface with labels that the model finds: {listed(labels)}"
    raise RefusedError(422, f"body.{where}: {problem}")


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _prediction(model: ServedModel, note: TaggedNote, shown: Interface) -> Prediction:
    """The spans of the types that the interface has; the log counts the others by type."""
    if note.problem:
        return Prediction(problem=note.problem)
    document: Document = note.document
    spans = [span for span in document.spans if span.label in shown.labels]
    if missing := {span.label for span in document.spans} - shown.labels.keys():
        log.warning("the labeling interface of a project lacks %s: such spans are left out", listed(missing))
    said = {(name, value) for span in spans for name, value in span.attributes.items()}
    if unshown := {name for name, value in said if not shown.shows(name, value)}:
        log.warning("the labeling interface of a project lacks choices for %s: they are left out", listed(unshown))
    scores = [span.score for span in spans if span.score is not None]
    return Prediction(
        result=shown.results(document, spans), score=min(scores, default=None), model_version=_version(model)
    )
