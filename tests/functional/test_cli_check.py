"""`cardioner check`: a whole report whatever is wrong, its exit code, its JSON, its page, and no word of a note."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import write_corpus

CANARY = "zyxwvcanary"
LISTS_HEAVY = """
import atexit, sys
atexit.register(lambda: print("loaded:", sorted({"torch", "transformers", "tokenizers"} & sys.modules.keys())))
from cardioner.cli import main
main()
"""
"""Runs the command and says at the end which of the libraries that take seconds were loaded."""

Run = Callable[..., Any]


@pytest.fixture
def broken(corpus: Path, tmp_path: Path) -> Path:
    """A corpus whose first note has three malformed lines, and whose second has one."""
    place = tmp_path / "broken"
    place.mkdir()
    for file in (corpus / "train").iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    for name, lines in {"t1": ["T7\tX 0 4\tnope", "T8\tX 9 4\tx", "?"], "t2": [f"T9\tX 1 2\t{CANARY}"]}.items():
        with (place / f"{name}.ann").open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
    return place


def test_the_report_names_parts_types_and_the_best_recall(run: Run, corpus: Path) -> None:
    done = run("check", corpus / "train", corpus / "dev")
    assert done.code == 0
    for told in (
        "Parts",
        "DISEASE",
        "SYMPTOM",
        "DRUG",
        "Best recall of a tagger",
        "with tags per type",
        "1.0000",
        "nothing malformed",
        str(corpus / "dev"),
    ):
        assert told in done.out
    assert "error" not in done.err


def test_json_is_the_report_alone_and_the_same_every_time(run: Run, corpus: Path) -> None:
    done = [run("check", corpus / "train", corpus / "dev", "--json") for _ in range(2)]
    assert done[0].out == done[1].out
    found = done[0].json
    assert [(part["documents"], part["entities"]) for part in found["parts"]] == [(4, 6), (2, 3)]
    assert found["all"]["entities_per_type"] == {"DISEASE": 3, "DRUG": 2, "SYMPTOM": 4}
    assert (found["flat_tags"]["unit"], found["flat_tags"]["recall_ceiling"]) == ("words", 1.0)
    assert found["malformed"] == 0


def test_attributes_are_in_the_table_the_json_and_the_page(run: Run, tmp_path: Path) -> None:
    said = Span(4, 9, "SYMPTOM", attributes={"Negation": True, "Certainty": "rather low"})
    write_corpus([Document("a", "The cough.", (said,))], tmp_path / "c")
    done = run("check", tmp_path / "c", "--html", tmp_path / "page.html")
    assert "Attributes of entities" in done.out
    assert "rather low" in done.out
    assert "seen once" in done.out
    assert "rather low" in (tmp_path / "page.html").read_text()
    found = run("check", tmp_path / "c", "--json").json["parts"][0]["attributes"]
    assert [(one["name"], one["value"], one["entities"]) for one in found] == [
        ("Certainty", "rather low", 1),
        ("Negation", "true", 1),
    ]


def test_everything_malformed_is_told_after_one_reading_and_the_exit_code_is_3(
    run: Run, broken: Path, corpus: Path
) -> None:
    done = run("check", broken, corpus / "dev")
    assert done.code == 3
    for place in ("t1.ann:3", "t1.ann:4", "t1.ann:5", "t2.ann:3"):
        assert place in done.out
    assert "4 malformed" in done.out
    assert "Best recall" in done.out
    found = run("check", broken, corpus / "dev", "--json")
    assert (found.code, found.json["malformed"], found.json["all"]["entities"]) == (3, 4, 9)


def test_a_path_that_is_not_there_is_a_complaint_and_no_report(run: Run, corpus: Path) -> None:
    done = run("check", corpus / "train", corpus / "tset")
    assert done.code == 3
    assert "tset does not exist" in done.error


def test_sub_tokens_of_a_backbone_take_the_place_of_words(
    run: Run, corpus: Path, encoder_dir: Callable[[str], Path]
) -> None:
    found = run("check", corpus / "train", "--backbone", encoder_dir("bert"), "--json").json["flat_tags"]
    assert found["unit"] == f"sub-tokens of {encoder_dir('bert')}"
    assert found["window"] == 126
    assert found["recall_ceiling"] == 1.0


def test_a_backbone_that_is_not_there_is_a_models_error(run: Run, corpus: Path, tmp_path: Path) -> None:
    done = run("check", corpus / "train", "--backbone", tmp_path / "none")
    assert done.code == 4
    assert f"{tmp_path / 'none'} does not exist; expected a folder with config.json" in done.error.replace("\n", " ")


def test_splits_divide_the_corpus_and_leaks_are_listed_by_id(run: Run, tmp_path: Path) -> None:
    text = f"The {CANARY} has chest pain and syncope today."
    write_corpus(
        [Document("a", text), Document("b", text), Document("c", "Nothing in common with it.")], tmp_path / "c"
    )
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ["a", "c"], "test": ["b"]}))
    found = run("check", tmp_path / "c", "--splits", splits, "--json").json
    assert [part["name"] for part in found["parts"]] == ["train", "test"]
    assert found["near_duplicates"] == [
        {"identical": True, "leakage": True, "members": [{"part": "train", "id": "a"}, {"part": "test", "id": "b"}]}
    ]
    shown = run("check", tmp_path / "c", "--splits", splits).out
    assert "leakage" in shown
    assert "train: a" in shown


def test_types_are_renamed_before_they_are_compared(run: Run, corpus: Path) -> None:
    parts = (corpus / "train", corpus / "dev")
    assert "look alike" in run("check", *parts, "--map", "DRUG=SYMPTOMS").out
    assert run("check", *parts, "--map", "DRUG=SYMPTOM", "--json").json["similar_names"] == []
    unknown = run("check", *parts, "--map", "DRUGS=X")
    assert unknown.code == 3
    assert "--map names DRUGS" in unknown.out


def test_a_named_format_and_encoding_are_taken_and_unknown_ones_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_bytes("médula".encode("latin-1"))
    (tmp_path / "n.ann").write_bytes("T1\tSITE 0 6\tmédula\n".encode("latin-1"))
    assert run("check", tmp_path).code == 3
    done = run("check", tmp_path, "--encoding", "latin-1", "--from", "brat", "--json")
    assert (done.code, done.json["all"]["entities"]) == (0, 1)
    assert run("check", tmp_path, "--encoding", "klingon").code == 2
    assert run("check", tmp_path, "--from", "docx").code == 2


def test_the_notes_of_a_tsv_file_may_lie_elsewhere(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "n.txt").write_text(f"syncope of a {CANARY}", encoding="utf-8")
    gold = tmp_path / "gold.tsv"
    gold.write_text("filename\tlabel\tstart_span\tend_span\ttext\nn\tSYMPTOM\t0\t7\tsyncope\n", encoding="utf-8")
    done = run("check", gold, "--texts", tmp_path / "notes", "--json")
    assert (done.code, done.json["all"]["entities_per_type"]) == (0, {"SYMPTOM": 1})


def test_the_page_holds_notes_unless_it_is_to_hold_ids_only(run: Run, corpus: Path, tmp_path: Path) -> None:
    full, bare = tmp_path / "full.html", tmp_path / "bare.html"
    done = run("check", corpus / "train", "--html", full)
    assert done.code == 0
    assert "private" in done.err
    assert CANARY in full.read_text(encoding="utf-8")
    assert run("check", corpus / "train", "--html", bare, "--ids-only", "--json").json["malformed"] == 0
    page = bare.read_text(encoding="utf-8")
    assert CANARY not in page
    assert "bisoprolol" not in page
    assert "t1" in page


def test_the_page_is_written_though_something_is_malformed(run: Run, broken: Path, tmp_path: Path) -> None:
    done = run("check", broken, "--html", tmp_path / "page.html")
    assert done.code == 3
    assert "t1.ann:4" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_replaces_nothing_unasked_and_never_a_corpus(run: Run, corpus: Path, tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    place.write_text("mine")
    done = run("check", corpus / "train", "--html", place)
    assert done.code == 5
    assert "--overwrite" in done.error
    assert place.read_text() == "mine"
    assert run("check", corpus / "train", "--html", place, "--overwrite").code == 0
    assert run("check", place, "--html", place, "--overwrite").code == 2
    assert run("check", corpus / "train", "--html", corpus / "train" / "t1.txt", "--overwrite").code == 2


def test_the_page_is_the_same_in_another_process_with_no_home_to_write_to(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here.html", tmp_path / "there.html"
    run("check", corpus / "train", "--html", here)
    environment = {name: value for name, value in os.environ.items() if name not in {"MPLCONFIGDIR", "XDG_CACHE_HOME"}}
    done = subprocess.run(
        [sys.executable, "-c", LISTS_HEAVY, "check", str(corpus / "train"), "--html", str(there)],
        env={**environment, "HOME": "/dev/null", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line] == [
        f"Page: {there}, which holds the text of notes: keep it private"
    ]
    assert here.read_bytes() == there.read_bytes()
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_a_page_has_the_name_of_one_and_does_not_lie_among_the_texts(run: Run, corpus: Path, tmp_path: Path) -> None:
    place = tmp_path / "page.txt"
    refused = run("check", corpus / "train", "--html", place)
    assert refused.code == 2
    assert "end in .html" in refused.error
    texts = tmp_path / "texts"
    assert run("check", corpus / "train", "--texts", texts, "--html", texts / "x.html").code == 2


def test_documents_are_listed_a_line_each_whatever_their_ids(run: Run, tmp_path: Path) -> None:
    text = f"The {CANARY} has chest pain and syncope today."
    write_corpus([Document("a\nb", text), Document("c", text)], tmp_path / "c.jsonl", "jsonl")
    lines = run("check", tmp_path / "c.jsonl").out.splitlines()
    (first,) = [place for place, line in enumerate(lines) if r"c.jsonl: a\nb" in line]
    assert "c.jsonl: c " in lines[first + 1]
    assert "2 documents, 0 entities: nothing malformed" in lines
