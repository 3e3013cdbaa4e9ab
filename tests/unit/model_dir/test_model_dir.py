"""A model directory is written whole or not at all, and trusted only after a look."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PretrainedConfig

from cardioner.data.labels import LabelSet
from cardioner.errors import CardioNERError, ModelError, OutputError, UsageError
from cardioner.model_dir.inspect import inspect
from cardioner.model_dir.layout import MANIFEST, code_files
from cardioner.model_dir.load import enter, read_model_dir
from cardioner.model_dir.save import check_output, write_model_dir
from cardioner.multiclass import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF

MakeModel = Callable[..., TokenClassificationModel]


@pytest.fixture(scope="session")
def pristine(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizers: dict[str, Any],
    encoder_config: Callable[[str], PretrainedConfig],
    labels: LabelSet,
) -> Path:
    """A whole directory that no test may change."""
    torch.manual_seed(2)
    config = CardioNERConfig(
        encoder_config=encoder_config("bert").to_dict(), id2label=labels.id2label, label2id=labels.label2id
    )
    model = TokenClassificationModelCRF(config).eval()
    for parameter in model.crf.parameters():
        torch.nn.init.normal_(parameter)
    directory = tmp_path_factory.mktemp("pristine") / "model"
    write_model_dir(model, tokenizers["wordpiece"], directory, training_args={"model": "tiny"})
    return directory


@pytest.fixture
def directory(pristine: Path, tmp_path: Path, without_manifest: Callable[[Path], Path]) -> Path:
    """A whole directory to damage, with no manifest that would tell at once."""
    return without_manifest(Path(shutil.copytree(pristine, tmp_path / "model")))


@pytest.fixture
def tokenizer(tokenizers: dict[str, Any]) -> Any:
    return tokenizers["wordpiece"]


def change_config(directory: Path, **changes: Any) -> None:
    content = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps({**content, **changes}), encoding="utf-8")


def only_pickle(directory: Path, content: Any = None) -> Path:
    """Replace the weights by a pickle."""
    model, _, _ = read_model_dir(directory, device="cpu")
    torch.save(model.state_dict() if content is None else content, directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    return directory / "pytorch_model.bin"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


# Where a model may be written.


def test_missing_and_empty_places_are_accepted(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "place", overwrite=False)
    assert list((tmp_path / "new" / "place").iterdir()) == []
    check_output(tmp_path / "new" / "place", overwrite=False)


@pytest.mark.parametrize("overwrite", [True, False])
def test_file_is_refused_as_output(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file: expected a directory"):
        check_output(tmp_path / "file", overwrite=overwrite)


def test_model_is_refused_as_output_unless_overwrite_is_on(directory: Path) -> None:
    with pytest.raises(OutputError, match=r"already holds a model: .*overwrite"):
        check_output(directory, overwrite=False)
    check_output(directory, overwrite=True)
    enter(directory)


def test_code_that_would_be_replaced_is_refused_as_output(tmp_path: Path) -> None:
    (tmp_path / "modeling.py").write_text("mine = 1\n")
    with pytest.raises(OutputError, match=r"already holds modeling\.py: "):
        check_output(tmp_path, overwrite=False)


def test_model_of_another_program_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(OutputError, match="another program's model"):
        check_output(tmp_path, overwrite=True)


def test_damaged_model_can_be_replaced(directory: Path) -> None:
    (directory / "config.json").write_text("{")
    check_output(directory, overwrite=True)


def test_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written: ") as caught:
        check_output(tmp_path / "file" / "model", overwrite=False)
    assert "\n" not in str(caught.value)


# What is refused when reading.


@pytest.mark.parametrize("name", ["model.safetensors", *code_files(), "tokenizer.json", "tokenizer_config.json"])
def test_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    for check in (enter, read_model_dir, inspect):
        with pytest.raises(ModelError, match=f"lacks {name}: copy the whole directory again"):
            check(directory)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"])
def test_cut_file_is_named(directory: Path, name: str) -> None:
    cut(directory / name)
    for check in (enter, read_model_dir, inspect):
        with pytest.raises(ModelError, match=f"{name}.*damaged.*copy it again"):
            check(directory)


def test_empty_weights_are_damaged(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"is cut or damaged \(0 bytes\)"):
        enter(directory)


def test_missing_shard_is_named(directory: Path) -> None:
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (directory / "model.safetensors").rename(directory / shards["a"])
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(ModelError, match="lacks model-00002-of-00002"):
        enter(directory)


def test_directory_without_config_points_to_whole_checkpoints(directory: Path) -> None:
    (directory / "config.json").unlink()
    with pytest.raises(ModelError, match=r"it has no config\.json; name what training wrote"):
        enter(directory)
    (directory / "checkpoints" / "checkpoint-7").mkdir(parents=True)
    (directory / "checkpoints" / "checkpoint-7" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="checkpoint-7 are whole"):
        enter(directory)


@pytest.mark.parametrize("kind", ["file", "nothing"])
def test_place_that_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "file":
        (tmp_path / "place").write_text("")
    with pytest.raises(ModelError, match=f"expected a model directory, found .*{kind}"):
        read_model_dir(tmp_path / "place")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "expected a model of type cardioner_multiclass, found roberta"),
        ({"model_type": None}, "expected a model of type cardioner_multiclass, found nothing"),
        ({"id2label": None}, "expected id2label to name the tags"),
        ({"id2label": ["O"]}, "expected id2label to name the tags"),
        ({"id2label": {"0": "O", "2": "B-X"}}, "expected id2label to name the tags"),
        ({"encoder_config": 5}, "expected the encoder's configuration"),
        ({"encoder_config": {}}, "expected the encoder's configuration"),
        ({"classifier_hidden_layers": "wide"}, "expected classifier_hidden_layers to be .*save the model again"),
    ],
)
def test_config_of_something_else_is_refused(directory: Path, changes: dict[str, Any], message: str) -> None:
    change_config(directory, **changes)
    for check in (enter, read_model_dir, inspect):
        with pytest.raises(ModelError, match=message) as caught:
            check(directory)
        assert_one_clear_line(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder_config": {"model_type": "no-such-encoder"}},
        {"classifier_hidden_layers": [5]},
        {"use_crf": False},
    ],
)
def test_weights_that_do_not_fit_the_config_are_refused_in_one_line(directory: Path, changes: dict[str, Any]) -> None:
    change_config(directory, **changes)
    with pytest.raises(ModelError, match=r"cannot be loaded: .*save the model again") as caught:
        read_model_dir(directory, device="cpu")
    assert_one_clear_line(caught.value)


def test_config_that_is_a_list_is_refused(directory: Path) -> None:
    (directory / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="expected a JSON object, found list"):
        enter(directory)


def test_unknown_device_is_a_usage_error(pristine: Path) -> None:
    with pytest.raises(UsageError, match="'abacus' is not available"):
        read_model_dir(pristine, device="abacus")


def test_cut_pickle_is_named(directory: Path) -> None:
    cut(only_pickle(directory))
    for check in (enter, read_model_dir, inspect):
        with pytest.raises(ModelError, match=r"pytorch_model\.bin is cut or damaged"):
            check(directory)


def test_pickle_that_runs_code_is_refused_unread(directory: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    only_pickle(directory, {"classifier.weight": Trap()})
    for check in (read_model_dir, inspect):
        with pytest.raises(ModelError, match="holds more than weights and is not read") as caught:
            check(directory)
        assert_one_clear_line(caught.value)
    assert not (tmp_path / "sprung").exists()


def assert_one_clear_line(error: CardioNERError) -> None:
    assert "\n" not in str(error)
    assert "Traceback" not in str(error)


# Writing is whole or nothing.


def fail_with(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def leftovers(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".partial-")]


@pytest.mark.parametrize("error", [full_disk(), RuntimeError("No space left on device"), OSError("quota exceeded")])
def test_failure_before_publishing_leaves_the_previous_model(
    directory: Path, make_model: MakeModel, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    model = make_model()
    monkeypatch.setattr(model, "save_pretrained", fail_with(error))
    with pytest.raises(OutputError, match=r"the disk is full: free some space|quota exceeded"):
        write_model_dir(model, tokenizer, directory)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    read_model_dir(directory, device="cpu")


def test_full_disk_while_the_files_are_written_leaves_nothing(
    tmp_path: Path, make_model: MakeModel, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "copyfile", fail_with(full_disk()))
    with pytest.raises(OutputError, match="the disk is full"):
        write_model_dir(make_model(), tokenizer, tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize("moves", [0, 1, 4])
def test_failure_while_publishing_leaves_nothing_that_passes_for_a_model(
    directory: Path, make_model: MakeModel, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    move, done = Path.replace, []

    def move_some(source: Path, target: Path) -> Any:
        if len(done) == moves:
            raise full_disk()
        done.append(target)
        return move(source, target)

    monkeypatch.setattr(Path, "replace", move_some)
    with pytest.raises(OutputError, match="the disk is full"):
        write_model_dir(make_model(), tokenizer, directory)
    assert len(done) == moves
    assert leftovers(directory) == []
    assert not (directory / "config.json").exists()
    with pytest.raises(ModelError, match=r"no config\.json"):
        enter(directory)
    monkeypatch.undo()
    write_model_dir(make_model(), tokenizer, directory)
    read_model_dir(directory, device="cpu")


def test_error_that_is_no_failed_write_is_not_hidden(
    tmp_path: Path, make_model: MakeModel, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    monkeypatch.setattr(model, "save_pretrained", fail_with(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        write_model_dir(model, tokenizer, tmp_path / "model")


def test_new_model_replaces_every_file_of_the_old(directory: Path, make_model: MakeModel, tokenizer: Any) -> None:
    for stale in ("pytorch_model.bin", "model-00001-of-00002.safetensors", "model.safetensors.index.json"):
        (directory / stale).write_bytes(b"{}")
    model = make_model()
    write_model_dir(model, tokenizer, directory)
    names = {path.name for path in directory.iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        MANIFEST,
        *code_files(),
    }
    loaded, _, config = read_model_dir(directory, device="cpu")
    assert config.use_crf is False
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)


def test_new_tokenizer_is_not_changed_by_what_an_older_one_left(
    directory: Path, make_model: MakeModel, tokenizer: Any
) -> None:
    (directory / "special_tokens_map.json").write_text('{"pad_token": "[MASK]"}')
    (directory / "added_tokens.json").write_text('{"zzz": 400}')
    write_model_dir(make_model(), tokenizer, directory)
    _, loaded, _ = read_model_dir(directory, device="cpu")
    assert (loaded.pad_token, len(loaded)) == ("[PAD]", len(tokenizer))


def test_written_files_are_readable_as_the_umask_allows(tmp_path: Path, make_model: MakeModel, tokenizer: Any) -> None:
    previous = os.umask(0o027)
    try:
        write_model_dir(make_model(), tokenizer, tmp_path / "model", training_args={}, also_bin=True)
    finally:
        os.umask(previous)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "model").iterdir()}
    assert set(modes.values()) == {0o640}, modes


def test_secrets_of_training_are_not_written(tmp_path: Path, make_model: MakeModel, tokenizer: Any) -> None:
    arguments = {"hf_token": "hf_secret", "token": "hf_secret", "epochs": 3}
    write_model_dir(make_model(), tokenizer, tmp_path, training_args=arguments)
    assert json.loads((tmp_path / "training_args.json").read_text()) == {"epochs": 3}


def test_tokenizer_is_saved_without_the_truncation_it_was_last_used_with(
    tmp_path: Path, make_model: MakeModel, tokenizers: dict[str, Any]
) -> None:
    tokenizers["unigram"]("a b c d e f", truncation=True, max_length=4, padding="max_length")
    write_model_dir(make_model("xlm-roberta"), tokenizers["unigram"], tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert content["truncation"] is None
    assert content["padding"] is None


# Descriptions.


def described(model: TokenClassificationModel, tokenizer: Any, directory: Path) -> tuple[str, ...]:
    """The warnings about a model."""
    write_model_dir(model, tokenizer, directory)
    return inspect(directory).warnings


def test_trained_model_is_described_without_warnings(pristine: Path) -> None:
    found = inspect(pristine)
    assert found.warnings == ()
    assert found.facts["model"] == "TokenClassificationModelCRF"
    assert found.facts["labels"][:3] == ["O", "B-DISEASE", "I-DISEASE"]
    assert found.facts["head"] == "16 -> 7"
    assert found.facts["crf"] is True
    assert found.facts["encoder"] == "bert, 2 layers of 16"
    assert found.facts["trained_from"] == "tiny"
    assert found.files["model.safetensors"] == (pristine / "model.safetensors").stat().st_size
    model, _, _ = read_model_dir(pristine, device="cpu")
    assert found.facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_standard_model_has_no_warning_about_a_crf(make_model: MakeModel, tokenizer: Any, tmp_path: Path) -> None:
    assert described(make_model(), tokenizer, tmp_path) == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_reported(
    make_model: MakeModel, tokenizer: Any, tmp_path: Path, value: float
) -> None:
    model: Any = make_model(use_crf=True)
    model.crf.end_transitions.data[2] = value
    (warning,) = described(model, tokenizer, tmp_path)
    assert warning == "crf.end_transitions holds values that are not finite: the model cannot be used"


def test_transitions_of_zero_are_reported_as_untrained(make_model: MakeModel, tokenizer: Any, tmp_path: Path) -> None:
    model: Any = make_model(use_crf=True)
    model.crf.reset_parameters()
    (warning,) = described(model, tokenizer, tmp_path)
    assert "all 0" in warning


def test_initial_values_of_pytorch_crf_are_reported_as_untrained(
    make_model: MakeModel, tokenizer: Any, tmp_path: Path
) -> None:
    model: Any = make_model(use_crf=True)
    torch.nn.init.uniform_(model.crf.transitions, -0.1, 0.1)
    (warning,) = described(model, tokenizer, tmp_path)
    assert "looks untrained" in warning


@pytest.mark.parametrize("name", code_files())
def test_changed_code_is_reported_and_not_run(directory: Path, name: str) -> None:
    (directory / name).write_text("raise SystemExit('this must not run')\n")
    _, warning = inspect(directory).warnings  # the first one is of the manifest
    assert warning.startswith(f"{name} is not that of cardioner")
    read_model_dir(directory, device="cpu")


def test_training_args_of_another_shape_are_passed_over(directory: Path) -> None:
    for content in ('{"scores": [1], "versions": 3}', '{"scores": {"test": 5}}', "[]", "{"):
        (directory / "training_args.json").write_text(content)
        found = inspect(directory)
        assert not any(found.facts["scores"].values())
        assert "transformers" in found.facts["versions"]["saved"]
