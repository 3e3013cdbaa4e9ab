"""Tables whose notes are not at hand give their spans, counted as such; tables with notes are read as ever."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from cardioner.data.documents import Annotations, Document, ImpossibleSpan, Span, rename_labels
from cardioner.data.formats import Issue, Reading, ReadOptions, stream_corpus, stream_spans, write_corpus
from cardioner.errors import DataError, FormatError, UsageError

HEADER = "filename\tlabel\tstart_span\tend_span\ttext\n"
ALONE = "notes without text, spans only"
CANARY = "Kanarienvogel"
TEXT = "Severe mitral stenosis.\n"
ROWS = "b\tD\t7\t13\tmitral\na\tB\t7\t13\tmitral\na\tA\t7\t13\tMITRAL\na\tC\t0\t6\tSevere\n"


def put(folder: Path, table: str, *notes: str, name: str = "spans.tsv") -> Path:
    for note in notes:
        (folder / note).parent.mkdir(parents=True, exist_ok=True)
        (folder / note).write_text(TEXT)
    path = folder / name
    path.write_bytes(table.encode())
    return path


def read(path: Path, **options: object) -> tuple[list[Document | Annotations], tuple[Issue, ...]]:
    reading = Reading(ReadOptions(**options))  # type: ignore[arg-type]
    return list(stream_spans(path, reading=reading)), reading.report.issues


def one(path: Path, **options: object) -> Document | Annotations:
    (found,), _ = read(path, **options)
    return found


# Without notes


def test_spans_alone_come_by_id_in_text_order_with_their_mentions(tmp_path: Path) -> None:
    found, _ = read(put(tmp_path, HEADER + ROWS))
    assert found == [
        Annotations("a", (Span(0, 6, "C"), Span(7, 13, "A"), Span(7, 13, "B")), ("Severe", "MITRAL", "mitral")),
        Annotations("b", (Span(7, 13, "D"),), ("mitral",)),
    ]


def test_each_note_without_text_is_counted_at_its_first_row(tmp_path: Path) -> None:
    path = put(tmp_path, HEADER + ROWS)
    assert read(path)[1] == (Issue(ALONE, 2, f"{path}:3"),)


def test_a_table_without_a_mention_column_gives_spans_that_say_nothing(tmp_path: Path) -> None:
    path = put(tmp_path, "id\tlabel\tstart\tend\na.txt\tD\t0\t6\na\tD\t7\t9\n")
    assert one(path) == Annotations("a", (Span(0, 6, "D"), Span(7, 9, "D")), (None, None))


def test_rows_that_occur_twice_are_kept_with_the_mention_of_each(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}a\tD\t0\t6\tsevere\na\tD\t0\t6\tSevere\na\tD\t0\t6\tsevere\n")
    assert one(path) == Annotations("a", (Span(0, 6, "D"),) * 3, ("severe", "Severe", "severe"))


def test_a_cleaned_mention_need_not_have_the_length_of_its_span(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}a\tD\t88\t89\thigh blood pressure\na\tD\t124\t195\t\n")
    assert one(path) == Annotations("a", (Span(88, 89, "D"), Span(124, 195, "D")), ("high blood pressure", ""))


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("allowed", [True, False])
def test_a_table_with_only_a_header_gives_nothing(tmp_path: Path, single: bool, allowed: bool) -> None:
    path = put(tmp_path, HEADER)
    assert read(path if single else tmp_path, require_annotations=not allowed) == ([], ())


def test_a_single_table_with_only_a_header_does_not_adopt_the_files_beside_it(tmp_path: Path) -> None:
    assert read(put(tmp_path, HEADER, "README.txt"), require_annotations=True) == ([], ())


def test_spans_alone_are_annotations_where_these_are_required(tmp_path: Path) -> None:
    assert one(put(tmp_path, f"{HEADER}a\tD\t0\t6\tSevere\n"), require_annotations=True).id == "a"


def test_the_tables_of_a_folder_are_read_together(tmp_path: Path) -> None:
    put(tmp_path, f"{HEADER}b\tD\t0\t6\tSevere\na\tD\t7\t13\tmitral\n", name="x.tsv")
    put(tmp_path, "file\ttype\tstart\tend\na\tD\t0\t6\n", name="y.tsv")
    found, issues = read(tmp_path)
    assert found == [
        Annotations("a", (Span(0, 6, "D"), Span(7, 13, "D")), (None, "mitral")),
        Annotations("b", (Span(0, 6, "D"),), ("Severe",)),
    ]
    assert issues == (Issue(ALONE, 2, f"{tmp_path / 'x.tsv'}:3"),)


def test_files_of_a_folder_that_are_no_note_of_its_rows_are_counted(tmp_path: Path) -> None:
    put(tmp_path, f"{HEADER}a\tD\t0\t6\tSevere\n", "README.txt", "results/run.txt", ".hidden")
    found, issues = read(tmp_path)
    assert [type(note) for note in found] == [Annotations]
    assert [(issue.kind, issue.count) for issue in issues] == [("hidden files", 1), (ALONE, 1), ("other files", 2)]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a\tD\t0\t6", "expected 5 tab-separated fields, as in the header, found 4"),
        (f"a\tD\t{CANARY}\t6\tSevere", "expected whole numbers in the columns of the start and the end"),
        (f"a\t\t0\t6\t{CANARY}", "the span 0 to 6 has no label"),
        (f"\tD\t0\t6\t{CANARY}", "expected the name of a note in the column of the document, found none"),
        (f".txt\tD\t0\t6\t{CANARY}", "expected the name of a note in the column of the document, found none"),
    ],
)
def test_a_malformed_row_is_named_or_skipped_and_counted(tmp_path: Path, row: str, problem: str) -> None:
    path = put(tmp_path, f"{HEADER}b\tD\t0\t6\tSevere\n{row}\n")
    with pytest.raises(FormatError) as caught:
        read(path)
    assert str(caught.value) == f"{path}:3: {problem}"
    found, issues = read(path, on_error="skip")
    assert found == [Annotations("b", (Span(0, 6, "D"),), ("Severe",))]
    assert Issue("malformed, skipped", 1, f"{path}:3") in issues


def test_other_columns_and_blank_lines_are_counted_as_ever(tmp_path: Path) -> None:
    path = put(tmp_path, "filename\tann_id\tlabel\tstart\tend\n\na\tT1\tD\t0\t6\n")
    assert [issue.kind for issue in read(path)[1]] == ["blank lines", ALONE, "other columns"]


# With notes


def test_a_table_with_its_notes_is_read_as_a_corpus(tmp_path: Path) -> None:
    path = put(tmp_path, HEADER + ROWS.replace("MITRAL", "mitral"), "txt/a.txt", "txt/b.txt", "txt/c.txt")
    for place in (path, tmp_path):
        reading = Reading()
        expected = list(stream_corpus(place, reading=reading))
        assert [document.id for document in expected] == ["a", "b", "c"]
        assert read(place) == (expected, reading.report.issues)


@pytest.mark.parametrize("required", [True, False])
def test_the_notes_of_a_folder_are_documents_though_no_row_names_one(tmp_path: Path, required: bool) -> None:
    put(tmp_path, HEADER, "a.txt")
    if not required:
        assert read(tmp_path) == ([Document("a", TEXT)], ())
        return
    with pytest.raises(DataError, match=r"no row names a note \(1 note found\)"):
        read(tmp_path, require_annotations=True)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("names", [("a", "b"), ("ward/a", "ward/b"), ("ward/a", "b")])
def test_rows_without_a_note_are_refused_where_others_have_theirs(
    tmp_path: Path, single: bool, names: tuple[str, str]
) -> None:
    there, missing = names
    path = put(tmp_path, f"{HEADER}{there}\tD\t0\t6\tSevere\n{missing}\tD\t0\t6\tSevere\n", f"{there}.txt")
    with pytest.raises(FormatError) as caught:
        read(path if single else tmp_path)
    assert str(caught.value).startswith(f"{path}:3: expected the note {missing!r} as a .txt file, found none")


@pytest.mark.parametrize("folder", ["far", "nowhere"])
def test_where_the_folder_of_the_notes_is_given_they_must_be_there(tmp_path: Path, folder: str) -> None:
    path = put(tmp_path, f"{HEADER}a\tD\t0\t6\tSevere\n", "far/b.txt")
    with pytest.raises(DataError, match=r"expected the note 'a' as|expected the folder of the notes \(--texts DIR\)"):
        read(path, texts=tmp_path / folder)


def test_a_mention_is_compared_with_a_text_that_is_there(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}a\tD\t0\t6\tsevere\n", "a.txt")
    with pytest.raises(FormatError, match=":2: the mention does not match the text at 0 to 6"):
        read(path)


# The door


def test_other_formats_are_read_as_by_the_other_door(tmp_path: Path) -> None:
    notes = [Document("a", TEXT, (Span(0, 6, "D"),)), Document("b", TEXT)]
    for name, place in {"brat": tmp_path / "brat", "jsonl": tmp_path / "a.jsonl"}.items():
        write_corpus(notes, place, name)
        assert read(place) == (notes, ())


def test_an_id_that_occurs_twice_is_refused_by_both_doors(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "text": "x", "tags": []}\n' * 2)
    for door in (stream_corpus, stream_spans):
        with pytest.raises(DataError, match="the document id 'a' occurs more than once"):
            list(door(path, reading=Reading()))


def test_an_unknown_format_or_encoding_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, HEADER)
    with pytest.raises(UsageError, match="no format 'xml'"):
        list(stream_spans(path, "xml", reading=Reading()))
    with pytest.raises(UsageError, match="no encoding 'latin-99'"):
        list(stream_spans(path, reading=Reading(ReadOptions(encoding="latin-99"))))


def test_a_corpus_still_needs_its_notes(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}a\tD\t0\t6\tSevere\n")
    with pytest.raises(DataError, match=r"found no \.txt file beside it"):
        list(stream_corpus(path))


# Real tables


@pytest.mark.corpus
def test_every_row_of_the_official_tables_is_a_span_or_counted_without_texts() -> None:
    tables = sorted(Path(os.environ["CARDIONER_DATA"], "multicardioner-scorer").glob("*/*.tsv"))
    backwards = {}
    for table in tables:
        with table.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        assert header == HEADER.split()
        forwards = [row for row in rows if int(row[2]) < int(row[3])]
        found, issues = read(table, require_annotations=True, on_error="skip")
        again = [
            [note.id, span.label, str(span.start), str(span.end), mention]
            for note in found
            if isinstance(note, Annotations)
            for span, mention in zip(note.spans, note.mentions, strict=True)
        ]
        assert sorted(again, key=str) == sorted(forwards, key=str)
        impossible = [len(note.impossible) for note in found if isinstance(note, Annotations)]
        assert sum(impossible) == len(rows) - len(forwards)
        counts = {issue.kind: issue.count for issue in issues}
        assert counts.pop(ALONE) == len({row[0] for row in rows})
        assert sum(counts.values()) == len(rows) - len(forwards)
        backwards[table.stem] = len(rows) - len(forwards)
    assert len(tables) == 8
    assert {name.rpartition("task1_")[2]: count for name, count in backwards.items() if count} == {
        "all_incorrect": 19,
        "some_correct+incorrect_span": 6,
    }


def test_rows_that_cannot_be_a_span_are_kept_apart_and_are_counted(tmp_path: Path) -> None:
    path = put(tmp_path, f"{HEADER}a\tD\t0\t6\tSevere\na\tD\t6\t6\t{CANARY}\na\tX\t9\t2\t\n")
    reading = Reading()
    (document,) = stream_spans(path, reading=reading)
    assert isinstance(document, Annotations)
    assert document.spans == (Span(0, 6, "D"),)
    assert document.impossible == (ImpossibleSpan(6, 6, "D", CANARY), ImpossibleSpan(9, 2, "X", ""))
    (issue,) = (one for one in reading.report.issues if "cannot be a span" in one.kind)
    assert (issue.count, issue.where) == (2, f"{path}:3")
    renamed = rename_labels([document], {"X": "", "D": "E"})[0]
    assert [span.label for span in renamed.impossible] == ["E"]


# Brat files without notes


def test_ann_files_without_notes_give_their_spans_with_quotes_and_scores_and_are_counted(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.ann").write_text(
        "T1\tD 7 13\tmitral\nT2\tA 0 6;14 22\tSevere stenosis\n#1\tAnnotatorNotes T1\tscore 0.5\n"
    )
    (tmp_path / "sub" / "a.ann").touch()
    found, issues = read(tmp_path)
    assert found == [
        Annotations(
            "b", (Span(0, 22, "A", fragments=((0, 6), (14, 22))), Span(7, 13, "D", 0.5)), ("Severe stenosis", "mitral")
        ),
        Annotations("sub/a"),
    ]
    assert issues == (Issue(ALONE, 2, str(tmp_path / "b.ann")),)


def test_with_some_notes_every_ann_file_needs_its_own(tmp_path: Path) -> None:
    for name in ("a.ann", "b.ann"):
        (tmp_path / name).write_text("T1\tD 7 13\tmitral\n")
    (tmp_path / "a.txt").write_text(TEXT)
    with pytest.raises(DataError, match=r"1 \.ann file without a \.txt file \(b\)"):
        read(tmp_path, require_annotations=True)
    assert one(tmp_path) == Document("a", TEXT, (Span(7, 13, "D"),))


def test_a_malformed_line_without_a_note_is_named_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "a.ann").write_text(f"T1\tD 7\t{CANARY}\n")
    with pytest.raises(FormatError, match=r"a\.ann:1: expected a label and its offsets") as caught:
        read(tmp_path)
    assert CANARY not in str(caught.value)
