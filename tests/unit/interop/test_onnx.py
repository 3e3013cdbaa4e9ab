"""An ONNX export finds the spans that the model finds, or nothing is written and the figures say why."""

from __future__ import annotations

import ast
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_format
import pytest
import torch
import yaml
from onnx import numpy_helper

from cardioner.data.documents import Document
from cardioner.errors import ModelError, OutputError, UsageError
from cardioner.evaluation import score
from cardioner.interop import exports, onnx, onnx_check, onnx_contents, onnx_graph, onnx_packages
from cardioner.interop.onnx import export_onnx
from cardioner.interop.onnx_check import agreement
from cardioner.interop.onnx_files import tag
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass.encoding import encode_notes
from cardioner.multiclass.inference import emissions_of
from cardioner.multiclass.tagging import Entity
from cardioner.prediction.engines import tagger as tagger_module
from cardioner.prediction.engines.tagger import Tagger

FILES = {
    *("README.md", "model.onnx", "onnx.json", "tokenizer.json", "tag.py"),
    *(
        f"tagger/{name}.py"
        for name in ("__init__", "attributes", "encoding", "tagger", "tagging", "viterbi", "windows")
    ),
}
CANARY = "zyxwvcanary"


@pytest.fixture
def saved(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """A model directory, made as asked."""

    def build(*, training: dict[str, Any] | None = None, **settings: Any) -> Path:
        model = make_model("bert", **{"use_crf": True, **settings})
        write_model_dir(model, tokenizers["wordpiece"], tmp_path / "model", training_args=training or {})
        return tmp_path / "model"

    return build


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the graph of the usual model stands once it has been written; torch takes its time for it."""
    return tmp_path_factory.mktemp("graph")


@pytest.fixture
def quick(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the graph of the usual model written once for all tests."""
    write = onnx_graph.write_graph

    def copied(model: Any, folder: Path) -> None:
        if not (graph / "model.onnx").is_file():
            write(model, graph)
        shutil.copy(graph / "model.onnx", folder)

    monkeypatch.setattr(onnx, "write_graph", copied)


@pytest.fixture
def notes(documents: list[Document]) -> list[Document]:
    """Notes in which the model finds many spans, each with a word that no message may hold."""
    return [
        Document(f"{number}", f"{CANARY} {document.text} {CANARY}") for number in range(8) for document in documents
    ]


def changed(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Damage the last layer of the graph in a folder."""
    model = onnx_format.load(folder / "model.onnx")
    (last,) = (weights for weights in model.graph.initializer if weights.name.endswith("classifier.bias"))
    last.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(last)), last.name))
    onnx_format.save(model, folder / "model.onnx")


def files_in(folder: Path) -> set[str]:
    """The files of an export, its folder among them."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def nothing_left(folder: Path) -> bool:
    """Whether a refused export left no trace beside the model."""
    return [path.name for path in folder.iterdir()] == ["model"]


# What is written ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_an_export_holds_the_graph_the_tagger_and_nothing_that_names_us(
    saved: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = [*logging.root.handlers]
    done = export_onnx(saved(), tmp_path / "deep" / "out")
    out = done.directory
    printed = capfd.readouterr()
    assert (printed.out, logging.root.handlers) == ("", handlers)
    assert [line for line in printed.err.split("\n") if line and "it/s" not in line] == [], "bars are the loader's"
    assert files_in(out) == FILES
    assert len({path.stat().st_mode for path in out.rglob("*") if path.is_file()}) == 1
    code = {name: (out / name).read_text(encoding="utf-8").splitlines() for name in FILES if name.endswith(".py")}
    for name, lines in code.items():
        ours = onnx_contents.CODE[name].read_text(encoding="utf-8").splitlines()
        changed_lines = [(one, other) for one, other in zip(ours, lines, strict=True) if one != other]
        assert bool(changed_lines) == (name in ("tag.py", "tagger/tagger.py")), (
            "the others are the very files of the package"
        )
        assert all(one.startswith("from cardioner.") for one, _ in changed_lines)
        assert all(
            re.match(r"from tagger\.(tagger|viterbi|attributes|encoding|tagging|windows) import", line)
            for _, line in changed_lines
        )
        imported = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.ImportFrom)]
        assert not [node.module for node in imported if (node.module or "").startswith("cardioner")], name
    settings = json.loads((out / "onnx.json").read_text(encoding="utf-8"))
    assert settings["tags"] == ["O", *(f"{p}-{t}" for t in ("DISEASE", "MEDICATION", "SYMPTOM") for p in "BI")]
    assert settings["windows"] == {"length": 30, "context": 4, "aligned": 32}
    assert settings["crf"][0]["legal"]["start"] == [not name.startswith("I-") for name in settings["tags"]]
    tokenizer = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    assert (tokenizer["truncation"], tokenizer["padding"]) == (None, None)
    assert str(tmp_path) not in "".join((out / name).read_text() for name in FILES if not name.endswith(".onnx"))


