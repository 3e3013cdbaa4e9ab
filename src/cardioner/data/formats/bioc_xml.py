"""BioC XML: notes as passages, with annotations that have types and locations (https://doi.org/10.1093/database/bat064).

Offsets count code points from the beginning of the note, and so do those of passages: what lies between two passages is
not in the file.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cardioner._io import writing
from cardioner.data.attributes import value_of, value_text
from cardioner.data.corpus import IssueCounter
from cardioner.data.documents import Document
from cardioner.data.formats.quotes import Quote, matching, span_of
from cardioner.data.formats.recognition import line_files
from cardioner.data.formats.xml_text import holds_attribute, lxml_etree, text_for_xml
from cardioner.errors import DataError, FormatError, OutputError, many

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from lxml.etree import _Element

    from cardioner.data.corpus import Issue
    from cardioner.data.formats.reading import Reading

_WIDEST_GAP = 1_000_000
"""Characters between two passages: with more, they would not be of one note."""
_NUMBER = re.compile(r"\s*([0-9]{1,15})\s*")
_TYPE, _SCORE = "type", "score"
_ATTRIBUTE, _ATTRIBUTE_SCORE = "attribute:", "attribute_score:"
"""How the keys of infons begin that hold an attribute or its score; its name follows."""


def read_bioc(path: Path, reading: Reading) -> Iterator[Document]:
    """Read a file, or the `.xml` files of such a kind in a folder and its sub-folders, in sorted order.

    The text of a note is that of its passages, or of their sentences, each at its offset, with newlines where the file
    has nothing. The label of an annotation is its infon `type`, its score the infon `score`. An attribute `Negation` is
    the infon `attribute:Negation`, with `attribute_score:Negation`. Relations and other infons are counted.

    Raises:
        UsageError: If lxml is not installed.
    """
    lxml_etree()
    for _, file in line_files(path, "bioc", reading):
        with reading.guarded(file):
            for element in _documents(file):
                with reading.guarded(file, element.sourceline or 1):
                    yield _read_document(element, file, reading)


def write_bioc(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write a file with one passage a note.

    Characters that XML cannot hold become spaces and are counted; an attribute that has some is left out and counted.

    Raises:
        OutputError: If the file exists and may not be replaced, XML cannot hold an id or a label, or the disk is full.
        UsageError: If lxml is not installed.
    """
    etree, counter = lxml_etree(), IssueCounter()
    with writing(path, overwrite=overwrite) as file:
        file.write(b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE collection SYSTEM "BioC.dtd">\n')
        file.write(b"<collection><source>cardioner</source><date/><key/>\n")
        for document in documents:
            file.write(etree.tostring(_element(document, counter), encoding="utf-8") + b"\n")
        file.write(b"</collection>\n")
    return counter.issues


# Reading -------------------------------------------------------------------------------------------------------------


def _documents(file: Path) -> Iterator[_Element]:
    """The documents of a file, one at a time; nothing outside of the file is read, whatever it names."""
    etree = lxml_etree()
    context = etree.iterparse(str(file), tag="document", remove_comments=True, remove_pis=True)
    line, problem = 0, ""
    try:
        for _, element in context:
            yield element
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
        if context.root is None or context.root.tag != "collection":
            line, problem = 1, "expected a collection of BioC, found another kind of XML"
    except etree.XMLSyntaxError as error:
        line, problem = error.lineno or 1, "not well-formed XML, or not in the encoding that it names"
    except OSError:
        raise DataError(f"{file}: cannot be read as XML") from None
    if problem:
        raise FormatError(file, line, problem)


def _read_document(element: _Element, file: Path, reading: Reading) -> Document:
    name, line = element.findtext("id"), element.sourceline or 1
    if not name:
        raise DataError("expected an id of the document, found none")
    text, quotes = _text(element), []
    for annotation in element.iter("annotation"):
        with reading.guarded(file, annotation.sourceline or line):
            quotes += _quotes(annotation, file, reading)
    for kind, tag in (("relations", "relation"), ("infons of notes and passages", "infon")):
        found = [one for one in element.iter(tag) if one.getparent().tag not in ("annotation", "relation")]
        if found:
            reading.add_issue(kind, file, line, count=len(found))
    spans = (quote.span for quote in matching(quotes, text, "text of the annotation", reading))
    return Document(name, text, tuple(sorted(spans)))


def _text(document: _Element) -> str:
    """The text of a note: passages, or their sentences, each at its offset."""
    text = ""
    for passage in document.findall("passage"):
        parts = [passage] if passage.find("text") is not None else passage.findall("sentence")
        for part in parts:
            offset = _number(part.findtext("offset"), "an offset of each passage and sentence")
            if not len(text) <= offset <= len(text) + _WIDEST_GAP:
                raise DataError(
                    "expected passages one after the other, "
                    f"found one at {offset} after {many(len(text), 'character')} of text"
                )
            text += "\n" * (offset - len(text)) + (part.findtext("text") or "")
    return text


def _number(value: str | None, what: str) -> int:
    found = _NUMBER.fullmatch(value or "")
    if found is None:
        raise DataError(f"expected {what} as a whole number, found something else")
    return int(found[1])


def _quotes(annotation: _Element, file: Path, reading: Reading) -> list[Quote]:
    """The span of an annotation, with its quote; nothing if it has no type."""
    line = annotation.sourceline or 1
    infons = {infon.get("key") or "": infon.text or "" for infon in annotation.findall("infon")}
    said = {key: value_of(value) for key, value in _called(_ATTRIBUTE, infons).items()}
    sure = {key: _score(value) for key, value in _called(_ATTRIBUTE_SCORE, infons).items()}
    if others := len(infons) - len({_TYPE, _SCORE} & infons.keys()) - len(said) - len(sure):
        reading.add_issue("other infons of annotations", file, line, count=others)
    if not infons.get(_TYPE):
        reading.add_issue("annotations without a type", file, line)
        return []
    pieces = []
    for location in annotation.findall("location"):
        start, length = (
            _number(location.get(name), "offset and length of a location") for name in ("offset", "length")
        )
        pieces.append((start, start + length))
    if not pieces:
        raise DataError("expected a location of the annotation, found none")
    span = span_of(infons[_TYPE], pieces, _score(infons[_SCORE]) if _SCORE in infons else None)
    span = replace(span, attributes=said, attribute_scores=sure)
    orders = (pieces, sorted(pieces), span.fragments or [(span.start, span.end)])
    return [Quote(span, annotation.findtext("text") or None, file, line, orders=orders)]


def _called(prefix: str, infons: Mapping[str, str]) -> dict[str, str]:
    """The infons whose key begins so, by the rest of the key, if there is one and a value."""
    named = {key.removeprefix(prefix): value for key, value in infons.items() if key.startswith(prefix)}
    return {name: value for name, value in named.items() if name and value}


def _score(value: str) -> float:
    try:
        score = float(value)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise DataError("expected a score from 0 to 1, found something else")
    return score


# Writing -------------------------------------------------------------------------------------------------------------


def _element(document: Document, counter: IssueCounter) -> Any:
    if not document.id:
        raise OutputError("a document without an id cannot be written as BioC")
    counter.add_metadata(document)
    etree, text = lxml_etree(), text_for_xml(document, counter)
    element = etree.Element("document")
    etree.SubElement(element, "id").text = document.id
    passage = etree.SubElement(element, "passage")
    etree.SubElement(passage, "offset").text = "0"
    etree.SubElement(passage, "text").text = text
    for number, span in enumerate(document.spans, start=1):
        annotation = etree.SubElement(passage, "annotation", id=str(number))
        span = counter.with_attributes(document, span, holds_attribute)  # noqa: PLW2901
        infons = {_TYPE: span.label} | ({} if span.score is None else {_SCORE: repr(float(span.score))})
        infons |= {f"{_ATTRIBUTE}{name}": value_text(value) for name, value in span.attributes.items()}
        infons |= {f"{_ATTRIBUTE_SCORE}{name}": repr(float(score)) for name, score in span.attribute_scores.items()}
        for key, value in infons.items():
            etree.SubElement(annotation, "infon", key=key).text = value
        pieces = span.fragments or ((span.start, span.end),)
        for start, end in pieces:
            etree.SubElement(annotation, "location", offset=str(start), length=str(end - start))
        etree.SubElement(annotation, "text").text = " ".join(text[start:end] for start, end in pieces)
    return element
