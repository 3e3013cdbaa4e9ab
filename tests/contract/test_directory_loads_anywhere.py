"""A saved directory gives the same answers in a process without cardioner, and holds nothing of where it came from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification, PretrainedConfig

import cardioner
from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet
from cardioner.model_dir.json_files import read_object
from cardioner.model_dir.layout import CODE
from cardioner.model_dir.load import read_model_dir
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF
from cardioner.training.options import TrainingOptions
from cardioner.training.trainer import ModelTrainer

TOKENIZER_OF = {
    "bert": "wordpiece",
    "electra": "wordpiece",
    "roberta": "byte-bpe",
    "modernbert": "byte-bpe",
    "xlm-roberta": "unigram",
    "deberta-v2": "unigram",
}
HEADS: dict[str, tuple[type[TokenClassificationModel], dict[str, Any]]] = {
    "standard": (TokenClassificationModel, {}),
    "crf": (TokenClassificationModelCRF, {"classifier_hidden_layers": [12, 8]}),
}
CASES = [f"{family}-{head}" for family in TOKENIZER_OF for head in HEADS]
SECRET = "hf_secretsecretsecret"
NOTE = "Geen orthopnoe. Ernstige aortaklepstenose met syncope; metoprolol 50 mg, coronaire bypass. " * 3
TEXTS = [NOTE, "Paciente con insuficiencia cardíaca 🫀.", "", " \n"]

SCRIPT = """
import shutil, socket, sys
sys.modules["cardioner"] = sys.modules["torchcrf"] = None

def refuse(*_):
    raise RuntimeError("a socket was opened")

socket.socket.connect = refuse
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

given = torch.load("given.pt", weights_only=True)
found = {}
for name, directory in given["directories"].items():
    model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tagger = pipeline("token-classification", model=directory, trust_remote_code=True)
    with torch.no_grad():
        logits = model(**given["inputs"][name]).logits
    model.save_pretrained(name)
    tokenizer.save_pretrained(name)
    again = AutoModelForTokenClassification.from_pretrained(name, trust_remote_code=True)
    with torch.no_grad():
        logits_again = again(**given["inputs"][name]).logits
    found[name] = {
        "class": type(model).__name__,
        "module": type(model).__module__,
        "logits": logits,
        "logits_again": logits_again,
        "ids": tokenizer(given["texts"])["input_ids"],
        "spans": tagger(given["texts"]),
        "pipeline": type(tagger).__name__,
    }
shutil.copytree(given["directories"]["roberta-crf"], "orphan")
orphan = AutoModelForTokenClassification.from_pretrained("orphan", trust_remote_code=True)
shutil.rmtree("orphan")
orphan.save_pretrained("orphan-again")
torch.save(found, "found.pt")
"""


class Saved:
    """Twelve saved directories, what their models answered before saving, and what a bare process found in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directories: dict[str, Path] = {}
        self.inputs: dict[str, dict[str, torch.Tensor]] = {}
        self.logits: dict[str, torch.Tensor] = {}
        self.ids: dict[str, list[list[int]]] = {}
        self.found: dict[str, dict[str, Any]] = {}

    def add(self, name: str, model: TokenClassificationModel, tokenizer: Any) -> None:
        """Ask a model, then save it."""
        self.directories[name] = self.folder / "saved" / name
        self.ids[name] = tokenizer(TEXTS)["input_ids"]
        self.inputs[name] = dict(tokenizer(["Geen orthopnoe.", "Syncope"], padding=True, return_tensors="pt"))
        with torch.no_grad():
            self.logits[name] = model(**self.inputs[name]).logits
        write_model_dir(model, tokenizer, self.directories[name])


