"""Reading and writing tables of spans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import Corpus, Issue, ReadReport, detect_format, read_corpus, write_corpus
from cardioner.errors import DataError, FormatError, OutputError

TEXT = "Severe mitral and aortic stenosis.\n"
HEADER = "filename\tlabel\tstart_span\tend_span\ttext\n"
SEVERE = Span(0, 6, "FINDING")
CANARY = "Kanarienvogel"


def put(folder: Path, table: str | bytes, *, text: str = TEXT, note: str = "a.txt") -> Path:
    path = folder / "spans.tsv"
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    put_note(folder / note, text)
    return path


def put_note(path: Path, text: str = TEXT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def spans_of(folder: Path, rows: str, text: str = TEXT) -> tuple[Span, ...]:
    return read_corpus(put(folder, HEADER + rows, text=text)).documents[0].spans


def problem_of(folder: Path, rows: str, text: str = TEXT) -> str:
    path = put(folder, HEADER + rows, text=text)
    with pytest.raises(FormatError) as caught:
        read_corpus(path)
    place, _, problem = str(caught.value).partition(".tsv:")
    assert place == str(folder / "spans")
    return problem


def ids(corpus: Corpus) -> list[str]:
    return [document.id for document in corpus.documents]


# Header


@pytest.mark.parametrize(
    ("table", "others"),
    [
        ("filename\tlabel\tstart_span\tend_span\ttext\na\tFINDING\t0\t6\tSevere\n", 0),
        ("filename\tlabel\tstart_span\tend_span\ttext\tnote\na\tFINDING\t0\t6\tSevere\t\n", 1),
        ("filename\tann_id\tlabel\tstart_span\tend_span\ttext\na\tT1\tFINDING\t0\t6\tSevere\n", 1),
        ("name\ttag\tstart_span\tend_span\ttext\tnote\na\tFINDING\t0\t6\tSevere\tsure\n", 1),
        ("file\ttype\tstart\tend\tspan\na.txt\tFINDING\t0\t6\tSevere\n", 0),
        ("doc_id\tentity\toff0\toff1\tmention\na\tFINDING\t0\t6\tSevere\n", 0),
        ("DOCUMENT\tLabel\tBegin\t End \tText\na\tFINDING\t0\t6\tSevere\n", 0),
        ('"filename"\t"label"\t"start"\t"end"\t"text"\n"a"\t"FINDING"\t"0"\t"6"\t"Severe"\n', 0),
        ("id\tlabel\tstart\tend\na\tFINDING\t0\t6\n", 0),
        ("id\tfilename\tlabel\tstart\tend\nT1\ta\tFINDING\t0\t6\n", 1),
        ("text\tend\tsure\tstart\tlabel\tsource\tfilename\nSevere\t6\t\t0\tFINDING\tx\ta.txt\n", 2),
        ("\n \t\nfilename\tlabel\tstart\tend\na\tFINDING\t0\t6\n", 0),
    ],
)
def test_columns_are_found_by_their_names(tmp_path: Path, table: str, others: int) -> None:
    corpus = read_corpus(put(tmp_path, table))
    assert corpus.documents == (Document("a", TEXT, (SEVERE,)),)
    counts = {issue.kind: issue.count for issue in corpus.report.issues if issue.kind != "blank lines"}
    assert counts == ({"other columns": others} if others else {})


def test_another_column_is_counted_once_however_many_tables_have_it(tmp_path: Path) -> None:
    table = "filename\tlabel\tstart\tend\tsure\na\tFINDING\t0\t6\t1\n"
    put(tmp_path, table)
    (tmp_path / "more.tsv").write_text(table)
    corpus = read_corpus(tmp_path, "tsv")
    assert corpus.documents[0].spans == (SEVERE, SEVERE)
    assert corpus.report.issues == (Issue("other columns", 1, f"{tmp_path / 'more.tsv'}:1"),)


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (f"a\tFINDING\t0\t6\t{CANARY}\n", r":1: .* found none for the document, the label, the start, the end"),
        ("\nfilename\tlabel\tstart\ttext\n", r":2: .* found none for the end"),
        ("\n\n", ": .* found no row"),
        ("", ": .* found no row"),
    ],
)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_table_without_header_is_refused_with_what_was_expected(
    tmp_path: Path, table: str, found: str, on_error: str
) -> None:
    path = put(tmp_path, table)
    with pytest.raises(DataError, match=rf"spans\.tsv{found}") as caught:
        read_corpus(path, on_error=on_error)  # type: ignore[arg-type]
    assert "the document (filename or file or name or doc_id or document or id)" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_byte_order_mark_and_carriage_returns_of_a_table_are_no_characters(tmp_path: Path) -> None:
    table = b"\xef\xbb\xbf" + HEADER.replace("\n", "\r\n").encode() + b"a\tFINDING\t0\t6\tSevere\r\n"
    assert read_corpus(put(tmp_path, table)).documents == (Document("a", TEXT, (SEVERE,)),)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
def test_the_last_row_needs_no_newline(tmp_path: Path, end: str) -> None:
    assert spans_of(tmp_path, f"a\tFINDING\t0\t6\tSevere{end}") == (SEVERE,)


def test_another_encoding_can_be_named_for_table_and_notes(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}a\tD\t0\t5\tIctus\na\tD\t6\t14\tisquémia\n".encode("latin-1"))
    (tmp_path / "a.txt").write_bytes("Ictus isquémia".encode("latin-1"))
    with pytest.raises(DataError, match=r"spans\.tsv: byte .* is not valid UTF-8; .*--encoding"):
        read_corpus(path)
    assert read_corpus(path, encoding="latin-1").documents[0].text == "Ictus isquémia"


# Rows


@pytest.mark.parametrize("mention", ["NA", "null", "nan", "None", "-", "  ", "#N/A", "0"])
def test_a_mention_that_reads_na_stays_text(tmp_path: Path, mention: str) -> None:
    text = f"{mention} given"
    assert spans_of(tmp_path, f"a\tDRUG\t0\t{len(mention)}\t{mention}\n", text) == (Span(0, len(mention), "DRUG"),)


def test_spans_come_in_text_order_and_duplicates_are_kept(tmp_path: Path) -> None:
    rows = "a\tB\t7\t13\tmitral\na\tA\t7\t13\tmitral\na\tB\t0\t6\tSevere\na\tB\t7\t13\tmitral\n"
    assert spans_of(tmp_path, rows) == (Span(0, 6, "B"), Span(7, 13, "A"), Span(7, 13, "B"), Span(7, 13, "B"))


def test_blank_lines_are_counted(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}\n\t\t\t\t\na\tFINDING\t0\t6\tSevere\n\r\n")
    corpus = read_corpus(path)
    assert corpus.documents[0].spans == (SEVERE,)
    assert corpus.report.issues == (Issue("blank lines", 3, f"{path}:2"),)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a\tD\t0\t6", "expected 5 tab-separated fields, as in the header, found 4"),
        ("a\tD\t0\t6\tSevere\tmore", "expected 5 tab-separated fields, as in the header, found 6"),
        ("a\tD\tSevere\t6\tSevere", "expected whole numbers in the columns of the start and the end"),
        ("a\tD\t0\t6.0\tSevere", "expected whole numbers in the columns of the start and the end"),
        ("a\tD\t-1\t6\tSevere", "expected whole numbers in the columns of the start and the end"),
        ("a\tD\t٠\t٦\tSevere", "expected whole numbers in the columns of the start and the end"),
        ("a\tD\t0\t9999999999999999\tSevere", "expected whole numbers in the columns of the start and the end"),
        ("a\tD\t6\t6\t", "a span needs start < end, found 6 to 6"),
        ("a\tD\t6\t0\tSevere", "a span needs start < end, found 6 to 0"),
        ("a\tD\t30\t36\tosis.\n", "the span 30 to 36 ends after the text, which has 35 characters"),
        ("a\t\t0\t6\tSevere", "the span 0 to 6 has no label"),
        ("a\tD\t0\t6\t", "the mention does not match the text at 0 to 6 (it is empty)"),
        ("a\tD\t0\t6\tsevere", "the mention does not match the text at 0 to 6 (the text does not have it anywhere)"),
        ("a\tD\t8\t14\tmitral", "the mention does not match the text at 8 to 14 (it would match at 7 to 13)"),
        ("a\tD\t4\t10\tmitral", "the mention does not match the text at 4 to 10 (it would match at 7 to 13)"),
        ("a\tD\t3\t9\tmitral", "the mention does not match the text at 3 to 9 (the nearest match is at 7 to 13)"),
    ],
)
def test_a_malformed_row_is_named_with_its_line(tmp_path: Path, row: str, problem: str) -> None:
    assert problem_of(tmp_path, f"a\tD\t0\t6\tSevere\n{row}\na\tD\t7\t13\tmitral\n") == f"3: {problem}"


def test_no_place_behind_the_text_is_hinted_at(tmp_path: Path) -> None:
    assert problem_of(tmp_path, "a\tD\t3\t5\td.\n", "ab cd").endswith("(the text does not have it anywhere)")


def test_offsets_are_checked_without_a_mention_column_too(tmp_path: Path) -> None:
    path = put(tmp_path, "id\tlabel\tstart\tend\na\tD\t0\t36\n")
    with pytest.raises(FormatError, match=r"spans\.tsv:2: .* ends after the text, which has 35 characters"):
        read_corpus(path)


def test_malformed_rows_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    rows = "a\tD\t0\na\tFINDING\t0\t6\tSevere\nb\tD\t0\t6\tSevere\na\tD\t1\t6\tSevere\n"
    path = put(tmp_path, HEADER + rows)
    corpus = read_corpus(path, on_error="skip")
    assert corpus.documents == (Document("a", TEXT, (SEVERE,)),)
    assert corpus.report.issues == (Issue("malformed, skipped", 3, f"{path}:2"),)


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}a\tD\t0\nb\tD\t0\t6\tSevere\na\tD\t1\t6\tSevere\n")
    with pytest.raises(DataError, match="3 problems in the corpus") as caught:
        read_corpus(path)
    assert [f"{path}:{line}: " in str(caught.value) for line in (2, 3, 4)] == [True, True, True]


# Quotation marks


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("heart\nfailure", '"heart\nfailure"'),
        ("heart\r\nfailure", '"heart\r\nfailure"'),
        ("heart\tfailure", '"heart\tfailure"'),
        ('the "x" sign', '"the ""x"" sign"'),
        ('the "x" sign', 'the "x" sign'),
        ('"x" sign', '"x" sign'),
        ('"x" sign', '"""x"" sign"'),
        ('"x"', '"x"'),
        ('"x"', '"""x"""'),
        ('""x', '""x'),
        ('"', '"'),
        ('"', '""""'),
        ('""', '""'),
        ("\n", '"\n"'),
        ("heart\nfailure", "heart failure"),
        ("heart\r\nfailure", "heart  failure"),
        ("heart\r\nfailure", '"heart \nfailure"'),
        ("heart\tfailure", "heart failure"),
        ("heart\rfailure", "heart\rfailure"),
        ("heart\u2028\x85\x0b\x0c\x1cfailure", "heart\u2028\x85\x0b\x0c\x1cfailure"),
        ("a\nb\t0\t0\t1\tc", '"a\nb\t0\t0\t1\tc"'),
    ],
)
def test_a_mention_may_stand_in_quotation_marks(tmp_path: Path, text: str, field: str) -> None:
    row = f"a\tD\t0\t{len(text)}\t{field}\n"
    whole = Span(0, len(text), "D")
    assert spans_of(tmp_path, row * 3, text) == (whole,) * 3


