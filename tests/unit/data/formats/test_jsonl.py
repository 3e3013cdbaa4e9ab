"""Reading and writing JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import Issue, detect_format, read_corpus, write_corpus
from cardioner.errors import DataError, FormatError, OutputError

CANARY = "Zebraquist"
TEXT = f"Severe {CANARY} pain."


def put(folder: Path, *rows: Any, name: str = "notes.jsonl") -> Path:
    """A file of rows: strings and bytes as they are, others as JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def problem_of(path: Path) -> str:
    """What is wrong with the only malformed line of a file; the note's words are never told."""
    with pytest.raises(FormatError) as caught:
        read_corpus(path, "jsonl")
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY not in str(error)
        error = error.__cause__ or error.__context__
    return str(caught.value)


def note(**changes: Any) -> dict[str, Any]:
    row = {"id": "a", "text": TEXT, "tags": [{"start": 0, "end": 6, "tag": "X"}], **changes}
    return {key: value for key, value in row.items() if value is not ...}


# Reading


@pytest.mark.parametrize("spans", ["tags", "spans", "entities"])
@pytest.mark.parametrize("label", ["tag", "label", "type"])
def test_spans_are_found_under_each_accepted_name(tmp_path: Path, spans: str, label: str) -> None:
    path = put(tmp_path, note(**{"tags": ..., spans: [{"start": 0, "end": 6, label: "X"}]}))
    corpus = read_corpus(path, require_annotations=True)
    assert corpus.documents == (Document("a", TEXT, (Span(0, 6, "X"),)),)
    assert corpus.report.issues == ()


def test_scores_and_fragments_are_read(tmp_path: Path) -> None:
    tag = {"start": 0, "end": 6, "tag": "X", "score": 1, "fragments": [[0, 2], [4, 6]]}
    (document,) = read_corpus(put(tmp_path, note(tags=[tag]))).documents
    assert document.spans == (Span(0, 6, "X", 1.0, ((0, 2), (4, 6))),)
    assert isinstance(document.spans[0].score, float)


def test_attributes_are_read_and_what_cannot_be_one_is_counted(tmp_path: Path) -> None:
    said = {"Negation": True, "Family": False, "Time": None, "Certainty": "possible", "Stage": 3, "Size": 1.5}
    odd = {"Kin": ["mother"], "Place": {"x": 1}, "": True, "Half": "\ud800"}
    scores = {"Negation": 1, "Family": 0.25}
    tag = {"start": 0, "end": 6, "tag": "X", "attributes": said | odd, "attribute_scores": scores}
    corpus = read_corpus(put(tmp_path, note(tags=[tag])))
    (span,) = corpus.documents[0].spans
    assert span.attributes == {"Negation": True, "Certainty": "possible", "Stage": "3", "Size": "1.5"}
    assert span.attribute_scores == {"Negation": 1.0, "Family": 0.25}
    counts = [(issue.kind, issue.count) for issue in corpus.report.issues]
    assert counts == [("attributes that are no text, number or truth value", 4)]


def test_offsets_are_code_points_of_the_untouched_text(tmp_path: Path) -> None:
    text = "\ufeff\U0001fac0 e\u0301\r\n\u2028x "
    path = put(tmp_path, note(text=text, tags=[{"start": 1, "end": 2, "tag": "X"}]))
    (document,) = read_corpus(path).documents
    assert document.text == text
    assert document.text_of(document.spans[0]) == "\U0001fac0"


def test_ids_are_strings_whole_numbers_or_the_file_and_the_line(tmp_path: Path) -> None:
    put(tmp_path, note(id="b"), note(id=7), "", note(id=...), name="ward/one.jsonl")
    put(tmp_path, note(id=...), name="two.v1.ndjson")
    assert [document.id for document in read_corpus(tmp_path).documents] == ["two.v1-1", "b", "7", "ward/one-4"]


def test_ids_that_repeat_are_refused_even_across_files(tmp_path: Path) -> None:
    put(tmp_path, note(id="7"), name="a.jsonl")
    put(tmp_path, note(id=7), name="b.jsonl")
    with pytest.raises(DataError, match="'7' occurs more than once"):
        read_corpus(tmp_path)


def test_what_becomes_nothing_is_counted_with_its_first_place(tmp_path: Path) -> None:
    odd = {"start": 0, "end": 6, "tag": "X", "quote": CANARY, "by": 1}
    path = put(tmp_path, note(meta={CANARY: 1}, tags=[odd]), "", note(id="b", tags=...), " \t\r", name="a.jsonl")
    (tmp_path / "README").touch()
    (tmp_path / ".hidden.jsonl").touch()
    assert read_corpus(tmp_path).report.issues == (
        Issue("blank lines", 2, f"{path}:2"),
        Issue("hidden files", 1, str(tmp_path / ".hidden.jsonl")),
        Issue("notes without tags", 1, f"{path}:3"),
        Issue("other files", 1, str(tmp_path / "README")),
        Issue("other keys", 2, f"{path}:1"),
    )


