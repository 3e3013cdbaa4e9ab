"""A model directory is trusted only after a look; config.json is parsed once on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import cardioner
from cardioner.errors import CardioNERError, ModelError, UsageError
from cardioner.interop.hub import export_hub
from cardioner.model_dir.inspect import inspect
from cardioner.model_dir.layout import CODE, MANIFEST
from cardioner.model_dir.load import enter, read_model_dir
from cardioner.model_dir.manifest import read_manifest
from cardioner.model_dir.save import write_model_dir
from cardioner.model_dir.verify import verify
from cardioner.multiclass import TokenClassificationModel


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


@pytest.mark.parametrize("name", ["model.safetensors", *CODE, "tokenizer.json", "tokenizer_config.json"])
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


@pytest.mark.parametrize("kind", ["is a file", "does not exist"])
def test_place_that_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "is a file":
        (tmp_path / "place").write_text("")
    with pytest.raises(ModelError, match=f"place {kind}; expected a model directory"):
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
        {"encoder_config": {"model_type": "bert", "hidden_act": "no-such-function"}},
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


# One order of entrance.


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every JSON value that is parsed from now on."""
    found, loads = [], json.loads

    def count(text: Any, *args: Any, **options: Any) -> Any:
        found.append(loads(text, *args, **options))
        return found[-1]

    monkeypatch.setattr(json, "loads", count)
    return found


@pytest.mark.parametrize("read", [cardioner.load, read_model_dir, verify, inspect, enter])
def test_config_is_parsed_once(read: Callable[[Path], Any], pristine: Path, parsed: list[Any]) -> None:
    read(pristine)
    content = json.loads((pristine / "config.json").read_text())
    assert parsed.count(content) == 1 + 1  # and here


def test_config_is_parsed_once_by_an_export(
    make_model: Callable[..., TokenClassificationModel], tokenizer: Any, tmp_path: Path, parsed: list[Any]
) -> None:
    write_model_dir(make_model(), tokenizer, tmp_path / "model")
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    parsed.clear()
    export_hub(tmp_path / "model", tmp_path / "hub")
    assert parsed.count(content) == 1


def test_what_is_checked_first_is_said_first(pristine: Path, directory: Path) -> None:
    """The bytes, the manifest, the structure: each of them is wrong, and the first one left is named."""
    change_config(directory, auto_map={"AutoModel": "evil.Model"}, manifest=MANIFEST)
    (directory / MANIFEST).write_bytes((pristine / MANIFEST).read_bytes())
    (directory / "tokenizer.json").rename(directory / "away")
    (directory / "tokenizer.json").mkdir()
    for problem in ("found a folder", "is not what was saved there", "expected auto_map"):
        for read in (cardioner.load, inspect) if problem != "is not what was saved there" else (cardioner.load,):
            with pytest.raises(ModelError, match=problem):
                read(directory)
        assert not verify(directory).sound
        if problem == "found a folder":
            (directory / "tokenizer.json").rmdir()
            (directory / "away").rename(directory / "tokenizer.json")
        else:
            (directory / MANIFEST).unlink(missing_ok=True)
            change_config(directory, manifest=None)


@pytest.mark.parametrize(
    "changes",
    [
        {"input_ids": [[10**6, 1]], "attention_mask": [[1, 1]]},
        {"input_ids": [[1, 1]], "attention_mask": [[1]]},
        {"emissions": [[[0.0], [0.0, 1.0]]]},
        {"tags": []},
    ],
)
def test_golden_outputs_that_no_model_can_compute_are_one_clear_line(
    changes: dict[str, Any], make_model: Callable[..., TokenClassificationModel], tokenizer: Any, tmp_path: Path
) -> None:
    write_model_dir(make_model(), tokenizer, tmp_path)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.golden_outputs is not None
    golden = manifest.golden_outputs.model_copy(update=changes)
    (tmp_path / MANIFEST).write_bytes(manifest.model_copy(update={"golden_outputs": golden}).to_bytes())
    with pytest.raises(ModelError, match="golden outputs") as caught:
        read_model_dir(tmp_path, device="cpu")
    assert_one_clear_line(caught.value)
    assert [issue.name for issue in verify(tmp_path).issues] == ["golden outputs"]


def test_paths_may_be_texts(pristine: Path) -> None:
    assert read_model_dir(str(pristine), device="cpu").config.use_crf
    assert verify(str(pristine)).sound
    assert inspect(str(pristine)).facts["crf"] is True