@pytest.mark.parametrize("second", ['"rude', 'rude"', 'ru"de', '"rude"', "rude"])
@pytest.mark.parametrize("between", [0, 1, 40])
def test_a_mark_that_is_never_closed_swallows_no_row(tmp_path: Path, second: str, between: int) -> None:
    text = f'"HTA {second}'
    rows = 'a\tD\t0\t4\t"HTA\n' + "a\tD\t1\t4\tHTA\n" * between + f"a\tD\t5\t{len(text)}\t{second}\n"
    expected = (Span(0, 4, "D"), *[Span(1, 4, "D")] * between, Span(5, len(text), "D"))
    assert spans_of(tmp_path, rows, text) == expected


def test_a_mark_in_another_column_swallows_no_row(tmp_path: Path) -> None:
    header = HEADER.replace("text", "text\tnote")
    path = put(tmp_path, f'{header}a\tD\t0\t6\tSevere\t"see\na\tD\t7\t13\tmitral\tbelow"\n')
    assert read_corpus(path).documents[0].spans == (Span(0, 6, "D"), Span(7, 13, "D"))


def test_a_note_to_a_row_may_hold_newlines(tmp_path: Path) -> None:
    header = HEADER.replace("text", "text\tnote")
    path = put(tmp_path, f'{header}a\tD\t0\t6\tSevere\t"see\nbelow"\na\tD\t7\t13\tmitral\t\n')
    assert read_corpus(path).documents[0].spans == (Span(0, 6, "D"), Span(7, 13, "D"))


