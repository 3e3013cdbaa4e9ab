"""INCEpTION's protocol of external recommenders, whose URL is that of the server with `/inception`.

The protocol is described in INCEpTION's developer guide, "External recommender"
(https://inception-project.github.io/documentation/latest/developer-guide.html).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from cardioner.data.attributes import value_text
from cardioner.data.formats.xmi import check_installed, load_cas, load_types
from cardioner.errors import DataError, UsageError
from cardioner.server.problems import RefusedError, problems
from cardioner.server.service import service_of
from cardioner.server.tool_messages import NoteToPredict, PredictedNote, Recommender

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cassis import Cas

    from cardioner.data.documents import Document, Span

router = APIRouter(prefix="/inception", responses=problems(401))

_PREDICTED = "inception_internal_predicted"
"""The feature that tells what a recommender found from what a person marked."""


@router.post("/predict", responses=problems(400, 408, 413, 415, 422, 500, 501, 503))
async def recommend(message: NoteToPredict, request: Request) -> PredictedNote:
    """Add what the model finds to a note, as suggestions."""
    cas = await asyncio.to_thread(_cas, message)  # libraries for XML take their time
    text = str(cas.sofa_string)
    _, (note,) = await service_of(request).tag(request, [text], None)
    return PredictedNote(document=await asyncio.to_thread(_with_suggestions, cas, note.document, message.metadata))


@router.post("/train", responses=problems(501))
async def train_recommender() -> Response:
    """Refused: a server does not train."""
    raise RefusedError(
        501,
        "this server does not train: leave Trainable off, export the notes as UIMA CAS XMI, and use cardioner train",
    )


def _cas(message: NoteToPredict) -> Cas:
    """The note, if its layer can take suggestions.

    Raises:
        RefusedError: If it cannot, or the note or its types cannot be read.
    """
    try:
        check_installed()
        types = load_types(message.types.encode(), "body.typeSystem")
        cas = load_cas(message.document.xmi.encode(), types, "body.document.xmi")
    except UsageError as error:
        raise RefusedError(501, str(error)) from None
    except DataError as error:
        problem = str(error)
    else:
        layer, feature = message.metadata.layer, message.metadata.feature
        found = [one.name for one in types.get_type(layer).all_features] if types.contains_type(layer) else []
        if {feature, _PREDICTED, "begin"} <= set(found):
            return cas
        problem = f"body.metadata: expected a layer of the type system, with the feature and with {_PREDICTED}"
    raise RefusedError(422, problem)


def _said(span: Span, free: Iterable[str], kinds: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of a span for which the layer has a feature of the same name, and their scores."""
    found: dict[str, Any] = {}
    for name, value in span.attributes.items():
        if name in free and kinds[name] == "uima.cas.String":
            found[name] = value_text(value)
        elif name in free and kinds[name] == "uima.cas.Boolean":
            found[name] = value is True
        if name in found and f"{name}_score" in free:
            found[f"{name}_score"] = span.attribute_scores.get(name)
    return found


def _with_suggestions(cas: Any, document: Document, wanted: Recommender) -> str:
    """The note in XMI, with an annotation for each span."""
    layer = cas.typesystem.get_type(wanted.layer)
    scored = f"{wanted.feature}_score"
    kinds = {feature.name: feature.rangeType.name for feature in layer.all_features}
    for span in document.spans:
        features: dict[str, Any] = {wanted.feature: span.label, _PREDICTED: True}
        if scored in kinds:
            features[scored] = span.score
        features |= _said(span, kinds.keys() - {wanted.feature, _PREDICTED}, kinds)
        cas.add(layer(begin=span.start, end=span.end, **features))
    return str(cas.to_xmi())
