r"""Tasks of Label Studio (https://labelstud.io/guide/task_format): notes to annotate, with predictions or annotations.

`{"data": {"text": "No oedema."}, "annotations": [{"result": [{"id": "span-1", "type": "labels", "from_name": "label",
"to_name": "text", "value": {"start": 3, "end": 9, "text": "oedema", "labels": ["SYMPTOM"]}}]}]}`. Results of
predictions also have a `score`. `from_name` and `to_name` are the names that the labeling interface of the project
gives to its labels and its text. An attribute is another result with the same `id`, of a control `<Choices
perRegion="true">` that is called as the attribute: `"type": "choices"`, with `"choices": ["true"]` in its value.

Offsets count code points (as observed in release 1.23), `\r\n` as two; old releases counted UTF-16 units. In the quotes
that the editor writes, a newline is a backslash and an `n`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cardioner._io import writing
from cardioner.data.attributes import value_of
from cardioner.data.corpus import IssueCounter
from cardioner.data.documents import Span
from cardioner.data.formats.files import encoded
from cardioner.data.formats.json_values import (
    ENDS,
    LISTS,
    OTHER,
    STARTS,
    attribute_scores_in,
    attributes_in,
    edge,
    is_unicode,
    score_in,
)
from cardioner.data.formats.json_writing import NOTE_KEYS, checked_score, json_text
from cardioner.data.formats.labeling_interface import Interface
from cardioner.errors import DataError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping
    from pathlib import Path

    from cardioner.data.corpus import Issue
    from cardioner.data.documents import Document

PREDICTED = "tasks without an annotation, read with their prediction"
"""The kind of issue under which tasks are counted that nobody has annotated."""

_RESULTS = ("annotations", "completions")
_CONTROLS = {"labels", "hypertextlabels"}
_CHOICES = "choices"
_NOT_SHOWN = re.compile(r"\\n|\s")
"""What the quotes of the editor write otherwise, or leave out."""


# Reading -------------------------------------------------------------------------------------------------------------


def row_of_task(task: Mapping[str, Any], issues: Counter[str]) -> tuple[dict[str, Any], bool]:
    """A task in the form of our rows, and whether its spans are a prediction that nobody has corrected.

    Other data of the task stay, what it says of itself is counted. Of several annotations, the one that is marked as
    ground truth is read, or else the first that was not cancelled; of several predictions the last.
    """
    found = {key: held for key, held in task["data"].items() if key not in LISTS}
    issues[OTHER] += len(task["data"]) - len(found)
    if "id" in task:
        found.setdefault("id", task["id"])
    key = next((key for key in _RESULTS if isinstance(task.get(key), list)), None)
    issues[OTHER] += len(task.keys() - {"id", "data", "predictions", key})
    done = [one for one in _objects(task.get(key or "")) if not one.get("was_cancelled")]
    guesses = _objects(task.get("predictions"))
    if done:
        issues["predictions beside annotations"] += len(guesses)
        issues["annotations of a note beside the one that is read"] += len(done) - 1
        chosen = next((one for one in done if one.get("ground_truth")), done[0])
    elif guesses:
        issues["predictions of a note beside the one that is read"] += len(guesses) - 1
        chosen = guesses[-1]
    else:
        chosen = {}
    if chosen:
        found["tags"] = _regions(chosen.get("result"), issues, scored=not done)
    _name_text(found)
    return found, bool(guesses) and not done


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _regions(results: Any, issues: Counter[str], *, scored: bool) -> Any:
    """The labels of text among results, with the choices for their regions as attributes.

    Those of an annotation are without the scores that a model gave them.
    """
    if not isinstance(results, list):
        return results
    found = [one for one in results if isinstance(one, dict) and str(one.get("type")).lower() in _CONTROLS]
    names = {str(one["id"]) for one in found if "id" in one}
    choices = [one for one in _objects(results) if one.get("type") == _CHOICES and str(one.get("id")) in names]
    issues["results that are no labels of text"] += len(results) - len(found) - len(choices)
    if not scored:
        issues["scores of predictions that were accepted"] += sum("score" in one for one in (*found, *choices))
        found, choices = (
            [{key: held for key, held in one.items() if key != "score"} for one in some] for some in (found, choices)
        )
    said = defaultdict[str, dict[str, dict[str, Any]]](lambda: {"attributes": {}, "attribute_scores": {}})
    for choice in choices:
        _take_choice(choice, said[str(choice["id"])], issues)
    return [{**one, **(said[str(one["id"])] if str(one.get("id")) in said else {})} for one in found]


def _take_choice(choice: Mapping[str, Any], said: Mapping[str, dict[str, Any]], issues: Counter[str]) -> None:
    """Add what was chosen for a region to its attributes: of several choices the first."""
    name, held = choice.get("from_name"), choice.get("value")
    chosen = held.get(_CHOICES) if isinstance(held, dict) else None
    values = [value for value in chosen if isinstance(value, str) and value] if isinstance(chosen, list) else []
    if not values or not isinstance(name, str) or not name:
        issues["choices for a region without a name or a value"] += 1
        return
    issues["choices for a region beside the first"] += len(values) - (name not in said["attributes"])
    if name not in said["attributes"]:
        said["attributes"][name] = value_of(values[0])
        said["attribute_scores"] |= {name: choice["score"]} if "score" in choice else {}


def _name_text(found: dict[str, Any]) -> None:
    """Call the text of a note `text`: the only string, or the only one in which all quotes are where they should be."""
    texts = {key: held for key, held in found.items() if isinstance(held, str) and key != "id"}
    if "text" in texts:
        return
    if len(texts) > 1:
        values = [one.get("value") for one in _objects(found.get("tags"))]
        texts = {key: held for key, held in texts.items() if all(_is_quoted(value, held) for value in values)}
    if len(texts) == 1:
        found["text"] = found.pop(next(iter(texts)))


def _is_quoted(value: Any, text: str) -> bool:
    """Whether a region quotes this text where it says."""
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return False
    try:
        return _placed(value, text, "") is not None
    except DataError:
        return False


def labelled_spans(item: Mapping[str, Any], text: str, where: str, issues: Counter[str]) -> list[Span]:
    """The spans of a region or of an item of the shorter form: one for each of its labels.

    Raises:
        DataError: If it has no offsets, a label is no string, or its quote is not where it says.
    """
    score = score_in(item, where)
    value = item["value"] if isinstance(item.get("value"), dict) else item
    labels = value["labels"]
    if not all(map(is_unicode, labels)):
        raise DataError(f'{where}: expected strings under "labels"')
    issues["regions without a label"] += not labels
    start, end = edge(value, STARTS, where), edge(value, ENDS, where)
    if isinstance(value.get("text"), str):
        placed = _placed(value, text, where)
        if placed is None:
            raise DataError(f"{where}: its text does not match the note at {start} to {end}")
        issues["spans with offsets in UTF-16, converted"] += placed != (start, end)
        start, end = placed
    said = attributes_in(item, where, issues), attribute_scores_in(item, where)
    return [Span(start, end, label, score, (), *said) for label in labels]


def _placed(value: Mapping[str, Any], text: str, where: str) -> tuple[int, int] | None:
    """Where the quote of a region is in code points: where it says, or there if it counts UTF-16 units, or nowhere."""
    start, end = edge(value, STARTS, where), edge(value, ENDS, where)
    if not 0 <= start <= end:
        return None
    quote = _NOT_SHOWN.sub("", value["text"])
    if _NOT_SHOWN.sub("", text[start:end]) == quote:
        return start, end
    units = text.encode("utf-16-le", "surrogatepass")
    inside = units[2 * start : 2 * end].decode("utf-16-le", "surrogatepass")
    if _NOT_SHOWN.sub("", inside) != quote:
        return None
    first = len(units[: 2 * start].decode("utf-16-le", "surrogatepass"))
    return first, first + len(inside)


# Writing -------------------------------------------------------------------------------------------------------------


def write_label_studio(
    documents: Iterable[Document], path: Path, *, overwrite: bool = False, predicted: bool = False
) -> tuple[Issue, ...]:
    """Write a list of tasks to import.

    Spans become a prediction if a model found them, and an annotation otherwise: predictions have scores. Scores of
    attributes that are absent are counted.

    Args:
        documents: The notes.
        path: A file.
        overwrite: Replace the file.
        predicted: Whether all spans are predictions, in notes without spans too.

    Raises:
        OutputError: As `write_jsonl`.
    """
    counter, comma = IssueCounter(), b"[\n"
    with writing(path, overwrite=overwrite) as file:
        for document in documents:
            file.write(comma + _task(document, counter, predicted=predicted))
            comma = b",\n"
        file.write((b"[" if comma == b"[\n" else b"\n") + b"]\n")
    return counter.issues


def _task(document: Document, counter: IssueCounter, *, predicted: bool) -> bytes:
    spans = counter.contiguous(document)
    scores = [score for span in spans if (score := checked_score(span, document.id)) is not None]
    made: dict[str, Any] = {}
    if predicted or (spans and len(scores) == len(spans)):
        for span in spans:
            if absent := len(span.attribute_scores.keys() - span.attributes.keys()):
                counter.add("scores of absent attributes, left out", document.id, absent)
        results = Interface().results(document, spans)
        least = {"score": min(scores)} if scores else {}  # tasks can be sorted by it
        made["predictions"] = [{"model_version": "cardioner", "result": results, **least}]
    else:
        plain = counter.without_scores(document, spans)
        made["annotations"] = [{"result": Interface().results(document, plain)}]
    data = json_text({"id": document.id, "text": document.text}, document, NOTE_KEYS)
    return encoded(f'{{"data": {data}, {json.dumps(made, ensure_ascii=False)[1:]}', document.id)
