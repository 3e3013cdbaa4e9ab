"""Reading and writing DocBin of spaCy: ours come back equal, those of others with every span."""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin
from spacy.tokens import Span as TokenSpan
from spacy.training import Example

from cardioner.data.documents import Document, Span
from cardioner.data.formats import Issue, detect_format, read_corpus, write_corpus
from cardioner.errors import CardioNERError, DataError, OutputError

TEXT = "No oedema. Bisoprolol 2.5mg."
NOTES = (
    Document(
        "ward/1",
        TEXT,
        (
            Span(3, 9, "SYMPTOM", 0.1 + 0.2, attributes={"Negation": True}, attribute_scores={"Negation": 0.9}),
            Span(4, 8, "SYMPTOM"),
            Span(3, 9, "FINDING", fragments=((3, 4), (7, 9))),
            Span(22, 25, "DOSE"),
        ),
        {"patient": 7, "tags of others": ["a", {"b": None}]},
    ),
    Document("2", "Syncope \U0001fac0."),
    Document("", ""),
)


def saved(place: Path, *docs: Doc) -> Path:
    DocBin(docs=docs, store_user_data=True).to_disk(place)
    return place


def test_documents_come_back_equal_and_every_time_as_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.spacy", "b.spacy"):
        assert write_corpus(NOTES, tmp_path / name) == ()
    assert (tmp_path / "a.spacy").read_bytes() == (tmp_path / "b.spacy").read_bytes()
    assert detect_format(tmp_path / "a.spacy") == "docbin"
    corpus = read_corpus(tmp_path / "a.spacy")
    assert corpus.documents == NOTES
    assert corpus.report.issues == ()
    for found, given in zip(corpus[0].spans, NOTES[0].spans, strict=True):
        assert (found.attributes, found.attribute_scores) == (given.attributes, given.attribute_scores)


def test_a_folder_of_files_is_read(tmp_path: Path) -> None:
    write_corpus(NOTES[:1], tmp_path / "notes" / "ward" / "b.spacy")
    write_corpus(NOTES[1:2], tmp_path / "notes" / "a.spacy")
    assert detect_format(tmp_path / "notes") == "docbin"
    assert [document.id for document in read_corpus(tmp_path / "notes")] == ["2", "ward/1"]


def test_spacy_itself_reads_tokens_spans_and_entities_and_can_train_on_them(tmp_path: Path) -> None:
    write_corpus(NOTES[:1], tmp_path / "a.spacy")
    nlp = spacy.blank("en")
    (doc,) = DocBin().from_disk(tmp_path / "a.spacy").get_docs(nlp.vocab)
    assert doc.text == TEXT
    assert sorted(span.text for span in doc.spans["cardioner"]) == ["2.5", "oedema", "oedema", "oedema"]
    assert [(ent.text, ent.label_) for ent in doc.ents] == [("oedema", "SYMPTOM"), ("2.5", "DOSE")]
    assert {span.label_ for span in Example(nlp(TEXT), doc).get_aligned_spans_y2x(doc.spans["cardioner"])}


def test_groups_and_entities_of_others_are_read_once_each(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    doc = nlp(TEXT)
    doc.spans["sc"] = [doc[1:2], TokenSpan(doc, 1, 2, label="SYMPTOM"), TokenSpan(doc, 0, 2, label="FINDING")]
    doc.spans["other"] = [TokenSpan(doc, 1, 2, label="SYMPTOM")]
    doc.ents = [TokenSpan(doc, 3, 4, label="DRUG", kb_id="C09")]
    doc.cats = {"urgent": 0.5}
    Doc.set_extension("note_id", default=None, force=True)
    Doc.set_extension("ward", default=None, force=True)
    doc._.note_id, doc._.ward = "n7", "east"
    corpus = read_corpus(saved(tmp_path / "a.spacy", doc, nlp("Syncope.")))
    first, second = corpus.documents
    assert (first.id, second.id) == ("n7", "a-2")
    assert first.spans == (Span(0, 9, "FINDING"), Span(3, 9, "SYMPTOM"), Span(11, 21, "DRUG"))
    place = str(tmp_path / "a.spacy")
    assert corpus.report.issues == (
        Issue("categories of notes", 1, place),
        Issue("data of extensions", 1, place),
        Issue("ids in a knowledge base", 1, place),
        Issue("notes without tags", 1, place),
        Issue("spans without a label", 1, place),
    )
    with pytest.raises(DataError, match="'a-2' has neither groups of spans nor entities"):
        read_corpus(place, require_annotations=True)


def test_spans_of_others_beside_ours_are_counted(tmp_path: Path) -> None:
    write_corpus(NOTES[:1], tmp_path / "a.spacy")
    (doc,) = DocBin().from_disk(tmp_path / "a.spacy").get_docs(spacy.blank("en").vocab)
    doc.spans["sc"] = [TokenSpan(doc, 0, 1, label="CUE"), doc.spans["cardioner"][0]]
    corpus = read_corpus(saved(tmp_path / "b.spacy", doc))
    assert corpus.documents == NOTES[:1]
    assert corpus.report.issues == (Issue("spans outside of the group cardioner", 1, str(tmp_path / "b.spacy")),)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: b"Zebraquist", lambda _: b""])
def test_what_is_no_docbin_is_named(damage: object, tmp_path: Path) -> None:
    write_corpus(NOTES, tmp_path / "a.spacy")
    (tmp_path / "a.spacy").write_bytes(damage((tmp_path / "a.spacy").read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError, match=r"a\.spacy: expected a DocBin of spaCy") as raised:
        read_corpus(tmp_path / "a.spacy")
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "record", [{"label": "X", "id": "", "start": "Zebraquist", "end": 2}, {"label": "X", "id": ""}]
)
def test_records_that_are_none_make_a_file_damaged(record: dict[str, object], tmp_path: Path) -> None:
    doc = spacy.blank("en")(TEXT)
    doc.spans["cardioner"] = [TokenSpan(doc, 0, 1, label="X")]
    doc.user_data["._.", "cardioner_records", 0, 2] = [record]  # type: ignore[index]
    with pytest.raises(DataError, match="expected a DocBin of spaCy") as raised:
        read_corpus(saved(tmp_path / "a.spacy", doc))
    assert "Zebraquist" not in str(raised.value)


def test_whatever_changes_in_a_file_it_gives_documents_or_one_line_without_text(tmp_path: Path) -> None:
    write_corpus(NOTES, tmp_path / "a.spacy")
    content, chance = zlib.decompress((tmp_path / "a.spacy").read_bytes()), random.Random(5)
    said = []
    for _ in range(80):
        changed = bytearray(content)
        changed[chance.randrange(len(changed))] = chance.randrange(256)
        (tmp_path / "a.spacy").write_bytes(zlib.compress(bytes(changed), 1))
        try:
            read_corpus(tmp_path / "a.spacy")
        except CardioNERError as error:
            said.append(str(error))
    assert 0 < len(said) < 80
    assert [word for word in ("oedema", "Bisoprolol", "Syncope") if word in "".join(said)] == []


def test_what_a_file_cannot_hold_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for document in (Document("a", "b c", metadata={"x": object()}), Document("a", "b c", (Span(0, 1, "\ud800"),))):
        with pytest.raises(OutputError):
            write_corpus([document], tmp_path / "a.spacy")
    write_corpus(NOTES, tmp_path / "a.spacy")
    with pytest.raises(OutputError, match="exists"):
        write_corpus(NOTES, tmp_path / "a.spacy")
    assert [path.name for path in tmp_path.iterdir()] == ["a.spacy"]
