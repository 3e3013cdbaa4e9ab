"""Training: what goes in, what is saved, and what is refused."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from cardioner.data.documents import Document, Span
from cardioner.data.labels import LabelSet
from cardioner.errors import DataError, ModelError, OutputError, TrainingError, UsageError
from cardioner.evaluation import evaluate, pair_documents
from cardioner.evaluation import score as score_documents
from cardioner.model_dir.load import enter, read_model_dir
from cardioner.multiclass.encoding import EncodedNote, TokenizerPanicError, encode_notes
from cardioner.prediction.predictor import Predictor
from cardioner.training.calibration import Temperature
from cardioner.training.checkpoints import last_checkpoint
from cardioner.training.hf_trainer import reduced_precision
from cardioner.training.optimizer import depths
from cardioner.training.options import TrainingOptions
from cardioner.training.trainer import ModelTrainer, TrainingResult

Make = Callable[..., ModelTrainer]


def options(**given: Any) -> TrainingOptions:
    """Options that every test trains with: windows as small as the tiny encoders, no rounding."""
    return TrainingOptions(
        **{"window_context": 4, "training_context": 4, "precision": "float32", "device": "cpu", **given}
    )


@pytest.fixture
def make_trainer(encoder_dir: Callable[[str], Path], labels: LabelSet, tmp_path: Path) -> Make:
    """A trainer of a tiny encoder."""

    def make(**given: Any) -> ModelTrainer:
        chosen = {
            "label2id": labels.label2id,
            "model": encoder_dir("bert"),
            "output_dir": tmp_path / "out",
            "max_length": 32,
            "batch_size": 2,
            "num_train_epochs": 1,
            "learning_rate": 5e-3,
            "options": options(),
        }
        return ModelTrainer(**{**chosen, **given})

    return make


def items(documents: list[Document]) -> list[dict[str, Any]]:
    """Notes as words and tags."""
    found = []
    for document in documents:
        words, tags, position = document.text.split(), [], 0
        for word in words:
            start = document.text.index(word, position)
            position = start + len(word)
            inside = [span for span in document.spans if span.start < position and start < span.end]
            tags.append(f"{'B' if start <= inside[0].start else 'I'}-{inside[0].label}" if inside else "O")
        found.append({"id": document.id, "tokens": words, "tags": tags})
    return found


def ready(tokenizer: Any, labels: LabelSet) -> list[dict[str, Any]]:
    """Ready features, padded to one length."""
    encoded = tokenizer(["chest pain", "no syncope today", "x"], padding=True)
    tags = [labels.label2id["B-SYMPTOM"], labels.label2id["I-SYMPTOM"]]
    return [
        {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": [-100 if not kept else tags[0] if index == 1 else 0 for index, kept in enumerate(mask)],
        }
        for ids, mask in zip(encoded["input_ids"], encoded["attention_mask"], strict=True)
    ]


@pytest.mark.parametrize("form", ["documents", "items", "features", "items table", "features table"])
def test_every_form_of_data_trains_to_a_directory_that_loads(
    form: str, make_trainer: Make, documents: list[Document], labels: LabelSet
) -> None:
    trainer = make_trainer(use_crf=True)
    forms: dict[str, Any] = {
        "documents": documents,
        "items": items(documents),
        "features": ready(trainer.tokenizer, labels),
    }
    data = forms[form.removesuffix(" table")]
    data = datasets.Dataset.from_list(data) if form.endswith("table") else data
    result = trainer.train(data, test_data=data, eval_data=data)
    enter(result.output_dir)
    model, _, _ = read_model_dir(result.output_dir, device="cpu")
    assert all(torch.equal(value, trainer.model.state_dict()[name]) for name, value in model.state_dict().items())
    assert result.evaluation == result.test
    assert result.windows >= 3
    assert len(result.epochs) == result.best_epoch == 1


@pytest.mark.parametrize("use_crf", [False, True])
def test_what_is_saved_is_the_epoch_that_scored_best(
    use_crf: bool, make_trainer: Make, documents: list[Document]
) -> None:
    result = make_trainer(use_crf=use_crf, num_train_epochs=20, learning_rate=1e-2, batch_size=1).train(
        documents, eval_data=documents
    )
    micro = [scores.strict.micro.f1 for scores in result.epochs]
    assert len(micro) == 20
    assert max(micro) > 0
    assert micro[result.best_epoch - 1] == max(micro)
    assert result.best_epoch == micro.index(max(micro)) + 1
    predicted = list(Predictor.from_pretrained(result.output_dir, device="cpu").predict(documents))
    assert score_documents(documents, predicted) == result.evaluation
    record = json.loads((result.output_dir / "training_args.json").read_text())
    assert record["best_epoch"] == result.best_epoch
    scores, intervals = (
        evaluate(documents, predicted, samples=1000).to_dict()[name] for name in ("strict", "intervals")
    )
    assert record["scores"]["evaluation"]["strict"] == scores
    assert record["scores"]["evaluation"]["intervals"]["strict"] == intervals["strict"]


def test_an_earlier_epoch_is_saved_when_later_ones_score_worse(
    make_trainer: Make, documents: list[Document], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The third epoch's score is lowered on its way: the second's weights must come back from their checkpoint."""
    trainer = make_trainer(num_train_epochs=3)
    weights: list[dict[str, torch.Tensor]] = []
    gold = pair_documents(documents, documents).pairs
    nothing = pair_documents(documents, [document.with_spans(()) for document in documents]).pairs
    planned = [nothing, gold, nothing, gold]  # after each epoch, and of the saved model

    def tag(*_: Any, **__: Any) -> Any:
        weights.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
        return planned[len(weights) - 1]

    monkeypatch.setattr("cardioner.training.trainer.tag_dataset", tag)
    result = trainer.train(documents, eval_data=documents)
    assert result.best_epoch == 2
    saved = read_model_dir(tmp_path / "out", device="cpu")[0].state_dict()
    assert all(torch.equal(saved[name], value) for name, value in weights[1].items())
    assert not all(torch.equal(saved[name], value) for name, value in weights[2].items())


