"""Paths to read notes, to save, withdraw and export corrections, and to train on them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from cardioner import __version__
from cardioner.data.documents import Document
from cardioner.errors import DataError, ModelError, OutputError
from cardioner.server.annotation_messages import (
    Correction,
    NoteMessage,
    NoteState,
    Saved,
    TrainingMessage,
    Withdrawal,
    WorkspaceMessage,
    annotated,
    saved,
)
from cardioner.server.audit import Author
from cardioner.server.corrections import ConflictError, CorrectionFormat, Corrections, UnusableError, as_download
from cardioner.server.messages import Offsets
from cardioner.server.notes import Workspace
from cardioner.server.problems import RefusedError, problems
from cardioner.server.service import service_of
from cardioner.server.training_command import training_command

log = logging.getLogger("cardioner.server")

router = APIRouter(responses=problems(401, 422))
_KIND: dict[CorrectionFormat, tuple[str, str]] = {
    "brat": ("application/zip", "corrections.zip"),
    "jsonl": ("application/x-ndjson", "corrections.jsonl"),
}
_DOWNLOADS: dict[int | str, dict[str, Any]] = {200: {"content": {media_type: {} for media_type, _ in _KIND.values()}}}
_NOT_SAVED = problems(400, 403, 404, 408, 409, 413, 415, 507)


@router.get("/workspace")
async def workspace(request: Request) -> WorkspaceMessage:
    """What can be opened, and where corrections go."""
    found = _workspace(request)
    corrections = found.corrections
    return WorkspaceMessage(
        version=__version__,
        notes=len(found.notes),
        corrections=str(corrections.folder) if corrections else None,
        format=corrections.format if corrections else None,
    )


@router.get("/notes")
async def notes(request: Request) -> list[NoteState]:
    """The notes of the server in their order, and then those that were pasted and accepted."""
    found = _workspace(request)
    pasted = [document for name, document in found.saved.items() if name not in found.notes]
    return [_state(document, found) for document in (*found.notes.values(), *pasted)]


@router.get("/note", responses=problems(404))
async def note(
    request: Request, note: Annotated[str, Query(max_length=200)], offsets: Offsets = "code-points"
) -> NoteMessage:
    """A note, the spans that it came with, and its correction."""
    found = _workspace(request)
    document, correction = found.notes.get(note), found.saved.get(note)
    shown = document or correction
    if shown is None:
        raise RefusedError(404, "there is no note of that id: /notes lists those that there are")
    came_with = annotated(document, offsets) if document else []
    return NoteMessage(
        id=shown.id, text=shown.text, offsets=offsets, annotations=came_with, saved=saved(correction, offsets)
    )


@router.put("/corrections", responses=_NOT_SAVED)
def correct(request: Request, message: Correction) -> Saved:
    """Save a note with the spans that are right, and log what was changed."""
    found, corrections = _workspace(request), _corrections(request)
    if message.model is not None:
        service_of(request).batcher(message.model)
    with _refusing():
        ours = found.notes.get(message.note), found.saved.get(message.note)
        document, before = message.documents([span for one in ours if one for span in one.spans])
        document = _like_ours(document, found)
        author = Author(user=message.user, model=message.model, digest=message.digest)
        corrections.save(document, author, before=before, replaces=message.replaces)
    return Saved.model_validate(saved(document, message.offsets))


@router.delete("/corrections", responses=_NOT_SAVED, status_code=204)
def withdraw(request: Request, message: Withdrawal) -> None:
    """Remove a correction, and log that."""
    corrections = _corrections(request)
    if message.note not in corrections.saved:
        raise RefusedError(404, "there is no correction of that note")
    with _refusing():
        corrections.withdraw(message.note, Author(user=message.user), replaces=message.replaces)


@router.get("/export", response_class=Response, responses=_DOWNLOADS | problems(404))
def export(request: Request, format: CorrectionFormat = "brat") -> Response:  # noqa: A002
    """All corrected notes: a ZIP archive of brat files, or JSON lines."""
    media_type, name = _KIND[format]
    content = as_download(_corrections(request).saved.values(), format)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)


@router.get("/training", responses=problems(404))
def training(request: Request, model: str | None = None) -> TrainingMessage:
    """The command that trains a model further on the corrections."""
    corrections = _corrections(request)
    served = service_of(request).batcher(model).model
    found = {span.label for document in corrections.saved.values() for span in document.spans}
    try:
        command = training_command(_workspace(request).places[served.name], corrections.folder)
    except ModelError:
        raise RefusedError(404, "the model directory is not there any more: restart the server") from None
    return TrainingMessage(
        command=command,
        accepted=len(corrections.saved),
        missing=[label for label in served.predictor.labels if label not in found],
    )


def _like_ours(document: Document, found: Workspace) -> Document:
    """The corrected note with our own text and metadata, if the note is ours."""
    ours = found.notes.get(document.id) or found.saved.get(document.id)
    if ours is None:
        return document
    if ours.text != document.text:
        raise RefusedError(409, "the note of that id has another text here: load it again, or choose another id")
    return replace(ours, spans=document.spans)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what cannot be saved into an answer; the log has the reason why a file cannot be written."""
    try:
        yield
    except ConflictError:
        raise RefusedError(409, "someone else saved this note meanwhile: load it again") from None
    except DataError:
        raise RefusedError(422, "body.spans: a span does not fit the text, or its fragments do not fit it") from None
    except OutputError as error:
        log.error("a correction is not saved: %s", error)
        raise RefusedError(507, "the correction cannot be saved: the server's log says why") from None
    except UnusableError as error:
        raise RefusedError(422, f"body.{error}") from None


def _state(document: Document, found: Workspace) -> NoteState:
    return NoteState(
        id=document.id,
        characters=len(document.text),
        annotations=len(document.spans) if document.id in found.notes else 0,
        accepted=document.id in found.saved,
        order=found.notes.order.get(document.id),
    )


def _workspace(request: Request) -> Workspace:
    found = request.app.state.workspace
    assert isinstance(found, Workspace)
    return found


def _corrections(request: Request) -> Corrections:
    """Where corrections are kept.

    Raises:
        RefusedError: If they are not.
    """
    if (corrections := _workspace(request).corrections) is None:
        raise RefusedError(404, "no corrections are kept here: start the server with --corrections FOLDER")
    return corrections
