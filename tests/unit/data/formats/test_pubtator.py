"""Reading and writing PubTator."""

from __future__ import annotations

from pathlib import Path

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import Issue, detect_format, read_corpus, write_corpus
from cardioner.errors import FormatError, OutputError

NOTES = (
    "11|t|Coma after aspirin.\n11|a|One case of coma.\n11\t0\t4\tComa\tDisease\tD003128\n"
    "11\t11\t18\taspirin\tChemical\tD001241\n11\t32\t36\tcoma\tDisease\tD003128\tcoma\n11\tCID\tD001241\tD003128\n\n"
    "12|t|No abstract\n12\t3\t11\tabstract\tOther\n"
)
DOCUMENTS = (
    Document(
        "11",
        "Coma after aspirin.\nOne case of coma.",
        (Span(0, 4, "Disease"), Span(11, 18, "Chemical"), Span(32, 36, "Disease")),
    ),
    Document("12", "No abstract", (Span(3, 11, "Other"),)),
)


@pytest.mark.parametrize("name", ["a.pubtator", "a.txt", "folder/a.PubTator", "folder/a.txt", "a.data"])
def test_title_and_abstract_become_text_and_mentions_become_spans(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(NOTES)
    place = path.parent if "/" in name else path
    assert detect_format(place) == "pubtator"
    corpus = read_corpus(place)
    assert corpus.documents == DOCUMENTS
    assert corpus.report.issues == (
        Issue("concepts of mentions", 3, f"{path}:3"),
        Issue("lines without offsets, such as relations", 1, f"{path}:6"),
    )


def test_an_empty_abstract_keeps_the_offsets(tmp_path: Path) -> None:
    (tmp_path / "a.pubtator").write_text("1|t|Coma\n1|a|\n1\t0\t4\tComa\tX\n2|t|\n2|a|pain\n2\t1\t5\tpain\tX\n")
    documents = read_corpus(tmp_path / "a.pubtator").documents
    assert [(document.id, document.text) for document in documents] == [("1", "Coma\n"), ("2", "\npain")]
    assert [document.text_of(span) for document in documents for span in document.spans] == ["Coma", "pain"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("Zebraquist", "expected ID"),
        ("2\t0\t4\tComa\tX", "expected ID"),
        ("1\t0\tx\tComa\tX", "expected the ID, the offsets"),
        ("1\t0\t4\tComa", "expected the ID, the offsets"),
        ("1\t4\t4\tComa\tX", "a span needs 0 <= start < end"),
        ("1\t0\t40\tComa\tX", "ends after the text"),
    ],
)
def test_a_malformed_line_is_named_without_its_text(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "a.pubtator"
    path.write_text(f"1|t|Coma\n{line}\n")
    with pytest.raises(FormatError, match=problem) as caught:
        read_corpus(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "Zebra" not in str(caught.value)
    assert read_corpus(path, on_error="skip").documents == (Document("1", "Coma"),)


def test_a_file_that_is_written_is_what_the_corpora_look_like(tmp_path: Path) -> None:
    note = Document("12", "A \U0001fac0 in coma\nSince\tMonday\nnight", (Span(7, 11, "X"), Span(12, 24, "Y", 0.5)))
    issues = write_corpus([note, Document("13", "")], tmp_path / "a.pubtator")
    assert (tmp_path / "a.pubtator").read_text() == (
        "12|t|A \U0001fac0 in coma\n12|a|Since Monday night\n"
        "12\t7\t11\tcoma\tX\n12\t12\t24\tSince Monday\tY\n\n13|t|\n\n"
    )
    assert [(issue.kind, issue.count) for issue in issues] == [
        ("scores, left out", 1),
        ("texts with tabs or further line breaks, written as spaces", 1),
    ]


@pytest.mark.parametrize("name", ["", " ", "a|b", "a\tb", "a\n", "\ufeffa"])
def test_an_id_that_would_be_read_as_another_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot be one of PubTator"):
        write_corpus([Document(name, "x")], tmp_path / "a.pubtator")


def test_a_label_with_a_tab_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="document 'a': PubTator cannot hold the label"):
        write_corpus([Document("a", "x", (Span(0, 1, "X\t"),))], tmp_path / "a.pubtator")