def test_without_evaluation_data_the_last_epoch_is_saved(make_trainer: Make, documents: list[Document]) -> None:
    result = make_trainer(num_train_epochs=2).train(documents)
    assert (result.best_epoch, result.epochs, result.evaluation, result.test) == (0, (), None, None)
    enter(result.output_dir)


def test_the_seed_alone_decides_the_weights(make_trainer: Make, documents: list[Document], tmp_path: Path) -> None:
    def trained(name: str, seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(hash(name) % 1000)
        trainer = make_trainer(output_dir=tmp_path / name, use_crf=True, options=options(seed=seed))
        trainer.train(documents)
        return trainer.model.state_dict()

    first, again, other = trained("a", 3), trained("b", 3), trained("c", 4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_training_args_record_everything_but_secrets_and_places(
    make_trainer: Make, documents: list[Document], tmp_path: Path
) -> None:
    trainer = make_trainer(
        hf_token="hf_SECRET", use_crf=True, classifier_hidden_layers=(8,), classifier_dropout=0.2, weight_decay=0.5
    )
    trainer.train(documents, test_data=documents)
    text = (tmp_path / "out" / "training_args.json").read_text()
    record = json.loads(text)
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        assert b"hf_SECRET" not in content
        assert str(tmp_path).encode() not in content
        assert str(Path.home()).encode() + b"/" not in content
    expected = {
        "batch_size": 2,
        "classifier_dropout": 0.2,
        "classifier_hidden_layers": [8],
        "learning_rate": 5e-3,
        "max_length": 32,
        "model": "bert",
        "num_train_epochs": 1,
        "use_crf": True,
        "weight_decay": 0.5,
    }
    assert {name: record[name] for name in expected} == expected
    assert set(record["options"]) == set(TrainingOptions.__dataclass_fields__) - {
        "progress",
        "overwrite",
        "resume",
        "data_key",
    }
    assert record["training_data"]["windows"] > 0
    assert set(record["scores"]) == {"test"}


def test_a_model_can_be_saved_before_training(make_trainer: Make, tmp_path: Path) -> None:
    make_trainer(use_crf=True).save_model(tmp_path / "early")
    assert "scores" not in json.loads((tmp_path / "early" / "training_args.json").read_text())
    assert read_model_dir(tmp_path / "early", device="cpu")[2].use_crf


def test_success_leaves_no_checkpoint_and_no_pickle(
    make_trainer: Make, documents: list[Document], tmp_path: Path
) -> None:
    make_trainer().train(documents, eval_data=documents)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_dir()] == []
    assert [path.name for path in (tmp_path / "out").iterdir() if path.suffix in {".bin", ".pt", ".pth"}] == []


def test_also_bin_writes_the_same_weights_once_more(
    make_trainer: Make, documents: list[Document], tmp_path: Path
) -> None:
    trainer = make_trainer(options=options(also_bin=True))
    trainer.train(documents)
    pickled = torch.load(tmp_path / "out" / "pytorch_model.bin", weights_only=True)
    assert all(torch.equal(value, pickled[name]) for name, value in trainer.model.state_dict().items())


def test_an_interrupted_training_leaves_a_whole_checkpoint_and_no_model(
    make_trainer: Make, documents: list[Document], tmp_path: Path
) -> None:
    def interrupt(stage: str, done: int, _: int) -> None:
        if stage == "training" and done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer(num_train_epochs=9, options=options(progress=interrupt)).train(documents, eval_data=documents)
    checkpoints = sorted((tmp_path / "out" / "checkpoints").iterdir())
    checkpoint = checkpoints[-1]
    for path in checkpoints:
        enter(path)
    assert len(list(Predictor.from_pretrained(checkpoint, device="cpu").predict(documents))) == 3
    assert [path.name for path in checkpoint.iterdir() if path.suffix == ".bin"] == []
    with pytest.raises(ModelError, match=rf"{checkpoint} are whole"):
        enter(tmp_path / "out")
    with pytest.raises(OutputError, match="interrupted training"):
        make_trainer().train(documents)
    enter(checkpoint)
    make_trainer(model=checkpoint, options=options(overwrite=True)).train(documents)
    enter(tmp_path / "out")
    assert not checkpoint.exists()


def test_every_checkpoint_loads_while_training_goes_on(
    make_trainer: Make, documents: list[Document], tmp_path: Path
) -> None:
    seen = []

    def look(stage: str, _: int, __: int) -> None:
        for path in (tmp_path / "out" / "checkpoints").glob("*"):
            if stage == "training" and path.name not in seen:
                read_model_dir(path, device="cpu")
                seen.append(path.name)

    make_trainer(num_train_epochs=3, options=options(progress=look)).train(documents)
    assert len(seen) == 2


def test_progress_says_the_loss_of_each_step(make_trainer: Make, documents: list[Document]) -> None:
    told: list[tuple[str, int, int, str]] = []

    def look(stage: str, done: int, total: int, *, detail: str = "") -> None:
        told.append((stage, done, total, detail))

    result = make_trainer(num_train_epochs=1, options=options(progress=look)).train(documents, eval_data=documents)
    steps = [row for row in told if row[0] == "training"]
    assert [row[1:3] for row in steps] == [(number, len(steps)) for number in range(1, len(steps) + 1)]
    losses = [float(row[3].removeprefix("loss ")) for row in steps]
    assert losses[-1] == pytest.approx(next(row["loss"] for row in result.history if "loss" in row), abs=1e-3)
    assert {row[3] for row in told if row[0] != "training"} == {""}


def test_an_output_directory_that_holds_a_model_is_refused(make_trainer: Make, documents: list[Document]) -> None:
    make_trainer().train(documents)
    with pytest.raises(OutputError, match="already holds a model"):
        make_trainer().train(documents)
    make_trainer(options=options(overwrite=True)).train(documents)


@pytest.mark.parametrize("frozen", [False, True])
def test_freeze_backbone_leaves_the_encoder_as_it_came(
    frozen: bool, make_trainer: Make, documents: list[Document]
) -> None:
    trainer = make_trainer(freeze_backbone=frozen, use_crf=True)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train(documents)
    same = {name for name, value in trainer.model.state_dict().items() if torch.equal(value, before[name])}
    assert all(name in same for name in before if name.startswith("backbone.")) is frozen
    assert not {name for name in same if name.startswith(("classifier.", "crf."))}


def test_class_weights_of_every_form_reach_the_model(
    make_trainer: Make, documents: list[Document], labels: LabelSet
) -> None:
    assert make_trainer(class_weights=[1, 2, 3, 4, 5, 6, 7]).model.config.class_weights == [1, 2, 3, 4, 5, 6, 7]
    assert make_trainer(class_weights={"B-DISEASE": 3}).model.config.class_weights == [1, 3, 1, 1, 1, 1, 1]
    assert make_trainer(class_weights={0: 0.5, "I-SYMPTOM": 2}).model.config.class_weights == [0.5, *[1] * 5, 2]
    assert make_trainer().model.config.class_weights is None
    balanced = make_trainer(class_weights="balanced")
    balanced.train(documents)
    weights = dict(zip(labels.tags, balanced.model.config.class_weights, strict=True))
    assert weights["O"] < 1 < weights["B-MEDICATION"]
    assert read_model_dir(balanced.output_dir, device="cpu")[2].class_weights == list(weights.values())


@pytest.mark.parametrize(
    "given",
    [{}, {"use_crf": True}, {"class_weights": "balanced"}, {"class_weights": {"O": 0.2}}],
    ids=["linear", "crf", "balanced", "weighted"],
)
def test_accumulated_batches_learn_like_one_large_batch(
    given: dict[str, Any], make_trainer: Make, tmp_path: Path
) -> None:
    """Windows of every length and with other tags each, so that a mean of means is another number."""
    texts = ["chest pain", "syncope " * 9, "no", "oedema and chest pain"]
    spans = [(Span(0, 10, "SYMPTOM"),), (Span(0, 7, "SYMPTOM"),), (), (Span(11, 21, "SYMPTOM"),)]
    documents = [
        Document(str(index), text, found) for index, (text, found) in enumerate(zip(texts, spans, strict=True))
    ]
    rows = {}
    for batch_size, steps in ((4, 1), (2, 2), (1, 4)):
        trainer = make_trainer(
            output_dir=tmp_path / f"{steps}",
            batch_size=batch_size,
            gradient_accumulation_steps=steps,
            classifier_dropout=0.0,
            freeze_backbone=True,
            options=options(max_gradient_norm=1e9, warmup=0.0),
            **given,
        )
        seen: list[float] = []
        trainer.model.classifier.weight.register_post_accumulate_grad_hook(
            lambda value, seen=seen: seen.append(float(value.grad.norm()))
        )
        (row,) = trainer.train(documents).history
        assert len(seen) == steps
        rows[steps] = (seen[-1], row["loss"], row["grad_norm"])
    assert rows[2] == pytest.approx(rows[1], rel=1e-4)
    assert rows[4] == pytest.approx(rows[1], rel=1e-4)


# What options do -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("linear", lambda done: 1 - done),
        ("cosine", lambda done: 0.5 * (1 + math.cos(math.pi * done))),
        ("constant", lambda _: 1.0),
    ],
)
def test_the_rate_rises_and_goes_on_by_schedule(
    schedule: str, share: Callable[[float], float], make_trainer: Make, documents: list[Document]
) -> None:
    """By the formula, at every step; the history has the last step of each epoch."""
    trainer = make_trainer(num_train_epochs=5, batch_size=1, options=options(schedule=schedule, warmup=0.2))
    history = trainer.train(documents).history
    steps = int(history[-1]["step"])
    rising = math.ceil(0.2 * steps)
    assert len(history) >= 5
    for row in history:
        made = row["step"] - 1  # the rate that the step was made with
        expected = made / rising if made < rising else share((made - rising) / (steps - rising))
        assert row["learning_rate"] == pytest.approx(5e-3 * expected), row["step"]