def test_a_note_without_a_list_of_spans_is_refused_where_annotations_are_required(tmp_path: Path) -> None:
    path = put(tmp_path, note(tags=[]), note(id="b", tags=...))
    with pytest.raises(FormatError, match=r":2: expected a list of spans"):
        read_corpus(path, require_annotations=True)


def test_a_bom_and_windows_newlines_are_no_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(note()).encode() + b"\r\n")
    assert [document.text for document in read_corpus(path).documents] == [TEXT]


def test_another_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, json.dumps(note(text="cafe\u00e9 pain"), ensure_ascii=False).encode("latin-1"))
    assert read_corpus(path, encoding="latin-1").documents[0].text == "cafe\u00e9 pain"
    with pytest.raises(DataError, match=r"notes\.jsonl:1: not valid UTF-8"):
        read_corpus(path)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (CANARY, "expected one JSON object"),
        ('{"id": "' + CANARY, "expected one JSON object"),
        ('{"text": "\\q' + CANARY + '"}', "expected one JSON object"),
        ([CANARY], "found a value of type list"),
        (note(text=...), 'expected a string under "text", found nothing'),
        (note(text=5), "found a value of type int"),
        (note(id=None), 'expected a string or a whole number under "id"'),
        (note(id=True), "found a value of type bool"),
        (note(id=1.0), "found a value of type float"),
        (note(tags=None), 'expected a list under "tags"'),
        (note(spans=[]), "expected one of"),
        (note(tags=[CANARY]), "span 1: expected an object, found a value of type str"),
        (note(tags=[{"start": 0, "end": 6}]), 'span 1: expected a string under "tag" or'),
        (note(tags=[{"start": 0, "end": 6, "tag": "X", "type": "Y"}]), "span 1: expected one of"),
        (note(tags=[{"start": 0, "end": 6, "tag": ""}]), "has no label"),
        (note(tags=[{"start": False, "end": 6, "tag": "X"}]), 'under "start", found a value of type bool'),
        (note(tags=[{"start": 0, "end": 6.0, "tag": "X"}]), 'under "end", found a value of type float'),
        (note(tags=[{"start": 0, "end": "6", "tag": "X"}]), 'under "end", found a value of type str'),
        (note(tags=[{"start": 6, "end": 6, "tag": "X"}]), "a span needs 0 <= start < end"),
        (note(tags=[{"start": 0, "end": 10**30, "tag": "X"}]), "ends after the text"),
        (note(tags=[{"start": 0, "end": 6, "tag": "X", "score": 1.5}]), "from 0 to 1"),
        (note(tags=[{"start": 0, "end": 6, "tag": "X", "score": True}]), "from 0 to 1"),
        (note(tags=[{"start": 0, "end": 6, "tag": "X", "attributes": [CANARY]}]), "an object under"),
        (note(tags=[{"start": 0, "end": 6, "tag": "X", "attribute_scores": {"A": 1.5}}]), "from 0 to 1"),
        (note(tags=[{"start": 0, "end": 6, "tag": "X", "attribute_scores": {CANARY: True}}]), "from 0 to 1"),
        (note(tags=[{"start": 0, "end": 6, "tag": "X", "score": CANARY}]), "from 0 to 1"),
        (note(tags=[{"start": 0, "end": 6, "tag": "X", "score": float("nan")}]), "JSON has no number NaN"),
        (note(meta=float("-inf")), "JSON has no number -Infinity"),
        (note(tags=[{"start": 0, "end": 6, "tag": "X", "fragments": [[0, 6, 7]]}]), "pairs of whole numbers"),
        (note(tags=[{"start": 0, "end": 6, "tag": "X", "fragments": [[0, True]]}]), "pairs of whole numbers"),
        (note(tags=[{"start": 0, "end": 6, "tag": "X", "fragments": [[0, 3]]}]), "reach its edges"),
        ('{"id": "a", "text": "x", "text": "' + CANARY + '"}', "more than once in the same object"),
        ('{"id": "a", "text": "x", "meta": [{"k": 1, "k": 2}]}', "more than once in the same object"),
        (note(text=CANARY + "\ud800"), f"the character at {len(CANARY)} is half of a surrogate pair"),
        (note(id="\udfff"), "half of a surrogate pair"),
        (note(tags=[{"start": 0, "end": 6, "tag": "\ud83e"}]), "span 1: expected a string"),
        ("[" * 200_000, "nested too deeply"),
        ('{"text": "", "meta": ' + '{"a":' * 200_000, "nested too deeply"),
        ('{"id": ' + "1" * 5000 + ', "text": "x"}', "thousands of digits"),
    ],
)
def test_a_malformed_line_is_named_with_what_was_expected(tmp_path: Path, row: Any, problem: str) -> None:
    path = put(tmp_path, note(id="fine"), row)
    message = problem_of(path)
    assert message.startswith(f"{path}:2: ")
    assert problem in message


