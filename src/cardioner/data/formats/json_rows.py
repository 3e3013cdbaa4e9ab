"""A note as a JSON object or list: in our own form, and in those of annotation tools.

- Ours: `{"id": "a", "text": "No oedema.", "tags": [{"start": 3, "end": 9, "tag": "SYMPTOM"}]}`.
- doccano (https://doccano.github.io/doccano): `"label": [[3, 9, "SYMPTOM"]]`, or `"entities"` with `start_offset` and
  `end_offset` in projects with relations.
- Prodigy (https://prodi.gy/docs/api-interfaces): `"spans": [{"start": 3, "end": 9, "label": "SYMPTOM"}]`, an `answer`.
- spaCy: `"entities": [[3, 9, "SYMPTOM"]]`, also as `["No oedema.", {"entities": ...}]`.
- Label Studio (https://labelstud.io/guide/task_format): `data` with the text, `annotations` with results; or, in its
  shorter form, `"label": [{"start": 3, "end": 9, "labels": ["SYMPTOM"]}]`.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import compress
from operator import not_
from typing import TYPE_CHECKING, Any, NamedTuple

from cardioner.data.documents import Document, Span
from cardioner.data.formats.json_values import (
    ENDS,
    LABELS,
    LISTS,
    OTHER,
    SPAN_KEYS,
    STARTS,
    attribute_scores_in,
    attributes_in,
    edge,
    either,
    is_unicode,
    is_whole,
    kind,
    only,
    score_in,
    under,
)
from cardioner.data.formats.label_studio import labelled_spans, row_of_task
from cardioner.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MORE_LISTS = ("label", "labels")
"""Keys that may also hold the class of a whole note: a list of lists or objects is one of spans."""
_ANSWERS = ("accept", "reject", "ignore")
"""What an annotator of Prodigy says of a note."""
_EDGE = re.compile(r"start|begin|end|stop|off", re.IGNORECASE)


class Row(NamedTuple):
    """What a JSON value says of a note.

    Attributes:
        document: The note.
        is_marked: Whether there is a list of spans, which may be empty.
        issues: What was left out, by kind.
        suspect: A key that holds what looks like spans, where no list of spans was found, or an empty one.
        is_predicted: Whether the spans are what a model found, and nobody has looked at them.
    """

    document: Document
    is_marked: bool
    issues: Mapping[str, int]
    suspect: str | None = None
    is_predicted: bool = False


def read_row(value: Any, fallback: str) -> Row | None:
    """The note in a JSON value; `None` for one that its annotator rejected or skipped.

    Args:
        value: The value.
        fallback: The id of a note without one.

    Raises:
        DataError: If it has no text, or its spans cannot be understood; the message quotes no value.
    """
    row, issues, is_predicted = _object(value), Counter[str](), False
    if "text" not in row and isinstance(row.get("data"), dict):
        row, is_predicted = row_of_task(row, issues)
    name = row.pop("id", fallback)
    if not is_unicode(name) and not is_whole(name):
        raise DataError(f'expected a string or a whole number under "id", found {kind(name)}')
    text = row.pop("text", row.pop("data", None) if isinstance(row.get("data"), str) else None)
    if not isinstance(text, str):
        raise DataError(f'expected a string under "text", found {kind(text)}')
    if "spans" in row and row.get("answer") in _ANSWERS and row.pop("answer") != "accept":
        return None
    issues[OTHER] += row.pop("tokens", None) is not None and "spans" in row
    marked = _list_of_spans(row)
    items = [] if marked is None else row.pop(marked)
    if not isinstance(items, list):
        raise DataError(f'expected a list under "{marked}", found {kind(items)}')
    spans = [
        span for number, item in enumerate(items, start=1) for span in _spans(item, text, f"span {number}", issues)
    ]
    suspect = None if items else next((key for key in row if _looks_like_spans(row[key], key in _MORE_LISTS)), None)
    return Row(Document(str(name), text, tuple(spans), row), marked is not None, +issues, suspect, is_predicted)


def _object(value: Any) -> dict[str, Any]:
    """A copy of the object; a list of a text and an object is one that has the text as well."""
    if isinstance(value, list) and list(map(type, value)) == [str, dict]:
        return {"text": value[0], **value[1]}
    if not isinstance(value, dict):
        raise DataError(f"expected one JSON object, found {kind(value)}")
    return dict(value)


def _list_of_spans(row: Mapping[str, Any]) -> str | None:
    """The key of the list of spans."""
    if (key := only(row, LISTS, "a note")) is not None:
        return key
    short = (key for key, held in row.items() if _is_list_of_labels(held))
    return next((key for key in _MORE_LISTS if _is_list_of_items(row.get(key))), next(short, None))


def _is_list_of_items(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, (list, dict)) for item in value)


def _is_list_of_labels(value: Any) -> bool:
    """Whether a value is a list of Label Studio's shorter form, which is called as the interface calls its labels."""
    return _is_list_of_items(value) and bool(value) and all({"start", "end", "labels"} <= set(item) for item in value)