def test_long_gradients_are_cut_to_the_norm(make_trainer: Make, documents: list[Document]) -> None:
    norms: dict[float, list[float]] = {}
    for most in (1e9, 1e-3):
        trainer = make_trainer(options=options(max_gradient_norm=most, overwrite=True), batch_size=1)
        norms[most] = []
        own = torch.optim.AdamW.step

        def step(self: Any, *given: Any, most: float = most, own: Any = own, **named: Any) -> Any:
            every = [
                value.grad.norm() for group in self.param_groups for value in group["params"] if value.grad is not None
            ]
            norms[most].append(float(torch.stack(every).norm()))
            return own(self, *given, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", step)
            trainer.train(documents)
    assert min(norms[1e9]) > 1e-2, "there is something to cut"
    assert norms[1e-3] == pytest.approx([1e-3] * len(norms[1e-3]), rel=1e-2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_is_that_of_the_matrix_products_alone(
    precision: str, make_trainer: Make, documents: list[Document]
) -> None:
    trainer = make_trainer(options=options(precision=precision), use_crf=True)
    seen: list[torch.dtype] = []
    layer = trainer.model.backbone.encoder.layer[0].output.dense
    layer.register_forward_hook(lambda module, _, given: seen.append(given.dtype) if module.training else None)
    trainer.train(documents, eval_data=documents)
    assert set(seen) == {getattr(torch, precision)}
    assert {value.dtype for value in trainer.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("computes", [True, False], ids=["with instructions", "without"])
def test_auto_trains_in_bfloat16_where_the_processor_has_instructions_for_it(
    computes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cardioner.training.hf_trainer.computes_bfloat16", lambda _: computes)
    expected = {"auto": computes, "float32": False, "bfloat16": True}
    assert {name: reduced_precision(options(precision=name)) for name in expected} == expected


def test_attention_is_dropped_out_only_on_request(make_trainer: Make, encoder_dir: Callable[[str], Path]) -> None:
    assert AutoConfig.from_pretrained(encoder_dir("bert")).attention_probs_dropout_prob == 0.1
    for given, expected in ((options(), 0.0), (options(attention_dropout=0.3), 0.3)):
        trainer = make_trainer(options=given)
        assert trainer.model.config.build_encoder_config().attention_probs_dropout_prob == expected
        assert trainer.model.backbone.encoder.layer[0].attention.self.dropout.p == expected


def test_unfreezing_moves_one_more_layer_each_epoch(make_trainer: Make, documents: list[Document]) -> None:
    trainer = make_trainer(num_train_epochs=4, options=options(unfreeze_per_epoch=1, warmup=0.0, schedule="constant"))
    learned: list[set[int]] = []
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    by_name = depths(trainer.model)

    def look(stage: str, *_: Any) -> None:
        if stage == "scoring":
            now = dict(trainer.model.named_parameters())
            learned.append({by_name[name] for name in now if not torch.equal(now[name], before[name])})
            before.update({name: value.detach().clone() for name, value in now.items()})

    trainer.options = replace(trainer.options, progress=look)
    trainer.train(documents, eval_data=documents)
    epochs = [layers for layers in learned if layers]
    assert epochs[:4] == [{3}, {2, 3}, {1, 2, 3}, {0, 1, 2, 3}]


@pytest.mark.parametrize(
    ("given", "wishes", "named"),
    [
        ({"use_crf": True}, {"label_smoothing": 0.1}, "label_smoothing"),
        ({"freeze_backbone": True}, {"unfreeze_per_epoch": 1}, "unfreeze_per_epoch"),
        ({}, {"resume": True, "overwrite": True}, "resume"),
    ],
)
def test_wishes_that_exclude_each_other_are_refused(
    given: dict[str, Any], wishes: dict[str, Any], named: str, make_trainer: Make
) -> None:
    with pytest.raises(UsageError, match=named):
        make_trainer(options=options(**wishes), **given)


def test_early_stopping_without_evaluation_data_is_refused(make_trainer: Make, documents: list[Document]) -> None:
    with pytest.raises(UsageError, match="early_stopping needs evaluation data"):
        make_trainer(options=options(early_stopping=1)).train(documents)


def test_weights_that_are_no_numbers_replace_no_checkpoint(
    make_trainer: Make, documents: list[Document], tmp_path: Path
) -> None:
    """A gradient can be no number under a loss that is one: the checkpoint of that step is not written."""
    trainer = make_trainer(num_train_epochs=4, batch_size=1, options=options(checkpoint_steps=1, max_gradient_norm=1e9))
    calls = itertools.count(1)

    def poison(value: torch.Tensor) -> torch.Tensor:
        return value * float("nan") if next(calls) == 5 else value

    trainer.model.classifier.weight.register_hook(poison)
    with pytest.raises(TrainingError, match="holds values that are not finite at step 5"):
        trainer.train(documents)
    left = last_checkpoint(tmp_path / "out")
    assert left is not None
    assert left.step == 4
    assert all(value.isfinite().all() for value in load_file(left.folder / "model.safetensors").values())


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "many"}, "batch_size"),
        ({"num_train_epochs": 0}, "num_train_epochs"),
        ({"num_train_epochs": 1.5}, "num_train_epochs"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": 1e30}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"classifier_dropout": 1.0}, "classifier_dropout"),
        ({"classifier_hidden_layers": (8, 0)}, "classifier_hidden_layers"),
        ({"classifier_hidden_layers": "512,wide"}, "classifier_hidden_layers: expected widths such as 512,256"),
        ({"classifier_hidden_layers": 0}, "classifier_hidden_layers"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": 9}, "max_length 9 is too short"),
        ({"max_length": 129}, "max_length 129 is more than the 128 sub-tokens"),
        ({"class_weights": "even"}, "class_weights"),
        ({"class_weights": [1.0]}, "class_weights has 1 weight; the model has 7"),
        ({"class_weights": {"B-PROCEDURE": 2.0}}, "B-PROCEDURE"),
        ({"class_weights": {"B-DISEASE": -2.0}}, "class_weights"),
        ({"class_weights": {"B-DISEASE": float("inf")}}, "class_weights"),
        ({"label2id": None}, "label2id"),
        ({"label2id": {"O": 0, "B-X": 2}}, "0 to 1"),
        ({"id2label": {0: "O"}}, "contradict"),
        ({"label2id": None, "id2label": {0: "O", 1: "O"}}, "id2label"),
    ],
)
def test_an_argument_that_cannot_work_is_named(given: dict[str, Any], named: str, make_trainer: Make) -> None:
    with pytest.raises(UsageError, match=named):
        make_trainer(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"seed": -1},
        {"seed": 2**32},
        {"warmup": 1.0},
        {"precision": "float16"},
        {"device": "tpu"},
        {"crf_learning_rate": 0.0},
        {"max_gradient_norm": float("inf")},
        {"window_context": -1},
        {"training_context": -1},
        {"progress": 3},
        {"sed": 1},
    ],
)
def test_an_option_that_cannot_work_is_a_usage_error_that_names_it(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(given))):
        TrainingOptions(**given)


