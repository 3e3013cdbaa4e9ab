"""`cardioner train --config`: options from a file, which the command line overrules, and trainings repeated from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.model_dir.load import read_model_dir

CANARY = "zyxwvcanary"


@pytest.fixture
def configured(
    run: Callable[..., Any], corpus: Path, encoder_dir: Callable[[str], Path], tmp_path: Path
) -> Callable[..., Any]:
    """`cardioner train --config` with a file of this content, which says all that the tiny training needs."""

    def execute(text: str, *arguments: Any, name: str = "train.yaml") -> Any:
        base = f"""
train: {corpus / "train"}
eval: {corpus / "dev"}
backbone: {encoder_dir("bert")}
output: model
batch-size: 2
max_length: 64
device: cpu
"""
        (tmp_path / name).write_text(base + text)
        return run("train", "--config", tmp_path / name, *arguments)

    return execute


@pytest.fixture
def refused(run: Callable[..., Any], tmp_path: Path) -> Callable[[str], str]:
    """The complaint about a file of this content; everything else is in order."""

    def execute(text: str) -> str:
        file = tmp_path / "train.yaml"
        file.write_text(text)
        done = run("train", "--config", file, "--train", "x", "--output", "y")
        assert done.code == 2
        assert done.error.startswith(f"error: {file}")
        return done.error.removeprefix(f"error: {file}")

    return execute


def test_options_come_from_the_file_and_its_paths_lie_beside_it(
    configured: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = configured("""
