"""A model directory is written whole or not at all."""

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

from cardioner.errors import ModelError, OutputError
from cardioner.model_dir.layout import CODE, MANIFEST
from cardioner.model_dir.load import enter, read_model_dir
from cardioner.model_dir.save import check_output, write_model_dir
from cardioner.multiclass import TokenClassificationModel

MakeModel = Callable[..., TokenClassificationModel]


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


@pytest.mark.parametrize("overwrite", [True, False])
def test_folder_of_a_repeated_training_never_becomes_a_model(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "summary.json").write_text('{"members": [{"name": "seed-0"}]}')
    with pytest.raises(OutputError, match="models of a repeated training"):
        check_output(tmp_path, overwrite=overwrite)
    (tmp_path / "summary.json").write_text('{"mine": 1}')
    check_output(tmp_path, overwrite=overwrite)


def test_damaged_model_can_be_replaced(directory: Path) -> None:
    (directory / "config.json").write_text("{")
    check_output(directory, overwrite=True)


def test_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written: ") as caught:
        check_output(tmp_path / "file" / "model", overwrite=False)
    assert "\n" not in str(caught.value)


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
        *CODE,
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
