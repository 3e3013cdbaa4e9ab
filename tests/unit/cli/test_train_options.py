"""The options of `cardioner train` are the settings of the library, and those that the reference lists."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cardioner.cli import app
from cardioner.cli.option_groups import options_of
from cardioner.cli.train_config import _checked, _Given
from cardioner.cli.train_options import NotesOptions, RunOptions, _values_in_words, read_given_parts, read_notes
from cardioner.data.documents import Document, Span
from cardioner.data.formats import write_corpus
from cardioner.errors import DataError, UsageError
from cardioner.training.options import RENAMED, DistillationOptions, TrainerArguments, TrainingOptions
from cardioner.training.trainer import ModelTrainer

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "training-options.md"
NO_OPTION = {"label2id", "id2label", "tokenizer", "hf_token", "model_class", "options", "distillation", "overlap"}
NO_OPTION |= {"attributes"}
"""Arguments of `ModelTrainer` that are objects, secrets, made of other options, or an option of the notes."""
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_every_training_option_but_progress_is_on_the_command_line_with_its_default() -> None:
    parsed = {parameter.name: parameter.default for parameter in COMMANDS["train"].params}
    own = {name: value for name, value in vars(TrainingOptions()).items() if name != "progress"}
    assert {name: parsed[name] for name in own} == own


def test_every_plain_argument_of_the_trainer_has_its_name_and_default_on_the_command_line() -> None:
    arguments = inspect.signature(ModelTrainer).parameters
    options = options_of(TrainerArguments)
    assert set(options) == set(arguments) - NO_OPTION
    given = {name: option.info.default for name, option in options.items() if name != "output_dir"}
    assert given == {name: arguments[name].default for name in given}


def test_every_setting_is_documented() -> None:
    options = {**options_of(TrainerArguments), **options_of(TrainingOptions), **options_of(RunOptions)}
    assert [name for name, option in options.items() if not option.help.endswith(".")] == []


def test_no_two_options_have_one_name() -> None:
    groups = (NotesOptions, TrainerArguments, TrainingOptions, RunOptions)
    names = [name for group in groups for name in options_of(group)]
    assert len(names) == len(set(names))


def test_an_ablation_takes_what_no_recipe_decides() -> None:
    train, ablate = ({one.name for one in COMMANDS[name].params} for name in ("train", "ablate"))
    assert train - ablate == {
        "use_crf",
        "no_use_crf",
        "config",
        "html",
        "folds",
        "seeds",
        "recipe",
        "no_json",
        "onnx",
        "no_onnx",
        "curve",
        "no_curve",
        "merge",
    }
    assert ablate - train == {"recipes", "bootstrap"}


def test_a_distillation_takes_what_a_single_training_does_and_its_own() -> None:
    train, distill = ({one.name for one in COMMANDS[name].params} for name in ("train", "distill"))
    assert train - distill == {"scheme", "overlap", "folds", "seeds", "curve", "no_curve", "merge", "recipe"}
    assert distill - train == {"teachers", "unlabelled", *options_of(DistillationOptions)}


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_an_earlier_name_is_accepted_and_named_as_deprecated(old: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated .* use {RENAMED[old]}"):
        assert TrainingOptions(**{old: 2}) == TrainingOptions(**{RENAMED[old]: 2})
    with (
        pytest.warns(DeprecationWarning, match=old),
        pytest.raises(UsageError, match=f"{RENAMED[old]}: expected 1 or more"),
    ):
        TrainingOptions(**{old: 0})
    (hidden,) = [one for one in COMMANDS["train"].params if one.name == old]
    assert hidden.hidden


def rows() -> Iterator[str]:
    """The reference's rows, as the parser knows the options."""
    for option in COMMANDS["train"].params:
        if not option.hidden and option.name not in ("help", "config"):
            default = option.default
            shown = "" if option.required or default is None or default is False else f"`{default}`"
            yield f"| `{option.opts[0]}` | `{option.name}` | {shown} | {option.help} |".replace("  |", " |")


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.split("`")[1])
def test_the_reference_lists_every_option_as_the_help_does(row: str) -> None:
    assert row in REFERENCE.read_text(encoding="utf-8").splitlines()


def test_the_reference_lists_nothing_else() -> None:
    lines = REFERENCE.read_text(encoding="utf-8").splitlines()
    assert sorted(line for line in lines if line.startswith("| `--")) == sorted(rows())


def test_of_notes_in_several_places_the_last_counts_and_the_others_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "No oedema, no syncope."
    first, again = Document("a", text, (Span(3, 9, "SYMPTOM"),)), Document("a", text, (Span(14, 21, "SYMPTOM"),))
    other = Document("b", text, (Span(3, 9, "SYMPTOM"),))
    write_corpus([first, other], tmp_path / "notes")
    write_corpus([again], tmp_path / "corrected")
    parts = read_given_parts(NotesOptions(train=[tmp_path / "notes", tmp_path / "corrected"]))
    assert parts.train == [again, other]
    assert "Of 1 note that several --train PATH have, the last counts" in capsys.readouterr().err
    write_corpus([Document("a", "Syncope.", (Span(0, 7, "SYMPTOM"),))], tmp_path / "another")
    with pytest.raises(DataError, match="two notes with different texts have the id 'a'"):
        read_given_parts(NotesOptions(train=[tmp_path / "notes", tmp_path / "another"]))


def test_types_that_the_held_out_notes_lack_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finding, drug = Span(3, 9, "SYMPTOM"), Span(14, 21, "DRUG")
    text = "No oedema, no aspirin."
    for name, spans in (("train", (finding, drug)), ("dev", (finding,)), ("both", (drug, finding))):
        write_corpus([Document(name, f"{text} {name}", spans)], tmp_path / name)
    for held_out, warned in (("dev", True), ("both", False)):
        read_notes(NotesOptions(train=[tmp_path / "train"], evaluation=tmp_path / held_out))
        told = "the evaluation notes have no entity of the type DRUG: they cannot show"
        assert (told in capsys.readouterr().err) is warned


@pytest.mark.parametrize("given", ["notes", ["notes"], ["notes", "corrected"]])
def test_a_file_may_name_one_place_of_training_notes_or_several(given: Any, tmp_path: Path) -> None:
    names = given if isinstance(given, list) else [given]
    found = _checked(options_of(NotesOptions)["train"], _Given("train", given, "train.yaml:1"), tmp_path)
    assert found == [tmp_path / name for name in names]


def test_many_values_of_an_attribute_are_counted_and_not_shown() -> None:
    assert _values_in_words([None, True, "old"], 20) == "old, present or absent"
    assert _values_in_words([None, *map(str, range(21))], 20) == "21 values"