def test_a_wrong_row_with_a_mark_swallows_no_row_either(tmp_path: Path) -> None:
    rows = 'a\tD\t0\t3\t"Severe\na\tD\t7\t13\tmitral\na\tD\t18\t24\taortic"\n'
    path = put(tmp_path, HEADER + rows)
    corpus = read_corpus(path, on_error="skip")
    assert corpus.documents[0].spans == (Span(7, 13, "D"),)
    assert corpus.report.issues == (Issue("malformed, skipped", 2, f"{path}:2"),)


def test_a_mark_whose_closing_gives_too_many_fields_is_a_character(tmp_path: Path) -> None:
    path = put(tmp_path, f'{HEADER}a\tD\t0\t3\t"Sev\nre"\tmore\na\tD\t7\t13\tmitral\n')
    corpus = read_corpus(path, on_error="skip")
    assert corpus.documents[0].spans == (Span(7, 13, "D"),)
    assert corpus.report.issues == (Issue("malformed, skipped", 2, f"{path}:3"),)


def test_a_row_of_many_lines_is_named_by_its_first(tmp_path: Path) -> None:
    rows = 'a\tD\t0\t13\t"heart\nfailure"\na\tD\t0\t9\t"heart\nfailure"\na\tD\t0\t99\tx\n'
    path = put(tmp_path, HEADER + rows, text="heart\nfailure")
    with pytest.raises(DataError) as caught:
        read_corpus(path)
    assert f"{path}:4: the mention does not match the text at 0 to 9" in str(caught.value)
    assert f"{path}:6: the span 0 to 99 ends after" in str(caught.value)


