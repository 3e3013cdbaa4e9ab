"""Both layouts of tags through every door: flat ones, and tags per type, with which types may overlap."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForTokenClassification, pipeline

from cardioner import Document, LabelSet, ModelTrainer, Predictor, Span, TrainingOptions
from cardioner.data.formats import read_corpus, write_corpus
from cardioner.data.quality.overlap import choose_overlap
from cardioner.errors import DataError, ModelError, UsageError
from cardioner.interop.hub import export_hub
from cardioner.interop.onnx import add_onnx
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass.encoding import plan_windows
from cardioner.multiclass.modeling import load_custom_cardioner_multiclass_model
from cardioner.training.features import build_features, read_dataset

LAYOUTS = pytest.mark.parametrize("overlap", ["flat", "per-type"])
HEADS = pytest.mark.parametrize(
    "head",
    [
        {"use_crf": True},
        {"use_crf": False},
        {"use_crf": True, "classifier_hidden_layers": (8,)},
        {"use_crf": True, "scheme": "BIOES"},
    ],
    ids=["crf", "linear", "mlp", "bioes"],
)
Found = list[tuple[int, int, str]]
TEXTS = [
    "No chest pain. Atrial fibrillation, on bisoprolol 2.5 mg since the aortic valve was replaced.",
    "",
    "Aortaklepstenose met syncope en dyspnoea; geen orthopnoe. " * 6,
]


def overlapping(count: int = 6) -> list[Document]:
    """Notes in which a site lies inside a disease."""
    return [
        Document(
            f"n{number}",
            f"Severe aortic stenosis with dyspnea. Visit {number}.",
            (Span(0, 22, "DISEASE"), Span(7, 13, "SITE"), Span(28, 35, "SYMPTOM")),
        )
        for number in range(count)
    ]


def test_types_that_flat_tags_lose_are_not_blamed_on_the_training(
    encoder_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    trainer = ModelTrainer(
        label2id=LabelSet.from_types({"DISEASE", "SITE", "SYMPTOM"}).label2id,
        model=encoder_dir("bert"),
        max_length=64,
        num_train_epochs=1,
        output_dir=tmp_path,
    )
    result = trainer.train(overlapping(20), eval_data=overlapping(2))
    record = json.loads((tmp_path / "training_args.json").read_text())
    assert record["training_data"]["lost"]["SITE"] == {"nested": 20}
    assert "SITE 20 of 20 lost" in (result.warning or "")


def places(spans: Sequence[Any]) -> Found:
    return [(span.start, span.end, span.label) for span in spans]


@pytest.fixture
def directory(
    make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path, overlap: str, head: dict[str, Any]
) -> Path:
    write_model_dir(make_model("bert", overlap=overlap, **head), tokenizers["wordpiece"], tmp_path / "model")
    return tmp_path / "model"


@LAYOUTS
@HEADS
def test_every_door_gives_the_same_spans_and_scores(
    directory: Path, overlap: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    documents = [Document(f"n{number}", text) for number, text in enumerate(TEXTS)]
    expected = [places(one.spans) for one in Predictor.from_pretrained(directory).predict(documents)]
    scores = [span.score for one in Predictor.from_pretrained(directory).predict(documents) for span in one.spans]
    assert sum(map(len, expected)) > 10
    assert any(_overlap(spans) for spans in expected) == (overlap == "per-type")

    model, tokenizer, _ = load_custom_cardioner_multiclass_model(directory, "cpu")
    again = list(Predictor(model, tokenizer).predict(documents))
    assert [places(one.spans) for one in again] == expected
    auto = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)
    assert [places(one.spans) for one in Predictor(auto, tokenizer).predict(documents)] == expected
    tagger = pipeline("token-classification", model=str(directory), trust_remote_code=True)
    stock = [[(span["start"], span["end"], span["entity_group"]) for span in tagger(text)] for text in TEXTS]
    assert stock == expected

    add_onnx(directory)
    light = list(Predictor.from_pretrained(directory, engine="onnx").predict(documents))
    assert [places(one.spans) for one in light] == expected
    assert [span.score for one in light for span in one.spans] == pytest.approx(scores, abs=1e-3)
    write_corpus(documents, tmp_path / "notes")
    for engine in ("torch", "onnx"):
        done = run(
            "predict", directory, tmp_path / "notes", "--output", tmp_path / f"{engine}.jsonl", "--engine", engine
        )
        assert done.code == 0
        tagged = {one.id: places(one.spans) for one in read_corpus(tmp_path / f"{engine}.jsonl").documents}
        assert [tagged[document.id] for document in documents] == expected

    mean = Predictor.from_pretrained([directory, directory])
    assert [places(one.spans) for one in mean.predict(documents)] == expected
    assert run("verify", directory).code == 0
    facts = json.loads(run("inspect", directory, "--json").out)["facts"]
    assert facts["labels"] == list(model.config.tags)


def _overlap(spans: Found) -> bool:
    ordered = sorted(spans)
    return any(after[0] < before[1] for before, after in pairwise(ordered))


@HEADS
@pytest.mark.parametrize("overlap", ["per-type"])
def test_each_type_is_tagged_as_its_head_alone_would(directory: Path, overlap: str) -> None:
    """Oracle: each type's columns and CRF parameters as a model of this type alone."""
    model, tokenizer, config = load_custom_cardioner_multiclass_model(directory, "cpu")
    inputs = tokenizer(TEXTS[0], return_tensors="pt", truncation=True, max_length=config.window_length)
    with torch.no_grad():
        logits = model(**inputs).logits
    decoded, size = model.decode(logits)[0], len(config.tag_groups[0].tags)
    assert config.tags == [f"{tag}-{one.label}" if tag == "O" else tag for one in config.tag_groups for tag in one.tags]
    for index, tags in enumerate(decoded):
        own = logits[..., index * size : (index + 1) * size]
        best = own.argmax(-1)[0].tolist()
        if config.use_crf:
            field = type(model.crf)(size, batch_first=True, legal=model.crf.legal)
            field.load_state_dict({name: value[index] for name, value in model.crf.state_dict().items()})
            (best,) = field.decode(own)
        assert [tag - index * size for tag in tags] == best
    assert overlap == "per-type"