def test_a_note_with_a_problem_is_left_out_whole_and_counted(tmp_path: Path) -> None:
    bad = note(id="b", extra=1, tags=[{"start": 0, "end": 6, "tag": "X"}, {"start": 0, "end": 99, "tag": "X"}])
    path = put(tmp_path, note(), bad, note(id="c", tags=...))
    corpus = read_corpus(path, on_error="skip", require_annotations=True)
    assert [document.id for document in corpus.documents] == ["a"]
    assert corpus.report.issues == (Issue("malformed, skipped", 2, f"{path}:2"),)


def test_a_file_that_breaks_off_keeps_the_notes_of_the_others_when_skipping(tmp_path: Path) -> None:
    put(tmp_path, b"\xff\xfe", name="a.jsonl")
    put(tmp_path, note(), name="b.jsonl")
    corpus = read_corpus(tmp_path, on_error="skip")
    assert [document.id for document in corpus.documents] == ["a"]
    assert [issue.kind for issue in corpus.report.issues] == ["malformed, skipped"]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_place_without_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected a file, or a folder of \.jsonl or \.ndjson files"):
        read_corpus(tmp_path / name, "jsonl")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jsonl"], "jsonl"),
        (["ward/a.NDJSON"], "jsonl"),
        (["a.jsonl", "a.ann", "a.txt"], "brat"),
        ([".a.jsonl"], "brat"),
    ],
)
def test_a_folder_is_taken_for_json_lines_by_what_it_holds(tmp_path: Path, names: list[str], expected: str) -> None:
    for name in names:
        put(tmp_path, name=name)
    assert detect_format(tmp_path) == expected


# Writing


def test_keys_come_in_order_and_characters_as_they_are(tmp_path: Path) -> None:
    said, scores = {"Negation": True, "Certainty": "möglich"}, {"Negation": 0.5}
    last = Span(0, 6, "X", fragments=((0, 1), (5, 6)), attributes=said, attribute_scores=scores)
    spans = (Span(5, 6, "É", 0.25), last)
    write_corpus([Document("é", "héart\u2028", spans), Document("b", "")], tmp_path / "o.jsonl", "jsonl")
    assert (tmp_path / "o.jsonl").read_bytes().decode() == (
        '{"id": "é", "text": "héart\u2028", "tags": [{"start": 5, "end": 6, "tag": "É", "score": 0.25}, '
        '{"start": 0, "end": 6, "tag": "X", "fragments": [[0, 1], [5, 6]], '
        '"attributes": {"Certainty": "möglich", "Negation": true}, "attribute_scores": {"Negation": 0.5}}]}\n'
        '{"id": "b", "text": "", "tags": []}\n'
    )


def test_documents_are_written_one_at_a_time(tmp_path: Path) -> None:
    def growing() -> Iterator[Document]:
        for number in range(3000):
            if number == 2999:
                assert max(part.stat().st_size for part in tmp_path.iterdir()) > 2_000_000
            yield Document(str(number), "x" * 1000)

    write_corpus(growing(), tmp_path / "o.jsonl", "jsonl")
    assert len(read_corpus(tmp_path / "o.jsonl").documents) == 3000


def test_a_file_is_replaced_only_when_asked_and_only_whole(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    write_corpus([Document("a", "x")], path, "jsonl")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        write_corpus([Document("b", "y")], path, "jsonl")
    with pytest.raises(OutputError, match="score"):
        write_corpus([Document("b", "y"), Document("c", "y", (Span(0, 1, "X", 2.0),))], path, "jsonl", overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write_corpus([Document("b", "y")], path, "jsonl", overwrite=True)
    assert [document.id for document in read_corpus(path).documents] == ["b"]


@pytest.mark.parametrize(
    "document",
    [
        Document("\ud800", CANARY),
        Document("a", CANARY, (Span(0, 1, "\ud800"),)),
        Document("a", CANARY, (Span(0, 1, "X", float("nan")),)),
        Document("a", CANARY, (Span(0, 1, "X", -0.1),)),
    ],
)
def test_a_document_that_could_not_be_read_back_is_refused(tmp_path: Path, document: Document) -> None:
    with pytest.raises(OutputError) as caught:
        write_corpus([document], tmp_path / "o.jsonl", "jsonl")
    assert CANARY not in str(caught.value)
    assert not list(tmp_path.iterdir())