def test_many_marks_take_time_in_proportion(tmp_path: Path) -> None:
    count = 20_000  # quadratic time would be minutes
    rows = 'a\tD\t0\t4\t"HTA\n' * count + 'a\tD\t0\t4\t"""HTA"\n' * count
    assert len(spans_of(tmp_path, rows, '"HTA')) == 2 * count


# Notes


def test_notes_without_rows_are_documents(tmp_path: Path) -> None:
    put_note(tmp_path / "b.txt")
    corpus = read_corpus(put(tmp_path, f"{HEADER}a\tFINDING\t0\t6\tSevere\n"))
    assert corpus == Corpus((Document("a", TEXT, (SEVERE,)), Document("b", TEXT)))


def test_text_is_read_without_changing_a_character(tmp_path: Path) -> None:
    text = "\ufeffone\r\ntwo\rthree\u2028four\x85\t\u00a0e\u0301 \U0001fac0\n\n"
    assert spans_of(tmp_path, "a\tD\t1\t4\tone\n", text) == (Span(1, 4, "D"),)
    assert read_corpus(tmp_path).documents[0].text == text


@pytest.mark.parametrize("folder", [".", "txt", "text", "texts", "text_files", "brat"])
@pytest.mark.parametrize("single", [True, False])
def test_notes_are_found_beside_the_table_and_below(tmp_path: Path, folder: str, single: bool) -> None:
    path = put(tmp_path, f"{HEADER}a.txt\tFINDING\t0\t6\tSevere\n", note=f"{folder}/a.txt")
    corpus = read_corpus(path if single else tmp_path, "tsv")
    assert corpus == Corpus((Document("a", TEXT, (SEVERE,)),))


