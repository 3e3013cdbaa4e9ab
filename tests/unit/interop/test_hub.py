"""A model exported as its encoder family's own class: equal logits and spans without our code, or nothing at all."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForTokenClassification, AutoTokenizer, DistilBertConfig

from cardioner.data.documents import Document
from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError, OutputError
from cardioner.evaluation import score
from cardioner.interop import hub
from cardioner.interop.hub import BOUND, export_hub
from cardioner.model_dir.load import read_model_dir
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass import CardioNERConfig, TokenClassificationModel
from cardioner.prediction.predictor import Predictor

KINDS = {
    "bert": ("wordpiece", "BertForTokenClassification"),
    "electra": ("wordpiece", "ElectraForTokenClassification"),
    "roberta": ("byte-bpe", "RobertaForTokenClassification"),
    "xlm-roberta": ("unigram", "XLMRobertaForTokenClassification"),
    "deberta-v2": ("unigram", "DebertaV2ForTokenClassification"),
}
"""Families whose own class has one linear layer on the last states; ModernBERT has a block of its own before it."""


@pytest.fixture
def saved(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """A model directory, made as asked."""

    def build(family: str = "bert", *, training: dict[str, Any] | None = None, **settings: Any) -> Path:
        kind = "byte-bpe" if family == "modernbert" else KINDS[family][0]
        write_model_dir(
            make_model(family, **settings), tokenizers[kind], tmp_path / "model", training_args=training or {}
        )
        return tmp_path / "model"

    return build


def loaded(out: Path) -> Any:
    """The export, loaded with plain transformers."""
    return AutoModelForTokenClassification.from_pretrained(out, trust_remote_code=False).eval()


def card_of(out: Path) -> str:
    return (out / "README.md").read_text(encoding="utf-8")


def snippet_of(out: Path) -> Any:
    """The pipeline that the card's own snippet makes."""
    (block,) = re.findall(r"```python\n(.*?)```", card_of(out), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block.replace("path/to/this/directory", str(out)), names)
    return names["tagger"]


