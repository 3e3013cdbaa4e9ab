"""The page of a training: every figure of the record, a sensible page for any record, and nothing to fetch."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from cardioner.data.documents import Document, Span
from cardioner.errors import OutputError, UsageError
from cardioner.evaluation import Scores, score
from cardioner.reports import html as pages
from cardioner.reports.html import write_page
from cardioner.reports.training.content import duration, read_record
from cardioner.reports.training.report import render

TEXT = "Severe aortic stenosis, no mitral stenosis; syncope twice. Furosemide 40 mg was begun."
GOLD = (Span(7, 22, "DISEASE"), Span(44, 51, "SYMPTOM"), Span(59, 69, "DRUG"))
TAGS = ["O", "B-DISEASE", "I-DISEASE", "B-DRUG", "I-DRUG", "B-SYMPTOM", "I-SYMPTOM"]
STEPS = 40
VOID = {"meta", "br", "use", "path"}

Record = dict[str, Any]


class Page(HTMLParser):
    """What a browser would make of the page.

    Attributes:
        tags: How often each element is there.
        words: What stands for each picture.
        links: Everything that could be fetched, or gone to.
        rows: The cells of every row of every table.
        text: All text outside of pictures and styles.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.words: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        assert not [name for name in given if name.startswith("on")]
        self.links += [given[name] for name in ("href", "src", "xlink:href", "data", "action") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        self.words += [given["aria-label"]] if given.get("role") == "img" else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
        if not {"svg", "style"} & set(self._open):
            self.text += data


def scores_of(found: int, wrong: int = 0, notes: int = 4) -> Scores:
    """Scores where so many spans of each note are found, and so many wrong ones."""
    spans = [*GOLD[:found], *(Span(20 + index, 40, "DRUG") for index in range(wrong))]
    gold = [Document(f"n{number}", TEXT, GOLD) for number in range(notes)]
    return score(gold, [Document(document.id, TEXT, tuple(spans)) for document in gold])


def a_record(epochs: int = 3, best: int = 2) -> Record:
    """A record as training writes it."""
    found = [scores_of(1, 2), scores_of(3, 1), scores_of(2, 0), *(scores_of(2, 1) for _ in range(epochs))][:epochs]
    chance, history = random.Random(0), []
    for step in range(10, epochs * STEPS + 1, 10):
        row = {
            "loss": 20 * math.exp(-step / 30) + chance.random(),
            "learning_rate": 1e-4 / step,
            "grad_norm": 30 / step,
        }
        history.append({"step": step, "epoch": step / STEPS, **row})
        if step % STEPS == 0:
            micro = found[step // STEPS - 1].strict.micro
            figures = {"precision": micro.precision, "recall": micro.recall, "f1": micro.f1}
            history.append({"step": step, "epoch": step / STEPS, **figures})
    return {
        "model": "some-encoder", "batch_size": 16, "learning_rate": 2e-4, "max_length": 128, "num_train_epochs": epochs,
        "use_crf": True, "classifier_hidden_layers": [256, 64], "classifier_dropout": 0.1, "class_weights": None,
        "freeze_backbone": False, "labels": TAGS,
        "options": {"seed": 11, "schedule": "cosine", "max_gradient_norm": 1.0, "early_stopping": None},
        "versions": {"cardioner": "0.1.0", "torch": "2.13.0"},
        "scores": {"evaluation": found[best - 1].to_dict(), "test": scores_of(2, 3, notes=7).to_dict()},
        "best_epoch": best, "epochs": [one.to_dict() for one in found], "history": history, "seconds": 4000.0,
        "calibration": {"value": 1.25, "spans": 80, "before": 0.5, "after": 0.375},
        "inference": {"dtype": "bfloat16", "float32": 0.75, "bfloat16": 0.7421875, "agreement": 0.9975},
        "training_data": {"windows": 1234, "sub_tokens": 98765},
    }  # fmt: skip


def page_of(record: Record) -> Page:
    return Page(render(json.loads(json.dumps(record))))


@pytest.fixture(scope="module")
def whole() -> Page:
    """The page of a whole record."""
    return page_of(a_record())


@pytest.fixture
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are made, but not turned into SVG, which takes most of the time."""

    def make(given: Mapping[str, Callable[[], Any]]) -> dict[str, Markup]:
        return {name: Markup("<svg></svg>") for name, plot in given.items() if plot() is not None}

    monkeypatch.setattr(pages, "draw", make)


# What it shows -------------------------------------------------------------------------------------------------------


def test_every_epoch_has_its_figures_and_the_saved_one_is_marked(whole: Page) -> None:
    record, page = a_record(), whole
    for number, found in enumerate(record["epochs"], start=1):
        strict = Scores.from_dict(found).strict
        losses = [
            row["loss"] for row in record["history"] if "loss" in row and 0 <= number * STEPS - row["step"] < STEPS
        ]
        assert [
            f"{number} saved" if number == 2 else str(number),
            str(number * STEPS),
            f"{sum(losses) / len(losses):.3f}",
            *(f"{value:.3f}" for value in (strict.micro.precision, strict.micro.recall, strict.micro.f1)),
            f"{strict.macro.f1:.3f}",
            *(str(count) for count in (strict.micro.true_positives, strict.micro.false_positives)),
            str(strict.micro.false_negatives),
        ] in page.rows


def test_scores_of_every_part_type_and_criterion_are_there(whole: Page) -> None:
    record, page = a_record(), whole
    for name, notes in (("evaluation", 4), ("test", 7)):
        found = Scores.from_dict(record["scores"][name])
        row = next(row for row in page.rows if row[0] == name)
        assert row[1] == str(notes)
        assert row[4] == f"{found.strict.micro.f1:.3f}"
        assert row[6:] == [f"{found.by(name).micro.f1:.3f}" for name in ("exact", "partial", "type", "relaxed")]
        for label, counts in found.strict.per_type.items():
            figures = [f"{value:.3f}" for value in (counts.precision, counts.recall, counts.f1)]
            counted = [counts.gold, counts.true_positives, counts.false_positives, counts.false_negatives]
            assert [label, *figures, *map(str, counted)] in page.rows
        assert f"strict F1, {name}{found.strict.micro.f1:.3f}precision" in page.text


def test_it_says_what_was_trained_on_how_much_and_how(whole: Page) -> None:
    page = whole
    facts = {row[0]: row[1] for row in page.rows if len(row) == 2}
    assert facts["encoder"] == "some-encoder"
    assert facts["head"] == "an MLP head of 256, 64 and a CRF"
    assert facts["entity types"] == "3 in 7 tags: DISEASE, DRUG, SYMPTOM"
    assert facts["training data"] == "1,234 windows, 98,765 sub-tokens"
    assert facts["epochs"] == "3; epoch 2 is saved"
    assert facts["steps"] == "120"
    assert facts["time"] == "1 h 6 min, including the scoring after each epoch"
    assert "temperature 1.250, fitted to 80 spans of the evaluation notes: mean loss 0.500 before" in page.text
    tried = "float32 (strict F1 0.750, 100.00 % of the spans as in float32), bfloat16 (strict F1 0.742, 99.75 %"
    assert f"computes in bfloat16. Tried were {tried}" in page.text
    assert "cardioner 0.1.0, torch 2.13.0" in page.text
    settings = dict(re.findall(r"<dt>(\w+)</dt><dd>([^<]*)</dd>", render(a_record())))
    assert settings["seed"] == "11"
    assert settings["learning_rate"] == "0.0002"
    assert settings["use_crf"] == "yes"
    assert settings["early_stopping"] == "–"
    assert not settings.keys() & {"history", "epochs", "labels", "scores", "options"}


def test_every_plot_says_in_words_what_it_shows(whole: Page) -> None:
    page = whole
    assert page.tags["svg"] == len(page.words) == 5
    begins = (
        "Strict precision, recall",
        "Strict F1 of each type",
        "Training loss",
        "Learning rate",
        "Gradient norm",
    )
    assert [words.startswith(begin) for words, begin in zip(page.words, begins, strict=True)] == [True] * 5
    assert "the model of epoch 2 is saved" in page.words[0]
    assert "3 at step 10, 0.25 at step 120; lowest 0.25 at step 120, highest 3 at step 10" in page.words[4]
    assert all(label in page.words[1] for label in ("DISEASE", "DRUG", "SYMPTOM"))


def test_the_saved_epoch_and_the_limit_of_gradients_are_drawn() -> None:
    made = render(a_record())
    assert made.count("saved epoch</text>") == 2
    assert made.count("clipped to 1</text>") == 1
    record = a_record()
    record["options"]["max_gradient_norm"] = 1e9
    assert "clipped to" not in render(record)


@pytest.mark.usefixtures("unsaved")
def test_it_tells_when_more_epochs_may_help_and_when_nothing_was_left_to_test_on() -> None:
    record = a_record()
    assert "The last epoch is the best" not in page_of(record).text
    assert "no test notes" not in page_of(record).text
    record["best_epoch"] = 3
    del record["scores"]["test"]
    assert "more epochs may raise" in page_of(record).text
    assert "no test notes" in page_of(record).text


@pytest.mark.usefixtures("unsaved")
def test_types_that_are_never_found_are_named() -> None:
    record = a_record()
    record["scores"]["test"] = scores_of(1).to_dict()
    text = page_of(record).text
    assert re.search(
        r"Warning: this model never finds DRUG \(0 of \d+\), SYMPTOM \(0 of \d+\) in the test notes: ", text
    )


@pytest.mark.usefixtures("unsaved")
def test_a_training_that_ended_early_says_so() -> None:
    record = a_record()
    record["num_train_epochs"] = 10
    assert ["epochs", "3 of 10; epoch 2 is saved"] in page_of(record).rows


@pytest.mark.usefixtures("unsaved")
def test_a_model_that_finds_nothing_is_named_so_and_its_scores_stand_out() -> None:
    record = a_record()
    assert "finds nothing" not in page_of(record).text
    record["scores"]["test"] = scores_of(0, 2, notes=7).to_dict()
    record["warning"] = "this model finds nothing"
    page = page_of(record)
    assert "Warning: this model finds nothing: none of the 21 spans in the test notes was found" in page.text
    assert "never finds" not in page.text
    made = render(record)
    assert "<dt>warning</dt>" not in made, "it is no setting"
    assert '<b class="bad">0.000</b>' in made
    assert made.count('<td class="n bad">0.000</td>') == 4, "in the row of the test notes, and in those of the types"


@pytest.mark.usefixtures("unsaved")
def test_digests_and_counts_of_notes_stand_apart_from_settings_and_no_folder_of_the_machine_is_shown() -> None:
    digest = "hmac-sha256:" + "ab" * 32
    notes = {"documents": 12, "spans": {"DISEASE": 30, "DRUG": 4}, "digest": digest, "ids": None}
    record = a_record()
    record["documents"] = {"train": notes, "test": {**notes, "digest": None}}
    record["model"] = "/home/someone/encoders/some-encoder"
    record["options"]["initial"] = "C:\\Users\\someone\\first-model"
    made = render(record)
    settings = made.partition('<h2 id="settings">')[2].partition("<h2")[0]
    assert "documents" not in settings
    assert digest not in settings
    assert made.count(digest) == 1
    assert ["train", "12", "34"] in page_of(record).rows
    assert "someone" not in made
    assert made.count("some-encoder") == 2
    assert "first-model" in settings


@pytest.mark.usefixtures("unsaved")
def test_the_contents_of_the_page_lead_to_each_section() -> None:
    made = render(a_record())
    sections = re.findall(r'<h2 id="([^"]*)">([^<]*)</h2>', made)
    assert len(sections) == made.count("<h2") == 6
    assert re.findall(r'<li><a href="#([^"]*)">([^<]*)</a></li>', made) == sections


# Any record ----------------------------------------------------------------------------------------------------------


def test_a_model_saved_before_training_has_its_settings_and_says_so() -> None:
    trained = a_record()
    outcome = ("scores", "best_epoch", "epochs", "history", "seconds", "calibration", "inference", "training_data")
    page = page_of({name: value for name, value in trained.items() if name not in outcome})
    assert "saved before training" in page.text
    assert (page.tags["svg"], page.tags["dt"]) == (0, 14)
    assert "Epochs" not in page.text


@pytest.mark.usefixtures("unsaved")
def test_without_held_out_notes_there_are_curves_and_no_scores() -> None:
    record = {**a_record(), "scores": {}, "epochs": [], "best_epoch": 0, "calibration": None, "inference": None}
    record["history"] = [row for row in record["history"] if "loss" in row]
    page = page_of(record)
    assert "without evaluation and test notes" in page.text
    assert page.tags["svg"] == 3
    assert ["epochs", "3; the last one is saved"] in page.rows
    assert "F1" not in page.text


@pytest.mark.usefixtures("unsaved")
def test_an_older_record_without_history_has_scores_by_epoch() -> None:
    record = a_record()
    del record["history"], record["seconds"]
    page = page_of(record)
    assert page.tags["svg"] == 2
    assert "no loss by step: an earlier version wrote this record" in page.text
    assert next(row for row in page.rows if row[0] == "2 saved")[1:3] == ["–", "–"]


@pytest.mark.usefixtures("unsaved")
def test_a_single_epoch_of_a_single_step_can_be_drawn() -> None:
    record = a_record(epochs=1, best=1)
    record["history"] = [{"step": 1, "epoch": 1.0, "loss": 2.5}, {"step": 1, "epoch": 1.0, "f1": 0.5}]
    page = page_of(record)
    assert page.words[-1] == "Training loss by step: 2.5 at step 1."
    assert "The last epoch is the best" not in page.text


@pytest.mark.usefixtures("unsaved")
def test_values_that_are_no_numbers_are_left_out_of_the_curves() -> None:
    record = a_record()
    for value, row in zip((math.nan, math.inf, None), record["history"], strict=False):
        row["grad_norm"] = value
    assert "3 at step 10" not in page_of(record).words[4]
    assert "nan" not in page_of(record).text.lower().split()


@pytest.mark.parametrize("name", sorted(a_record()))
@pytest.mark.usefixtures("unsaved")
def test_a_record_that_lacks_anything_has_a_page_all_the_same(name: str) -> None:
    record = a_record()
    del record[name]
    assert page_of(record).tags["h1"] == 1


@pytest.mark.parametrize("name", ["calibration", "epochs", "history", "inference", "labels", "options", "scores"])
@pytest.mark.parametrize("value", [None, {}, [], {"of": "another version"}])
@pytest.mark.usefixtures("unsaved")
def test_a_record_with_something_else_in_a_place_has_a_page_all_the_same(name: str, value: Any) -> None:
    assert page_of({**a_record(), name: value}).tags["h1"] == 1


def test_an_empty_record_has_a_page() -> None:
    assert "saved before training" in page_of({}).text


@pytest.mark.usefixtures("unsaved")
def test_scores_of_another_version_are_left_out_and_counted() -> None:
    record = a_record()
    record["epochs"][0] = {"strict": {"f1": 0.5}}
    record["scores"]["test"] = 0.7
    page = page_of(record)
    assert "in an unknown form: 2 scores." in page.text
    assert [row[0] for row in page.rows if row and row[0] in ("1", "2 saved", "3")] == ["2 saved", "3"]


def test_many_types_and_a_hostile_name_are_shown_as_they_are() -> None:
    record = a_record()
    hostile = "<script>alert(1)</script> & $x_1$"
    counts = record["epochs"][0]["strict"]["per_type"]["DRUG"]
    types = [hostile, *(f"TYPE{number}" for number in range(40))]
    for found in [*record["epochs"], *record["scores"].values()]:
        found["strict"]["per_type"] = dict.fromkeys(types, counts)
    record["labels"] = ["O", *(f"{edge}-{name}" for name in types for edge in "BI")]
    record["model"] = hostile
    page = page_of(record)
    assert page.tags["script"] == 0
    assert page.text.count(hostile) >= 3
    assert "and 33 more types" in page.text
    assert "33 more)" in render(record)


# The file ------------------------------------------------------------------------------------------------------------


def test_it_fetches_nothing_and_runs_nothing() -> None:
    made = render(a_record())
    page = Page(made)
    assert page.tags["script"] == page.tags["img"] == page.tags["link"] == page.tags["iframe"] == 0
    assert [link for link in page.links if not link.startswith("#")] == []
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids)), "plots do not take each other's parts"
    assert not re.search(r"url\((?!#)|@import", made)
    assert "default-src 'none'; style-src 'unsafe-inline'\">" in made


def test_the_same_record_gives_the_same_bytes() -> None:
    assert render(a_record()) == render(a_record())


def test_no_token_of_a_user_is_shown() -> None:
    assert "hf_secret" not in render({**a_record(), "hf_token": "hf_secret"})


def test_a_page_is_replaced_only_on_request(tmp_path: Path) -> None:
    place = tmp_path / "training.html"
    write_page(render(a_record()), place)
    with pytest.raises(OutputError, match="exists"):
        write_page(render({}), place)
    assert "0.1.0" in place.read_text(encoding="utf-8")
    write_page(render({}), place, overwrite=True)
    assert "0.1.0" not in place.read_text(encoding="utf-8")


def test_without_jinja2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "find_spec", lambda name: None if name == "jinja2" else object())
    with pytest.raises(UsageError, match="needs jinja2"):
        render({})


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7260, "2 h 1 min"),
        (4e6, "1,111 h 6 min"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_an_epoch_has_the_mean_of_the_losses_of_its_own_steps() -> None:
    record = a_record()
    record["history"] = [
        {"step": 1, "loss": 8.0}, {"step": 2, "loss": 4.0}, {"step": 2, "f1": 0.1},
        {"step": 3, "loss": 2.0}, {"step": 4, "f1": 0.1}, {"step": 6, "f1": 0.1},
    ]  # fmt: skip
    assert [epoch.loss for epoch in read_record(record).epochs] == [6.0, 2.0, None]


def test_a_record_of_0_2_0_tells_its_precision_too() -> None:
    trials = {"float32": {"f1": 0.75, "agreement": 1.0}, "bfloat16": {"f1": 0.7421875, "agreement": 0.9975}}
    now = {**a_record(), "inference": {"dtype": "bfloat16", "trials": trials}}
    assert render(now) == render(a_record())