def test_the_names_in_the_rows_tell_which_folder_is_meant(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}a\tFINDING\t0\t6\tSevere\n", note="txt/a.txt")
    put_note(tmp_path / "README.txt")
    expected = (Document("a", TEXT, (SEVERE,)),)
    assert read_corpus(path) == Corpus(expected)
    issue = Issue("other files", 1, str(tmp_path / "README.txt"))
    assert read_corpus(tmp_path) == Corpus(expected, ReadReport((issue,)))


@pytest.mark.parametrize("single", [True, False])
def test_notes_of_a_folder_lie_in_any_sub_folder(tmp_path: Path, single: bool) -> None:
    path = put(tmp_path, f"{HEADER}ward/a\tFINDING\t0\t6\tSevere\n", note="ward/a.txt")
    corpus = read_corpus(path if single else tmp_path)
    assert corpus.documents == (Document("ward/a", TEXT, (SEVERE,)),)


def test_notes_of_a_table_without_rows_lie_in_the_usual_sub_folder(tmp_path: Path) -> None:
    put(tmp_path, HEADER, note="txt/a.txt")
    assert read_corpus(tmp_path) == Corpus((Document("a", TEXT),))


def test_other_corpora_beside_a_single_table_are_left_alone(tmp_path: Path) -> None:
    put_note(tmp_path / "corpus" / "b.txt")
    assert ids(read_corpus(put(tmp_path, f"{HEADER}a\tFINDING\t0\t6\tSevere\n"))) == ["a"]


def test_notes_lie_where_the_caller_says(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}b.c\tFINDING\t0\t6\tSevere\n")
    put_note(tmp_path / "far" / "b.c.txt")
    put_note(tmp_path / "far" / "deep" / "d.txt.txt")
    corpus = read_corpus(path, texts=tmp_path / "far")
    assert corpus.documents == (Document("b.c", TEXT, (SEVERE,)), Document("deep/d.txt", TEXT))


def test_only_one_suffix_is_taken_off_a_name(tmp_path: Path) -> None:
    put_note(tmp_path / "a.txt.txt")
    path = put(tmp_path, f"{HEADER}a.txt\tA\t0\t6\tSevere\na.txt.txt\tB\t0\t6\tSevere\n")
    assert [document.spans[0].label for document in read_corpus(path).documents] == ["A", "B"]


def test_a_row_without_a_note_is_named_with_its_id(tmp_path: Path) -> None:
    problem = problem_of(tmp_path, "a\tD\t0\t6\tSevere\nhc.TXT\tD\t0\t6\tSevere\n")
    assert problem.startswith("3: expected the note 'hc.TXT' as a .txt file, found none of this name")
    assert "--texts DIR" in problem


@pytest.mark.parametrize("given", [True, False])
def test_a_table_without_notes_says_what_to_give(tmp_path: Path, given: bool) -> None:
    path = tmp_path / "spans.tsv"
    path.write_text(HEADER)
    with pytest.raises(DataError, match=r"found no \.txt file.*--texts DIR|--texts DIR.*found no \.txt file"):
        read_corpus(path, texts=tmp_path / "nowhere" if given else None)


def test_required_annotations_need_one_row_about_one_note(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}b\tD\t0\t6\tSevere\n")
    with pytest.raises(DataError, match=r"no row names a note \(1 note found\)"):
        read_corpus(path, require_annotations=True)
    path.write_text(f"{HEADER}b\tD\t0\t6\tSevere\na\tFINDING\t0\t6\tSevere\n")
    assert ids(read_corpus(path, require_annotations=True, on_error="skip")) == ["a"]
    path.write_text(f"{HEADER}a\tD\t0\n")
    with pytest.raises(FormatError, match=r":2: expected 5 tab-separated fields"):
        read_corpus(path, require_annotations=True)


