"""`onnx.json`: how the graph beside it is used, all that the light engine needs to know of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cardioner.errors import many
from cardioner.model_dir.json_files import read_object, refuse, shown
from cardioner.model_dir.layout import GRAPH_SETTINGS
from cardioner.model_dir.untrusted.settings import MOST_TAGS, MOST_TAGS_OF_A_CRF, AttributeTemperatures, AttributeValues
from cardioner.multiclass.tagging import tag_groups

FORMAT: Literal[2] = 2
"""The version of the file and of the code that reads it; the exports of version 0.2.0 had `settings.json`, format 1."""

_MOST_IDS = 1 << 31
_MOST_SPECIAL = 64

_Id = Annotated[int, Field(ge=0, lt=_MOST_IDS)]
_Scores = Annotated[list[float], Field(max_length=MOST_TAGS_OF_A_CRF)]
_Legal = Annotated[list[bool], Field(max_length=MOST_TAGS_OF_A_CRF)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _LegalTransitions(_Part):
    start: _Legal
    transitions: list[_Legal]
    end: _Legal
    continues: list[_Legal]


class _CRF(_Part):
    start: _Scores
    transitions: list[_Scores]
    end: _Scores
    legal: _LegalTransitions

    @property
    def size(self) -> int | None:
        """How many tags every part is of; `None` if they differ."""
        rows = (self.start, self.end, self.legal.start, self.legal.end)
        squares = (self.transitions, self.legal.transitions, self.legal.continues)
        lengths = [len(row) for row in rows] + [len(row) for square in squares for row in (square, *square)]
        return lengths[0] if len(set(lengths)) == 1 else None


class _Windows(_Part):
    length: int = Field(ge=1, le=1 << 20)
    context: int = Field(ge=0, le=1 << 20)
    aligned: int = Field(ge=1, le=1 << 12)


class _SpecialIds(_Part):
    opening: list[_Id] = Field(max_length=_MOST_SPECIAL)
    closing: list[_Id] = Field(max_length=_MOST_SPECIAL)


class GraphSettings(_Part):
    """The content of `onnx.json`.

    Attributes:
        format: Of this file.
        cardioner: The version that wrote it.
        precision: What the graph computes in: `float32`, or `int8` with 8-bit weights.
        tolerance: How far an emission may be from the golden outputs of the model, which are in float32.
        vocabulary: How many sub-tokens the encoder has vectors for.
        tags: In the order of their ids.
        crf: Per tag group its scores, and which transitions are legal; `None` for a model without a CRF.
        temperature: Divides all scores before a probability is taken.
        attributes: What the model says of spans: for each attribute its values, `None` first.
        attribute_temperatures: What divides the scores of an attribute's values, where it is not 1.
        windows: Most sub-tokens of a window, special ones not counted; those shared with its neighbours; alignment.
        special_ids: What stands before and behind the sub-tokens of a window.
        padding_id: What shorter windows are padded with.
    """

    format: Literal[2] = FORMAT
    cardioner: str = Field(max_length=100)
    precision: Literal["float32", "int8"]
    tolerance: float = Field(gt=0, le=100)
    vocabulary: int = Field(ge=1, lt=_MOST_IDS)
    tags: list[Annotated[str, Field(max_length=1000)]] = Field(max_length=MOST_TAGS)
    crf: Annotated[list[_CRF], Field(min_length=1, max_length=MOST_TAGS_OF_A_CRF)] | None
    temperature: float = Field(gt=0)
    attributes: AttributeValues = {}
    attribute_temperatures: AttributeTemperatures = {}
    windows: _Windows
    special_ids: _SpecialIds
    padding_id: _Id


def read_graph_settings(path: Path) -> GraphSettings:
    """The settings in a file.

    Raises:
        ModelError: If they are missing, of another version, or no settings.
    """
    content = read_object(path)
    found = content.get("format")
    if isinstance(found, int) and found > FORMAT:
        refuse(path, f"it is of format {found}, and this cardioner knows {FORMAT}", "install a newer one")
    try:
        settings = GraphSettings.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"][:3]))
        refuse(path, f"expected settings of a graph; {shown(place)}: {shown(first['msg'], 200)}")
    try:
        sizes = [len(group.tags) for group in tag_groups(settings.tags)]
    except ValueError as error:
        refuse(path, str(error))
    if settings.crf is not None and [field.size for field in settings.crf] != sizes:
        refuse(path, f"expected scores of a CRF for {many(len(settings.tags), 'tag')}, found others")
    largest = max([settings.padding_id, *settings.special_ids.opening, *settings.special_ids.closing])
    if largest >= settings.vocabulary:
        refuse(path, f"it adds the id {largest:,}, and the encoder knows {settings.vocabulary:,} sub-tokens")
    return settings


def graph_facts(directory: Path) -> dict[str, Any]:
    """What to say of the graph in a directory; nothing if there is none."""
    path = directory / GRAPH_SETTINGS
    if not path.is_file():
        return {}
    settings = read_graph_settings(path)
    return {"precision": settings.precision, "written_by": f"cardioner {shown(settings.cardioner)}"}
