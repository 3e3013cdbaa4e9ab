"""BioC XML, against the package `bioc` as a peer."""

from __future__ import annotations

import io
from pathlib import Path

import bioc
import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import Issue, detect_format, read_corpus, write_corpus
from cardioner.errors import DataError, FormatError, OutputError

TITLE, ABSTRACT = "Coma \U0001fac0 <&>", "after\r\naspirin & more"
SAID = (
    '<infon key="attribute:Negation">true</infon><infon key="attribute_score:Negation">0.25</infon>'
    '<infon key="attribute:">x</infon>'
)
PASSAGES = f"""<passage><infon key="type">title</infon><offset>0</offset><text>Coma \U0001fac0 &lt;&amp;&gt;</text>
<annotation id="1"><infon key="type">Disease</infon><infon key="score">0.5</infon><location offset="0" length="4"/>
<text>Coma</text></annotation></passage>
<passage><offset>{len(TITLE) + 2}</offset><sentence><offset>{len(TITLE) + 2}</offset><text>after</text></sentence>
<sentence><offset>{len(TITLE) + 8}</offset><text>aspirin</text>
<annotation id="2"><infon key="type">Drug</infon><infon key="id">D1</infon>{SAID}
<location length="7" offset="{len(TITLE) + 8}"/></annotation></sentence></passage>"""


def put(folder: Path, passages: str, name: str = "a.xml") -> Path:
    (folder / name).write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE collection SYSTEM "BioC.dtd">\n<collection><source/><date/>'
        f"<key/><document><id>7</id>\n{passages}\n</document></collection>\n"
    )
    return folder / name


def test_passages_and_sentences_are_put_at_their_offsets(tmp_path: Path) -> None:
    relation = '<relation id="R"><infon key="x">y</infon><node refid="1" role="a"/></relation>'
    path = put(tmp_path, PASSAGES + relation + "<!-- & -->")
    assert detect_format(path) == detect_format(tmp_path) == "bioc"
    corpus = read_corpus(path)
    start = len(TITLE) + 8
    said = Span(start, start + 7, "Drug", attributes={"Negation": True}, attribute_scores={"Negation": 0.25})
    assert list(corpus) == [Document("7", f"{TITLE}\n\nafter\naspirin", (Span(0, 4, "Disease", 0.5), said))]
    assert corpus.report.issues == (
        Issue("infons of notes and passages", 1, f"{path}:3"),
        Issue("other infons of annotations", 2, f"{path}:9"),
        Issue("relations", 1, f"{path}:3"),
    )


def test_the_package_reads_what_we_write_and_we_read_what_it_writes(tmp_path: Path) -> None:
    text = f"\ufeff{TITLE}\n{ABSTRACT}"
    spans = (Span(1, 5, "A"), Span(1, len(text), "B <", 1e-7, ((1, 5), (9, len(text)))))
    write_corpus([Document("\u0301", text, spans), Document("b", "")], tmp_path / "ours.xml", "bioc")
    collection = bioc.loads((tmp_path / "ours.xml").read_bytes().decode())
    assert [document.id for document in collection.documents] == ["\u0301", "b"]
    (passage,) = collection.documents[0].passages
    assert passage.text == text
    for annotation, span in zip(passage.annotations, spans, strict=True):
        pieces = [(place.offset, place.offset + place.length) for place in annotation.locations]
        assert pieces == list(span.fragments or [(span.start, span.end)])
        assert annotation.infons["type"] == span.label
        assert annotation.text == " ".join(text[start:end] for start, end in pieces)
    theirs = io.BytesIO()
    with bioc.biocxml.iterwrite(theirs) as writer:
        writer.write_collection_info(collection)
        for document in collection.documents:
            writer.write_document(document)
    (tmp_path / "theirs.xml").write_bytes(theirs.getvalue())
    assert read_corpus(tmp_path / "theirs.xml") == read_corpus(tmp_path / "ours.xml")


@pytest.mark.parametrize(
    ("passages", "line", "problem"),
    [
        (PASSAGES.replace(">Coma<", ">Zebra<"), 5, "the text of the annotation does not match the text at 0 to 4"),
        (PASSAGES.replace('length="4"', 'length="0"'), 5, "a span needs start < end, found 0 to 0"),
        (PASSAGES.replace('length="4"', 'length="Zebra"'), 5, "offset and length of a location as a whole number"),
        (PASSAGES.replace('<location offset="0" length="4"/>', ""), 5, "expected a location of the annotation"),
        (PASSAGES.replace("0.5", "Zebra"), 5, "expected a score from 0 to 1"),
        (
            PASSAGES.replace("<offset>0<", "<offset>Zebra<"),
            3,
            "an offset of each passage and sentence as a whole number",
        ),
        (PASSAGES + "<passage><offset>3</offset><text>Zebra</text></passage>", 3, "passages one after the other"),
        (PASSAGES + "<passage><offset>9999999</offset><text>Zebra</text></passage>", 3, "passages one after the other"),
        (PASSAGES + "</Zebra>", 10, "not well-formed XML"),
    ],
)
def test_what_is_malformed_is_named_by_its_line_without_its_text(
    tmp_path: Path, passages: str, line: int, problem: str
) -> None:
    path = put(tmp_path, passages)
    with pytest.raises(FormatError) as caught:
        read_corpus(path, "bioc")
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert problem in str(caught.value)
    assert "Zebra" not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize("content", ["<html><document/></html>", "<collection>", "", "Zebra"])
def test_another_file_is_no_empty_corpus(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(DataError, match=r"a\.xml:1: |a\.xml: ") as caught:
        read_corpus(tmp_path / "a.xml", "bioc")
    assert "Zebra" not in str(caught.value)


def test_other_xml_is_not_taken_for_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<?xml version='1.0'?><html><collection/></html>")
    with pytest.raises(DataError, match="the format is not clear from the name"):
        read_corpus(tmp_path / "a.xml")


def test_notes_need_ids_and_annotations_types(tmp_path: Path) -> None:
    (tmp_path / "b.xml").write_text("<collection><document/></collection>")
    with pytest.raises(DataError, match="expected an id of the document, found none"):
        read_corpus(tmp_path / "b.xml")
    corpus = read_corpus(put(tmp_path, PASSAGES.replace('key="type">Disease', 'key="kind">Disease')))
    assert [span.label for span in corpus[0].spans] == ["Drug"]
    assert "annotations without a type" in [issue.kind for issue in corpus.report.issues]
    with pytest.raises(OutputError, match="a document without an id"):
        write_corpus([Document("", "x")], tmp_path / "c.bioc")


def test_neither_files_nor_entities_of_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("SECRET")
    path = put(tmp_path, "<passage><offset>0</offset><text>a &x; b</text></passage>")
    entity = f'"BioC.dtd" [<!ENTITY x SYSTEM "{(tmp_path / "secret").as_uri()}">]'
    path.write_text(path.read_text().replace('"BioC.dtd"', entity))
    with pytest.raises(DataError, match="not well-formed XML"):
        read_corpus(path, "bioc")
