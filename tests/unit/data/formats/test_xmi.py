"""UIMA CAS XMI as INCEpTION writes it: layers of a project's own, offsets in UTF-16 units, and what is no entity."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import Issue, detect_format, read_corpus, write_corpus
from cardioner.errors import CardioNERError, DataError, OutputError, UsageError

TEXT = "\U0001fac0 Fever\r\nand\tcough"
ENTITY = "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity"
LAYERS = {
    ENTITY: ["value", "identifier"],
    "de.tudarmstadt.ukp.dkpro.core.api.segmentation.type.Sentence": [],
    "webanno.custom.Finding": [],
    "webanno.custom.Drug": ["ATC"],
    "webanno.custom.Part": ["label", "side"],
    "webanno.custom.Sign": ["label", "Negation", "Time", "Kin", "Sure", "Sure_score"],
    "webanno.custom.Cause": ["Dependent", "Governor", "value"],
}


RANGES = dict.fromkeys(("Dependent", "Governor"), "uima.tcas.Annotation") | {"Sure_score": "uima.cas.Float"}
RANGES |= dict.fromkeys(("Negation", "Kin"), "uima.cas.Boolean")


def types() -> str:
    described = "".join(
        f"<typeDescription><name>{name}</name><supertypeName>uima.tcas.Annotation</supertypeName><features>"
        + "".join(
            f"<featureDescription><name>{feature}</name><rangeTypeName>"
            + RANGES.get(feature, "uima.cas.String")
            + "</rangeTypeName></featureDescription>"
            for feature in features
        )
        + "</features></typeDescription>"
        for name, features in LAYERS.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><typeSystemDescription xmlns="http://uima.apache.org/resourceSpecifier">'
        f"<types>{described}</types></typeSystemDescription>"
    )


def xmi(*annotations: str, text: str | None = TEXT) -> str:
    """A note; the offsets in it count UTF-16 units."""
    escaped = "" if text is None else text.replace("\r", "&#13;").replace("\n", "&#10;").replace("\t", "&#9;")
    sofa = "" if text is None else f'<cas:Sofa xmi:id="1" sofaNum="1" sofaID="_InitialView" sofaString="{escaped}"/>'
    items = "".join(one.replace("/>", f' xmi:id="{10 + number}" sofa="1"/>') for number, one in enumerate(annotations))
    members = " ".join(str(10 + number) for number in range(len(annotations)))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<xmi:XMI xmlns:xmi="http://www.omg.org/XMI" '
        'xmlns:cas="http:///uima/cas.ecore" xmlns:custom="http:///webanno/custom.ecore" '
        'xmlns:ner="http:///de/tudarmstadt/ukp/dkpro/core/api/ner/type.ecore" '
        'xmlns:seg="http:///de/tudarmstadt/ukp/dkpro/core/api/segmentation/type.ecore" xmi:version="2.0">'
        f'<cas:NULL xmi:id="0"/>{items}{sofa}<cas:View sofa="1" members="{members}"/></xmi:XMI>'
    )


def put(folder: Path, content: str, name: str = "notes/a.txt.xmi") -> Path:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / "TypeSystem.xml").write_text(types())
    (folder / name).write_text(content)
    return folder


def test_entities_and_layers_of_a_project_are_spans_and_all_else_is_counted(tmp_path: Path) -> None:
    put(
        tmp_path,
        xmi(
            '<seg:Sentence begin="0" end="8"/>',
            '<ner:NamedEntity begin="3" end="8" value="SYMPTOM" identifier="R50"/>',
            '<ner:NamedEntity begin="3" end="8"/>',
            '<ner:NamedEntity begin="3" end="3" value="SYMPTOM"/>',
            '<custom:Finding begin="14" end="19"/>',
            '<custom:Drug begin="0" end="2" ATC="C07"/>',
            '<custom:Part begin="10" end="13" side="left" label="HAND"/>',
            '<custom:Cause begin="3" end="8" Dependent="14" Governor="11" value="x"/>',
        ),
    )
    assert detect_format(tmp_path) == "xmi"
    corpus = read_corpus(tmp_path)
    document = corpus[0]
    assert (document.id, document.text) == ("notes/a.txt", TEXT)
    assert [(document.text_of(span), span.label) for span in document.spans] == [
        ("\U0001fac0", "C07"),
        ("Fever", "SYMPTOM"),
        ("and", "HAND"),
        ("cough", "Finding"),
    ]
    assert [dict(span.attributes) for span in document.spans] == [{}, {}, {"side": "left"}, {}]
    assert {issue.kind: issue.count for issue in corpus.report.issues} == {
        "annotations of the layer Sentence": 1,
        "annotations without a label": 1,
        "annotations without length": 1,
        "other features of annotations": 1,
        "relations": 1,
    }


def test_features_of_a_layer_are_attributes_if_they_are_strings_or_truth_values(tmp_path: Path) -> None:
    put(
        tmp_path,
        xmi(
            '<custom:Sign begin="3" end="8" label="X" Negation="true" Time="" Kin="false" Sure="low" Sure_score="0.5"/>'
        ),
    )
    corpus = read_corpus(tmp_path)
    (span,) = corpus[0].spans
    assert span.attributes == {"Negation": True, "Sure": "low"}
    assert span.attribute_scores == {"Sure": 0.5}
    assert corpus.report.issues == ()


def test_attributes_are_features_and_those_with_other_names_are_counted(tmp_path: Path) -> None:
    odd = {"begin": True, "value": True, "class": True, "get": True, "of kin": True, "x_score": True, "Form": "\f"}
    notes = [
        Document("a", TEXT, (Span(2, 7, "X", attributes={"Größe": "a\n", **odd}, attribute_scores={"begin": 0.5}),)),
        Document("b", TEXT, (Span(2, 7, "X", 0.5, (), {"Negation": True}, {"Negation": 0.5, "Größe": 0.25}),)),
    ]
    issues = write_corpus(notes, tmp_path / "out", "xmi")
    assert issues == (Issue("attributes, left out", 7, "a"),)
    kept = notes[0].with_spans([Span(2, 7, "X", attributes={"Größe": "a\n"})])
    assert list(read_corpus(tmp_path / "out")) == [kept, notes[1]]


def test_offsets_are_written_in_utf_16_units_as_java_counts_them(tmp_path: Path) -> None:
    write_corpus([Document("a", TEXT, (Span(2, 7, "X", 0.1 + 0.2), Span(0, 1, "Y")))], tmp_path / "out", "xmi")
    content = (tmp_path / "out" / "a.xmi").read_text()
    assert 'begin="3" end="8" value="X" score="0.30000000000000004"' in content
    assert 'begin="0" end="2" value="Y"' in content


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "expected a note in UIMA CAS XMI, found something else"),
        (xmi('<custom:Unknown begin="0" end="1"/>'), "found an annotation of a type that the type system lacks"),
        (xmi(text=None), "found "),
        (
            xmi('<ner:NamedEntity begin="1" end="4" value="X"/>'),
            "expected offsets in UTF-16 units, found some in a char",
        ),
        (
            xmi('<ner:NamedEntity begin="0" end="99" value="X"/>'),
            "expected offsets in UTF-16 units, found some in a ch",
        ),
        (xmi('<ner:NamedEntity begin="9" end="2" value="X"/>'), "a span needs 0 <= start < end, found"),
        (xmi('<ner:NamedEntity begin="Fever" end="2" value="X"/>'), "found something else"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_without_its_text(tmp_path: Path, content: str, problem: str) -> None:
    file = put(tmp_path, content) / "notes" / "a.txt.xmi"
    with pytest.raises(DataError) as caught:
        read_corpus(tmp_path, "xmi")
    assert str(caught.value).startswith(f"{file}: ")
    assert problem in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert "Fever" not in str(error)
        error = error.__cause__ or error.__context__
    assert read_corpus(tmp_path, "xmi", on_error="skip").report.malformed == 1


def test_types_are_looked_for_beside_the_note_and_above_it_in_the_folder_that_was_given(tmp_path: Path) -> None:
    folder = put(tmp_path, xmi())
    assert read_corpus(folder).documents == (Document("notes/a.txt", TEXT),)
    with pytest.raises(DataError, match=r"found no TypeSystem\.xml beside it or above it"):
        read_corpus(folder / "notes")
    (folder / "notes" / "TypeSystem.xml").write_text("<types>Fever</types>" * 2)
    with pytest.raises(DataError, match=r"TypeSystem\.xml: expected a type system of UIMA") as caught:
        read_corpus(folder)
    assert "Fever" not in str(caught.value)


def test_what_xml_cannot_hold_becomes_a_space_and_is_counted(tmp_path: Path) -> None:
    for form, place in (("xmi", "x"), ("bioc", "n.bioc")):
        note = Document("a", "page\x0cnext\ufffe\x00", (Span(5, 9, "X"),))
        (issue,) = write_corpus([note], tmp_path / place, form)
        assert (issue.kind, issue.count) == ("texts with characters that XML cannot hold, written as spaces", 1)
        assert read_corpus(tmp_path / place).documents == (Document("a", "page next  ", (Span(5, 9, "X"),)),)
        with pytest.raises(OutputError, match="document 'b': the id or a label has a character that XML cannot hold"):
            write_corpus([Document("b", "x", (Span(0, 1, "\x0c"),))], tmp_path / f"b{place}", form)


@pytest.mark.parametrize(("form", "module", "package"), [("xmi", "cassis", "dkpro-cassis"), ("bioc", "lxml", "lxml")])
def test_a_package_that_is_missing_is_named(
    form: str, module: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / f"a.{form}"
    write_corpus([Document("a", "x")], place, form)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.etree", None)
    for attempt in (
        lambda: read_corpus(place, form),
        lambda: write_corpus([Document("a", "x")], tmp_path / "other", form),
    ):
        with pytest.raises(UsageError, match=f"needs {package}: pip install {package}$"):
            attempt()
    assert not (tmp_path / "other").exists()


def test_an_external_entity_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("SECRET")
    head = f'<!DOCTYPE xmi:XMI [<!ENTITY x SYSTEM "{(tmp_path / "secret").as_uri()}">]>'
    content = xmi(text="Fever").replace("<xmi:XMI", f"{head}<xmi:XMI", 1).replace('"Fever"', '"Fever &x;"')
    put(tmp_path, content)
    with pytest.raises(CardioNERError):
        read_corpus(tmp_path)
