"""`cardioner predict`: notes in, tagged notes out."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from cardioner.data.documents import Document
from cardioner.data.formats import FORMATS, read_corpus, write_corpus
from cardioner.model_dir.manifest import read_manifest
from cardioner.model_dir.save import write_model_dir
from cardioner.prediction import directories
from cardioner.prediction.engines import torch as torch_engine
from cardioner.prediction.predictor import Predictor

Run = Callable[..., Any]


@pytest.fixture
def model(opinionated: Callable[..., Path]) -> Path:
    """A model that finds spans in every note."""
    return opinionated(use_crf=True)


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Puts bytes on standard input."""

    def pipe(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))

    return pipe


def tagged(model: Path, documents: Sequence[Document], **choices: Any) -> list[Document]:
    """What the library finds."""
    return list(Predictor.from_pretrained(model, device="cpu", **choices).predict(documents))


@pytest.mark.parametrize("decode", ["viterbi", "argmax"])
def test_notes_come_back_untouched_with_the_models_spans(
    decode: str, run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path
) -> None:
    done = run("predict", saved, corpus / "dev", "--output", tmp_path / "out", "--decode", decode, "--device", "cpu")
    assert (done.code, done.out) == (0, "")
    assert "2 notes" in done.err
    given, tagged = read_corpus(corpus / "dev").documents, read_corpus(tmp_path / "out").documents
    assert [(note.id, note.text) for note in tagged] == [(note.id, note.text) for note in given]
    expected = list(Predictor.from_pretrained(saved, device="cpu", decoder=decode).predict(given))
    assert [note.spans for note in tagged] == [
        tuple(sorted(note.spans, key=lambda span: (span.start, span.end))) for note in expected
    ]