@pytest.mark.usefixtures("quick")
def test_emissions_tags_and_spans_are_the_models(
    saved: Callable[..., Path], make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    done = export_onnx(saved(), tmp_path / "out")
    model, tokenizer = make_model("bert", use_crf=True), tokenizers["wordpiece"]
    texts = onnx_check.made_up_notes()
    tagger = Tagger.from_folder(done.directory)
    encoded = encode_notes(tokenizer, texts)
    assert [tuple(note) for note in tagger.encode(texts)] == [tuple(note) for note in encoded]
    ours = emissions_of(model, tokenizer, encoded)
    for one, other in zip(tagger.emissions(tagger.encode(texts)), ours, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, atol=onnx_check.BOUND, rtol=0)
    assert done.agreement == agreement(model, tokenizer, tagger, texts, exact=True)
    assert done.agreement.notes == len(texts)
    assert (done.agreement.share, done.agreement.moved) == (1.0, 0)
    assert done.agreement.equal > 300


@pytest.mark.usefixtures("quick")
def test_the_card_tells_how_to_run_it_what_was_measured_and_how_good_it_is(
    saved: Callable[..., Path], documents: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"model": "tiny", "scores": {"test": score(documents, documents).to_dict()}}
    done = export_onnx(saved(training=record, inference_dtype="bfloat16"), tmp_path / "out", check=documents)
    card = (done.directory / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "onnx"
    for message in (*done.figures, "tiny (bert)", "| test (3) | DISEASE | 1.000", "python tag.py", "windows of 32"):
        assert message in card
    assert "bfloat16 is not part of the export" in card
    (block,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(done.directory)
    names: dict[str, Any] = {}
    exec(block.replace("from tag import", "from cardioner.interop.onnx_files.tag import"), names)
    assert all(isinstance(span, Entity) for span in names["spans"])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("large", [False, True])
def test_eight_bits_travel_where_spans_hardly_move(
    large: bool,
    saved: Callable[..., Path],
    notes: list[Document],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_check, "SHARE", 0.5)  # of random weights, more spans are near to others
    if large:
        monkeypatch.setattr(onnx, "write_graph", onnx_graph.write_graph)
        monkeypatch.setattr(onnx_graph, "_LARGEST", 0)
    done = export_onnx(saved(), tmp_path / "out", check=notes, int8=True)
    assert files_in(done.directory) == (FILES | {"model.onnx.data"} if large else FILES)
    model = onnx_format.load(done.directory / "model.onnx")
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= {node.op_type for node in model.graph.node}
    assert sum(weights.data_type == onnx_format.TensorProto.UINT8 for weights in model.graph.initializer) > 10
    assert (done.agreement.notes, done.size != done.float_size) == (len(notes), True)
    assert done.agreement.share >= 0.5
    assert 1e-4 < done.difference < 1
    found = Tagger.from_folder(done.directory).tag([note.text for note in notes])
    assert sum(map(len, found)) == done.agreement.other


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_logits_that_differ_are_refused_and_nothing_is_written(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = onnx.write_graph

    def damaged(model: Any, folder: Path) -> None:
        write(model, folder)
        changed(folder, lambda bias: bias + np.float32(1e-3))

    monkeypatch.setattr(onnx, "write_graph", damaged)
    with pytest.raises(ModelError, match=r"bert encoder computes other logits .* by 1\.0e-03 \(at most 1e-04\)"):
        export_onnx(saved(), tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda bias: bias[::-1].copy(), r"the model finds \d+ in 24 notes, .* of 0\.\d{4}, at least 0\.98"),
        (lambda bias: bias * np.float32("nan"), "cannot be compared: .* not finite"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_damaged_eight_bits_are_refused_with_figures_and_without_a_word(
    damage: Any,
    said: str,
    saved: Callable[..., Path],
    notes: list[Document],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_check, "quantize", lambda folder: changed(folder, damage))
    with pytest.raises(ModelError, match=said) as caught:
        export_onnx(saved(), tmp_path / "out", check=notes, int8=True)
    assert CANARY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert nothing_left(tmp_path)


@pytest.mark.usefixtures("quick")
def test_too_few_spans_to_tell_are_refused(saved: Callable[..., Path], notes: list[Document], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"finds \d+ spans in the notes to check \(1\): .* at least 50"):
        export_onnx(saved(), tmp_path / "out", check=notes[:1], int8=True)
    assert nothing_left(tmp_path)


@pytest.mark.usefixtures("quick")
def test_a_decoder_that_finds_other_spans_is_refused(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagger_module, "best_tags", lambda _, lengths, __: [[[0] * length] for length in lengths])
    with pytest.raises(ModelError, match=r"spans differ from the model's in \d+ of \d+ notes \(0 of \d+ are equal\)"):
        export_onnx(saved(), tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.usefixtures("quick")
def test_a_tokenizer_that_differs_without_transformers_is_refused(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = onnx.write_tokenizer

    def disturbed(tokenizer: Any, stage: Path) -> None:
        write(tokenizer, stage)
        content = json.loads((stage / "tokenizer.json").read_text())
        (stage / "tokenizer.json").write_text(json.dumps({**content, "normalizer": None}))

    monkeypatch.setattr(onnx, "write_tokenizer", disturbed)
    with pytest.raises(ModelError, match=r"tokenizer.json alone gives other sub-tokens .* in \d+ of \d+ notes"):
        export_onnx(saved(), tmp_path / "out")
    assert nothing_left(tmp_path)


def test_an_encoder_that_torch_cannot_write_is_refused_with_one_line(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a long\nstory")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ModelError, match="cannot write the encoder family bert as ONNX") as caught:
        export_onnx(saved(), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert nothing_left(tmp_path)


def test_eight_bits_need_notes_to_be_checked_on(saved: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--check"):
        export_onnx(saved(), tmp_path / "out", int8=True)


def test_a_missing_package_is_named_with_what_brings_it(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_packages, "find_spec", lambda name: None if name != "onnx" else object())
    with pytest.raises(UsageError, match="onnxscript and onnxruntime: pip install onnxscript onnxruntime"):
        export_onnx(saved(), tmp_path / "out")


@pytest.mark.parametrize("own", ["custom_model_type", "auto_map"])
def test_a_class_of_the_users_own_is_refused(
    own: str, saved: Callable[..., Path], without_manifest: Callable[[Path], Path], tmp_path: Path
) -> None:
    source = without_manifest(saved())
    config = json.loads((source / "config.json").read_text())
    config |= {"custom_model_type": "Mine"} if own == "custom_model_type" else {}
    config["auto_map"]["AutoModelForTokenClassification"] = "mine.Mine" if own == "auto_map" else "modeling.Mine"
    (source / "config.json").write_text(json.dumps(config))
    shutil.copy(source / "modeling.py", source / "mine.py")
    with pytest.raises(ModelError, match=r"a class of its own, (Mine|mine\.py)"):
        export_onnx(source, tmp_path / "out")
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("file", "is a file"),
        ("model/onnx", "lies in"),
        ("model", "lies in"),
        (".", "holds file"),
        ("other", "holds x.txt"),
    ],
)
def test_a_place_with_something_else_in_it_is_never_written_to(
    place: str, message: str, saved: Callable[..., Path], tmp_path: Path
) -> None:
    source = saved()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.txt").write_text("mine")
    before = sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=message):
        export_onnx(source, tmp_path / place, overwrite=True)
    assert sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("quick")
def test_an_earlier_export_is_replaced_on_request_alone(saved: Callable[..., Path], tmp_path: Path) -> None:
    source, out = saved(), tmp_path / "out"
    export_onnx(source, out)
    before = {name: (out / name).read_bytes() for name in files_in(out)}
    with pytest.raises(OutputError, match=r"already holds an export.*--overwrite"):
        export_onnx(source, out)
    (out / "README.md").write_text("edited")
    for stale in ("model.onnx.data", "windows.py"):
        (out / stale).write_text("of an earlier export")
    (out / "tagger" / "__pycache__").mkdir()
    (out / ".gitattributes").write_text("of the clone")
    export_onnx(source, out, overwrite=True)
    found = {name: (out / name).read_bytes() for name in files_in(out)}
    assert found == {**before, ".gitattributes": b"of the clone"}


@pytest.mark.usefixtures("quick")
def test_an_interrupted_write_leaves_nothing(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    source = saved()
    monkeypatch.setattr(exports, "publish", full)
    with pytest.raises(OutputError, match="space"):
        export_onnx(source, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_a_crf_with_scores_that_are_no_numbers_is_refused(make_model: Callable[..., Any]) -> None:
    model = make_model("bert", use_crf=True)
    torch.nn.init.constant_(model.crf.end_transitions, float("nan"))
    with pytest.raises(ModelError, match="not numbers"):
        onnx_contents._crf(model)


# Ties -----------------------------------------------------------------------------------------------------------------


class Contrary:
    """A tagger with the model's emissions, and an opinion of its own on tags."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    def encode(self, texts: list[str]) -> Any:
        return encode_notes(self.tokenizer, texts)

    def emissions(self, notes: Any) -> Any:
        return emissions_of(self.model, self.tokenizer, notes)

    def decode(self, emissions: Any) -> list[list[list[int]]]:
        return [[[5] * len(rows)] for rows in emissions]  # always B-SYMPTOM

    def tag(self, texts: list[str]) -> list[list[Entity]]:
        return [[Entity(0, 1, "SYMPTOM", 0.5)] if text.strip() else [] for text in texts]


@pytest.mark.parametrize("use_crf", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_only_spans_between_which_the_model_cannot_choose_may_differ(
    use_crf: bool, tied: bool, make_model: Callable[..., Any], tokenizers: dict[str, Any]
) -> None:
    model = make_model("bert", use_crf=use_crf)
    if tied:
        for parameter in [*model.classifier.parameters(), *(model.crf.parameters() if use_crf else ())]:
            torch.nn.init.zeros_(parameter)
    tagger: Any = Contrary(model, tokenizers["wordpiece"])
    found = agreement(model, tokenizers["wordpiece"], tagger, ["chest pain", "heart failure"], exact=True)
    assert (found.ties, found.moved) == ((2, 0) if tied else (0, 2))
    assert agreement(model, tokenizers["wordpiece"], tagger, ["chest pain"], exact=False).moved == 1


@pytest.mark.usefixtures("quick")
def test_the_tagger_names_a_note_whose_scores_are_no_numbers_and_goes_on(
    saved: Callable[..., Path],
    tokenizers: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = export_onnx(saved(), tmp_path / "out")
    (number,) = tokenizers["wordpiece"]("oedema", add_special_tokens=False)["input_ids"]
    model = onnx_format.load(done.directory / "model.onnx")
    (words,) = (held for held in model.graph.initializer if held.name.endswith("word_embeddings.weight"))
    rows = numpy_helper.to_array(words).copy()
    rows[number] = np.nan
    words.CopyFrom(numpy_helper.from_array(rows, words.name))
    onnx_format.save(model, done.directory / "model.onnx")
    with pytest.raises(FloatingPointError, match="not finite"):
        Tagger.from_folder(done.directory).tag(["No oedema"])
    notes = tmp_path / "notes"
    notes.mkdir()
    for name, text in {"a": b"bisoprolol", "b": b"No oedema", "c": b"\xff", "d": b"bisoprolol"}.items():
        (notes / f"{name}.txt").write_bytes(text)
    monkeypatch.setattr(tag, "__file__", str(done.directory / "tag.py"))
    monkeypatch.setattr("sys.argv", ["tag.py", str(notes), "--threads", "1"])
    with pytest.raises(SystemExit) as caught:
        tag.main()
    out, err = capsys.readouterr()
    assert caught.value.code == 3
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["a", "d"]
    assert "b: its 9 characters could not be tagged (the model computed scores that are not finite numbers)" in err
    assert f"{notes / 'c.txt'}: the byte at offset 0 is not valid UTF-8" in err
    settings = json.loads((done.directory / "onnx.json").read_text())
    settings["crf"][0]["transitions"][0][0] = float("nan")
    (done.directory / "onnx.json").write_text(json.dumps(settings))
    with pytest.raises(FloatingPointError, match=r"onnx\.json"):
        Tagger.from_folder(done.directory)