# Spans ---------------------------------------------------------------------------------------------------------------


def _spans(item: Any, text: str, where: str, issues: Counter[str]) -> list[Span]:
    """The spans of an item: one for each of its labels."""
    if isinstance(item, list):
        if len(item) < 3 or not (is_whole(item[0]) and is_whole(item[1]) and is_unicode(item[2])):
            raise DataError(f'{where}: expected start, end and label, as in [3, 9, "SYMPTOM"]')
        item = dict(zip(("start", "end", "label"), item, strict=False))
    if not isinstance(item, dict):
        raise DataError(f"{where}: expected an object, found {kind(item)}")
    if isinstance((item["value"] if isinstance(item.get("value"), dict) else item).get("labels"), list):
        return labelled_spans(item, text, where, issues)
    label = under(item, LABELS, where)
    if not is_unicode(label):
        raise DataError(f"{where}: expected a string under {either(LABELS)}")
    start, end = edge(item, STARTS, where), edge(item, ENDS, where)
    issues[OTHER] += len(item.keys() - SPAN_KEYS)
    said = attributes_in(item, where, issues), attribute_scores_in(item, where)
    return [Span(start, end, label, score_in(item, where), _fragments(item, where), *said)]


def _fragments(item: Mapping[str, Any], where: str) -> tuple[tuple[int, int], ...]:
    pieces = item.get("fragments", [])
    if not isinstance(pieces, list) or not all(_is_pair(piece) for piece in pieces):
        raise DataError(f'{where}: expected pairs of whole numbers under "fragments", as in [[0, 4], [9, 12]]')
    return tuple((start, end) for start, end in pieces)


def _is_pair(piece: Any) -> bool:
    return isinstance(piece, list) and len(piece) == 2 and all(map(is_whole, piece))


def _looks_like_spans(value: Any, pairs: bool) -> bool:
    """Whether something in a JSON value has two offsets, by their names or beside a string; or, if so asked, as pairs.

    Lists of pairs are the form of `{"label": {"SYMPTOM": {"oedema": [[3, 8]]}}}`.
    """
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if sum(_is_edge(key, held) for key, held in one.items()) > 1:
                return True
            waiting += one.values()
        elif isinstance(one, list):
            if pairs and one and all(map(_is_pair, one)):
                return True
            numbers = [is_whole(held) or _is_digits(held) for held in one]
            if len(one) in (3, 4) and sum(numbers) == 2 and str in map(type, compress(one, map(not_, numbers))):
                return True
            waiting += one
    return False


def _is_edge(key: str, held: Any) -> bool:
    """Whether a value is an offset by its key: of digits in quotes only under the very names of offsets."""
    return (is_whole(held) and _EDGE.search(key) is not None) or (key in STARTS + ENDS and _is_digits(held))


def _is_digits(held: Any) -> bool:
    return isinstance(held, str) and held.isascii() and held.isdigit()
