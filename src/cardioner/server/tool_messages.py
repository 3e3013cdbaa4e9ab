"""What tools for annotation send and expect: keys that we have no use for are ignored."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from cardioner.server.messages import Text

_INTERFACE = (
    '<View><Labels name="label" toName="text"><Label value="DISEASE"/></Labels><Text name="text" value="$text"/></View>'
)
_TASK: dict[str, JsonValue] = {"id": 1, "data": {"text": "Atrial fibrillation."}}
_XMI = (
    '<xmi:XMI xmlns:xmi="http://www.omg.org/XMI" xmlns:cas="http:///uima/cas.ecore" xmi:version="2.0"><cas:Sofa '
    'xmi:id="1" sofaNum="1" sofaID="_InitialView" sofaString="Atrial fibrillation."/><cas:View sofa="1" members=""/>'
    "</xmi:XMI>"
)
_TYPES = (
    '<typeSystemDescription xmlns="http://uima.apache.org/resourceSpecifier"><types><typeDescription><name>a.Entity'
    "</name><supertypeName>uima.tcas.Annotation</supertypeName><features><featureDescription><name>value</name>"
    "<rangeTypeName>uima.cas.String</rangeTypeName></featureDescription><featureDescription><name>"
    "inception_internal_predicted</name><rangeTypeName>uima.cas.Boolean</rangeTypeName></featureDescription></features>"
    "</typeDescription></types></typeSystemDescription>"
)


class _FromTool(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Task(_FromTool):
    """A task of Label Studio."""

    data: dict[str, JsonValue] = Field(description="What the labeling interface shows, the text of the note among it.")


class TasksToPredict(_FromTool):
    """A request of Label Studio for predictions."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tasks": [_TASK], "label_config": _INTERFACE}]})

    tasks: list[Task]
    label_config: Text = Field(description="The labeling interface of the project.")


class Setup(_FromTool):
    """What Label Studio sends before it asks for predictions."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"schema": _INTERFACE}]})

    interface: Text = Field(alias="schema", description="The labeling interface of the project.")


class Event(_FromTool):
    """What Label Studio tells a backend of a project."""

    action: str = Field(description="What happened, such as `ANNOTATION_CREATED`.")


class BackendState(BaseModel):
    """Whether the backend works, as Label Studio asks."""

    model_config = ConfigDict(frozen=True)

    status: Literal["UP"] = "UP"
    model_class: Literal["CardioNER"] = "CardioNER"


class Version(BaseModel):
    """The model whose predictions Label Studio keeps under this name."""

    model_config = ConfigDict(frozen=True)

    model_version: str


class Versions(BaseModel):
    """The models that Label Studio may choose from."""

    model_config = ConfigDict(frozen=True)

    versions: list[str]


class Prediction(BaseModel):
    """The spans of one task, as Label Studio has them; of a note that cannot be tagged only the problem."""

    model_config = ConfigDict(frozen=True)

    result: list[dict[str, Any]] | None = Field(default=None, description="Regions, with offsets in code points.")
    score: float | None = Field(default=None, description="The least score of a span: tasks can be sorted by it.")
    model_version: str | None = None
    problem: str | None = None


class Predictions(BaseModel):
    """A prediction for each task, in order."""

    model_config = ConfigDict(frozen=True)

    results: list[Prediction]


class Recommender(_FromTool):
    """Which annotations INCEpTION wants."""

    layer: str = Field(description="The name of the type of the annotations.")
    feature: str = Field(description="The name of the feature that holds the label.")


class CasDocument(_FromTool):
    """A note of INCEpTION."""

    xmi: Text = Field(description="UIMA CAS XMI.")


class NoteToPredict(_FromTool):
    """A request of INCEpTION for annotations."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "metadata": {"layer": "a.Entity", "feature": "value"},
                    "document": {"xmi": _XMI},
                    "typeSystem": _TYPES,
                }
            ]
        }
    )

    metadata: Recommender
    document: CasDocument
    types: Text = Field(alias="typeSystem", description="The type system of the note, in XML.")


class PredictedNote(BaseModel):
    """The note with annotations that are marked as predicted."""

    model_config = ConfigDict(frozen=True)

    document: str = Field(description="UIMA CAS XMI.")


FROM_TOOLS = (Task, TasksToPredict, Setup, Event, Recommender, CasDocument, NoteToPredict)
"""What is received: the names of these parts may be in messages."""
