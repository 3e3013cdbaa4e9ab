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
from cardioner.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LISTS = ("tags", "spans", "entities")
"""The keys under which spans are kept, whatever else is in the object."""
_MORE_LISTS = ("label", "labels")
"""Keys that may also hold the class of a whole note: a list of lists or objects is one of spans."""
_LABELS = ("tag", "label", "type")
_STARTS, _ENDS = ("start", "start_offset"), ("end", "end_offset")
_RESULTS = ("annotations", "completions")
_EDGE = re.compile(r"start|begin|end|stop|off", re.IGNORECASE)
_OTHER = "other keys"


class Row(NamedTuple):
    """What a JSON value says of a note.

    Attributes:
        document: The note.
        is_marked: Whether there is a list of spans, which may be empty.
        issues: What was left out, by kind.
        suspect: A key that holds what looks like spans, where no list of spans was found, or an empty one.
    """

    document: Document
    is_marked: bool
    issues: Mapping[str, int]
    suspect: str | None = None


def read_row(value: Any, fallback: str) -> Row | None:
    """The note in a JSON value; `None` for one that its annotator rejected or skipped.

    Args:
        value: The value.
        fallback: The id of a note without one.

    Raises:
        DataError: If it has no text, or its spans cannot be understood; the message quotes no value.
    """
    row, issues = _object(value), Counter[str]()
    if "text" not in row and isinstance(row.get("data"), dict):
        row = _of_task(row, issues)
    name = row.pop("id", fallback)
    if not is_unicode(name) and not _is_whole(name):
        raise DataError(f'expected a string or a whole number under "id", found {_kind(name)}')
    text = row.pop("text", row.pop("data", None) if isinstance(row.get("data"), str) else None)
    if not isinstance(text, str):
        raise DataError(f'expected a string under "text", found {_kind(text)}')
    if "spans" in row and row.get("answer") in ("reject", "ignore"):
        return None
    issues[_OTHER] += row.pop("tokens", None) is not None and "spans" in row
    marked = _list_of_spans(row)
    items = [] if marked is None else row.pop(marked)
    if not isinstance(items, list):
        raise DataError(f'expected a list under "{marked}", found {_kind(items)}')
    spans = [
        span for number, item in enumerate(items, start=1) for span in _spans(item, text, f"span {number}", issues)
    ]
    suspect = None if items else next((key for key in row if _looks_like_spans(row[key], key in _MORE_LISTS)), None)
    return Row(Document(str(name), text, tuple(spans), row), marked is not None, +issues, suspect)


def _object(value: Any) -> dict[str, Any]:
    """A copy of the object; a list of a text and an object is one that has the text as well."""
    if isinstance(value, list) and list(map(type, value)) == [str, dict]:
        return {"text": value[0], **value[1]}
    if not isinstance(value, dict):
        raise DataError(f"expected one JSON object, found {_kind(value)}")
    return dict(value)


def _list_of_spans(row: Mapping[str, Any]) -> str | None:
    """The key of the list of spans."""
    if (key := _only(row, LISTS, "a note")) is not None:
        return key
    return next((key for key in _MORE_LISTS if _is_list_of_items(row.get(key))), None)


def _is_list_of_items(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, (list, dict)) for item in value)


# Label Studio --------------------------------------------------------------------------------------------------------


def _of_task(row: Mapping[str, Any], issues: Counter[str]) -> dict[str, Any]:
    """A task of Label Studio in our form: its other data stay, what it says of itself is counted."""
    found = {key: held for key, held in row["data"].items() if key not in LISTS}
    issues[_OTHER] += len(row["data"]) - len(found)
    if "id" in row:
        found.setdefault("id", row["id"])
    texts = [key for key, held in found.items() if isinstance(held, str) and key != "id"]
    if "text" not in found and len(texts) == 1:
        found["text"] = found.pop(texts[0])
    key = next((key for key in _RESULTS if isinstance(row.get(key), list)), None)
    done = [one for one in (row[key] if key else []) if isinstance(one, dict) and not one.get("was_cancelled")]
    if done:
        chosen = next((one for one in done if one.get("ground_truth")), done[0])
        results = chosen.get("result")
        issues["annotations of a note beside the one that is read"] += len(done) - 1
        found["tags"] = results
        if isinstance(results, list):
            found["tags"] = [one for one in results if _is_label(one)]
            issues["results that are no labels of text"] += len(results) - len(found["tags"])
    issues[_OTHER] += len(row.keys() - {"id", "data", key})
    return found


def _is_label(result: Any) -> bool:
    return isinstance(result, dict) and str(result.get("type")).lower() in {"labels", "hypertextlabels"}


# Spans ---------------------------------------------------------------------------------------------------------------