epochs: 2
learning-rate: 2e-3  # which YAML takes for text
crf: true
hidden-layers: [12, 8]
class_weights: {B-DISEASE: 2, I-DISEASE: 1.5}
map: {DRUG: MEDICATION, SYMPTOM: null}
schedule: cosine
early_stopping: 3
scheme: bioes
head-learning-rate:
""")
    assert (done.code, done.out) == (0, "")
    record = json.loads((tmp_path / "model" / "training_args.json").read_text())
    _, _, config = read_model_dir(tmp_path / "model", device="cpu")
    assert record["num_train_epochs"] == 2
    assert record["learning_rate"] == 2e-3
    assert (record["options"]["schedule"], record["options"]["early_stopping"]) == ("cosine", 3)
    assert record["options"]["head_learning_rate"] is None
    assert (config.use_crf, config.classifier_hidden_layers) == (True, [12, 8])
    assert dict(zip(record["labels"], config.class_weights, strict=True)) == {
        "O": 1,
        "B-DISEASE": 2,
        "I-DISEASE": 1.5,
        "E-DISEASE": 1,
        "S-DISEASE": 1,
        "B-MEDICATION": 1,
        "I-MEDICATION": 1,
        "E-MEDICATION": 1,
        "S-MEDICATION": 1,
    }


def test_the_command_line_wins_over_the_file_for_values_and_switches(
    configured: Callable[..., Any], tmp_path: Path
) -> None:
    text = "\nepochs: 9\nseed: 5\ncrf: true\nfreeze-backbone: true\n"
    done = configured(text, "--epochs", "1", "--no-crf", "--output", tmp_path / "other")
    assert done.code == 0
    record = json.loads((tmp_path / "other" / "training_args.json").read_text())
    assert (record["num_train_epochs"], record["options"]["seed"]) == (1, 5)
    assert (record["use_crf"], record["freeze_backbone"]) == (False, True)


def test_notes_on_the_command_line_take_the_place_of_those_in_the_file(
    configured: Callable[..., Any], train: Callable[..., Any], corpus: Path, tmp_path: Path
) -> None:
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ["t1", "t3"], "validation": ["t2"]}))
    done = configured("\nepochs: 1\n", "--corpus", corpus / "train", "--splits", splits)
    assert done.code == 0, done.err
    assert "1 of 4 notes are in no part" in done.err
    (tmp_path / "other.yaml").write_text(f"corpus: {corpus / 'train'}\nsplits: splits.json\n")
    assert train("--config", tmp_path / "other.yaml", output=tmp_path / "other").code == 0


@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_a_models_record_repeats_its_training_bit_for_bit(
    scheme: str,
    train: Callable[..., Any],
    run: Callable[..., Any],
    corpus: Path,
    encoder_dir: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    wishes = ("--class-weights", "balanced", "--hidden-layers", "8", "--seed", "11", "--warmup", "0.3")
    assert train(*wishes, "--scheme", scheme, "--schedule", "cosine", "--layer-decay", "0.9").code == 0
    record = tmp_path / "model" / "training_args.json"
    notes = ("--train", corpus / "train", "--eval", corpus / "dev")
    arguments = ("train", "--config", record, *notes, "--output", tmp_path / "again")
    asked = run(*arguments)
    assert asked.code == 2
    assert "--backbone" in asked.error
    assert f"{record}:" in asked.error
    assert run(*arguments, "--backbone", encoder_dir("bert")).code == 0
    first, second = (tmp_path / name / "model.safetensors" for name in ("model", "again"))
    assert first.read_bytes() == second.read_bytes()
    own = json.loads(record.read_text())
    again = json.loads((tmp_path / "again" / "training_args.json").read_text())
    assert {name: again[name] for name in own if name != "seconds"} == {
        name: own[name] for name in own if name != "seconds"
    }


def test_a_record_of_the_recipe_best_repeats_all_of_it(
    train: Callable[..., Any], run: Callable[..., Any], corpus: Path, encoder_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    made = train("--recipe", "best", "--crf", "--epochs", "1")
    assert made.code == 0, made.err
    assert made.err.count("training on") == 3
    assert "Learning from 3 models and from the annotations" in made.err
    record = tmp_path / "model" / "training_args.json"
    assert json.loads(record.read_text())["num_train_epochs"] == 2
    notes = ("--train", corpus / "train", "--eval", corpus / "dev", "--backbone", encoder_dir("bert"))
    again = run("train", "--config", record, *notes, "--output", tmp_path / "again")
    assert again.code == 0, again.err
    first, second = (tmp_path / name / "model.safetensors" for name in ("model", "again"))
    assert first.read_bytes() == second.read_bytes()
    done = run("train", "--config", record, *notes, "--output", tmp_path / "again", "--resume")
    assert (done.code, "there is nothing left to do" in done.err) == (0, True)
    plain = run("train", "--config", record, *notes, "--output", tmp_path / "plain", "--recipe", "default")
    assert plain.code == 0, plain.err
    found = json.loads((tmp_path / "plain" / "training_args.json").read_text())
    assert ("distillation" in found, found["num_train_epochs"]) == (False, 2)
    assert (
        "--recipe default" in run("train", "--config", record, *notes, "--output", tmp_path / "f", "--folds", 2).error
    )
    facts = json.loads(run("inspect", tmp_path / "model", "--json").out)["facts"]
    assert facts["taught_by"] == "3 models (recipe best)"


@pytest.mark.parametrize("other", [("--folds", "2"), ("--seeds", "2"), ("--curve",), ("--merge", "mean")])
def test_the_recipe_best_is_a_training_of_its_own(other: tuple[str, ...], train: Callable[..., Any]) -> None:
    assert "leave out --folds, --seeds, --merge and --curve" in train("--recipe", "best", *other).error


def test_an_earlier_name_in_a_file_or_a_record_is_accepted_and_named_as_deprecated(
    configured: Callable[..., Any],
    run: Callable[..., Any],
    corpus: Path,
    encoder_dir: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    done = configured("\nepochs: 1\nthawed-per-epoch: 3\n")
    assert done.code == 0, done.err
    assert f"{tmp_path / 'train.yaml'}:11: thawed_per_epoch is deprecated" in done.err
    file = tmp_path / "model" / "training_args.json"
    record = json.loads(file.read_text())
    record["options"]["thawed_per_epoch"] = record["options"].pop("unfreeze_per_epoch")
    file.write_text(json.dumps(record))
    notes = ("--train", corpus / "train", "--backbone", encoder_dir("bert"))
    done = run("train", "--config", file, *notes, "--output", tmp_path / "again")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "again" / "training_args.json").read_text())["options"]["unfreeze_per_epoch"] == 3


def test_how_a_training_went_is_not_repeated_from_its_record(
    run: Callable[..., Any], saved: Path, corpus: Path, tmp_path: Path, encoder_dir: Callable[[str], Path]
) -> None:
    record = json.loads((saved / "training_args.json").read_text())
    record["options"] |= {"resume": True}
    record |= {"epochs": [{"anything": 1}], "something_new": {"a": [1]}}
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record))
    notes = ("--train", corpus / "train", "--backbone", encoder_dir("bert"))
    done = run("train", "--config", file, *notes, "--output", tmp_path / "m", "--overwrite")
    assert done.code == 0, done.err
    again = json.loads((tmp_path / "m" / "training_args.json").read_text())
    assert (again["num_train_epochs"], again["classifier_hidden_layers"]) == (1, [8])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs: 2\nlearnin-rate: 1\n", ":2: there is no option 'learnin-rate'; the nearest is learning-rate"),
        ("epochs: 2\nEPOCHS: 1\n", ":2: there is no option 'EPOCHS'"),
        ("qqqq: 2\n", ":1: there is no option 'qqqq'; cardioner train --help lists the options"),
        ("seed: 2\nepochs: 1\nseed: 3\n", ":3: the key 'seed' is given twice"),
        ("epochs: 1\nnum_train_epochs: 2\n", ":2: num_train_epochs is given twice, here under another name"),
        ('{"seed": 1, "seed": 2}', ":1: the key 'seed' is given twice"),
        ("class-weights: {O: 1, O: 2}\n", ":1: the key 'O' is given twice"),
        ("epochs: many\n", ":1: epochs: expected auto, or a whole number, 1 or more, found text"),
        ("epochs: 2.5\n", ":1: epochs: expected auto, or a whole number, 1 or more, found 2.5"),
        ("epochs: true\n", ":1: epochs: expected auto, or a whole number, 1 or more, found true"),
        ("epochs: 0\n", ":1: epochs: "),
        ("warmup: [1]\n", ":1: warmup: expected a number, found a list"),
        ("warmup: -1\n", ":1: warmup: "),
        ("crf: 1\n", ":1: crf: expected true or false, found 1"),
        ("crf: 'yes'\n", ":1: crf: expected true or false, found text"),
        ("schedule: square\n", ":1: schedule: expected one of linear, cosine or constant, found text"),
        ("encoding: 1252\n", ":1: encoding: expected text, found 1252"),
        ("hidden-layers: [a]\n", ":1: hidden-layers: expected widths such as 512,256, found a list"),
        (
            "class-weights: [a]\n",
            ":1: class-weights: expected balanced, or weights of tags such as B-X=2,I-X=2, found a list",
        ),
        ("class-weights: {O: heavy}\n", ":1: class-weights: expected balanced, or weights of tags such as "),
        ("map: DRUG\n", ":1: map: expected old and new names, or a list of OLD=NEW, found text"),
        ("config: other.yaml\n", ":1: there is no option 'config'"),
        ("options: 3\n", ":1: options: expected option names and values, found 3"),
        ("options: {seed: 1, sed: 2}\n", ":1: there is no option 'sed'; the nearest is seed"),
        ("? [a, b]\n: 1\n", ":1: expected the name of an option as a key"),
        ("- epochs\n- 3\n", ": expected YAML or JSON with option names and their values"),
        ("", ": expected YAML or JSON with option names and their values"),
        ("a: b: c\n", ":1: expected YAML or JSON"),
        ("seed: !!python/object/apply:os.getcwd []\n", ":1: expected YAML or JSON"),
    ],
)
def test_a_file_that_cannot_be_options_is_one_line_with_file_line_and_key(
    text: str, said: str, refused: Callable[[str], str]
) -> None:
    assert refused(text).startswith(said)


def test_an_option_of_another_command_is_named_as_such(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "o.yaml").write_text("epochs: 2\nrecipe: best\n")
    refused = run("distill", tmp_path, "--output", tmp_path / "m", "--config", tmp_path / "o.yaml")
    assert (refused.code, refused.error.partition(":2: ")[2]) == (
        2,
        "cardioner distill has no option 'recipe': leave it out",
    )


def test_a_missing_file_and_bytes_that_are_no_text_are_one_line(run: Callable[..., Any], tmp_path: Path) -> None:
    done = run("train", "--config", tmp_path / "none.yaml", "--output", "y")
    assert done.code == 2
    assert "none.yaml: cannot be read (No such file or directory)" in done.error
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00\xd8a")
    done = run("train", "--config", tmp_path / "bytes.yaml", "--output", "y")
    assert done.code == 2
    assert "bytes.yaml" in done.error


@pytest.mark.parametrize(
    "text",
    [
        f"History: {CANARY} was seen\n",
        f"{CANARY} was seen: and left\n",
        f"{CANARY}\n",
        f"seed: {CANARY}\n",
        f"schedule: {CANARY}\n",
        f"seed: 1\n{CANARY} was seen: [\n",
        f"options: {CANARY}\n",
    ],
)
def test_a_note_given_by_mistake_is_not_repeated(text: str, refused: Callable[[str], str]) -> None:
    assert CANARY not in refused(text)


def test_values_that_the_trainer_refuses_name_the_option(configured: Callable[..., Any]) -> None:
    done = configured("\nlayer-decay: 0\n")
    assert done.code == 2
    assert "train.yaml:10: layer-decay: expected more than 0.0, found 0" in done.error


def test_a_record_of_a_users_class_is_not_repeated_as_another_model(refused: Callable[[str], str]) -> None:
    record = {"model_class": "weighted.Weighted", "options": {}, "versions": {}, "labels": ["O"]}
    told = refused(json.dumps(record))
    assert told.startswith(":1: this training used a model class of its own, weighted.Weighted")
    assert "model_class=" in told