def test_a_missing_gpu_is_refused_and_not_replaced(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="cuda"):
        make_trainer(options=options(device="cuda"))


def test_either_label_mapping_alone_is_enough(make_trainer: Make, labels: LabelSet) -> None:
    swapped = {tag: len(labels.tags) - 1 - index for index, tag in enumerate(labels.tags)}
    for given in ({"label2id": swapped}, {"label2id": None, "id2label": {i: tag for tag, i in swapped.items()}}):
        assert make_trainer(**given).model.config.label2id == swapped


@pytest.mark.parametrize("data", [[], [Document("a", "")]])
def test_an_empty_training_set_is_refused(data: list[Document], make_trainer: Make) -> None:
    with pytest.raises(DataError, match="the training data is empty"):
        make_trainer().train(data)


def test_notes_without_any_entity_still_train(make_trainer: Make) -> None:
    result = make_trainer(use_crf=True).train([Document("a", "nothing of note")])
    assert list(Predictor.from_pretrained(result.output_dir, device="cpu").predict([Document("b", "nothing")]))


def test_unknown_types_in_any_part_are_refused_before_training(
    make_trainer: Make, documents: list[Document], tmp_path: Path
) -> None:
    other = [Document("x", "cabg", (Span(0, 4, "PROCEDURE"),))]
    for parts in ((other,), (documents, other), (documents, None, other)):
        with pytest.raises(DataError, match="PROCEDURE"):
            make_trainer().train(*parts)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_feature_longer_than_max_length_is_refused(make_trainer: Make) -> None:
    feature = {"input_ids": [5] * 40, "labels": [0] * 40}
    with pytest.raises(DataError, match="a ready feature has 40 sub-tokens, max_length is 32"):
        make_trainer().train([feature])


