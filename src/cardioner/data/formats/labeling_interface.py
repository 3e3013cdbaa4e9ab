"""The labeling interface of a project of Label Studio: what it calls its parts (https://labelstud.io/tags)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from cardioner.data.attributes import TRUE, value_text
from cardioner.errors import DataError

if TYPE_CHECKING:
    from cardioner.data.documents import Document, Span


AttributeValues = Mapping[str, Iterable["str | bool | None"]]
"""The values of each attribute of spans; `None`, its absence, is no value."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What the labeling interface of a project calls its parts.

    Attributes:
        labels_name: The `name` of its `<Labels>`, which results call `from_name`.
        text_name: The `name` of its `<Text>`, which results call `to_name`.
        key: Where the text lies in the `data` of a task.
        labels: For each entity type, how results call it. One that is not here is called by its own name.
        controls: For each attribute in lower case, its control; `None` where all go by the names of the attributes.
    """

    labels_name: str = "label"
    text_name: str = "text"
    key: str = "text"
    labels: Mapping[str, str] = field(default_factory=dict)
    controls: Mapping[str, Control] | None = None

    def results(self, document: Document, spans: Iterable[Span]) -> list[dict[str, Any]]:
        """The results of spans of a note, as annotations and predictions have them, each with those of its attributes.

        Attributes that the interface has no control or no choice for are left out: see `shows`.
        """
        found = []
        for number, span in enumerate(spans, start=1):
            label = self.labels.get(span.label, span.label)
            marks = [("labels", self.labels_name, label, span.score)]
            for name, value in span.attributes.items():
                if (chosen := self._choice(name, value)) is not None:
                    marks.append(("choices", *chosen, span.attribute_scores.get(name)))
            place = {"start": span.start, "end": span.end, "text": document.text[span.start : span.end]}
            found += [
                {
                    "id": f"span-{number}",
                    "type": kind,
                    "from_name": control,
                    "to_name": self.text_name,
                    "value": {**place, kind: [chosen]},
                    **({} if score is None else {"score": float(score)}),
                }
                for kind, control, chosen, score in marks
            ]
        return found

    def shows(self, name: str, value: str | bool) -> bool:
        """Whether results can say so of a span."""
        return self._choice(name, value) is not None

    def _choice(self, name: str, value: str | bool) -> tuple[str, str] | None:
        """The control of an attribute and its choice for a value."""
        if self.controls is None:
            return name, value_text(value)
        control = self.controls.get(name.casefold())
        chosen = None if control is None else control.choice(value_text(value))
        return None if control is None or chosen is None else (control.name, chosen)


class Control(NamedTuple):
    """A `<Choices perRegion="true">` of an interface.

    Attributes:
        name: Which results call `from_name`.
        choices: Its choices, in lower case, and how results call them.
    """

    name: str
    choices: Mapping[str, str]

    def choice(self, value: str) -> str | None:
        """The choice for a value; one that is all there is says that an attribute is there."""
        if value == TRUE and len(self.choices) == 1:
            return next(iter(self.choices.values()))
        return self.choices.get(value.casefold())


def labeling_interface(labels: Iterable[str], attributes: AttributeValues = MappingProxyType({})) -> str:
    """The labeling interface of a project, with the names that `write_label_studio` uses.

    Args:
        labels: The entity types.
        attributes: The values of each attribute of spans.
    """
    names = Interface()
    view = ET.Element("View")
    control = ET.SubElement(view, "Labels", name=names.labels_name, toName=names.text_name)
    for label in sorted(labels):
        ET.SubElement(control, "Label", value=label)
    ET.SubElement(view, "Text", name=names.text_name, value=f"${names.key}")
    for name in sorted(attributes):
        shown = ET.SubElement(view, "View", visibleWhen="region-selected")
        ET.SubElement(shown, "Header", value=name)
        choices = ET.SubElement(shown, "Choices", name=name, toName=names.text_name, perRegion="true")
        for value in sorted(value_text(value) for value in attributes[name] if value):
            ET.SubElement(choices, "Choice", value=value)
    return ET.tostring(view, encoding="unicode")


def read_interface(config: str, labels: Iterable[str]) -> Interface:
    """The names in a project's labeling interface: of the first `<Labels>` whose text is a `<Text>`, and of choices.

    Args:
        config: The labeling interface.
        labels: The entity types to find in it; they are compared without regard to case.

    Raises:
        DataError: If it is no XML, or has no labels for a text in the tasks themselves.
    """
    if "<!" in config.replace("<!--", ""):
        raise DataError("expected a labeling interface without a document type")
    try:
        view = ET.fromstring(config)  # noqa: S314 - entities need a document type
    except ET.ParseError as error:
        raise DataError(f"expected a labeling interface in XML, found an error at {error.position}") from None
    texts = {text.get("name"): text for text in view.iter("Text")}
    control = next((one for one in view.iter("Labels") if one.get("toName") in texts), None)
    text = None if control is None else texts[control.get("toName")]
    if control is None or text is None or text.get("valueType") == "url":
        raise DataError(
            "expected a labeling interface with <Labels> for a <Text> that is no URL, as in <View><Labels "
            'name="label" toName="text"><Label value="SYMPTOM"/></Labels><Text name="text" value="$text"/></View>'
        )
    names = _names(control.iter("Label"))
    exact = dict(names) | {shown: shown for _, shown in names}
    loose = {name.casefold(): shown for name, shown in exact.items()}
    found = {
        label: exact.get(label) or loose[label.casefold()]
        for label in labels
        if label in exact or label.casefold() in loose
    }
    key = (text.get("value") or "").lstrip("$")
    return Interface(control.get("name", ""), text.get("name", ""), key, found, _controls(view, text.get("name", "")))


def _controls(view: ET.Element, text_name: str) -> dict[str, Control]:
    """The controls for attributes of regions of a text, by their names in lower case."""
    controls = {}
    for control in view.iter("Choices"):
        if control.get("toName") == text_name and (control.get("perRegion") or "").lower() == "true":
            name, names = control.get("name", ""), _names(control.iter("Choice"))
            controls[name.casefold()] = Control(name, {value.casefold(): shown for value, shown in names})
    return controls


def _names(options: Iterable[ET.Element]) -> list[tuple[str, str]]:
    """What an interface shows of labels or choices, and how results call them: by their alias, if they have one."""
    return [(one.get("value") or "", one.get("alias") or one.get("value") or "") for one in options]
