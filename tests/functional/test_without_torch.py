"""Tagging, scoring, converting and checking where torch and transformers are not installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.formats import read_corpus
from cardioner.errors import missing_extra
from cardioner.interop.onnx import add_onnx
from cardioner.prediction import batch_job
from cardioner.prediction.engines.onnx import OnnxEngine
from cardioner.prediction.predictor import Predictor

BARE = """
import contextlib, io, json, sys
absent = ("torch", "transformers", "safetensors", "huggingface_hub", "accelerate", "onnx", "onnxscript", "datasets")

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for name in absent:
    sys.modules[name] = None
import cardioner
from cardioner.cli import main
found = []
for command in json.loads(sys.argv[1]):
    sys.argv = ["cardioner", *command]
    with contextlib.redirect_stderr(io.StringIO()) as error, contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    found.append([code, error.getvalue()])
try:
    cardioner.ModelTrainer
except ModuleNotFoundError as error:
    found.append([str(error), ""])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model with a graph stands once it is made; torch takes its time for a graph."""
    return tmp_path_factory.mktemp("with-graph") / "model"


@pytest.fixture
def model(opinionated: Callable[..., Path], place: Path) -> Path:
    """A model with a CRF and a graph."""
    if not place.exists():
        shutil.copytree(opinionated(use_crf=True), place)
        add_onnx(place)
    return place


def test_four_commands_need_no_torch_and_the_others_name_what_they_need(
    model: Path, corpus: Path, tmp_path: Path
) -> None:
    bare, tagged, key = tmp_path / "bare", tmp_path / "tagged.jsonl", tmp_path / "key"
    commands = [
        ["predict", str(model), str(corpus / "dev"), "--output", str(tagged)],
        ["predict", str(model), str(corpus / "dev"), "--output", str(bare), "--engine", "onnx", "--min-score", "0.2"],
        ["evaluate", str(corpus / "dev"), str(tagged)],
        ["convert", str(tagged), str(tmp_path / "out"), "--to", "brat"],
        ["check", str(corpus / "train")],
        ["sign", "--make-key", str(key)],
        ["predict", str(model), str(corpus / "dev"), "--output", str(tmp_path / "x"), "--engine", "torch"],
        ["train", "--train", str(corpus / "train"), "--output", str(tmp_path / "m")],
        ["inspect", str(model)],
        ["export", "onnx", str(model), "--into"],
    ]
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", BARE, json.dumps(commands)],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *outcomes, (told, _) = json.loads(done.stdout)
    assert [code for code, _ in outcomes] == [0] * 6 + [2] * 4, outcomes
    for command, (_, said) in zip(commands[6:], outcomes[6:], strict=True):
        assert "needs torch and transformers, the extra `torch` of cardioner: pip install torch" in said, command
        assert len(said.strip().splitlines()) == 1
    assert told.startswith("cardioner.ModelTrainer needs torch and transformers")
    ours = Predictor.from_pretrained(model, engine="torch", device="cpu").predict(read_corpus(corpus / "dev").documents)
    found = {note.id: note for note in read_corpus(tagged).documents}
    for note in ours:
        assert [(s.start, s.end, s.label) for s in note.spans] == [
            (s.start, s.end, s.label) for s in found[note.id].spans
        ]
        assert len(note.spans) > 3


@pytest.mark.parametrize(
    "options", [(), ("--min-score", "0.1"), ("--decode", "argmax"), ("--batch-tokens", "40", "--to", "tsv")]
)
def test_both_engines_write_the_same_notes(
    options: tuple[str, ...], run: Callable[..., Any], model: Path, corpus: Path, tmp_path: Path
) -> None:
    tagged = {}
    for engine in ("onnx", "torch"):
        arguments = ("--output", tmp_path / engine, "--engine", engine, "--device", "cpu", "--dtype", "float32")
        done = run("predict", model, corpus / "train", *arguments, *options)
        assert done.code == 0
        counted = re.search(r"4 notes, .* sub-tokens, \d+ characters, \d+ spans.*?, in", done.err)
        assert counted is not None
        spans = [[(s.start, s.end, s.label) for s in note.spans] for note in read_corpus(tmp_path / engine).documents]
        tagged[engine] = counted[0], spans
    assert tagged["onnx"] == tagged["torch"]
    assert sum(map(len, tagged["onnx"][1])) > 3


def test_where_nothing_can_tag_the_packages_are_named(
    run: Callable[..., Any], model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "cardioner.prediction.engines.onnx", raising=False)
    done = run("predict", model, corpus / "train", "--output", tmp_path / "out")
    assert (done.code, "without torch and transformers needs onnxruntime: pip install" in done.error) == (2, True)


def test_only_a_package_that_the_extra_brings_is_named() -> None:
    assert missing_extra("x", ModuleNotFoundError(name="torch.nn")) is not None
    assert missing_extra("x", ModuleNotFoundError(name="numpy")) is None
    assert missing_extra("x", ModuleNotFoundError()) is None


def test_a_run_with_one_engine_is_not_resumed_with_another(
    run: Callable[..., Any], model: Path, corpus: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    arguments = ("predict", model, corpus / "train", "--output", tmp_path / "out", "--to", "brat")
    whole = run(*arguments[:3], "--output", tmp_path / "whole", "--engine", "onnx")
    assert whole.code == 0
    monkeypatch.setattr(batch_job, "_move", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(*arguments, "--engine", "onnx").code == 130
    monkeypatch.undo()
    other = run(*arguments, "--engine", "torch", "--resume")
    assert (other.code, "engine" in other.error) == (5, True)
    assert run(*arguments, "--engine", "onnx", "--resume").code == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}


def test_a_note_whose_scores_are_no_numbers_is_named_by_the_command(
    run: Callable[..., Any], model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "notes").mkdir()
    for name in "abc":
        (tmp_path / "notes" / f"{name}.txt").write_text("No oedema" * (2 if name == "b" else 1))
    tag = OnnxEngine.tag

    def some(engine: OnnxEngine, texts: Any, **given: Any) -> Any:
        if any(len(text) > 10 for text in texts):
            raise FloatingPointError("the model computed scores that are not finite numbers")
        return tag(engine, texts, **given)

    monkeypatch.setattr(OnnxEngine, "tag", some)
    done = run("predict", model, tmp_path / "notes", "--output", tmp_path / "out.jsonl", "--engine", "onnx")
    assert done.code == 3
    assert "not tagged: b: its 18 characters could not be tagged (the model computed scores" in done.err
    assert {note.id for note in read_corpus(tmp_path / "out.jsonl").documents} == {"a", "c"}


@pytest.mark.slow
def test_train_adds_a_graph_and_export_adds_one_later(
    run: Callable[..., Any], train: Callable[..., Any], corpus: Path, tmp_path: Path
) -> None:
    done = train("--onnx", "--crf")
    assert done.code == 0
    assert f"Graph for the onnx engine: {tmp_path / 'model' / 'model.onnx'}; spans: " in done.err
    arguments = ("predict", tmp_path / "model", corpus / "dev", "--engine", "onnx", "--output", tmp_path / "out")
    assert run(*arguments).code == 0
    again = run("export", "onnx", tmp_path / "model", "--into")
    assert (again.code, "already has a graph" in again.error) == (5, True)
    both = run("export", "onnx", tmp_path / "model", tmp_path / "out", "--into")
    assert (both.code, "either OUT" in both.error) == (2, True)
    assert run("export", "onnx", tmp_path / "model").code == 2
    replaced = run("export", "onnx", tmp_path / "model", "--into", "--overwrite")
    assert (replaced.code, "Added to" in replaced.err) == (0, True)
    assert run("verify", tmp_path / "model").code == 0