def test_a_note_that_cannot_be_decoded_is_a_problem_of_its_own(tmp_path: Path) -> None:
    put_note(tmp_path / "b.txt")
    path = put(tmp_path, f"{HEADER}a\tFINDING\t0\t6\tSevere\n")
    (tmp_path / "a.txt").write_bytes(b"Severe \xff")
    with pytest.raises(DataError, match=r"a\.txt: byte 7 is not valid UTF-8;"):
        read_corpus(path)
    assert ids(read_corpus(path, on_error="skip")) == ["b"]


def test_hidden_and_other_files_of_a_folder_are_counted(tmp_path: Path) -> None:
    put(tmp_path, f"{HEADER}a\tFINDING\t0\t6\tSevere\n")
    for name in (".spans.tsv", ".b.txt", "LICENSE"):
        (tmp_path / name).touch()
    put_note(tmp_path / "far" / "a.txt")
    put_note(tmp_path / "far" / "b.pdf")
    assert read_corpus(tmp_path, texts=tmp_path / "far").report.issues == (
        Issue("hidden files", 2, str(tmp_path / ".b.txt")),
        Issue("other files", 3, str(tmp_path / "LICENSE")),
    )


@pytest.mark.parametrize(("name", "found"), [("nowhere", "does not exist"), ("empty", "holds no .tsv file")])
def test_what_is_no_table_is_refused_with_what_was_expected(tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=rf"{found}; expected a \.tsv file of spans, or a folder"):
        read_corpus(tmp_path / name, "tsv")


def test_tables_are_known_by_their_names_and_brat_goes_first(tmp_path: Path) -> None:
    path = put(tmp_path, HEADER)
    (tmp_path / "x.TAB").write_text(HEADER)
    assert detect_format(tmp_path / "x.TAB") == "tsv"
    assert (detect_format(tmp_path), detect_format(path)) == ("tsv", "tsv")
    (tmp_path / "a.ann").touch()
    assert detect_format(tmp_path) == "brat"


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize(
    "row",
    [
        f"a\tD\t0\t{len(CANARY)}\t{CANARY.upper()}",
        f"a\tD\t1\t9\t{CANARY}",
        f"a\tD\t0\t999\t{CANARY}",
        f"a\tD\t9\t3\t{CANARY}",
        f"a\t\t0\t9\t{CANARY}",
        f"missing\tD\t0\t9\t{CANARY}",
        f"{CANARY}\ta\tD\t0\t9",
        f"a\tD\t{CANARY}\t9\t0",
        f"a\tD\t0\t{CANARY}",
        f'a\tD\t0\t9\t"{CANARY}\n{CANARY}\t{CANARY}',
        f'a\tD\t0\t9\t"{CANARY}\n{CANARY}"',
        CANARY,
    ],
)
def test_no_word_of_a_note_is_in_a_message(tmp_path: Path, row: str, on_error: str) -> None:
    path = put(tmp_path, f"{HEADER}{row}\n", text=f"{CANARY} and {CANARY}\n")
    try:
        corpus = read_corpus(path, on_error=on_error)  # type: ignore[arg-type]
    except DataError as error:
        assert on_error == "stop"
        told = repr((error, error.__cause__, error.__context__))
    else:
        assert on_error == "skip"
        told = repr(corpus.report.issues)
        assert "malformed, skipped" in told
    assert CANARY.lower() not in told.lower()


# Writing


DOCUMENTS = (
    Document("b", TEXT, (SEVERE, Span(7, 13, "V"))),
    Document("a", 'NA\n"x"\r\n', (Span(0, 2, "DRUG"), Span(0, 8, "D"), Span(3, 6, "D"))),
)