def test_the_loss_is_the_mean_cross_entropy_of_all_types(make_model: Callable[..., Any]) -> None:
    model = make_model("bert", overlap="per-type", label_smoothing=0.1)
    groups, size = len(model.config.tag_groups), len(model.config.tag_groups[0].tags)
    logits = torch.randn(2, 5, groups * size)
    local = torch.randint(0, size, (2, 5, groups))
    local[0, 1, 2] = -100
    labels = torch.where(local == -100, local, local + size * torch.arange(groups))
    apart = logits.view(2, 5, groups, size)
    expected = F.cross_entropy(apart.flatten(0, 2), local.flatten(), label_smoothing=0.1)
    torch.testing.assert_close(model.loss(logits, labels), expected)


@LAYOUTS
@pytest.mark.parametrize("use_crf", [True, False])
def test_training_keeps_what_its_tags_carry_and_counts_the_rest(
    overlap: Any, use_crf: bool, encoder_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    labels = LabelSet.from_types({"DISEASE", "SITE", "SYMPTOM"})
    trainer = ModelTrainer(
        label2id=labels.label2id,
        overlap=overlap,
        model=encoder_dir("bert"),
        use_crf=use_crf,
        max_length=64,
        num_train_epochs=1,
        class_weights="balanced",
        output_dir=tmp_path / "model",
        options=TrainingOptions(device="cpu"),
    )
    result = trainer.train(overlapping(), eval_data=overlapping(2))
    assert dict(result.losses) == ({("nested", "SITE"): 6} if overlap == "flat" else {})
    assert trainer.labels.overlap == overlap
    again = Predictor.from_pretrained(tmp_path / "model")
    assert list(again.labels) == ["DISEASE", "SITE", "SYMPTOM"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert ("spans of different types may overlap" in card) == (overlap == "per-type")


def test_from_flat_tags_to_tags_per_type_the_encoder_is_kept(
    make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    flat = make_model("bert", use_crf=True)
    write_model_dir(flat, tokenizers["wordpiece"], tmp_path / "flat")
    labels = LabelSet(tuple(flat.config.tags)).with_overlap("per-type")
    trainer = ModelTrainer(
        label2id=labels.label2id, model=tmp_path / "flat", use_crf=True, max_length=64, output_dir=tmp_path / "new"
    )
    assert set(trainer.start.fresh) == {
        *("classifier.weight", "classifier.bias"),
        *("crf.start_transitions", "crf.end_transitions", "crf.transitions"),
    }
    for name, value in flat.backbone.state_dict().items():
        assert torch.equal(value, trainer.model.backbone.state_dict()[name])


def test_one_type_has_the_same_tags_in_both_layouts() -> None:
    assert LabelSet.from_types({"X"}, overlap="per-type") == LabelSet.from_types({"X"})
    assert LabelSet.from_types({"X"}).with_overlap("per-type") == LabelSet.from_types({"X"})


def test_labels_of_windows_are_those_of_each_type_alone(tokenizers: dict[str, Any], make_model: Any) -> None:
    labels = LabelSet.from_types({"DISEASE", "SITE", "SYMPTOM"}, overlap="per-type")
    model, tokenizer = make_model("bert", window_length=10, window_context=1), tokenizers["wordpiece"]
    plan = plan_windows(model.config, tokenizer)
    together = build_features(overlapping(2), tokenizer, plan, labels=labels)
    for index, name in enumerate(labels.types):
        own = [one.with_spans(span for span in one.spans if span.label == name) for one in overlapping(2)]
        alone = build_features(own, tokenizer, plan, labels=LabelSet.from_types({name}))
        for window, other in zip(together.features, alone.features, strict=True):
            assert [row[index] for row in window["labels"]] == [
                label if label < 0 else label + 3 * index for label in other["labels"]
            ]


def test_auto_takes_tags_per_type_where_more_than_one_in_a_hundred_spans_needs_them() -> None:
    plain = [Document(f"p{number}", "dyspnea", (Span(0, 7, "SYMPTOM"),)) for number in range(300)]
    few, many = choose_overlap([*overlapping(3), *plain]), choose_overlap([*overlapping(4), *plain])
    assert (few.overlap, few.spans, few.flat, few.per_type) == ("flat", 309, 306, 309)
    assert (many.overlap, many.spans, many.flat, many.per_type) == ("per-type", 312, 308, 312)


SPANS = st.sets(st.tuples(st.integers(0, 9), st.integers(1, 4), st.sampled_from("ABC")), max_size=8)


@given(SPANS)
def test_what_both_layouts_carry_is_what_an_independent_count_finds(drawn: set[tuple[int, int, str]]) -> None:
    words = [f"word{number}" for number in range(14)]
    starts = [7 * number for number in range(10)]  # of the first ten words, all of them six characters long
    text = " ".join(f"{word:_<6}" for word in words)
    spans = [Span(starts[first], starts[first] + 7 * size - 1, label) for first, size, label in drawn]

    def kept(labels: str) -> int:
        taken: set[int] = set()
        count = 0
        for first, size, _ in sorted((one for one in drawn if one[2] in labels), key=lambda o: (-o[1], o[0], o[2])):
            own = set(range(first, first + size))
            if not own & taken:
                taken |= own
                count += 1
        return count

    found = choose_overlap([Document("n", text, tuple(spans))])
    assert (found.spans, found.flat, found.per_type) == (len(drawn), kept("ABC"), sum(map(kept, "ABC")))


@pytest.mark.parametrize(
    ("asked", "says"),
    [((), "Tags per type: they keep 6 of 18 entities"), (("--overlap", "flat"), "6 of 18 entities overlap others")],
)
def test_train_says_what_overlap_costs(
    asked: tuple[str, ...], says: str, run: Any, encoder_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    write_corpus(overlapping(), tmp_path / "notes")
    done = run(
        *("train", "--train", tmp_path / "notes", "--backbone", encoder_dir("bert"), "--output", tmp_path / "model"),
        *("--epochs", "1", "--max-length", "64", "--device", "cpu", "--crf", *asked),
    )
    assert done.code == 0
    assert says in " ".join(done.err.split())
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert ("O" in config["label2id"]) == bool(asked)


def test_check_shows_the_best_recall_of_both_layouts(run: Any, tmp_path: Path) -> None:
    write_corpus(overlapping(), tmp_path / "notes")
    flat = json.loads(run("check", tmp_path / "notes", "--json").out)["flat_tags"]
    assert (flat["recall_ceiling"], flat["recall_ceiling_of_tags_per_type"]) == (12 / 18, 1.0)
    assert flat["per_type"]["SITE"]["recall_ceiling"] == 0.0
    assert "keep 6 spans that flat tags lose" in run("check", tmp_path / "notes").out


def test_what_tags_per_type_cannot_do_is_refused(
    make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    write_model_dir(make_model("bert", overlap="per-type"), tokenizers["wordpiece"], tmp_path / "model")
    with pytest.raises(ModelError, match="has tags per type"):
        export_hub(tmp_path / "model", tmp_path / "out")
    labels = LabelSet.from_types({"A", "B"}, overlap="per-type")
    with pytest.raises(DataError, match="ready features have one label a position"):
        read_dataset([{"input_ids": [1], "labels": [0]}], labels, tokenizers["wordpiece"])
    with pytest.raises(UsageError, match="tags per type"):
        LabelSet(("O-A", "B-A", "I-A", "B-B", "O-B", "I-B"))
    with pytest.raises(UsageError, match="overlap must be one of flat, per-type"):
        ModelTrainer(label2id=labels.label2id, overlap="auto", output_dir=tmp_path / "new")  # type: ignore[arg-type]
    model = make_model("bert", overlap="per-type")
    ids = torch.ones(1, 4).long()
    with pytest.raises(ValueError, match="expected labels of shape"):
        model(input_ids=ids, labels=ids)