def test_a_log_file_gets_what_is_shown_and_no_word_of_a_note(
    run: Run, model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cardioner._progress.EVERY", 0.0)
    log = tmp_path / "predict.log"
    done = run("predict", model, corpus / "dev", "--output", tmp_path / "out", "--log-file", log)
    assert done.code == 0
    logged = log.read_text()
    assert "tagging: 2 of 2 notes, " in logged
    assert "tagging: 2 of 2 notes, " in done.err
    assert "Spans found" in logged
    words = {word for note in read_corpus(corpus / "dev") for word in note.text.split() if len(word) > 5}
    assert not words & set(logged.split())


def test_with_a_cache_pasted_notes_are_computed_once_and_the_end_says_so(
    run: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    given = list(read_corpus(corpus / "dev").documents)
    notes = [Document(f"{index}", note.text * 4) for index, note in enumerate(given * 3)]
    write_corpus(notes, tmp_path / "notes.jsonl", "jsonl")
    done = run("predict", model, tmp_path / "notes.jsonl", "--output", tmp_path / "out.jsonl", "--cache", 2)
    assert done.code == 0
    counts = re.search(r"(\d+) windows, .*, (\d+) windows from the cache, in ", done.err)
    assert counts is not None
    assert int(counts[2]) * 3 >= int(counts[1]) * 2
    assert [note.spans for note in read_corpus(tmp_path / "out.jsonl")] == [
        note.spans for note in tagged(model, notes, cache_mib=2)
    ]


def test_several_inputs_and_single_notes_are_taken_together(
    run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path
) -> None:
    single = corpus / "train" / "t1.txt"
    done = run("predict", saved, corpus / "dev", single, "--output", tmp_path / "out")
    assert done.code == 0
    assert {path.name for path in (tmp_path / "out").glob("*.ann")} == {"d1.ann", "d2.ann", "t1.ann"}


def test_notes_of_the_same_id_are_refused(run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path) -> None:
    done = run("predict", saved, corpus / "dev", corpus / "dev" / "d1.txt", "--output", tmp_path / "out")
    assert done.code == 3
    assert "d1" in done.error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_annotations_is_only_replaced_on_request(
    run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path
) -> None:
    arguments = ("predict", saved, corpus / "dev", "--output", tmp_path / "out")
    assert run(*arguments).code == 0
    refused = run(*arguments)
    assert refused.code == 5
    assert ".ann" in refused.error
    assert run(*arguments, "--overwrite").code == 0


@pytest.mark.parametrize("inside", [".", "tagged"])
def test_output_among_the_inputs_is_refused_even_with_overwrite(
    inside: str, run: Callable[..., Any], saved: Path, corpus: Path
) -> None:
    before = {path: path.read_bytes() for path in (corpus / "dev").rglob("*") if path.is_file()}
    done = run("predict", saved, corpus / "dev", "--output", corpus / "dev" / inside, "--overwrite")
    assert done.code == 5
    assert "outside" in done.error
    assert {path: path.read_bytes() for path in (corpus / "dev").rglob("*") if path.is_file()} == before


def test_annotations_beside_the_notes_need_not_be_right(
    run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    shutil.copytree(corpus / "dev", notes)
    for path in notes.glob("*.ann"):
        path.write_text("no annotation\n")
    assert run("predict", saved, notes, "--output", tmp_path / "tagged").code == 0


def test_types_without_a_span_are_named_beside_what_the_model_scored_on_them(
    run: Run, opinionated: Callable[..., Path], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds_nothing = opinionated(scale=0.0)
    label, *others = Predictor.from_pretrained(finds_nothing, device="cpu").labels
    scores = {"test": {"strict": {"per_type": {label: {"tp": 3, "fp": 1, "fn": 2, "f1": 0.667}}}}}
    known = read_manifest(finds_nothing)
    assert known is not None
    monkeypatch.setattr(directories, "read_manifest", lambda _: known.model_copy(update={"scores": scores}))
    done = run("predict", finds_nothing, corpus / "dev", "--output", tmp_path / "out")
    assert done.code == 0
    assert "warning: nothing at all was found in 2 notes" in done.err
    rows = [re.findall(r"[\w. ]+", line) for line in done.err.partition("Types without a span")[2].splitlines()]
    listed = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert [label, "test notes", "5", "0.667"] in listed
    for other in others:
        assert [other, "not known"] in listed


def test_a_type_that_is_found_somewhere_is_not_warned_of(run: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    found = {span.label for note in tagged(model, read_corpus(corpus / "dev")) for span in note.spans}
    done = run("predict", model, corpus / "dev", "--output", tmp_path / "out")
    warned = done.err.partition("Types without a span")[2]
    assert [label for label in found if f"│ {label} " in warned] == []
    every = set(Predictor.from_pretrained(model, device="cpu").labels)
    assert ("warning: no span of" in done.err) == (found != every)


# Inputs --------------------------------------------------------------------------------------------------------------


def test_what_else_is_known_of_a_note_comes_through_or_is_counted(run: Run, model: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.jsonl"
    notes.write_text('{"id": "a", "text": "No fever.", "patient_id": "P1", "visit": {"date": "2024-05-01"}}\n')
    done = run("predict", model, notes, "--output", tmp_path / "out.jsonl")
    assert done.code == 0
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert (row["patient_id"], row["visit"]) == ("P1", {"date": "2024-05-01"})
    assert "left out" not in done.err
    done = run("predict", model, notes, "--output", tmp_path / "out")
    assert done.code == 0
    assert "field patient_id, left out" in done.err
    assert "P1" not in done.err


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_notes_of_any_format_are_tagged_and_their_own_spans_are_ignored(
    form: str, run: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    suffix = {"jsonl": ".jsonl", "conll": ".conll", "docbin": ".spacy"}.get(form, "")
    source = tmp_path / f"notes{suffix}"
    write_corpus(read_corpus(corpus / "train").documents, source, form)
    documents = read_corpus(source).documents
    done = run("predict", model, source, "--output", tmp_path / "out.jsonl")
    assert done.code == 0
    found = read_corpus(tmp_path / "out.jsonl").documents
    assert list(found) == tagged(model, documents)
    assert ("spans that were there" in done.err) == (form != "brat")


@pytest.mark.parametrize("form", ["brat", "tsv", "jsonl", "conll"])
@pytest.mark.parametrize("by", ["suffix", "option"])
def test_the_output_has_the_format_that_was_asked_for(
    form: str, by: str, run: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    place = tmp_path / (f"out.{form}" if by == "suffix" and form != "brat" else "out")
    chosen = ("--to", form) if by == "option" else ()
    done = run("predict", model, corpus / "dev", "--output", place, *chosen)
    assert done.code == 0
    write_corpus(tagged(model, read_corpus(corpus / "dev").documents), tmp_path / f"b{place.suffix}", form)
    made, expected = (
        {path.relative_to(top): path.read_bytes() for path in ([top] if top.is_file() else top.rglob("*.*"))}
        for top in (place, tmp_path / f"b{place.suffix}")
    )
    assert made == expected
    assert {path.name for path in tmp_path.iterdir()} == {place.name, f"b{place.suffix}"}


@pytest.mark.parametrize("form", ["label-studio", "prodigy"])
def test_what_goes_to_a_tool_is_to_be_corrected_there(
    form: str, run: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    done = run("predict", model, corpus / "dev", "--output", tmp_path / "out", "--to", form)
    assert done.code == 0
    expected = tagged(model, read_corpus(corpus / "dev").documents)
    assert list(read_corpus(tmp_path / "out").documents) == expected
    content = (tmp_path / "out").read_text()
    assert '"answer"' not in content
    assert '"annotations"' not in content
    labels = {span.label for document in expected for span in document.spans}
    assert all(f'<Label value="{label}" />' in " ".join(done.err.split()) for label in labels) == (form != "prodigy")


def test_a_note_on_standard_input_is_tagged_to_the_last_character(
    run: Run, model: Path, piped: Callable[[bytes], None], tmp_path: Path
) -> None:
    text = "\ufeff \r\nSyncope\r\n[not JSON] 🫀\u200b heart failure "
    piped(text.encode())
    done = run("predict", model, "-", "--output", tmp_path / "out.jsonl")
    assert done.code == 0
    found = read_corpus(tmp_path / "out.jsonl").documents
    assert list(found) == tagged(model, [Document("stdin", text)])
    assert found[0].spans
    assert "1 note, " in done.err


@pytest.mark.parametrize("blank", ["", "\ufeff", "\n \r\n" * 40_000])
def test_json_lines_on_standard_input_are_a_stream_of_notes(
    blank: str, run: Run, model: Path, piped: Callable[[bytes], None], tmp_path: Path
) -> None:
    notes = [{"id": f"n{number}", "text": f"heart failure {number}, syncope"} for number in range(150)]
    notes.append({"text": "without an id"})
    piped((blank + "\n".join(map(json.dumps, notes))).encode())
    done = run("predict", model, "-", "--output", tmp_path / "out.jsonl")
    assert done.code == 0
    found = read_corpus(tmp_path / "out.jsonl").documents
    assert [note.id for note in found] == [
        *(f"n{number}" for number in range(150)),
        f"stdin-{151 + blank.count(chr(10))}",
    ]
    assert list(found) == tagged(model, found)


def test_standard_input_cannot_be_read_twice(
    run: Run, model: Path, piped: Callable[[bytes], None], tmp_path: Path
) -> None:
    piped(b"syncope")
    done = run("predict", model, "-", "-", "--output", tmp_path / "out")
    assert done.code == 2
    assert "standard input" in done.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"bisoprolol \xff", b'{"id": "a"}\n'])
def test_where_no_note_can_be_read_nothing_is_written(
    content: bytes, run: Run, model: Path, piped: Callable[[bytes], None], tmp_path: Path
) -> None:
    piped(content)
    done = run("predict", model, "-", "--output", tmp_path / "out")
    assert done.code == (3 if content else 0)  # an empty note is a note
    if content:
        assert "stdin" in done.error
        assert list(tmp_path.iterdir()) == []


def test_a_note_that_cannot_be_read_is_named_and_the_others_are_tagged(
    run: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(corpus / "train", tmp_path / "notes")
    (tmp_path / "notes" / "t2.txt").write_bytes(b"bisoprolol \xff")
    lines = ['{"id": "j1", "text": "syncope"}', '{"id": "j2"}', '{"id": "j3", "text": "heart failure"}']
    (tmp_path / "more.jsonl").write_text("\n".join(lines))
    done = run("predict", model, tmp_path / "notes", tmp_path / "more.jsonl", "--output", tmp_path / "out")
    assert done.code == 3
    assert "2 notes could not be read or tagged" in done.error
    assert "holds the other 5" in done.error
    assert "is not valid UTF-8" in done.err
    assert "more.jsonl:2: expected a string" in done.err
    documents = [note for note in read_corpus(corpus / "train").documents if note.id != "t2"]
    documents += [Document("j1", "syncope"), Document("j3", "heart failure")]
    found = read_corpus(tmp_path / "out").documents
    assert list(found) == sorted(tagged(model, documents), key=lambda note: note.id)
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "more.jsonl", "out"}


def test_a_note_that_cannot_be_tagged_is_named_and_the_others_are_tagged(
    run: Run, model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = torch_engine.tag_texts

    def refuse(model: Any, tokenizer: Any, texts: Sequence[str], **others: Any) -> Any:
        if any("chest pain" in text for text in texts):
            raise RuntimeError(f"no memory for {texts}")
        return tag(model, tokenizer, texts, **others)

    monkeypatch.setattr(torch_engine, "tag_texts", refuse)
    done = run("predict", model, corpus / "train", "--output", tmp_path / "out")
    assert done.code == 3
    assert "1 note could not be read or tagged" in done.error
    assert "not tagged: t1: its " in done.err
    assert {path.name for path in (tmp_path / "out").glob("*.txt")} == {"t2.txt", "t3.txt", "t4.txt"}


def test_a_note_whose_scores_overflow_is_named_and_never_clean(
    run: Run, make_model: Any, tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    """The weights are numbers, all of them: only what is computed of one word is not."""
    tokenizer, broken = tokenizers["wordpiece"], make_model("bert", use_crf=True)
    (number,) = tokenizer("syncope", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        broken.backbone.get_input_embeddings().weight[number] = 3e38
    write_model_dir(broken, tokenizer, tmp_path / "broken")
    notes = {"a": "heart failure", "b": "No syncope", "c": "metoprolol"}
    write_corpus([Document(name, text) for name, text in notes.items()], tmp_path / "notes")
    done = run("predict", tmp_path / "broken", tmp_path / "notes", "--output", tmp_path / "out")
    assert done.code == 3
    assert "1 note could not be read or tagged" in done.error
    assert "not tagged: b: its 10 characters could not be tagged (the model computed scores that are not" in done.err
    assert {path.name for path in (tmp_path / "out").glob("*.txt")} == {"a.txt", "c.txt"}


def test_annotations_that_are_no_text_at_all_do_not_cost_a_note(
    run: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(corpus / "dev", tmp_path / "notes")
    for path in (tmp_path / "notes").glob("*.ann"):
        path.write_bytes(b"\xff\xfe\x00")
    assert run("predict", model, tmp_path / "notes", "--output", tmp_path / "out").code == 0
    assert len(list((tmp_path / "out").glob("*.txt"))) == 2


def test_rows_of_a_table_that_are_wrong_do_not_cost_a_note(run: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    write_corpus(read_corpus(corpus / "dev").documents, tmp_path / "notes", "tsv")
    with (tmp_path / "notes" / "annotations.tsv").open("a") as table:
        table.write("d1\tDRUG\t5\t2\tx\nnowhere\tDRUG\t0\t1\tx\n")
    done = run("predict", model, tmp_path / "notes", "--output", tmp_path / "out")
    assert done.code == 0
    assert "rows that are malformed, or lack their note" in done.err
    assert len(list((tmp_path / "out").glob("*.txt"))) == 2


def test_notes_in_another_encoding_are_read_as_told(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("insuficiencia cardíaca\r\n".encode("latin-1"))
    assert run("predict", model, tmp_path / "a.txt", "--output", tmp_path / "o.jsonl").code == 3
    assert not (tmp_path / "o.jsonl").exists()
    done = run("predict", model, tmp_path / "a.txt", "--output", tmp_path / "o.jsonl", "--encoding", "latin-1")
    assert done.code == 0
    assert read_corpus(tmp_path / "o.jsonl").documents[0].text == "insuficiencia cardíaca\r\n"


# Outputs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["../a"], "cannot be the name of a file"),
        (["/etc/a"], "cannot be the name of a file"),
        (["c:\\a"], "cannot be the name of a file"),
        ([".."], "cannot be the name of a file"),
        (["A", "a"], "give the same file names"),
        (["e\u0301", "\u00e9"], "give the same file names"),
        (["a.txt/b", "a"], "needs a folder where a file"),
    ],
)
@pytest.mark.parametrize("source", ["a file", "standard input"])
def test_ids_that_would_leave_the_folder_or_collide_in_it_are_refused(
    source: str,
    names: list[str],
    said: str,
    run: Run,
    model: Path,
    piped: Callable[[bytes], None],
    tmp_path: Path,
) -> None:
    content = "".join(json.dumps({"id": name, "text": "syncope"}) + "\n" for name in names)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.jsonl").write_text(content)
    piped(content.encode())
    place = tmp_path / "deep" / "er" / "out"
    done = run("predict", model, "-" if source == "standard input" else tmp_path / "in", "--output", place)
    assert done.code == 5
    assert said in done.error
    assert {path.name for path in tmp_path.rglob("*")} <= {"in", "notes.jsonl", "deep", "er"}
    assert run("predict", model, tmp_path / "in", "--output", tmp_path / "o.jsonl").code == 0


def test_the_input_itself_is_never_replaced(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text('{"id": "a", "text": "syncope"}\n')
    done = run("predict", model, tmp_path / "notes.jsonl", "--output", tmp_path / "notes.jsonl", "--overwrite")
    assert done.code == 5
    assert (tmp_path / "notes.jsonl").read_text() == '{"id": "a", "text": "syncope"}\n'


def test_spans_with_a_low_score_are_left_out_and_counted(run: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    every = tagged(model, read_corpus(corpus / "train").documents)
    scores = sorted(span.score or 0 for note in every for span in note.spans)
    least = scores[len(scores) // 2]
    place = tmp_path / "o.jsonl"
    done = run("predict", model, corpus / "train", "--output", place, "--min-score", repr(least))
    assert done.code == 0
    kept = [note.with_spans(span for span in note.spans if (span.score or 0) >= least) for note in every]
    assert list(read_corpus(place).documents) == kept
    left_out = sum(score < least for score in scores)
    assert left_out
    assert f"{len(scores) - left_out} spans, {left_out} below {least:g} left out" in done.err
    assert run("predict", model, corpus / "train", "--output", tmp_path / "o", "--min-score", "1.5").code == 2


def test_the_closing_line_says_what_was_covered(run: Run, model: Path, corpus: Path, tmp_path: Path) -> None:
    predictions = Predictor.from_pretrained(model, device="cpu").predict(read_corpus(corpus / "train").documents)
    spans = sum(len(note.spans) for note in predictions)
    done = run("predict", model, corpus / "train", "--output", tmp_path / "out")
    notes, windows, tokens, characters = predictions.coverage
    assert (notes, characters) == (4, sum(len(note.text) for note in read_corpus(corpus / "train").documents))
    said = f"{notes} notes, {windows} windows, {tokens} sub-tokens, {characters} characters, {spans} spans, in"
    assert said in done.err
    assert re.search(r" s, computed in float32 on cpu with torch\n", done.err)


# Ensembles -----------------------------------------------------------------------------------------------------------


def test_models_given_together_are_averaged(
    run: Run, opinionated: Callable[..., Path], corpus: Path, tmp_path: Path
) -> None:
    first, second = opinionated(use_crf=True), opinionated(use_crf=True, scale=-1.0)
    done = run("predict", first, corpus / "dev", "--ensemble", second, "--output", tmp_path / "o.jsonl")
    assert done.code == 0
    documents = read_corpus(corpus / "dev").documents
    found = list(read_corpus(tmp_path / "o.jsonl").documents)
    assert found == list(Predictor.from_pretrained([first, second], device="cpu").predict(documents))
    assert found != tagged(first, documents)


@pytest.mark.parametrize("rule", [None, "majority", "0.3"])
def test_models_that_cannot_be_averaged_vote_and_it_is_said(
    rule: str | None, run: Run, opinionated: Callable[..., Path], corpus: Path, tmp_path: Path
) -> None:
    places = [opinionated(use_crf=True), opinionated(), opinionated(use_crf=True, scale=-1.0)]
    more = ("--ensemble", places[1], "--ensemble", places[2], *(("--vote", rule) if rule else ()))
    done = run("predict", places[0], corpus / "dev", *more, "--output", tmp_path / "o.jsonl")
    assert done.code == 0
    said = "majority" if rule == "majority" else f"score, from {rule or 0.4}"
    assert f"Models: vote of 3 members by {said}\n" in done.err
    expected = Predictor.from_pretrained(places, device="cpu", vote=rule)
    assert list(read_corpus(tmp_path / "o.jsonl").documents) == list(
        expected.predict(read_corpus(corpus / "dev").documents)
    )


@pytest.mark.parametrize(
    ("models", "rule", "said"), [(2, "most", "found 'most'"), (2, "1.5", "found '1.5'"), (1, "score", "two models")]
)
def test_a_vote_that_cannot_be_held_is_refused(
    models: int, rule: str, said: str, run: Run, opinionated: Callable[..., Path], corpus: Path, tmp_path: Path
) -> None:
    first, *others = [opinionated()] * models
    more = [word for place in others for word in ("--ensemble", place)]
    done = run("predict", first, corpus / "dev", *more, "--vote", rule, "--output", tmp_path / "o.jsonl")
    assert done.code == 2
    assert said in done.error
    assert list(tmp_path.iterdir()) == []