@pytest.fixture(scope="session")
def saved(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizers: dict[str, Any],
    encoder_config: Callable[[str], PretrainedConfig],
    labels: LabelSet,
    run_bare: Callable[..., dict[str, Any]],
) -> Saved:
    made = Saved(tmp_path_factory.mktemp("anywhere"))
    for family, kind in TOKENIZER_OF.items():
        for head, (model_class, settings) in HEADS.items():
            torch.manual_seed(5)
            config = CardioNERConfig(
                encoder_config=encoder_config(family).to_dict(),
                id2label=labels.id2label,
                label2id=labels.label2id,
                window_length=32,
                window_context=4,
                temperature=1.5,
                **settings,
            )
            model = model_class(config).eval()
            for parameter in [*model.classifier.parameters(), *(model.crf.parameters() if head == "crf" else ())]:
                torch.nn.init.normal_(parameter, std=0.7)
            made.add(f"{family}-{head}", model, tokenizers[kind])
    directories = {name: str(directory) for name, directory in made.directories.items()}
    given = {"directories": directories, "inputs": made.inputs, "texts": TEXTS}
    made.found = run_bare(SCRIPT, made.folder / "bare", given)
    return made


@pytest.mark.parametrize("name", CASES)
def test_bare_process_gives_the_logits_from_before_saving(saved: Saved, name: str) -> None:
    found = saved.found[name]
    assert found["class"] == HEADS[name.rpartition("-")[2]][0].__name__
    assert found["module"].startswith("transformers_modules.")
    assert found["logits"].abs().max() > 0.1
    torch.testing.assert_close(found["logits"], saved.logits[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_auto_tokenizer_gives_the_ids_from_before_saving(saved: Saved, name: str) -> None:
    assert saved.found[name]["ids"] == saved.ids[name]
    assert len(saved.ids[name][0]) > 32, "nothing was truncated"


@pytest.mark.parametrize("name", CASES)
def test_library_and_bare_pipeline_find_the_same_spans(saved: Saved, name: str) -> None:
    assert saved.found[name]["pipeline"] == "CardioNERPipeline"
    tagger = cardioner.load(saved.directories[name], device="cpu")
    documents = [Document(str(index), text) for index, text in enumerate(TEXTS)]
    predicted = [document.spans for document in tagger.predict(documents)]
    for text, spans, piped in zip(TEXTS, predicted, saved.found[name]["spans"], strict=True):
        places = [(span.start, span.end, span.label) for span in spans]
        assert places == [(span["start"], span["end"], span["entity_group"]) for span in piped]
        assert [span.score for span in spans] == pytest.approx([span["score"] for span in piped], abs=1e-6)
        alone = tagger.predict_text(text)
        assert places == [(span.start, span.end, span.label) for span in alone]
        assert [span.score for span in spans] == pytest.approx([span.score for span in alone], abs=1e-6)
        assert [text[span.start : span.end] for span in spans] == [span["word"] for span in piped]
    assert predicted[0]
    assert predicted[0][-1].end > len(NOTE) // 2, "a note longer than a window is tagged to its end"


@pytest.mark.parametrize("name", CASES)
def test_directory_saved_again_in_a_bare_process_is_whole_or_promises_no_pipeline(saved: Saved, name: str) -> None:
    torch.testing.assert_close(saved.found[name]["logits_again"], saved.logits[name], rtol=0, atol=1e-6)
    again = saved.folder / "bare" / name
    whole = all((again / file).is_file() for file in CODE)
    assert whole or not read_object(again / "config.json").get("custom_pipelines")
    assert whole, "the directory it was loaded from still stood, with all its files"
    model, tokenizer, _ = read_model_dir(again, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(model(**saved.inputs[name]).logits, saved.logits[name], rtol=0, atol=1e-6)
    assert tokenizer(TEXTS)["input_ids"] == saved.ids[name]


@pytest.mark.parametrize("name", ["bert-standard", "deberta-v2-crf"])
def test_config_holds_every_promised_key(saved: Saved, name: str) -> None:
    config = read_object(saved.directories[name] / "config.json")
    model_class, settings = HEADS[name.rpartition("-")[2]]
    expected = {
        "auto_map": {
            "AutoConfig": "modeling.CardioNERConfig",
            "AutoModelForTokenClassification": f"modeling.{model_class.__name__}",
        },
        "architectures": [model_class.__name__],
        "classifier_hidden_layers": settings.get("classifier_hidden_layers"),
        "classifier_dropout": 0.1,
        "class_weights": None,
        "use_crf": name.endswith("crf"),
        "freeze_backbone": False,
        "custom_model_type": model_class.__name__,
        "requires_trust_remote_code": True,
        "window_length": 32,
        "window_context": 4,
        "temperature": 1.5,
        "inference_dtype": "float32",
        "model_type": "cardioner_multiclass",
    }
    assert {key: config.get(key, "missing") for key in expected} == expected
    assert config["id2label"]["0"] == "O"
    assert config["custom_pipelines"]["token-classification"]["impl"] == "pipeline.CardioNERPipeline"


@pytest.mark.parametrize("name", ["bert-standard", "bert-crf"])
def test_saved_code_is_the_installed_code(saved: Saved, name: str) -> None:
    home = Path(cardioner.__file__).parent / "multiclass"
    for file in CODE:
        assert (saved.directories[name] / file).read_bytes() == (home / file).read_bytes()


def test_model_whose_directory_is_gone_is_saved_without_promising_a_pipeline(saved: Saved) -> None:
    """The transformers cache holds only what `modeling.py` imports: no files of the pipeline are left to copy."""
    again = saved.folder / "bare" / "orphan-again"
    assert {file for file in CODE if (again / file).exists()} == {
        "modeling.py",
        "attributes.py",
        "checks.py",
        "code_files.py",
        "crf.py",
        "crf_cuda.py",
        "crf_recursions.py",
        "crf_scan.py",
        "heads.py",
        "tagging.py",
    }
    assert not read_object(again / "config.json").get("custom_pipelines")
    model = AutoModelForTokenClassification.from_pretrained(again, trust_remote_code=False)
    with torch.no_grad():
        logits = model(**saved.inputs["roberta-crf"]).logits
    torch.testing.assert_close(logits, saved.logits["roberta-crf"], rtol=0, atol=1e-6)


def test_label_ids_are_the_same_under_every_hash_seed() -> None:
    script = (
        "from cardioner.data.labels import LabelSet; print(LabelSet.from_types({'b', 'a', 'c', 'Z', 'é'}).label2id)"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    assert found[0].startswith("{'O': 0, 'B-Z': 1, 'I-Z': 2, 'B-a': 3")


@pytest.fixture(scope="session")
def trained_dir(
    tmp_path_factory: pytest.TempPathFactory, encoder_dir: Callable[[str], Path], labels: LabelSet
) -> tuple[Path, Path]:
    """A directory that the trainer wrote from an encoder's folder, with the pickle that was asked for; that folder."""
    source = encoder_dir("bert")
    directory = tmp_path_factory.mktemp("from-encoder") / "model"
    trainer = ModelTrainer(
        label2id=labels.label2id,
        model=source,
        use_crf=True,
        max_length=48,
        output_dir=directory,
        hf_token=SECRET,
        options=TrainingOptions(also_bin=True),
    )
    trainer.save_model(directory)
    return directory, source


def test_no_file_tells_where_the_model_came_from(trained_dir: tuple[Path, Path]) -> None:
    directory, source = trained_dir
    forbidden = {SECRET, "hf_token", str(directory), str(source), str(source.parent), str(Path.home())}
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"config.json", "tokenizer_config.json", "training_args.json"}
    for path in files:
        if path.name in CODE:
            continue
        content = path.read_bytes()
        assert not [text for text in forbidden if text != "/" and text.encode() in content], path.name
        if path.suffix == ".json":
            assert not places_in(json.loads(content)), path.name


def places_in(content: Any) -> list[str]:
    """The values of `_name_or_path` at any depth of a JSON value."""
    if isinstance(content, dict):
        own = [content[key] for key in ("_name_or_path", "name_or_path") if content.get(key)]
        return [*own, *(place for value in content.values() for place in places_in(value))]
    return [place for value in content for place in places_in(value)] if isinstance(content, list) else []


def test_only_pickle_is_the_one_that_was_asked_for(trained_dir: tuple[Path, Path], saved: Saved) -> None:
    def pickles(directory: Path) -> set[str]:
        starts = {path.name: path.read_bytes()[:2] for path in directory.rglob("*") if path.is_file()}
        return {name for name, start in starts.items() if start == b"PK" or start[:1] == b"\x80"}

    assert pickles(trained_dir[0]) == {"pytorch_model.bin"}
    assert [pickles(directory) for directory in saved.directories.values()] == [set()] * len(CASES)


def test_directories_of_one_name_load_beside_each_other(
    make_model: Callable[..., Any], tokenizers: dict[str, Any], run_bare: Callable[..., Any], tmp_path: Path
) -> None:
    """Transformers names the code of a directory after its last folder, and keeps the class it was first shown."""
    for place, use_crf in (("first", False), ("second", True)):
        write_model_dir(make_model(use_crf=use_crf), tokenizers["wordpiece"], tmp_path / place / "model")
    script = """
import torch
from transformers import AutoModelForTokenClassification
given = torch.load("given.pt", weights_only=True)
models = [AutoModelForTokenClassification.from_pretrained(path, trust_remote_code=True) for path in given["paths"]]
torch.save({"kinds": [type(model).__name__ for model in models]}, "found.pt")
"""
    paths = [str(tmp_path / place / "model") for place in ("first", "second")]
    found = run_bare(script, tmp_path / "bare", {"paths": paths})
    assert found["kinds"] == ["TokenClassificationModel", "TokenClassificationModelCRF"]


def test_modeling_file_without_a_package_uses_and_saves_the_files_beside_it(
    make_model: Callable[..., Any], tokenizers: dict[str, Any], run_bare: Callable[..., Any], tmp_path: Path
) -> None:
    """Loaded by its path, or imported from `sys.path`; two directories in one process share no code."""
    directories = {name: tmp_path / name for name in ("ours", "other")}
    for directory in directories.values():
        write_model_dir(make_model(use_crf=True), tokenizers["wordpiece"], directory)
    other = directories["other"] / "checks.py"
    other.write_text(other.read_text().replace("IGNORED = -100", "IGNORED = -99"))
    script = """
import importlib, importlib.util, sys
import torch
given = torch.load("given.pt", weights_only=True)
found = {}

def answer(name, modeling, directory):
    model, _, _ = modeling.load_custom_cardioner_multiclass_model(directory)
    model.save_pretrained(name)
    found[name] = [modeling.IGNORED, model.decode(torch.ones(1, 2, model.num_labels)), type(model).__module__]

for name, directory in given.items():
    spec = importlib.util.spec_from_file_location("by_path", f"{directory}/modeling.py")
    sys.modules["by_path"] = modeling = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(modeling)
    answer(f"{name}-by_path", modeling, directory)
    sys.path.insert(0, directory)
    sys.modules.pop("modeling", None)
    answer(f"{name}-modeling", importlib.import_module("modeling"), directory)
torch.save(found, "found.pt")
"""
    bare = tmp_path / "bare"
    found = run_bare(script, bare, {name: str(directory) for name, directory in directories.items()})
    assert len(found) == 4
    for name, (ignored, decoded, module) in found.items():
        origin, _, expected = name.partition("-")
        source = directories[origin]
        assert ignored == (-100 if origin == "ours" else -99)
        assert [len(row) for row in decoded] == [2]
        assert module == expected
        assert [file for file in CODE if (bare / name / file).read_bytes() != (source / file).read_bytes()] == []


def test_directory_loads_from_its_pickle_when_the_safetensors_are_gone(
    trained_dir: tuple[Path, Path],
    without_manifest: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_manifest(Path(shutil.copytree(trained_dir[0], tmp_path / "copy")))
    (tmp_path / "copy" / "model.safetensors").unlink()
    modes: list[Any] = []
    read = torch.load

    def spy(*arguments: Any, **keywords: Any) -> Any:
        modes.append(keywords.get("weights_only"))
        return read(*arguments, **keywords)

    monkeypatch.setattr(torch, "load", spy)
    fallback, _, _ = read_model_dir(tmp_path / "copy", device="cpu")
    original, _, _ = read_model_dir(trained_dir[0], device="cpu")
    assert modes
    assert all(modes), "weights_only"
    assert fallback.state_dict().keys() == original.state_dict().keys()
    for name, value in original.state_dict().items():
        assert torch.equal(fallback.state_dict()[name], value), name