def test_ids_beyond_the_encoder_are_refused(make_trainer: Make) -> None:
    with pytest.raises(DataError, match="its own tokenizer"):
        make_trainer().train([{"input_ids": [2, 9999, 3], "labels": [0, 0, 0]}])


@pytest.mark.parametrize("epochs", [1, 12])
def test_a_training_that_diverges_stops_and_saves_nothing(
    epochs: int, make_trainer: Make, documents: list[Document], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the first ten steps too, before the loop logs by itself."""
    trainer = make_trainer(num_train_epochs=epochs, batch_size=1)
    monkeypatch.setattr(trainer.model, "loss", lambda logits, _: logits.sum() * float("nan"))
    told = r"the loss is nan at step 1, in a batch of [abc] \(window 1\): .*lower learning rate"
    with pytest.raises(TrainingError, match=told):
        trainer.train(documents, eval_data=documents)
    assert not list((tmp_path / "out").rglob("config.json"))


# Migration -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def earlier(make_trainer: Make, documents: list[Document], tmp_path: Path) -> Callable[..., Path]:
    """A trained model directory to start from."""

    def build(**given: Any) -> Path:
        result: TrainingResult = make_trainer(output_dir=tmp_path / "earlier", **given).train(documents)
        return result.output_dir

    return build


def logits_of(trainer_or_dir: ModelTrainer | Path) -> torch.Tensor:
    """Emissions for a fixed input."""
    if isinstance(trainer_or_dir, Path):
        model = read_model_dir(trainer_or_dir, device="cpu")[0]
    else:
        model = trainer_or_dir.model
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(input_ids=torch.arange(5, 25).unsqueeze(0)).logits
    return logits


def test_standard_to_crf_takes_encoder_and_head(make_trainer: Make, earlier: Callable[..., Path]) -> None:
    source = earlier(classifier_hidden_layers=(8,))
    start = make_trainer(model=source, use_crf=True, classifier_hidden_layers=(8,))
    assert start.start.fresh == ("crf.start_transitions", "crf.end_transitions", "crf.transitions")
    assert torch.equal(logits_of(start), logits_of(source))


def test_simple_to_mlp_takes_the_encoder_only(make_trainer: Make, earlier: Callable[..., Path]) -> None:
    source = earlier(use_crf=True)
    start = make_trainer(model=source, use_crf=True, classifier_hidden_layers=(8,)).start
    assert {name.partition(".")[0] for name in start.fresh} == {"classifier"}
    saved = read_model_dir(source, device="cpu")[0].state_dict()
    assert all(torch.equal(start.model.state_dict()[name], saved[name]) for name in start.taken)
    assert {"crf.transitions", "backbone.embeddings.word_embeddings.weight"} <= set(start.taken)


def test_other_labels_of_the_same_number_start_the_last_layer_afresh(
    make_trainer: Make, earlier: Callable[..., Path]
) -> None:
    source = earlier(use_crf=True, classifier_hidden_layers=(8,))
    others = LabelSet.from_types(["ANATOMY", "DOSE", "TEST"])
    start = make_trainer(model=source, label2id=others.label2id, use_crf=True, classifier_hidden_layers=(8,)).start
    assert set(start.fresh) == {
        "classifier.3.weight",
        "classifier.3.bias",
        "crf.start_transitions",
        "crf.end_transitions",
        "crf.transitions",
    }
    assert {"classifier.0.weight", "classifier.0.bias"} <= set(start.taken)


@pytest.mark.parametrize("use_crf", [False, True])
def test_nothing_changes_when_nothing_is_changed(
    use_crf: bool, make_trainer: Make, earlier: Callable[..., Path]
) -> None:
    source = earlier(use_crf=use_crf)
    start = make_trainer(model=source, use_crf=use_crf)
    assert start.start.fresh == ()
    assert torch.equal(logits_of(start), logits_of(source))


def test_a_tokenizer_may_be_named_by_its_folder(
    make_trainer: Make, encoder_dir: Callable[[str], Path], tokenizers: Mapping[str, Any]
) -> None:
    trainer = make_trainer(tokenizer=encoder_dir("electra"))
    assert trainer.tokenizer.get_vocab() == tokenizers["wordpiece"].get_vocab()


def test_the_fitted_temperature_is_saved_and_moves_scores_but_no_span(
    make_trainer: Make, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(use_crf=True, num_train_epochs=10, learning_rate=2e-2, batch_size=1)
    fitted = Temperature(value=2.5, spans=40, before=0.5, after=0.4)
    monkeypatch.setattr("cardioner.training.post_training.fit_temperature", lambda *_, **__: fitted)
    result = trainer.train(documents, eval_data=documents)
    assert result.temperature == fitted
    saved = json.loads((result.output_dir / "config.json").read_text())
    record = json.loads((result.output_dir / "training_args.json").read_text())
    assert (saved["temperature"], record["calibration"]["value"]) == (2.5, 2.5)
    predictor = Predictor.from_pretrained(result.output_dir, device="cpu")
    calibrated = [span for document in predictor.predict(documents) for span in document.spans]
    predictor.model.config.score_temperature = 1.0
    raw = [span for document in predictor.predict(documents) for span in document.spans]
    assert [(span.start, span.end, span.label) for span in raw] == [(s.start, s.end, s.label) for s in calibrated]
    assert raw
    assert all(before.score != after.score for before, after in zip(raw, calibrated, strict=True))


@pytest.mark.parametrize("part", ["eval_data", "test_data"])
def test_a_held_out_note_that_cannot_be_tokenised_is_named_before_training_starts(
    part: str, make_trainer: Make, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(tokenizer: Any, texts: Sequence[str]) -> list[EncodedNote]:
        if any("unreadable" in text for text in texts):
            raise TokenizerPanicError("the tokenizer's native code panicked")
        return encode_notes(tokenizer, texts)

    monkeypatch.setattr("cardioner.training.features.encode_notes", encode)
    monkeypatch.setattr(ModelTrainer, "_fit", lambda *_: pytest.fail("training began"))
    held_out = [*documents[:2], Document("strange", "unreadable")]
    with pytest.raises(DataError, match=r"^document strange: the 10 characters could not be cut into sub-tokens \(Tok"):
        make_trainer().train(documents, **{part: held_out})
