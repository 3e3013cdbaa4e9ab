"""Reading and writing brat folders."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import Issue, read_corpus, write_corpus
from cardioner.errors import DataError, FormatError, OutputError

TEXT = "Severe mitral and aortic stenosis.\n"


def put(folder: Path, name: str, text: str | bytes = TEXT, annotations: str | bytes | None = None) -> None:
    note = folder / f"{name}.txt"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_bytes(text if isinstance(text, bytes) else text.encode())
    if annotations is not None:
        content = annotations if isinstance(annotations, bytes) else annotations.encode()
        (folder / f"{name}.ann").write_bytes(content)


def spans_of(folder: Path, text: str, annotations: str) -> tuple[Span, ...]:
    put(folder, "note", text, annotations)
    return read_corpus(folder).documents[0].spans


def problem_of(folder: Path, annotations: str, text: str = TEXT) -> str:
    put(folder, "note", text, annotations)
    with pytest.raises(FormatError) as caught:
        read_corpus(folder)
    message = str(caught.value)
    place, _, problem = message.partition(".ann:")
    assert place == str(folder / "note")
    return problem


# Finding notes


def test_ids_are_relative_paths_without_suffix_and_sorted(tmp_path: Path) -> None:
    for name in ("b", "ward/2.final", "a", "ward/1"):
        put(tmp_path, name, annotations="")
    assert [document.id for document in read_corpus(tmp_path).documents] == ["a", "b", "ward/1", "ward/2.final"]


def test_a_single_note_is_a_corpus(tmp_path: Path) -> None:
    put(tmp_path, "a", annotations="T1\tFINDING 0 6\tSevere\n")
    put(tmp_path, "b")
    assert read_corpus(tmp_path / "a.txt").documents == (Document("a", TEXT, (Span(0, 6, "FINDING"),)),)


def test_text_is_read_without_changing_a_character(tmp_path: Path) -> None:
    text = "\ufeffone\r\ntwo\rthree\u2028four\x85\t\u00a0e\u0301 \U0001fac0\n\n"
    put(tmp_path, "a", text, "")
    assert read_corpus(tmp_path).documents[0].text == text


@pytest.mark.parametrize("suffix", [".txt", ".ann"])
def test_a_file_that_is_not_utf8_is_named_with_the_byte(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, "a", annotations="")
    (tmp_path / f"a{suffix}").write_bytes("café crème".encode("latin-1"))
    with pytest.raises(DataError, match=rf"a\{suffix}: byte 3 is not valid UTF-8;"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("nowhere", "does not exist"),
        ("x" * 300, "cannot be read"),
        ("empty", "holds no .txt file"),
        ("a.ann", "the format is not clear from the name"),
    ],
)
def test_what_is_no_corpus_is_refused_with_what_was_expected(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.ann").touch()
    with pytest.raises(DataError, match=f"{found}.*; expected a folder of NAME.txt and NAME.ann"):
        read_corpus(tmp_path / name)


def test_files_that_do_not_pair_up_are_remarked_on(tmp_path: Path) -> None:
    put(tmp_path, "bare")
    put(tmp_path, "whole", annotations="")
    (tmp_path / "lonely.ann").touch()
    (tmp_path / "annotation.conf").touch()
    corpus = read_corpus(tmp_path)
    assert [document.id for document in corpus.documents] == ["bare", "whole"]
    assert corpus.report.issues == (
        Issue(".ann without .txt", 1, str(tmp_path / "lonely.ann")),
        Issue(".txt without .ann", 1, str(tmp_path / "bare.txt")),
        Issue("other files", 1, str(tmp_path / "annotation.conf")),
    )


def test_required_annotations_that_are_missing_are_listed_up_to_ten(tmp_path: Path) -> None:
    for number in range(12):
        put(tmp_path, f"bare{number:02}")
    (tmp_path / "lonely.ann").touch()
    with pytest.raises(DataError, match=r"12 notes without an \.ann file \(bare00, .*bare09 and 2 more\)") as caught:
        read_corpus(tmp_path, require_annotations=True)
    assert "an empty .ann file marks a note without entities" in str(caught.value)
    assert "1 .ann file without a .txt file (lonely)" in str(caught.value)


def test_an_empty_annotation_file_is_a_note_without_entities(tmp_path: Path) -> None:
    put(tmp_path, "a", annotations="")
    corpus = read_corpus(tmp_path, require_annotations=True)
    assert (corpus.documents, corpus.report.issues) == ((Document("a", TEXT),), ())


# Reading lines


def test_spans_come_in_text_order_and_duplicates_are_kept(tmp_path: Path) -> None:
    lines = "T9\tB 7 13\tmitral\nT2\tA 7 13\tmitral\nT1\tB 0 6\tSevere\nT5\tB 7 13\tmitral"
    assert spans_of(tmp_path, TEXT, lines) == (Span(0, 6, "B"), Span(7, 13, "A"), Span(7, 13, "B"), Span(7, 13, "B"))


@pytest.mark.parametrize(
    ("offsets", "quote"),
    [
        ("7 13;25 33", "mitral stenosis"),
        ("25 33;7 13", "mitral stenosis"),
        ("25 33;7 13", "stenosis mitral"),
    ],
)
def test_fragments_are_sorted_whatever_order_the_quote_has(tmp_path: Path, offsets: str, quote: str) -> None:
    spans = spans_of(tmp_path, TEXT, f"T1\tDISEASE {offsets}\t{quote}\n")
    assert spans == (Span(7, 33, "DISEASE", fragments=((7, 13), (25, 33))),)


@pytest.mark.parametrize("offsets", ["7 10;10 13", "10 13;7 10"])
@pytest.mark.parametrize("quote", ["mitral", "mit ral"])
def test_fragments_that_touch_are_one_contiguous_span(tmp_path: Path, offsets: str, quote: str) -> None:
    assert spans_of(tmp_path, TEXT, f"T1\tVALVE {offsets}\t{quote}\n") == (Span(7, 13, "VALVE"),)


@pytest.mark.parametrize("quote", ["heart  failure", "heart\r failure"])
def test_newlines_of_a_span_are_spaces_in_its_quote(tmp_path: Path, quote: str) -> None:
    assert spans_of(tmp_path, "heart\r\nfailure", f"T1\tD 0 14\t{quote}\n") == (Span(0, 14, "D"),)


@pytest.mark.parametrize("rest", ["a\tb", "a\tb\tchecked", "a\tb\t"])
def test_a_quote_may_hold_tabs_and_have_fields_behind_it(tmp_path: Path, rest: str) -> None:
    assert spans_of(tmp_path, "a\tb c", f"T1\tD 0 3\t{rest}\n") == (Span(0, 3, "D"),)


def test_only_newlines_end_a_line_of_annotations(tmp_path: Path) -> None:
    assert spans_of(tmp_path, "a\u2028b\x85c", "\ufeffT1\tD 0 5\ta\u2028b\x85c\r\n") == (Span(0, 5, "D"),)


def test_other_lines_are_counted_by_kind_with_the_first_place(tmp_path: Path) -> None:
    lines = (
        "#1\tAnnotatorNotes T1\tsure\nE1\tEvent:T1\nR1\tCauses Arg1:T1 Arg2:T2\t\nA1\tNegated E1\nM1\tNegated T7\n"
        "N1\tReference T1 ICD:I35\tname\n*\tEquiv T1 T2\n\n# a issue\n"
    )
    put(tmp_path, "a", annotations=lines)
    counts = {
        issue.kind: (issue.count, issue.where.rpartition(":")[2]) for issue in read_corpus(tmp_path).report.issues
    }
    assert counts == {
        "comments": (2, "1"),
        "events": (1, "2"),
        "relations": (1, "3"),
        "attributes of no span": (2, "4"),
        "normalizations": (1, "6"),
        "equivalences": (1, "7"),
        "blank lines": (1, "8"),
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("T1\tVALVE 7 13", "expected T and a number, a tab"),
        ("T1 VALVE 7 13 mitral", "expected T and a number, a tab"),
        ("Tx\tVALVE 7 13\tmitral", "expected T and a number, a tab"),
        ("T1\tVALVE 7\tmitral", "expected a label and its offsets"),
        ("T1\tVALVE -7 13\tmitral", "expected a label and its offsets"),
        ("T1\tVALVE 7 13;\tmitral", "expected a label and its offsets"),
        ("T1\tVALVE ٧ 13\tmitral", "expected a label and its offsets"),
        ("T1\tVALVE 7 " + "9" * 5000 + "\tmitral", "expected a label and its offsets"),
        ("T1\tHEART VALVE 7 13\tmitral", "expected a label and its offsets"),
        ("T1\tVALVE 7 7\t", "a span needs start < end, found 7 to 7"),
        ("T1\tVALVE 13 7\tmitral", "a span needs start < end, found 13 to 7"),
        ("T1\tVALVE 7 13;9 15\tmitral tral a", "the fragments of the span 7 to 15 must be"),
        ("T1\tVALVE 7 99\tmitral", "the span 7 to 99 ends after the text, which has 35 characters"),
        ("mitral", "expected a line that starts with T, E, R"),
        ("Error while saving", "expected a line that starts with T, E, R"),
    ],
)
def test_a_malformed_line_is_named_with_what_was_expected(tmp_path: Path, line: str, expected: str) -> None:
    problem = problem_of(tmp_path, f"T1\tVALVE 7 13\tmitral\n{line}\n")
    assert problem.startswith(f"2: {expected}")
    assert "mitral" not in problem


@pytest.mark.parametrize(
    ("offsets", "hint"),
    [
        ("6 12", "6 to 12 (it would match at 7 to 13)"),
        ("10 16", "10 to 16 (it would match at 7 to 13)"),
        ("11 17", "11 to 17 (the nearest match is at 7 to 13)"),
        ("6 12;24 25", "6 to 25 (the nearest match is at 7 to 13)"),
    ],
)
def test_a_quote_of_other_text_is_refused_with_the_place_nearby(tmp_path: Path, offsets: str, hint: str) -> None:
    problem = problem_of(tmp_path, f"T1\tVALVE {offsets}\tmitral\n")
    assert problem == f"1: the quote does not match the text at {hint}"


def test_a_quote_that_only_begins_like_the_text_is_refused(tmp_path: Path) -> None:
    assert problem_of(tmp_path, "T1\tVALVE 7 13\tmitral valve\n").startswith("1: the quote does not match")


def test_an_empty_quote_is_refused(tmp_path: Path) -> None:
    problem = problem_of(tmp_path, "T1\tGRADE 0 6\t\n")
    assert problem == "1: the quote does not match the text at 0 to 6 (it is empty)"


def test_all_problems_of_a_corpus_come_together_twenty_of_them_in_full(tmp_path: Path) -> None:
    put(tmp_path, "a", annotations="wrong\n" * 15)
    put(tmp_path, "b", b"\xff", "wrong\n")
    put(tmp_path, "c", annotations="wrong\n" * 8)
    with pytest.raises(DataError) as caught:
        read_corpus(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "24 problems in the corpus:"
    assert lines[1].startswith(f"{tmp_path / 'a.ann'}:1: expected")
    assert lines[16].startswith(f"{tmp_path / 'b.txt'}: byte ")
    assert lines[20].startswith(f"{tmp_path / 'c.ann'}:4: expected")
    assert lines[21:] == ["and 4 more"]


# Writing


def test_written_files_are_what_brat_reads(tmp_path: Path) -> None:
    spans = (Span(0, 6, "GRADE", score=0.98764), Span(7, 33, "DISEASE", fragments=((7, 13), (25, 33))))
    text = TEXT.replace("mitral ", "mitral\n")
    write_corpus([Document("ward/1", text, (*spans, Span(7, 17, "X")))], tmp_path / "new")
    assert (tmp_path / "new/ward/1.txt").read_bytes() == text.encode()
    assert (tmp_path / "new/ward/1.ann").read_text("utf-8") == (
        "T1\tGRADE 0 6\tSevere\n#1\tAnnotatorNotes T1\tscore 0.98764\n"
        "T2\tDISEASE 7 13;25 33\tmitral stenosis\nT3\tX 7 17\tmitral and\n"
    )
    assert sorted(path.name for path in (tmp_path / "new/ward").iterdir()) == ["1.ann", "1.txt"]


def test_a_note_without_spans_gets_an_empty_annotation_file(tmp_path: Path) -> None:
    write_corpus([Document("a", TEXT)], tmp_path)
    assert (tmp_path / "a.ann").read_bytes() == b""


def test_a_folder_with_annotations_is_only_written_when_asked(tmp_path: Path) -> None:
    put(tmp_path, "ward/gold", annotations="")
    with pytest.raises(OutputError, match=r"already holds \.ann files"):
        write_corpus([Document("a", TEXT)], tmp_path)
    assert not (tmp_path / "a.txt").exists()
    write_corpus([Document("ward/gold", "new")], tmp_path, overwrite=True)
    assert read_corpus(tmp_path).documents == (Document("ward/gold", "new"),)


def test_annotations_may_go_beside_the_notes_they_belong_to_but_not_over_others(tmp_path: Path) -> None:
    put(tmp_path, "a")
    put(tmp_path, "b", "another note")
    with pytest.raises(OutputError, match=r"b\.txt exists and is not this note"):
        write_corpus([Document("a", TEXT), Document("b", TEXT)], tmp_path)
    assert not (tmp_path / "a.ann").exists()
    with pytest.raises(OutputError, match=r"holds 1 other file, such as b\.txt"):
        write_corpus([Document("a", TEXT)], tmp_path)
    (tmp_path / "b.txt").unlink()
    write_corpus([Document("a", TEXT)], tmp_path)
    assert (tmp_path / "a.ann").exists()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../a",
        "a/../../b",
        "/etc/a",
        "a//b",
        "a/",
        "./a",
        "a\\b",
        "a\x00b",
        "a\nb",
        "C:a",
        "a\ud800",
        "CON",
        "aux",
        "nul.1",
        "b/Com1",
        "lpt9 .x",
        "a.",
        "a ",
        "b./a",
    ],
)
def test_an_id_that_is_no_file_in_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot be the name of a file in the folder"):
        write_corpus([Document("fine", TEXT), Document(name, TEXT)], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [("Note", "nOTE"), ("e\u0301", "\u00e9"), ("a", "A.txt/b"), ("a.ann/b", "a")])
def test_ids_that_share_a_file_name_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(OutputError, match=r"same file names|a file of another document"):
        write_corpus([Document(name, TEXT) for name in names], tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("document", [Document("a", TEXT, (Span(0, 6, "A B"),))])
def test_what_the_format_cannot_hold_is_refused(tmp_path: Path, document: Document) -> None:
    with pytest.raises(
        OutputError, match=r"document a: (brat cannot hold the label|holds a character that UTF-8 cannot)"
    ):
        write_corpus([document], tmp_path)


def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError):
            write_corpus([Document("a", TEXT)], place)
    with pytest.raises(OutputError, match="cannot be written"):
        write_corpus([Document("x" * 300, TEXT)], tmp_path)


def test_a_full_disk_is_one_clear_line_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(*_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError, match="out cannot be written: the disk is full: free some space and try again"):
        write_corpus([Document("a", TEXT)], out)
    assert not list(out.iterdir())
    assert list(tmp_path.iterdir()) == [out]


def test_hidden_files_are_counted_and_not_read(tmp_path: Path) -> None:
    write_corpus([Document("a", TEXT)], tmp_path)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "a-checkpoint.txt").write_text("x")
    corpus = read_corpus(tmp_path)
    assert [document.id for document in corpus.documents] == ["a"]
    assert [(issue.kind, issue.count) for issue in corpus.report.issues] == [("hidden files", 1)]


@pytest.mark.parametrize(
    "lines",
    [
        "A1\tNegation T1\nM1\tCertainty T1 rather unlikely\n",
        "M1\tNegation T1\nA1\tCertainty T1 rather unlikely\nA2\tCertainty T1 rather unlikely\n",
        "A1 Negation\tT1\r\nA1\tCertainty  T1\trather unlikely \n",
    ],
)
def test_attributes_are_read_from_lines_with_and_without_values(lines: str, tmp_path: Path) -> None:
    put(tmp_path, "note", TEXT, f"{lines}T1\tVALVE 7 13\tmitral\n")
    corpus = read_corpus(tmp_path)
    said = {"Negation": True, "Certainty": "rather unlikely"}
    assert corpus.documents[0].spans == (Span(7, 13, "VALVE", attributes=said),)
    assert corpus.report.issues == ()


def test_of_an_attribute_with_several_values_the_first_is_kept_and_the_others_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "note", TEXT, "T1\tX 7 13\tmitral\nA1\tTime T1 past\nA2\tTime T1 now\nA3\tTime T1\n")
    corpus = read_corpus(tmp_path)
    assert corpus.documents[0].spans == (Span(7, 13, "X", attributes={"Time": "past"}),)
    where = f"{tmp_path / 'note.ann'}:3"
    assert corpus.report.issues == (Issue("attributes with a second value, left out", 2, where),)


def test_attributes_are_written_as_brat_has_them_and_their_scores_beside_that_of_the_span(tmp_path: Path) -> None:
    said = {"Negation": True, "Certainty": "rather unlikely"}
    spans = (
        Span(0, 6, "X", 0.5, attributes=said, attribute_scores={"Negation": 0.75, "Family": 1.0}),
        Span(7, 13, "X", attributes={"Negation": True}),
        Span(14, 17, "X", attribute_scores={"Negation": 0.25}),
    )
    documents = [Document("note", TEXT, spans)]
    assert write_corpus(documents, tmp_path) == ()
    assert (tmp_path / "note.ann").read_text() == (
        "T1\tX 0 6\tSevere\nA1\tCertainty T1 rather unlikely\nA2\tNegation T1\n"
        "#1\tAnnotatorNotes T1\tscore 0.5 Family=1.0 Negation=0.75\n"
        "T2\tX 7 13\tmitral\nA3\tNegation T2\n"
        "T3\tX 14 17\tand\n#3\tAnnotatorNotes T3\tscore Negation=0.25\n"
    )
    assert list(read_corpus(tmp_path).documents) == documents


def test_attributes_that_brat_cannot_hold_are_counted(tmp_path: Path) -> None:
    said = {"in the past": True, "Certainty": " low", "Time": "a\nb", "Negation": True}
    scores = {"in the past": 0.5, "Certainty": 0.5, "of kin": 0.5, "Negation": 0.5}
    span = Span(0, 6, "X", attributes=said, attribute_scores=scores)
    issues = write_corpus([Document("note", TEXT, (span,))], tmp_path)
    assert issues == (Issue("attributes, left out", 3, "note"), Issue("scores, left out", 1, "note"))
    left = Span(0, 6, "X", attributes={"Negation": True}, attribute_scores={"Negation": 0.5})
    assert read_corpus(tmp_path).documents[0].spans == (left,)


@pytest.mark.parametrize("score", ["1.2.3e-5", "1.9", "high"])
def test_a_note_that_is_no_score_is_set_aside(score: str, tmp_path: Path) -> None:
    write_corpus([Document("a", TEXT, (Span(0, 6, "GRADE"),))], tmp_path)
    with (tmp_path / "a.ann").open("a") as file:
        file.write(f"#1\tAnnotatorNotes T1\tscore {score}\n")
    corpus = read_corpus(tmp_path)
    assert corpus.documents[0].spans[0].score is None
    assert [issue.kind for issue in corpus.report.issues] == ["comments"]
