"""A directory saved with a user's own class loads in a process that has neither cardioner nor the user's file."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

import cardioner
from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError
from cardioner.model_dir.layout import CODE
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.prediction.predictor import Predictor
from cardioner.training import trainer
from cardioner.training.initialization import build, read_source
from cardioner.training.options import TrainingOptions
from cardioner.training.trainer import ModelTrainer

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "train-with-your-own-loss.md"
TEXTS = ["Geen orthopnoe. Ernstige aortaklepstenose met syncope; metoprolol 50 mg. " * 3, "Syncope"]

SOURCES = {
    "loss": """\
from cardioner.multiclass.modeling import TokenClassificationModel


class Squared(TokenClassificationModel):
    def loss(self, logits, labels):
        return super().loss(logits, labels) ** 2
""",
    "forward": '''\
"""Wraps all of it, with a part of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import TokenClassifierOutput

from cardioner.multiclass import (
    CardioNERConfig,  # the configuration
    TokenClassificationModelCRF,
)


class Scaling(nn.Module):
    def __init__(self, tags: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((tags,), 1.25))


class Scaled(TokenClassificationModelCRF):
    def __init__(self, config: CardioNERConfig) -> None:
        super().__init__(config)
        self.scaling = Scaling(config.num_labels)

    def forward(self, **kwargs: Any) -> TokenClassifierOutput:
        outputs = super().forward(**kwargs)
        outputs.logits = outputs.logits * self.scaling.scale
        if outputs.loss is not None:
            outputs.loss = outputs.loss + self.scaling.scale.square().sum()
        return outputs
