"""What requests and responses about notes and their corrections look like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from cardioner.data.documents import Document, Span
from cardioner.errors import DataError
from cardioner.server.audit import Place, place_of
from cardioner.server.corrections import CorrectionFormat, revision_of
from cardioner.server.messages import Incoming, Offsets, Text
from cardioner.server.offsets import code_point_offsets, utf16_offsets

_SPAN: dict[str, JsonValue] = {"start": 0, "end": 19, "label": "DISEASE", "attributes": {"Temporality": "history"}}
_CORRECTION: dict[str, JsonValue] = {
    "note": "a-0001",
    "text": "Atrial fibrillation, treated with bisoprolol.",
    "spans": [_SPAN],
    "before": [],
    "user": "A. Reader",
}


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("expected printable characters")
    return name


def _true(value: bool) -> bool:
    if not value:
        raise ValueError("expected true or a text; leave out an attribute that does not apply")
    return value


Label = Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S"), AfterValidator(_printable)]
Name = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
NoteId = Annotated[str, Field(min_length=1, max_length=1000)]
"""Whatever a note that the server has is called; the corrections are strict about the name of another one."""
AttributeName = Annotated[Text, Field(min_length=1, max_length=100)]
AttributeValue = Annotated[Text, Field(min_length=1, max_length=1000)] | Annotated[bool, AfterValidator(_true)]
Fragment = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]


class AnnotatedSpan(Incoming):
    """An entity mention as a person marked it: half-open offsets into the text."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SPAN]})

    start: int = Field(ge=0)
    end: int = Field(ge=1)
    label: Label
    fragments: list[Fragment] = Field([], description="The parts of a discontinuous span, in text order.")
    attributes: dict[AttributeName, AttributeValue] | None = Field(
        None,
        description="Its attributes: a value, or true. Without this, a span keeps those that the note had there.",
    )


class Correction(Incoming):
    """A note whose spans are right."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CORRECTION]})

    note: NoteId = Field(
        description="The id of the note; a note that the server does not have may have any of up to 200 printable "
        "characters that can be a file name."
    )
    text: Text = Field(description="The text that the offsets are of.")
    spans: list[AnnotatedSpan]
    before: list[AnnotatedSpan] = Field([], description="The spans that the person began with.")
    offsets: Offsets = Field("code-points", description="What start and end count.")
    model: str | None = Field(None, description="The model that found the first spans.")
    digest: Name | None = Field(None, description="Of that model, as /predict says it.")
    user: Name = Field("", description="Who corrected the note.")
    replaces: str | None = Field(None, description="The revision that the person began with, if the note has one.")

    def documents(self, had: Iterable[Span] = ()) -> tuple[Document, Document]:
        """The note as it is now, and as it was.

        Args:
            had: The spans that the note had: those that come without attributes keep theirs.

        Raises:
            DataError: If a span does not fit the text.
        """
        place = code_point_offsets(self.text) if self.offsets == "utf-16" else int
        said = {place_of(span): span.attributes for span in had}
        now, before = (
            Document(self.note, self.text, tuple(sorted({_span(one, place, said) for one in spans})))
            for spans in (self.spans, self.before)
        )
        return now, before


class Withdrawal(Incoming):
    """A correction that shall not count any more."""

    note: NoteId
    user: Name = ""
    replaces: str = Field(description="The revision that is withdrawn.")


class Saved(BaseModel):
    """A correction in the folder."""

    model_config = ConfigDict(frozen=True)

    spans: list[AnnotatedSpan]
    revision: str = Field(description="Changes with the spans.")


class NoteState(BaseModel):
    """A note that can be opened."""

    model_config = ConfigDict(frozen=True)

    id: str
    characters: int
    annotations: int = Field(description="How many spans it came with.")
    accepted: bool = Field(description="Whether a correction is saved.")
    order: float | None = Field(None, description="How much a correction should teach, where that is known.")


class NoteMessage(BaseModel):
    """A note to read and correct."""

    model_config = ConfigDict(frozen=True)

    id: str
    text: str
    offsets: Offsets
    annotations: list[AnnotatedSpan] = Field(description="The spans that it came with.")
    saved: Saved | None


class WorkspaceMessage(BaseModel):
    """What the page works on."""

    model_config = ConfigDict(frozen=True)

    version: str
    notes: int
    corrections: str | None = Field(description="The folder of corrections; null if none can be saved.")
    format: CorrectionFormat | None


class TrainingMessage(BaseModel):
    """How to train on the corrections."""

    model_config = ConfigDict(frozen=True)

    command: list[str] = Field(description="The command, word by word, for the folder where the server was started.")
    accepted: int = Field(description="How many corrected notes there are.")
    missing: list[str] = Field(description="Entity types of the model that none of them has.")


def annotated(document: Document, offsets: Offsets) -> list[AnnotatedSpan]:
    """The spans of a note as they are sent."""
    place = utf16_offsets(document.text) if offsets == "utf-16" else int
    return [
        AnnotatedSpan.model_construct(
            start=place(span.start),
            end=place(span.end),
            label=span.label,
            fragments=[[place(start), place(end)] for start, end in span.fragments],
            attributes=dict(span.attributes),
        )
        for span in document.spans
    ]


def saved(document: Document | None, offsets: Offsets) -> Saved | None:
    """A correction as it is sent."""
    if document is None:
        return None
    return Saved(spans=annotated(document, offsets), revision=revision_of(document))


def _span(message: AnnotatedSpan, place: Any, said: Mapping[Place, Mapping[str, str | bool]]) -> Span:
    try:
        pieces = tuple((place(start), place(end)) for start, end in message.fragments)
        span = Span(place(message.start), place(message.end), message.label, fragments=pieces)
        attributes = said.get(place_of(span), {}) if message.attributes is None else message.attributes
        return replace(span, attributes=attributes)
    except ValueError as error:
        raise DataError(str(error)) from None