def test_one_file_has_the_form_of_a_submission(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.tsv"
    issues = write_corpus((*DOCUMENTS, Document("c", TEXT)), path, "tsv")
    assert path.read_bytes().decode() == (
        f"{HEADER}b\tFINDING\t0\t6\tSevere\nb\tV\t7\t13\tmitral\n"
        'a\tDRUG\t0\t2\tNA\na\tD\t0\t8\t"NA\n""x""\r\n"\na\tD\t3\t6\t"""x"""\n'
    )
    assert issues == (
        Issue("documents without spans, not in a TSV file", 1, "c"),
        Issue("texts, not in a TSV file", 3, "b"),
    )


def test_a_folder_holds_the_notes_too(tmp_path: Path) -> None:
    assert write_corpus((*DOCUMENTS, Document("ward/c", "")), tmp_path / "out", "tsv") == ()
    found = {file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.*")}
    assert found == {"annotations.tsv", "a.txt", "b.txt", "ward/c.txt"}
    assert read_corpus(tmp_path / "out").documents == (DOCUMENTS[1], DOCUMENTS[0], Document("ward/c", ""))


def test_what_a_table_cannot_hold_is_counted(tmp_path: Path) -> None:
    spans = (
        Span(0, 6, "A", score=0.5),
        Span(0, 13, "B", score=0.5, fragments=((0, 2), (7, 13))),
        Span(0, 13, "C", fragments=((0, 2), (3, 5), (7, 13))),
        Span(7, 13, "D", fragments=((7, 13),)),
    )
    issues = write_corpus([Document("a", TEXT, spans)], tmp_path / "out", "tsv")
    assert issues == (Issue("discontinuous spans, left out", 2, "a"), Issue("scores, left out", 1, "a"))
    assert read_corpus(tmp_path / "out").documents[0].spans == (Span(0, 6, "A"), Span(7, 13, "D"))


def test_names_and_labels_are_quoted_where_a_table_needs_it(tmp_path: Path) -> None:
    document = Document('"a.txt', TEXT, (Span(0, 6, "A\tB"), Span(0, 6, '"C'), Span(0, 6, "D\n")))
    write_corpus([document], tmp_path / "out", "tsv")
    assert read_corpus(tmp_path / "out").documents[0].spans == tuple(sorted(document.spans))


@pytest.mark.parametrize("single", [True, False])
def test_nothing_is_replaced_unasked(tmp_path: Path, single: bool) -> None:
    target = tmp_path / ("out.tsv" if single else "out")
    write_corpus(DOCUMENTS, target, "tsv")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    with pytest.raises(OutputError, match="ask to overwrite"):
        write_corpus(DOCUMENTS[:1], target, "tsv")
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()} == before
    write_corpus(DOCUMENTS[:1], target, "tsv", overwrite=True)
    table = target if single else target / "annotations.tsv"
    assert table.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("name", ["b.txt", "old.tsv", "deep/old.ann"])
def test_a_folder_with_other_annotations_or_texts_is_refused(tmp_path: Path, name: str) -> None:
    put_note(tmp_path / name, "another")
    with pytest.raises(OutputError, match="choose another folder"):
        write_corpus(DOCUMENTS, tmp_path, "tsv")
    assert [file.name for file in tmp_path.rglob("*.*")] == [Path(name).name]


def test_a_folder_that_holds_the_same_notes_takes_the_table(tmp_path: Path) -> None:
    for document in DOCUMENTS:
        put_note(tmp_path / f"{document.id}.txt", document.text)
    write_corpus(DOCUMENTS, tmp_path, "tsv")
    assert read_corpus(tmp_path).documents == DOCUMENTS[::-1]


@pytest.mark.parametrize("name", ["", "../a", "a\tb", "/a", ".a", "a\\b", "Annotations.tsv/a", "B", "b.txt/a"])
def test_an_id_that_cannot_be_a_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="document id"):
        write_corpus((*DOCUMENTS, Document(name, TEXT)), tmp_path / "out", "tsv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "documents",
    [
        (Document("\ud800", TEXT, (SEVERE,)),),
        (Document("a", TEXT, (Span(0, 6, "\ud800"),)),),
    ],
)
def test_a_file_that_would_be_wrong_is_not_written(tmp_path: Path, documents: Sequence[Document]) -> None:
    with pytest.raises(OutputError, match="document"):
        write_corpus(documents, tmp_path / "out.tsv", "tsv")
    assert list(tmp_path.iterdir()) == []


def test_places_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a folder"):
        write_corpus(DOCUMENTS, tmp_path / "x.tsv", "tsv", overwrite=True)
    with pytest.raises(OutputError, match="is a file"):
        write_corpus(DOCUMENTS, tmp_path / "file", "tsv", overwrite=True)