''',
}

SCRIPT = """
import shutil, sys
sys.modules["cardioner"] = None
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

given = torch.load("given.pt", weights_only=True)
found = {}
for name, directory in given["directories"].items():
    model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)
    model.save_pretrained(f"{name}-again")
    AutoTokenizer.from_pretrained(directory).save_pretrained(f"{name}-again")
    again = AutoModelForTokenClassification.from_pretrained(f"{name}-again", trust_remote_code=True)
    again.save_pretrained(f"{name}-third")
    third = AutoModelForTokenClassification.from_pretrained(f"{name}-third", trust_remote_code=True)
    outputs = []
    for each in (model, again, third):
        with torch.no_grad():
            output = each.eval()(**given["inputs"])
        outputs.append({"class": type(each).__name__, "logits": output.logits, "loss": output.loss})
    tagger = pipeline("token-classification", model=f"{name}-again", trust_remote_code=True)
    found[name] = {"outputs": outputs, "spans": tagger(given["texts"]), "pipeline": type(tagger).__name__}
torch.save(found, "found.pt")
"""


def imported(path: Path) -> Any:
    """A user's file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


class Saved:
    """What models of users' classes answered before they were saved, and what a bare process found."""

    def __init__(self) -> None:
        self.models: dict[str, TokenClassificationModel] = {}
        self.directories: dict[str, Path] = {}
        self.inputs: dict[str, torch.Tensor] = {}
        self.tokenizer: Any = None
        self.found: dict[str, Any] = {}


@pytest.fixture(scope="module")
def saved(
    tmp_path_factory: pytest.TempPathFactory,
    encoder_dir: Callable[[str], Path],
    labels: LabelSet,
    run_bare: Callable[..., dict[str, Any]],
) -> Iterator[Saved]:
    folder, made = tmp_path_factory.mktemp("subclasses"), Saved()
    for name, source in SOURCES.items():
        path = folder / f"users_{name}.py"
        path.write_text(source, encoding="utf-8")
        (kind,) = re.findall(r"class (\w+)\(TokenClassificationModel", source)
        torch.manual_seed(4)
        settings: dict[str, Any] = {"window_length": 32, "window_context": 4}
        start = build(
            read_source(encoder_dir("bert")),
            labels,
            use_crf=False,
            model_class=getattr(imported(path), kind),
            **settings,
        )
        for parameter in start.model.classifier.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
        made.models[name], made.tokenizer = start.model.eval(), start.tokenizer
        made.directories[name] = folder / "saved" / name
        write_model_dir(start.model, start.tokenizer, made.directories[name])
        path.unlink()
    inputs = made.tokenizer(["Geen orthopnoe.", "Syncope"], padding=True, return_tensors="pt")
    made.inputs = {**inputs, "labels": torch.zeros_like(inputs["input_ids"])}
    directories = {name: str(directory) for name, directory in made.directories.items()}
    made.found = run_bare(SCRIPT, folder / "bare", {"directories": directories, "inputs": made.inputs, "texts": TEXTS})
    yield made
    for name in SOURCES:
        sys.modules.pop(f"users_{name}", None)


@pytest.mark.parametrize("name", SOURCES)
def test_bare_process_gives_logits_and_loss_from_before_saving_however_often_it_is_saved(
    saved: Saved, name: str
) -> None:
    with torch.no_grad():
        expected = saved.models[name](**saved.inputs)
    assert len(saved.found[name]["outputs"]) == 3
    for output in saved.found[name]["outputs"]:
        assert output["class"] == type(saved.models[name]).__name__
        torch.testing.assert_close(output["logits"], expected.logits, rtol=0, atol=1e-6)
        torch.testing.assert_close(output["loss"], expected.loss, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SOURCES)
def test_bare_pipeline_finds_the_spans_of_the_class_itself(saved: Saved, name: str) -> None:
    assert saved.found[name]["pipeline"] == "CardioNERPipeline"
    predictor = Predictor(saved.models[name], saved.tokenizer)
    predicted = [document.spans for document in predictor.predict([Document(text[:9], text) for text in TEXTS])]
    assert predicted[0]
    for spans, piped in zip(predicted, saved.found[name]["spans"], strict=True):
        places = [(span["start"], span["end"], span["entity_group"]) for span in piped]
        assert [(span.start, span.end, span.label) for span in spans] == places


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("copy", ["again", "third"])
def test_directory_saved_again_is_the_same_code(saved: Saved, name: str, copy: str) -> None:
    again = saved.directories[name].parents[1] / "bare" / f"{name}-{copy}"
    for file in (*CODE, f"users_{name}.py"):
        assert (again / file).read_bytes() == (saved.directories[name] / file).read_bytes(), file


# The page that tells how, followed to the letter.


def test_the_page_on_own_losses_works_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder_dir: Callable[[str], Path], documents: list[Document]
) -> None:
    blocks = re.findall(r"```python[^\n]*\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    focal_file, train, load_model, scaled_file, train_scaled, predict = blocks
    (tmp_path / "focal.py").write_text(focal_file, encoding="utf-8")
    (tmp_path / "scaled.py").write_text(scaled_file, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    in_checkpoints: set[bool] = set()

    def look(*_: Any) -> None:
        configs = list(tmp_path.glob("focal-model/checkpoints/**/config.json"))
        in_checkpoints.update((path.parent / "focal.py").is_file() for path in configs)

    few: dict[str, Any] = {"model": encoder_dir("bert"), "max_length": 48, "batch_size": 2}
    options = TrainingOptions(progress=look, checkpoint_steps=1, overwrite=True)
    monkeypatch.setattr(trainer, "ModelTrainer", partial(ModelTrainer, **few, options=options))
    notes = [note.with_spans(tuple(span for span in note.spans if span.label == "DISEASE")) for note in documents]
    for part in ("train", "validation"):
        cardioner.write_corpus(notes, Path("notes", part))
    names: dict[str, Any] = {}
    exec(compile(train, "train", "exec"), names)
    exec(compile(load_model, "load", "exec"), names)
    assert type(names["model"]).__name__ == "FocalModel"
    assert in_checkpoints == {True}
    assert json.loads(Path("focal-model/training_args.json").read_text())["model_class"] == "focal.FocalModel"
    card = Path("focal-model/README.md").read_text()
    assert "`focal.py`" in card
    assert "cardioner.load(" in card
    assert type(cardioner.load("focal-model", device="cpu").model) is TokenClassificationModel
    focal, plain = names["trainer"].model, TokenClassificationModel.from_pretrained("focal-model").eval()
    ids = torch.arange(6, 15).unsqueeze(0)
    given = {"input_ids": ids, "labels": torch.zeros_like(ids)}
    probability = plain(**given).logits.softmax(-1)[..., 0]
    torch.testing.assert_close(focal(**given).loss, (-((1 - probability) ** 2) * probability.log()).mean())

    exec(compile(train_scaled, "train", "exec"), names)
    with pytest.raises(ModelError, match=r"saved by ScaledModel, a class in scaled\.py"):
        cardioner.load("scaled-model")
    assert "cardioner.load(" not in Path("scaled-model/README.md").read_text()
    exec(compile(load_model.replace("focal", "scaled"), "load", "exec"), names)
    assert type(names["model"]).__name__ == "ScaledModel", "with cardioner at hand too, where remote code is trusted"
    piped = pipeline("token-classification", model="scaled-model", trust_remote_code=True)
    assert type(piped.model).__name__ == "ScaledModel"
    exec(compile(predict, "predict", "exec"), names)
    assert isinstance(names["predictor"].predict_text("Syncope."), tuple)
    for name in ("focal", "scaled"):
        sys.modules.pop(name)