def _spans(item: Any, text: str, where: str, issues: Counter[str]) -> list[Span]:
    """The spans of an item: one for each of its labels."""
    if isinstance(item, list):
        if len(item) < 3 or not (_is_whole(item[0]) and _is_whole(item[1]) and is_unicode(item[2])):
            raise DataError(f'{where}: expected start, end and label, as in [3, 9, "SYMPTOM"]')
        item = dict(zip(("start", "end", "label"), item, strict=False))
    if not isinstance(item, dict):
        raise DataError(f"{where}: expected an object, found {_kind(item)}")
    if isinstance(item.get("value"), dict):  # a result of Label Studio
        item = item["value"]
    if isinstance(item.get("labels"), list):
        return _labelled(item, text, where, issues)
    label = _under(item, _LABELS, where)
    if not is_unicode(label):
        raise DataError(f"{where}: expected a string under {either(_LABELS)}")
    start, end = _edge(item, _STARTS, where), _edge(item, _ENDS, where)
    issues[_OTHER] += len(item.keys() - {*_STARTS, *_ENDS, *_LABELS, "score", "fragments"})
    return [Span(start, end, label, _score(item, where), _fragments(item, where))]


def _labelled(item: Mapping[str, Any], text: str, where: str, issues: Counter[str]) -> list[Span]:
    """The spans of an item of Label Studio, whose offsets may be counted in UTF-16, as JavaScript counts."""
    start, end = _edge(item, _STARTS, where), _edge(item, _ENDS, where)
    labels = item["labels"]
    if not all(map(is_unicode, labels)):
        raise DataError(f'{where}: expected strings under "labels"')
    quote = item.get("text")
    if isinstance(quote, str) and text[start:end].strip() != quote.strip():
        units = text.encode("utf-16-le", "surrogatepass")
        inside = units[2 * start : 2 * end].decode("utf-16-le", "surrogatepass")
        if inside.strip() != quote.strip():
            raise DataError(f"{where}: its text does not match the note at {start} to {end}")
        start = len(units[: 2 * start].decode("utf-16-le", "surrogatepass"))
        end = start + len(inside)
        issues["spans with offsets in UTF-16, converted"] += 1
    return [Span(start, end, label) for label in labels]


def _edge(item: Mapping[str, Any], names: Sequence[str], where: str) -> int:
    value = _under(item, names, where)
    if not _is_whole(value):
        raise DataError(f'{where}: expected a whole number under "{names[0]}", found {_kind(value)}')
    return int(value)


def _score(item: Mapping[str, Any], where: str) -> float | None:
    if "score" not in item:
        return None
    score = item["score"]
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise DataError(f'{where}: expected a number from 0 to 1 under "score"')
    return float(score)


def _fragments(item: Mapping[str, Any], where: str) -> tuple[tuple[int, int], ...]:
    pieces = item.get("fragments", [])
    if not isinstance(pieces, list) or not all(_is_pair(piece) for piece in pieces):
        raise DataError(f'{where}: expected pairs of whole numbers under "fragments", as in [[0, 4], [9, 12]]')
    return tuple((start, end) for start, end in pieces)


def _is_pair(piece: Any) -> bool:
    return isinstance(piece, list) and len(piece) == 2 and all(map(_is_whole, piece))


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
            numbers = [_is_whole(held) or _is_digits(held) for held in one]
            if len(one) in (3, 4) and sum(numbers) == 2 and str in map(type, compress(one, map(not_, numbers))):
                return True
            waiting += one
    return False


def _is_edge(key: str, held: Any) -> bool:
    """Whether a value is an offset by its key: of digits in quotes only under the very names of offsets."""
    return (_is_whole(held) and _EDGE.search(key) is not None) or (key in _STARTS + _ENDS and _is_digits(held))


def _is_digits(held: Any) -> bool:
    return isinstance(held, str) and held.isascii() and held.isdigit()


# Keys and values -----------------------------------------------------------------------------------------------------


def _only(row: Mapping[str, Any], names: Sequence[str], where: str) -> str | None:
    """The one of several names for the same thing that an object uses."""
    used = [name for name in names if name in row]
    if len(used) > 1:
        raise DataError(f"{where}: expected one of {either(names)}, found {len(used)} of them")
    return used[0] if used else None


def _under(row: Mapping[str, Any], names: Sequence[str], where: str) -> Any:
    """What lies under one of several names for the same thing."""
    name = _only(row, names, where)
    return None if name is None else row[name]


def either(names: Sequence[str]) -> str:
    """Names as a message has them."""
    return " or ".join(f'"{name}"' for name in names)


def _kind(value: Any) -> str:
    """What a value is, for a message: never the value itself."""
    if value is None:
        return "nothing"
    broken = isinstance(value, str) and not is_unicode(value)
    return "half of a surrogate pair" if broken else f"a value of type {type(value).__name__}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_unicode(value: Any) -> bool:
    """Whether a value is a string without half of a surrogate pair, which JSON's escapes can write."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
