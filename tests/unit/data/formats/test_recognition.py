"""Formats are recognised by content where a name says nothing, and what looks annotated never passes as plain text."""

from __future__ import annotations

from pathlib import Path

import pytest

from cardioner.data.formats import ReadReport, detect_format, read_corpus
from cardioner.data.formats.recognition import likely_format_of
from cardioner.data.notes import NoteSource
from cardioner.data.quality import check_corpora
from cardioner.errors import DataError

WORDS = "No O\nfever B-X\n"
TABLE = "filename\tlabel\tstart_span\tend_span\ttext\na\tX\t3\t8\tfever\n"
NOTE = "No fever.\nBlood group O\n"
PUBTATOR = "1|t|No fever\n1\t3\t8\tfever\tX\n"
ROWS = '{"text": "No fever", "label": [[3, 8, "X"]]}\n'


def put(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        place = folder / name.replace("__", "/").replace("_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    return folder


@pytest.mark.parametrize(
    ("files", "form"),
    [
        ({"train_txt": WORDS, "ward__test_txt": WORDS}, "conll"),
        ({"train_tsv": WORDS.replace(" ", "\t"), "test_tsv": WORDS.replace(" ", "\t")}, "conll"),
        ({"train_tsv": "No\tO\nfever\tX\n.\tO\ncough\tX\n.\tO\n"}, "conll"),
        ({"a_txt": PUBTATOR}, "pubtator"),
        ({"a_json": f"[{ROWS}]"}, "jsonl"),
        ({"a_txt": ROWS}, "jsonl"),
        ({"a_txt": NOTE, "spans_tsv": TABLE}, "tsv"),
        ({"a_txt": WORDS, "a_ann": ""}, "brat"),
        ({"a_txt": WORDS, "b_txt": NOTE}, "brat"),
        ({"a_txt": NOTE, "b_json": '[{"id": 1}]'}, "brat"),
        ({"a_txt": NOTE, "a_conll": WORDS}, "conll"),
    ],
)
def test_a_folder_is_known_by_what_its_files_hold(tmp_path: Path, files: dict[str, str], form: str) -> None:
    assert detect_format(put(tmp_path, **files)) == form


@pytest.mark.parametrize("name", ["notes.test", "a.txt", "a.tsv", "a.data", "notes"])
def test_a_file_is_known_by_what_it_holds(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(WORDS.replace(" ", "\t") if name == "a.tsv" else WORDS)
    corpus = read_corpus(tmp_path / name)
    assert [span.label for span in corpus[0].spans] == ["X"]
    assert corpus.report == ReadReport()


def test_words_in_text_files_are_read_from_a_folder_with_or_without_the_name_of_the_format(tmp_path: Path) -> None:
    put(tmp_path, train_txt=WORDS, test_txt="Fever B-X\nsince O\n", readme_md="a")
    for form in (None, "conll"):
        corpus = read_corpus(tmp_path, form)
        assert {document.id: len(document.spans) for document in corpus} == {"test": 1, "train": 1}
        assert [(issue.kind, issue.count) for issue in corpus.report.issues] == [("other files", 1)]


@pytest.mark.parametrize(
    "text",
    [
        NOTE,
        "",
        "O",
        "blood group O\n",
        "Na 138\nK 4.2\nCl 101\n",
        "Rh O\nABO O\n",
        "[1] see below\n",
        "{not json}\n",
        '{"a": 1}\n',
        "A|B|C\n",
        "Allergies: penicillin\nMeds: aspirin\nBMI: 30\nHR: 80\nRR: 12\n",
    ],
)
def test_a_note_is_plain_text(tmp_path: Path, text: str) -> None:
    assert likely_format_of(text) is None
    assert detect_format(put(tmp_path, a_txt=text) / "a.txt") == "brat"


@pytest.mark.parametrize(("content", "form"), [(WORDS, "conll"), (PUBTATOR, "pubtator"), (ROWS, "jsonl")])
def test_what_looks_annotated_among_notes_is_refused_with_the_likely_format(
    tmp_path: Path, content: str, form: str
) -> None:
    put(tmp_path, a_txt=NOTE, b_txt=content)
    with pytest.raises(DataError, match=rf"b\.txt: expected a note, found what looks like the format {form}") as caught:
        read_corpus(tmp_path)
    assert "fever" not in str(caught.value)
    report = check_corpora([tmp_path])
    assert report.malformed == 1
    assert f"--from {form}" in report.sources[0].problems[0]


@pytest.mark.parametrize("content", [WORDS, PUBTATOR, ROWS])
def test_other_files_that_look_annotated_are_counted_apart(tmp_path: Path, content: str) -> None:
    put(tmp_path, a_txt=NOTE, a_ann="T1\tX 3 8\tfever\n", export_json=content, image_png="x")
    kinds = [issue.kind for issue in read_corpus(tmp_path).report.issues]
    assert kinds[0] == "other files"
    assert kinds[1].startswith("other files that look like the format ")


def test_notes_to_tag_that_look_annotated_are_tagged_and_counted(tmp_path: Path) -> None:
    reports: list[tuple[str, ReadReport]] = []
    found = list(NoteSource((put(tmp_path, a_txt=NOTE, b_txt=WORDS),)).read(reports))
    assert [document.id for document in found] == ["a", "b"]
    kinds = [issue.kind for issue in reports[0][1].issues]
    assert kinds == ["notes that look like the format conll, tagged as they are"]


def test_hidden_files_do_not_decide_the_format(tmp_path: Path) -> None:
    put(tmp_path, a_conll=WORDS)
    (tmp_path / "._a.ann").write_bytes(b"\0\5")
    assert detect_format(tmp_path) == "conll"


@pytest.mark.parametrize("name", ["a.ANN", "a.txt.ann", "a.a1", "rows.jsonl"])
def test_check_names_files_of_annotations_that_no_reader_takes(tmp_path: Path, name: str) -> None:
    put(tmp_path, a_txt=NOTE)
    (tmp_path / name).write_text(ROWS if name == "rows.jsonl" else "T1\tX 3 8\tfever\n")
    report = check_corpora([put(tmp_path, b_txt=NOTE, b_ann="")])
    assert (report.malformed, report.unread) == (0, 1)
