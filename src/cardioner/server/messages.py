"""What requests and responses look like; the OpenAPI description is derived from these classes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

Offsets = Literal["code-points", "utf-16"]
"""What offsets count: code points, as Python does; or UTF-16 units, as JavaScript, Java and C# do."""

_NOTE = "Atrial fibrillation, treated with bisoprolol."
_SPAN: dict[str, JsonValue] = {
    "start": 0,
    "end": 19,
    "label": "DISEASE",
    "score": 0.98,
    "attributes": {"Temporality": "history"},
    "attribute_scores": {"Negation": 0.99, "Temporality": 0.87},
}


def _encodable(text: str) -> str:
    """A text that has no half of a surrogate pair, which stands for no character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"found a lone surrogate at code point {error.start}") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]


class Incoming(BaseModel):
    """What a client sends: no key may be unknown, no value of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PredictRequest(Incoming):
    """Texts to tag with one model."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": _NOTE}, {"text": [_NOTE, "No chest pain."], "min_score": 0.5}]}
    )

    text: Text | list[Text] = Field(description="One text, or a list of them.")
    model: str | None = Field(None, description="The name of a model, see /models. Default: the first.")
    min_score: float = Field(0.0, ge=0, le=1, description="Leave out, and count, spans with a lower score.")
    offsets: Offsets = Field("code-points", description="What start and end count.")

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts, also where there is only one."""
        return (self.text,) if isinstance(self.text, str) else tuple(self.text)


class Line(BaseModel):
    """A line of a stream; other keys, such as the spans that a note already has, are ignored."""

    model_config = ConfigDict(frozen=True, strict=True)

    text: str
    id: str | int | None = None


class SpanMessage(BaseModel):
    """An entity mention: half-open offsets into the text as it was sent."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_SPAN]})

    start: int = Field(ge=0)
    end: int = Field(ge=0)
    label: str
    score: float | None = Field(description="The model's probability of exactly this span.")
    attributes: dict[str, str | bool] = Field({}, description="Its attributes, such as a negation: a value, or true.")
    attribute_scores: dict[str, float] = Field(
        {}, description="For each attribute that the model knows, the probability of its value or of its absence."
    )


class Result(BaseModel):
    """What was found in one text."""

    model_config = ConfigDict(frozen=True)

    spans: list[SpanMessage]
    left_out: int = Field(ge=0, description="How many spans scored less than min_score.")


class PredictResponse(BaseModel):
    """The results, in the order of the texts."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "model": "model",
                    "digest": "0" * 64,
                    "offsets": "code-points",
                    "results": [{"spans": [_SPAN], "left_out": 0}],
                }
            ]
        },
    )

    model: str = Field(description="The model that found the spans.")
    digest: str = Field(description="SHA-256 over the files that decide what it finds.")
    offsets: Offsets
    results: list[Result]


class LineResult(BaseModel):
    """What was found in one line of a stream."""

    model_config = ConfigDict(frozen=True)

    line: int = Field(ge=1, description="The number of the line, counted from 1.")
    id: str | int | None = None
    spans: list[SpanMessage]
    left_out: int = Field(ge=0, description="How many spans scored less than min_score.")


class LineProblem(BaseModel):
    """Why a line of a stream was not tagged."""

    model_config = ConfigDict(frozen=True)

    line: int = Field(ge=1)
    id: str | int | None = None
    problem: str


class Problem(BaseModel):
    """Why a request was refused or failed; it never holds a word of the request."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {"status": 413, "title": "Content Too Large", "detail": "expected at most 64 texts; found 100"}
            ]
        },
    )

    status: int
    title: str
    detail: str = Field(description="What was expected, what was found, and where.")


class SignatureMessage(BaseModel):
    """Who vouches for a model directory: key fingerprints."""

    model_config = ConfigDict(frozen=True)

    names: str | None = Field(description="The key that the signature names; by itself it proves nothing.")
    proven: bool = Field(description="Whether the server was given that key and the signature holds.")


class TypeMessage(BaseModel):
    """What a model scored on notes it did not learn from."""

    model_config = ConfigDict(frozen=True)

    notes: str = Field(description="Which notes: `test notes`, `evaluation notes` or `not known`.")
    gold_spans: int | None
    strict_f1: float | None


class ModelMessage(BaseModel):
    """A model that is served."""

    model_config = ConfigDict(frozen=True)

    name: str
    types: dict[str, TypeMessage] = Field(description="The entity types that it can find, and its scores on each.")
    attributes: dict[str, list[str | bool]] = Field(
        {}, description="The attributes of spans that it knows, with their values."
    )
    digest: str = Field(description="SHA-256 over the files that decide what it finds.")
    signatures: list[SignatureMessage] = Field(
        description="One for each of the directories that the model consists of."
    )
    engine: str
    device: str
    dtype: list[str]


class State(BaseModel):
    """Whether the server works."""

    model_config = ConfigDict(frozen=True)

    status: Literal["ok", "not ready"]
    version: str