def as_the_card_says(text: str, entities: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    """Spans without the white space at their edges and without what belongs to the span before."""
    spans, behind = list[tuple[int, int, str]](), 0
    for entity in entities:
        start = max(entity["start"], behind)
        covered = text[start : entity["end"]]
        start += len(covered) - len(covered.lstrip())
        if covered.strip():
            behind = start + len(covered.strip())
            spans.append((start, behind, entity["entity_group"]))
    return spans


def nothing_left(folder: Path) -> bool:
    """Whether a refused export left no trace beside the model."""
    return [path.name for path in folder.iterdir()] == ["model"]


@pytest.mark.parametrize("family", KINDS)
def test_the_familys_own_class_gives_equal_logits_and_the_tags_names(
    family: str, saved: Callable[..., Path], documents: list[Document], tmp_path: Path
) -> None:
    source, out = saved(family), tmp_path / "deep" / "out"
    done = export_hub(source, out)
    model, tokenizer, config = read_model_dir(source, device="cpu")
    theirs, their_tokenizer = loaded(out), AutoTokenizer.from_pretrained(out)
    assert (done.kind, type(theirs).__name__) == (KINDS[family][1], KINDS[family][1])
    assert done.difference <= BOUND
    assert theirs.config.id2label == config.id2label
    assert theirs.config.label2id == config.label2id
    texts = [document.text[:40] for document in documents]
    inputs = their_tokenizer(texts, padding=True, return_tensors="pt", truncation=True)
    assert inputs["input_ids"].shape[1] <= config.window_length
    ours = tokenizer(texts, padding=True, return_tensors="pt", truncation=True, max_length=config.window_length)
    assert inputs["input_ids"].equal(ours["input_ids"])
    with torch.inference_mode():
        torch.testing.assert_close(theirs(**inputs).logits, model(**ours).logits, rtol=0, atol=BOUND)


def test_a_tokenizer_makes_no_input_that_the_familys_class_does_not_take(
    tokenizers: dict[str, Any], labels: LabelSet, tmp_path: Path
) -> None:
    tokenizer = tokenizers["wordpiece"]
    encoder = DistilBertConfig(vocab_size=len(tokenizer), dim=16, n_layers=2, n_heads=2, hidden_dim=24)
    settings = {"id2label": labels.id2label, "label2id": labels.label2id, "window_length": 32}
    model = TokenClassificationModel(CardioNERConfig(encoder_config=encoder.to_dict(), window_context=4, **settings))
    write_model_dir(model, tokenizer, tmp_path / "model")
    export_hub(tmp_path / "model", tmp_path / "out")
    assert "token_type_ids" in tokenizer("pain")
    snippet_of(tmp_path / "out")("No chest pain.")
    loaded(tmp_path / "out")(**AutoTokenizer.from_pretrained(tmp_path / "out")("pain", return_tensors="pt"))


def test_the_directory_holds_no_code_and_names_none(saved: Callable[..., Path], tmp_path: Path) -> None:
    export_hub(saved(), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1, (
        "all may be read by the same people"
    )
    for name in ("config.json", "tokenizer_config.json"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert not any(word in text for word in ("auto_map", "custom_pipelines", "cardioner", str(tmp_path)))


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2"])
def test_the_cards_snippet_finds_the_spans_that_cardioner_finds(
    family: str, saved: Callable[..., Path], documents: list[Document], tmp_path: Path
) -> None:
    source = saved(family, window_length=120, window_context=8)
    export_hub(source, tmp_path / "out")
    predictor, tagger = Predictor.from_pretrained(source, device="cpu"), snippet_of(tmp_path / "out")
    found = 0
    for document in documents:
        ours = [(span.start, span.end, span.label) for span in predictor.predict_text(document.text)]
        assert as_the_card_says(document.text, tagger(document.text)) == ours
        found += len(ours)
    assert found > 10, "there was something to agree on"


def test_the_cards_snippet_reads_a_note_of_many_windows_to_its_end(
    saved: Callable[..., Path], documents: list[Document], tmp_path: Path
) -> None:
    export_hub(saved(), tmp_path / "out")
    text = " ".join(document.text for document in documents) * 3
    assert max(entity["end"] for entity in snippet_of(tmp_path / "out")(text)) > len(text) * 0.95
    assert "stride=8" in card_of(tmp_path / "out"), "twice the context of 4"


def test_the_card_has_metadata_scores_and_how_to_read_and_cut(
    saved: Callable[..., Path], documents: list[Document], tmp_path: Path
) -> None:
    scores = score(documents, documents).to_dict()
    export_hub(saved(training={"model": "tiny", "scores": {"test": scores}}), tmp_path / "out")
    card = card_of(tmp_path / "out")
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("transformers", "token-classification")
    assert "| test (3) | DISEASE | 1.000 | 1.000 | 1.000 |" in card
    assert "| test (3) | all | 1.000 | 1.000 | 1.000 |" in card
    for message in ("Encoder: tiny (bert)", "follows nothing of its type opens a span", "windows of 32", "argmax"):
        assert message in card
    assert "Not scored" not in card


def test_scores_of_another_shape_spoil_no_export(
    saved: Callable[..., Path], without_manifest: Callable[[Path], Path], tmp_path: Path
) -> None:
    scores = {"test": {"strict": 3}, "dev": None, "new": {"strict": {"micro": {"f1": "x"}}}}
    source = without_manifest(saved())
    (source / "training_args.json").write_text(json.dumps({"scores": scores}))
    export_hub(source, tmp_path / "out")
    assert "| test (unknown) | all | unknown | unknown | unknown |" in card_of(tmp_path / "out")


def test_what_differs_is_said_in_the_card_too(saved: Callable[..., Path], tmp_path: Path) -> None:
    done = export_hub(saved(temperature=1.5, inference_dtype="bfloat16", scheme="BIOES"), tmp_path / "out")
    assert [word for word in ("temperature 1.5 ", "bfloat16", "BIOES") if word not in " ".join(done.warnings)] == []
    assert [warning for warning in done.warnings if warning not in card_of(tmp_path / "out")] == []
    assert {entity["entity"][:2] for entity in snippet_of(tmp_path / "out")("No chest pain, no oedema.")} <= {
        *("B-", "I-", "E-", "S-")
    }


def test_attributes_are_left_out_and_that_is_said(saved: Callable[..., Path], tmp_path: Path) -> None:
    done = export_hub(saved(attributes={"Negation": [None, True]}), tmp_path / "out")
    assert [warning for warning in done.warnings if "(Negation) is not part of the export" in warning]
    assert not [name for name in loaded(tmp_path / "out").state_dict() if "attribute" in name]


def test_of_a_usual_model_only_the_windows_are_warned_about(saved: Callable[..., Path], tmp_path: Path) -> None:
    (warning,) = export_hub(saved(), tmp_path / "out").warnings
    assert warning.startswith("Cut notes of more than 32 sub-tokens yourself")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_crf": True}, "has a CRF"),
        ({"classifier_hidden_layers": [8]}, "an MLP head"),
        ({"family": "modernbert"}, "a head other than one linear layer .*head.dense.weight"),
    ],
)
def test_what_the_familys_class_has_not_is_refused(
    settings: dict[str, Any], message: str, saved: Callable[..., Path], tmp_path: Path
) -> None:
    source = saved(**settings)
    with pytest.raises(ModelError, match=message) as caught:
        export_hub(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert nothing_left(tmp_path)


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
        export_hub(source, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_logits_that_differ_are_refused_and_nothing_is_written(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, renamed = saved(), hub._renamed

    def disturbed(model: Any, target: Any) -> dict[str, Any]:
        weights = renamed(model, target)
        return weights | {"classifier.bias": weights["classifier.bias"] + 1e-4}

    monkeypatch.setattr(hub, "_renamed", disturbed)
    with pytest.raises(ModelError, match=r"other logits .* differ by 1\.0e-04"):
        export_hub(source, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_logits_that_are_no_numbers_are_refused(
    make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model()
    torch.nn.init.constant_(model.classifier.bias, float("nan"))
    write_model_dir(model, tokenizers["wordpiece"], tmp_path / "model")
    with pytest.raises(ModelError, match="holds numbers that are not finite"):
        export_hub(tmp_path / "model", tmp_path / "out")


@pytest.mark.parametrize("change", ["lost", "strange"])
def test_every_weight_must_have_its_place_on_both_sides(
    change: str, saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, renamed, name = saved(), hub._renamed, "bert.encoder.layer.1.output.dense.bias"

    def disturbed(model: Any, target: Any) -> dict[str, Any]:
        weights = renamed(model, target)
        weights[f"{name}.strange" if change == "strange" else "x"] = weights.pop(name)
        return weights

    monkeypatch.setattr(hub, "_renamed", disturbed)
    with pytest.raises(ModelError, match="only on one side"):
        export_hub(source, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_another_tokenizer_is_refused(
    saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, copy = saved(), hub._copy_tokenizer

    def disturbed(directory: Path, stage: Path, **settings: Any) -> None:
        copy(directory, stage, **settings)
        text = (stage / "tokenizer.json").read_text(encoding="utf-8")
        (stage / "tokenizer.json").write_text(text.replace('"pain"', '"gain"').replace('"[UNK]"', '"[UNX]"'))

    monkeypatch.setattr(hub, "_copy_tokenizer", disturbed)
    with pytest.raises(ModelError, match="tokenizer"):
        export_hub(source, tmp_path / "out")
    assert nothing_left(tmp_path)


def test_what_stands_there_is_replaced_on_request_alone(saved: Callable[..., Path], tmp_path: Path) -> None:
    source, out = saved(), tmp_path / "out"
    export_hub(source, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(OutputError, match=r"already holds a model.*--overwrite"):
        export_hub(source, out)
    (out / "README.md").write_text("edited")
    (out / "model-00001-of-00002.safetensors").write_text("of an earlier export")
    (out / ".gitattributes").write_text("of the clone")
    export_hub(source, out, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {**before, ".gitattributes": b"of the clone"}


@pytest.mark.parametrize("place", ["model", "model/hub", "other"])
def test_a_model_directory_is_never_written_over(place: str, saved: Callable[..., Path], tmp_path: Path) -> None:
    source = saved()
    shutil.copytree(source, tmp_path / "other")
    before = sorted((path.name, path.read_bytes()) for path in source.iterdir())
    with pytest.raises(OutputError, match=r"lies in|never replaces"):
        export_hub(source, tmp_path / place, overwrite=True)
    assert sorted((path.name, path.read_bytes()) for path in source.iterdir()) == before


def test_a_file_in_the_way_is_named(saved: Callable[..., Path], tmp_path: Path) -> None:
    source = saved()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        export_hub(source, tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="cannot be written"):
        export_hub(source, tmp_path / "file" / "out")
