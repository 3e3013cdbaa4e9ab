"""`cardioner convert`, from every format to every other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import read_corpus, write_corpus

PLACES = {"brat": "brat", "tsv": "tsv", "jsonl": "notes.jsonl", "conll": "notes.conll", "datasets": "saved"}
NOTES = [
    Document("a", "chest pain and dyspnoea", (Span(0, 10, "SYMPTOM"), Span(15, 23, "SYMPTOM"))),
    Document("b", "stable on bisoprolol", (Span(10, 20, "DRUG"),)),
    Document("c", "no complaints"),
]


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], Path]:
    """The notes in a format, words parted by one space so that every format can hold them."""

    def write(name: str) -> Path:
        place = tmp_path / "in" / PLACES[name]
        place.parent.mkdir(exist_ok=True)
        assert write_corpus(NOTES, place, name) == ()
        return place

    return write


@pytest.mark.parametrize("old", PLACES)
@pytest.mark.parametrize("new", PLACES)
def test_every_format_becomes_every_other(
    run: Callable[..., Any], source: Callable[[str], Path], tmp_path: Path, old: str, new: str
) -> None:
    out = tmp_path / "out" / PLACES[new]
    done = run("convert", source(old), out, "--to", new)
    assert (done.code, done.out) == (0, "")
    assert sorted(read_corpus(out).documents, key=lambda document: document.id) == NOTES


TOOLS = {
    "xmi": "xmi",
    "bioc": "n.bioc",
    "docbin": "n.spacy",
    "pubtator": "n.pubtator",
    "doccano": "d.jsonl",
    "prodigy": "p.jsonl",
    "label-studio": "tasks.json",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_notes_go_to_tools_for_annotation_and_back(
    run: Callable[..., Any], source: Callable[[str], Path], tmp_path: Path, tool: str
) -> None:
    out = tmp_path / TOOLS[tool]
    done = run("convert", source("brat"), out, "--to", tool)
    assert (done.code, done.out) == (0, "")
    assert ('<Label value="DRUG" /><Label value="SYMPTOM" />' in " ".join(done.err.split())) == (tool == "label-studio")
    assert run("convert", out, tmp_path / "back", "--to", "brat").code == 0
    assert list(read_corpus(tmp_path / "back").documents) == NOTES


def test_the_suffix_names_the_format_and_types_are_renamed_on_the_way(
    run: Callable[..., Any], source: Callable[[str], Path], tmp_path: Path
) -> None:
    assert (
        run("convert", source("brat"), tmp_path / "o.jsonl", "--map", "DRUG=MEDICATION", "--map", "SYMPTOM=").code == 0
    )
    spans = [span for document in read_corpus(tmp_path / "o.jsonl").documents for span in document.spans]
    assert spans == [Span(10, 20, "MEDICATION")]
    assert run("convert", source("jsonl"), tmp_path / "nowhere").code == 2


def test_what_the_new_format_cannot_hold_is_counted(run: Callable[..., Any], tmp_path: Path) -> None:
    nested = Document("a", "acute  heart failure", (Span(0, 20, "D"), Span(7, 20, "D"), Span(7, 12, "E")))
    write_corpus([nested], tmp_path / "in")
    done = run("convert", tmp_path / "in", tmp_path / "o.conll")
    assert done.code == 0
    assert "overlapping spans" in done.err
    assert "rebuilt" in done.err


def test_a_malformed_row_stops_everything_and_leaves_nothing_or_is_skipped_and_counted(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    write_corpus(NOTES, tmp_path / "in")
    (tmp_path / "in" / "b.ann").write_text("T1\tDRUG 10 20\tbisoprolol\nT2\tDRUG 0 6\tSECRET\nT3 x\n")
    done = run("convert", tmp_path / "in", tmp_path / "o.jsonl")
    assert done.code == 3
    assert "b.ann:2" in done.err
    assert "b.ann:3" in done.err
    assert "SECRET" not in done.err
    assert not (tmp_path / "o.jsonl").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    done = run("convert", tmp_path / "in", tmp_path / "o.jsonl", "--on-error", "skip")
    assert done.code == 0
    assert "malformed, skipped" in done.err
    assert list(read_corpus(tmp_path / "o.jsonl").documents) == NOTES


@pytest.mark.parametrize("name", PLACES)
def test_what_is_there_is_replaced_only_on_request(
    run: Callable[..., Any], source: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    arguments = ("convert", source("brat"), tmp_path / "out" / PLACES[name], "--to", name)
    assert [run(*arguments).code, run(*arguments).code, run(*arguments, "--overwrite").code] == [0, 5, 0]
    assert len(read_corpus(tmp_path / "out" / PLACES[name]).documents) == len(NOTES)


def test_another_encoding_is_read_when_it_is_named(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes("válvula".encode("latin-1"))
    (tmp_path / "in" / "a.ann").write_bytes("T1\tX 0 7\tválvula\n".encode("latin-1"))
    assert run("convert", tmp_path / "in", tmp_path / "o.jsonl").code == 3
    assert run("convert", tmp_path / "in", tmp_path / "o.jsonl", "--encoding", "latin-1").code == 0
    assert read_corpus(tmp_path / "o.jsonl").documents == (Document("a", "válvula", (Span(0, 7, "X"),)),)
    assert run("convert", tmp_path / "in", tmp_path / "p.jsonl", "--encoding", "rubbish").code == 2


@pytest.mark.parametrize("command", [("convert",), ("split", "--output")])
def test_nothing_is_written_into_the_corpus_that_is_read(
    run: Callable[..., Any], source: Callable[[str], Path], command: tuple[str, ...]
) -> None:
    corpus = source("brat")
    place = corpus / ("made.jsonl" if command == ("convert",) else "made.json")
    done = run(command[0], corpus, *command[1:], place)
    assert done.code == 5
    assert f"lies in the corpus {corpus}" in done.err
    assert not place.exists()
