"""Tagging from Python: in order, a bounded stretch ahead, one bad note alone, texts and Documents, windows as asked."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers

import cardioner
from cardioner.data.corpus import Corpus
from cardioner.data.documents import Document
from cardioner.errors import DataError, ModelError, UsageError
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass import TokenClassificationModel, precision
from cardioner.multiclass.inference import batch_tokens_for
from cardioner.multiclass.pipeline import CardioNERPipeline
from cardioner.multiclass.windows import READ_AHEAD, READ_AHEAD_CHARACTERS, Coverage, in_groups
from cardioner.prediction.batch_job import BatchJob, tag_all
from cardioner.prediction.engines import torch as torch_engine
from cardioner.prediction.predictor import Predictor
from cardioner.prediction.resume_log import ResumeLog

TEXT = "Atrial fibrillation since 2019, treated with bisoprolol 2.5 mg o.d. No oedema. "
BAD = "spoils its group"


@pytest.fixture
def saved(make_model: Callable[..., TokenClassificationModel], tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    write_model_dir(make_model("bert", use_crf=True), tokenizers["wordpiece"], tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def tagger(make_model: Callable[..., TokenClassificationModel], tokenizers: dict[str, Any]) -> Predictor:
    return Predictor(make_model("bert", use_crf=True), tokenizers["wordpiece"])


def numbered(count: int, text: str = TEXT) -> list[Document]:
    return [Document(f"n{number}", text * (number % 3)) for number in range(count)]


@pytest.mark.parametrize(
    ("size", "most"), [(10, READ_AHEAD), (READ_AHEAD_CHARACTERS // 4, 4), (2 * READ_AHEAD_CHARACTERS, 1)]
)
def test_no_more_notes_are_read_ahead_than_stated(
    size: int, most: int, tagger: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_engine, "tag_texts", lambda _, __, texts, **___: [[] for _ in texts])
    taken = 0

    def notes() -> Iterator[Document]:
        nonlocal taken
        for number in range(300):
            taken += 1
            yield Document(f"n{number}", "x" * size)

    ahead = []
    for given, _ in enumerate(tagger.predict(notes())):
        ahead.append(taken - given)
    assert len(ahead) == 300
    assert max(ahead) == most


def test_nothing_is_read_before_it_is_asked_for(tagger: Predictor) -> None:
    def notes() -> Iterator[Document]:
        raise AssertionError("read")
        yield

    predictions = tagger.predict(notes())
    assert (predictions.coverage, predictions.problems) == (Coverage(), ())
    with pytest.raises(AssertionError, match="read"):
        next(predictions)


def test_coverage_grows_batch_by_batch_to_all_that_there_is(tagger: Predictor) -> None:
    notes, reports = numbered(READ_AHEAD + 20), list[Coverage]()
    predictions = tagger.predict(notes, batch_tokens=64, advance=reports.append)
    tagged = list(predictions)
    assert [(note.id, note.text) for note in tagged] == [(note.id, note.text) for note in notes]
    ids = [len(tagger.tokenizer(note.text, add_special_tokens=False)["input_ids"]) for note in notes]
    assert predictions.coverage == reports[-1]
    documents, windows, tokens, characters = reports[-1]
    assert (documents, tokens, characters) == (len(notes), sum(ids), sum(len(note.text) for note in notes))
    assert windows > len(notes)
    assert len(reports) > 10
    for earlier, later in pairwise(reports):
        assert all(one <= other for one, other in zip(earlier, later, strict=True))


def test_more_is_read_at_a_time_on_a_gpu_and_no_more_than_that_on_a_cpu(tagger: Predictor) -> None:
    assert batch_tokens_for(torch.device("cuda")) > tagger.default_batch_tokens == batch_tokens_for(torch.device("cpu"))
    read: list[int] = []
    tagger.model.backbone.register_forward_hook(lambda *given: read.append(given[2].last_hidden_state[:, :, 0].numel()))
    list(tagger.predict([Document("long", TEXT * 400)]))
    assert max(read) <= tagger.default_batch_tokens < sum(read)


def test_a_note_that_cannot_be_tagged_stops_no_other(tagger: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = torch_engine.tag_texts

    def refuse(model: Any, tokenizer: Any, texts: Sequence[str], *, advance: Any, **others: Any) -> Any:
        found = tag(model, tokenizer, texts, advance=advance, **others)  # fails late, with batches already counted
        if any(BAD in text for text in texts):
            raise RuntimeError(f"cannot read {texts}")
        return found

    notes = numbered(READ_AHEAD + 9)
    alone = {note.id: note.spans for note in tagger.predict(notes)}
    notes[5], notes[-1] = Document("bad", f"{BAD} bisoprolol"), Document("worse", BAD)
    monkeypatch.setattr(torch_engine, "tag_texts", refuse)
    predictions = tagger.predict(notes)
    tagged = list(predictions)
    assert [note.id for note in tagged] == [note.id for note in notes if note.id not in {"bad", "worse"}]
    for note in tagged:
        assert [span.label for span in note.spans] == [span.label for span in alone[note.id]]
    assert [name for name, _ in predictions.problems] == ["bad", "worse"]
    for _, reason in predictions.problems:
        assert "RuntimeError" in reason
        assert "characters" in reason
        assert "spoils" not in reason
        assert "\n" not in reason
    whole = list(tagged) and predictions.coverage
    assert (whole.documents, whole.characters) == (len(tagged), sum(len(note.text) for note in tagged))


def test_what_fails_on_every_note_is_refused_at_once(
    make_model: Callable[..., TokenClassificationModel], tokenizers: dict[str, Any]
) -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="a fast tokenizer"):
        Predictor(make_model("bert"), Slow())
    panicking = copy.deepcopy(tokenizers["wordpiece"])
    state = json.loads(panicking.backend_tokenizer.to_str())
    lacking = {"single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}], "pair": [], "special_tokens": {}}
    state["post_processor"] = {"type": "TemplateProcessing", **lacking}
    panicking._tokenizer = Tokenizer.from_str(json.dumps(state))
    with pytest.raises(ModelError, match="native code panicked"):
        Predictor(make_model("bert"), panicking)
    with pytest.raises(ModelError, match="windows"):
        Predictor(make_model("bert", window_length=10, window_context=4), tokenizers["wordpiece"])


def test_a_note_of_a_million_characters_is_read_to_its_end(tagger: Predictor) -> None:
    tagger.model.config.window_length, tagger.model.config.window_context = 128, 8
    text = (TEXT * 13_000)[:999_989] + " bisoprolol"
    predictions = tagger.predict([Document("long", text)])
    (note,) = predictions
    assert predictions.problems == ()
    assert predictions.coverage.characters == len(text) == 1_000_000
    assert {span.end > 990_000 for span in note.spans} == {True, False}


# Texts and Documents -------------------------------------------------------------------------------------------------


def test_texts_give_spans_and_documents_give_documents_alone_or_together(tagger: Predictor) -> None:
    texts = [TEXT, "", TEXT * 9]
    documents = [Document(f"text-{number}", text) for number, text in enumerate(texts, start=1)]
    expected = list(tagger.predict(documents))
    assert expected[2].spans
    assert tagger(documents) == tagger(iter(documents)) == list(tagger.predict(texts)) == expected
    assert tagger(texts) == tagger(text for text in texts) == [list(document.spans) for document in expected]
    assert list(tagger.predict([texts[0], *documents[1:]])) == expected
    assert tagger(Corpus(tuple(documents))) == expected
    assert tagger([]) == []
    (alone,) = tagger.predict(documents[2:])
    assert tagger(documents[2]) == alone
    assert tagger(TEXT * 9) == list(tagger.predict_text(TEXT * 9)) == list(alone.spans)
    assert isinstance(tagger.predict_text(""), tuple)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "expected a str, a Document, or a list of them; found NoneType: pass the text as a str, or a Document"),
        (7, "found int: pass the text"),
        (b"heart failure", "found bytes: decode it to a str first"),
        (Path("heart failure.txt"), "found PosixPath: read the file first, or use cardioner predict"),
        ({"heart failure": 1}, "found dict: "),
        ({"heart failure"}, "found set: "),
        ([1, 2], "note 1: expected a str or a Document; found int: "),
        (["heart failure", None], "note 2: expected a str or a Document; found NoneType: "),
        ([Document("a", "heart failure"), b"heart failure"], "note 2: .*; found bytes: decode"),
        ([["heart failure"]], "note 1: .*; found list: "),
        (["heart failure", Document("a", "heart failure")], "only texts or only Documents; 1 of 2 notes are texts"),
    ],
)
def test_what_is_no_note_is_refused_in_one_sentence_without_a_word_of_it(
    given: Any, said: str, tagger: Predictor
) -> None:
    doors: list[Callable[[Any], Any]] = [tagger]
    if "only" not in said:
        doors.append(lambda notes: list(tagger.predict(notes)))
    if not isinstance(given, list):
        doors.append(tagger.predict_text)
    for door in doors:
        with pytest.raises(UsageError) as caught:
            door(given)
        message = str(caught.value)
        assert "heart" not in message
        assert "\n" not in message
        if door != tagger.predict_text:
            assert re.search(said, message)


def test_one_note_is_no_list_of_notes(tagger: Predictor) -> None:
    for note in ("heart failure", Document("a", "heart failure")):
        with pytest.raises(UsageError, match=rf"found one {type(note).__name__}: put it in a list"):
            tagger.predict(note)  # type: ignore[arg-type]


def test_notes_with_the_same_id_are_refused(tagger: Predictor) -> None:
    for notes in ([Document("a", "x"), Document("a", "y")], [Document("text-2", "x"), "y"]):
        with pytest.raises(DataError, match=r"documents 1 and 2 have the same id, '.+': each needs its own"):
            list(tagger.predict(notes))  # type: ignore[arg-type]


def test_a_note_that_cannot_be_tagged_is_named_by_a_call(tagger: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(BAD)

    monkeypatch.setattr(torch_engine, "tag_texts", refuse)
    for notes, said in (([TEXT, "x"], "note 'text-1': its 79 characters"), ("x", "note 'text-1': its 1 character ")):
        with pytest.raises(DataError, match=said) as caught:
            tagger(notes)
        assert BAD not in str(caught.value)


def test_labels_and_repr_say_what_a_tagger_is(saved: Path, tagger: Predictor) -> None:
    loaded = Predictor.from_pretrained(saved, device="cpu", dtype="float32")
    assert loaded.labels == ("DISEASE", "MEDICATION", "SYMPTOM")
    assert repr(loaded) == f"Predictor({saved}; labels: DISEASE, MEDICATION, SYMPTOM; device: cpu; dtype: float32)"
    assert repr(tagger).startswith("Predictor(TokenClassificationModelCRF; labels: ")


@pytest.mark.parametrize("load", [cardioner.load, Predictor.from_pretrained])
def test_models_are_named_by_strings_paths_or_lists_of_them(load: Callable[..., Predictor], saved: Path) -> None:
    loaded = [load(places, device="cpu") for places in (saved, str(saved), [str(saved), saved], (saved, saved))]
    for one in loaded[1:]:
        assert one(TEXT) == loaded[0](TEXT)
    for wrong in (None, 7, b"model", [saved, None]):
        with pytest.raises(UsageError, match=r"^a model directory: expected a path, as .*; found "):
            load(wrong)


# Choices -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "own", "instructions", "used"),
    [
        ("auto", "bfloat16", True, 2),
        ("auto", "bfloat16", False, 0),
        ("float32", "bfloat16", True, 0),
        ("bfloat16", "float32", True, 2),
        ("bfloat16", "float32", False, 2),
    ],
)
def test_the_encoder_computes_in_what_the_model_says_or_the_caller(
    dtype: str,
    own: str,
    instructions: bool,
    used: int,
    make_model: Callable[..., TokenClassificationModel],
    tokenizers: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "computes_bfloat16", lambda _: instructions)
    write_model_dir(make_model("bert", inference_dtype=own), tokenizers["wordpiece"], tmp_path / "m")
    tagger = Predictor.from_pretrained(tmp_path / "m", device="cpu", dtype=dtype)
    seen = []
    for layer in tagger.model.backbone.encoder.layer:
        layer.intermediate.dense.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    tagger.predict_text(TEXT)
    assert seen.count(torch.bfloat16) == used
    assert len(seen) == 2


def test_windows_are_those_of_the_model_or_of_the_caller(saved: Path) -> None:
    def windows_of(**choices: Any) -> int:
        predictions = Predictor.from_pretrained(saved, device="cpu", **choices).predict([Document("a", TEXT * 5)])
        list(predictions)
        return predictions.coverage.windows

    own = windows_of()
    assert own == windows_of(max_length=32, context=4)
    assert windows_of(max_length=128) < own < windows_of(max_length=12)
    assert windows_of(context=14) > own
    assert windows_of(max_length=12, context=0) < windows_of(max_length=12)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"max_length": 129}, "at most 128"),
        ({"max_length": 10}, "a context of 3 or less, or a max_length of 11 or more"),
        ({"context": 15}, "a context of 14 or less, or a max_length of 33 or more"),
        ({"context": -1}, "0 or more"),
        ({"max_length": 2, "context": 0}, "a max_length of 3 or more"),
        ({"dtype": "float16"}, "auto, float32, bfloat16"),
        ({"decoder": "beam"}, "viterbi, argmax"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_a_choice_that_cannot_work_is_answered_with_what_fits(choices: dict[str, Any], said: str, saved: Path) -> None:
    with pytest.raises(UsageError, match=said):
        Predictor.from_pretrained(saved, **{"device": "cpu", **choices})


def test_a_batch_needs_room(tagger: Predictor) -> None:
    with pytest.raises(UsageError, match="1 sub-token or more"):
        tagger.predict([], batch_tokens=0)


def test_groups_from_a_border_on_are_those_of_the_whole() -> None:
    sizes = [7, READ_AHEAD_CHARACTERS, *[READ_AHEAD_CHARACTERS // 3] * 10, *[1] * 200, 2 * READ_AHEAD_CHARACTERS]
    groups = list(in_groups(sizes, int))
    assert [size for group in groups for size in group] == sizes
    for index in range(len(groups) + 1):
        rest = [size for group in groups[index:] for size in group]
        assert list(in_groups(rest, int)) == groups[index:]
    for group in groups:
        assert list(in_groups(group, int)) == [group]


def test_progress_tells_how_many_notes_of_how_many_are_tagged(tagger: Predictor) -> None:
    told: list[tuple[str, int, int | None]] = []
    notes = numbered(5)
    list(tagger.predict(notes, progress=lambda *step: told.append(step)))
    assert told[-1] == ("tagging (notes)", 5, 5)
    list(tagger.predict(iter(notes), progress=lambda *step: told.append(step)))
    assert told[-1] == ("tagging (notes)", 5, None)
    assert tagger(notes[:2], progress=lambda *step: told.append(step)) == tagger(notes[:2])
    assert told[-1] == ("tagging (notes)", 2, 2)


# Scores that are no numbers ------------------------------------------------------------------------------------------


def blind_to(tokenizer: Any, model: TokenClassificationModel, word: str, value: float) -> None:
    """Have the encoder read a word as a vector of one value."""
    (number,) = tokenizer(word, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        model.backbone.get_input_embeddings().weight[number] = value


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
@pytest.mark.parametrize("use_crf", [False, True])
@pytest.mark.parametrize("value", [torch.nan, 3e38])
def test_a_note_whose_scores_are_no_numbers_is_named_and_never_clean(
    value: float, use_crf: bool, decoder: str, make_model: Callable[..., Any], tokenizers: dict[str, Any]
) -> None:
    model, tokenizer = make_model("bert", use_crf=use_crf), tokenizers["wordpiece"]
    notes = [Document("a", "bisoprolol 2.5 mg"), Document("b", "No oedema, bisoprolol"), Document("c", "bisoprolol")]
    sound = list(Predictor(model, tokenizer, decoder=decoder).predict(notes))
    blind_to(tokenizer, model, "oedema", value)
    predictions = Predictor(model, tokenizer, decoder=decoder).predict(notes)
    assert [note.id for note in predictions] == ["a", "c"]
    reason = "its 21 characters could not be tagged (the model computed scores that are not finite numbers)"
    assert predictions.problems == (("b", reason),)
    assert predictions.coverage.documents == 2
    assert len(sound) == 3
    tagger = Predictor(model, tokenizer, decoder=decoder)
    with pytest.raises(DataError, match=r"note 'text-1': .*not finite"):
        tagger("No oedema")


@pytest.mark.parametrize("name", ["start_transitions", "transitions", "end_transitions"])
@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
def test_a_crf_that_holds_no_numbers_tags_no_note(
    decoder: str, name: str, make_model: Callable[..., Any], tokenizers: dict[str, Any]
) -> None:
    model = make_model("bert", use_crf=True)
    with torch.no_grad():
        getattr(model.crf, name).fill_(torch.nan)
    notes = numbered(3)[1:]
    predictions = Predictor(model, tokenizers["wordpiece"], decoder=decoder).predict(notes)
    assert list(predictions) == []
    assert [name for name, reason in predictions.problems if "not finite" in reason] == ["n1", "n2"]


def test_a_score_that_is_no_number_is_no_score(make_model: Callable[..., Any], tokenizers: dict[str, Any]) -> None:
    predictions = Predictor(make_model("bert", temperature=float("nan")), tokenizers["wordpiece"]).predict([TEXT])
    assert list(predictions) == []
    assert "not finite" in predictions.problems[0][1]


def test_the_pipeline_names_the_text_whose_scores_are_no_numbers(
    make_model: Callable[..., Any], tokenizers: dict[str, Any]
) -> None:
    model, tokenizer = make_model("bert"), tokenizers["wordpiece"]
    blind_to(tokenizer, model, "oedema", torch.nan)
    pipeline = CardioNERPipeline(model=model, tokenizer=tokenizer, device="cpu")
    texts = [TEXT[:40]] * READ_AHEAD + ["bisoprolol", "No oedema"]
    found = pipeline(text for text in texts)
    assert [next(found) for _ in texts[1:]] == pipeline(texts[:-1])
    with pytest.raises(RuntimeError, match=rf"text {len(texts)} could not be tagged \(.* not finite"):
        next(found)
    with pytest.raises(RuntimeError, match="text 1 could not be tagged"):
        pipeline("No oedema")


def test_a_note_that_makes_the_tokenizer_panic_stops_no_other(
    make_model: Callable[..., Any],
    tokenizers: dict[str, Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tokenizer = copy.deepcopy(tokenizers["wordpiece"])
    pattern = pre_tokenizers.Split(Regex(r"(?<x>a+)\g<x>+$"), "isolated")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pattern, pre_tokenizers.BertPreTokenizer()])
    tagger = Predictor(make_model("bert"), tokenizer)
    notes = [Document("a", "bisoprolol"), Document("b", f"{'a' * 40} {BAD}"), Document("c", "No oedema")]
    for resume in (False, True):
        with BatchJob(tmp_path / "out", "jsonl").open(ResumeLog, {}, resume=resume) as log:
            tagged = list(tag_all(tagger, notes, log, batch_tokens=99, advance=lambda _: None))
            assert [(entry.id, entry.problem) for entry in log.entries() if entry.problem] == [
                ("b", "its 57 characters could not be tagged (TokenizerPanicError)")
            ]
        assert [note.id for note in tagged] == ["a", "c"]
    assert capfd.readouterr() == ("", "")


def test_int8_that_cannot_be_had_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr("cardioner.multiclass.precision.quantized", refuse)
    with pytest.raises(UsageError, match="its encoder cannot be computed in int8 on cpu: leave the dtype out"):
        Predictor.from_pretrained(saved, device="cpu", dtype="int8")
