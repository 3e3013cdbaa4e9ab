"""Distillation: the divergence against brute force, what a student starts from and learns from, what is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, BertConfig, pipeline

import cardioner
from cardioner.data.documents import Document, Span
from cardioner.data.labels import LabelSet
from cardioner.errors import DataError, ModelError, UsageError
from cardioner.model_dir.load import enter, read_model_dir
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass.crf import CRF, legal_transitions
from cardioner.training.distillation import (
    DistillingTrainer,
    Expectations,
    Lesson,
    Teachers,
    divergence,
    expectations,
    mean,
)
from cardioner.training.initialization import read_source, with_layers
from cardioner.training.options import Distillation, TrainingOptions
from cardioner.training.trainer import ModelTrainer

TAGS = ["O", "B-X", "I-X"]
LEGAL = legal_transitions(TAGS)
CRF_NAMES = ("start_transitions", "end_transitions", "transitions")
Save = Callable[..., Path]


# Oracle --------------------------------------------------------------------------------------------------------------


def random_crf(seed: int, *, legal: Any = LEGAL) -> CRF:
    torch.manual_seed(seed)
    crf = CRF(len(TAGS), batch_first=True, legal=legal)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    return crf.requires_grad_(False)


def distribution(crf: CRF, emissions: Tensor, temperature: float) -> dict[tuple[int, ...], Tensor]:
    """The probability of every legal tag sequence of one row `(length, tags)`, by enumeration."""
    scores = {}
    for tags in itertools.product(range(crf.num_tags), repeat=len(emissions)):
        moves = list(itertools.pairwise(tags))
        legal = crf.legal is None or (
            crf.legal.start[tags[0]] and crf.legal.end[tags[-1]] and all(crf.legal.transitions[a][b] for a, b in moves)
        )
        if legal:
            emitted = sum(emissions[place, tag] for place, tag in enumerate(tags))
            moved = sum((crf.transitions[a, b] for a, b in moves), torch.zeros(()))
            scores[tags] = (emitted + moved + crf.start_transitions[tags[0]] + crf.end_transitions[tags[-1]]).double()
    shares = (torch.stack(list(scores.values())) / temperature).softmax(0)
    return dict(zip(scores, shares, strict=True))


def kl(teacher: Mapping[Any, Tensor], student: Mapping[Any, Tensor]) -> Tensor:
    return sum((p * (p.log() - student[tags].log()) for tags, p in teacher.items()), torch.zeros(()))


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    """Emissions of rows of 4 and 2 positions, garbage behind the second, and their mask."""
    torch.manual_seed(5)
    return torch.randn(2, 4, len(TAGS)) * 2, torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_expectations_are_those_of_all_sequences(rows: tuple[Tensor, Tensor], temperature: float) -> None:
    crf, (emissions, mask) = random_crf(1), rows
    found = expectations(crf, emissions, mask, temperature=temperature)
    for row, length in enumerate(mask.sum(1).tolist()):
        shares = distribution(crf, emissions[row, :length], temperature)
        marginals, pairs = torch.zeros(4, 3, dtype=torch.double), torch.zeros(3, 3, dtype=torch.double)
        for tags, share in shares.items():
            for place, tag in enumerate(tags):
                marginals[place, tag] += share
            for a, b in itertools.pairwise(tags):
                pairs[a, b] += share
        entropy = -sum(share * share.log() for share in shares.values())
        torch.testing.assert_close(found.marginals[row].double(), marginals, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.pairs[row].double(), pairs, atol=1e-5, rtol=0)
        assert float(found.entropy[row]) == pytest.approx(float(entropy), abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("legal", [LEGAL, None], ids=["legal sequences", "all sequences"])
def test_divergence_is_that_of_the_distributions_over_sequences(
    rows: tuple[Tensor, Tensor], legal: Any, temperature: float
) -> None:
    emissions, mask = rows
    teacher, student = random_crf(1, legal=legal), random_crf(2, legal=legal)
    target = expectations(teacher, emissions, mask, temperature=temperature)
    found = divergence(student, emissions.flip(2), mask, target, temperature=temperature)
    for row, length in enumerate(mask.sum(1).tolist()):
        taught, learned = (
            distribution(crf, given[row, :length], temperature)
            for crf, given in ((teacher, emissions), (student, emissions.flip(2)))
        )
        assert float(found[row]) == pytest.approx(float(kl(taught, learned)), abs=1e-5)
    same = divergence(teacher, emissions, mask, target, temperature=temperature)
    torch.testing.assert_close(same, torch.zeros(2), atol=1e-5, rtol=0)


def test_without_a_crf_the_divergence_is_the_sum_over_the_tokens(rows: tuple[Tensor, Tensor]) -> None:
    emissions, mask = rows
    untrained = CRF(len(TAGS), batch_first=True)
    target = expectations(untrained, emissions, mask, temperature=2.0)
    found = divergence(untrained, emissions.flip(2), mask, target, temperature=2.0)
    taught, learned = ((part / 2.0).log_softmax(2) for part in (emissions, emissions.flip(2)))
    by_token = (taught.exp() * (taught - learned)).sum(2)
    torch.testing.assert_close(found, (by_token * mask).sum(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_tags_per_type_are_as_many_distributions_as_types(temperature: float) -> None:
    """Oracle: each type alone, which brute force checks above."""
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    emissions = torch.randn(2, 2, 4, 2 * len(TAGS), generator=torch.Generator().manual_seed(6))
    apart = [[random_crf(10 * person + kind) for kind in (1, 2)] for person in (1, 2)]
    teacher, student = (CRF(len(TAGS), batch_first=True, legal=LEGAL, types=2) for _ in apart)
    for joint, fields in zip((teacher, student), apart, strict=True):
        joint.load_state_dict({name: torch.stack([one.state_dict()[name] for one in fields]) for name in CRF_NAMES})
        joint.requires_grad_(False)
    target = expectations(teacher, emissions[0], mask, temperature=temperature)
    found = divergence(student, emissions[1], mask, target, temperature=temperature)
    total, entropy = torch.zeros(2), torch.zeros(2)
    for kind, (taught, learning) in enumerate(zip(*apart, strict=True)):
        own = slice(3 * kind, 3 * kind + 3)
        alone = expectations(taught, emissions[0][..., own], mask, temperature=temperature)
        torch.testing.assert_close(target.marginals[..., own], alone.marginals)
        torch.testing.assert_close(target.pairs[:, own], alone.pairs)
        entropy += alone.entropy
        total += divergence(learning, emissions[1][..., own], mask, alone, temperature=temperature)
    torch.testing.assert_close(target.entropy, entropy)
    torch.testing.assert_close(found, total)


def test_several_teachers_pull_as_the_mixture_of_their_distributions(rows: tuple[Tensor, Tensor]) -> None:
    emissions, mask = rows[0][:1], rows[1][:1]
    teachers, student = (random_crf(1), random_crf(3)), random_crf(2)
    target = mean([expectations(crf, emissions, mask, temperature=1.0) for crf in teachers])
    given = emissions.flip(2).clone().requires_grad_()
    found = divergence(student, given, mask, target, temperature=1.0)
    shares = [distribution(crf, emissions[0], 1.0) for crf in teachers]
    learned = distribution(student, given[0], 1.0)
    assert found.item() == pytest.approx(sum(kl(one, learned).item() for one in shares) / 2, abs=1e-5)
    mixture = {tags: ((shares[0][tags] + shares[1][tags]) / 2).detach() for tags in learned}
    (expected,) = torch.autograd.grad(kl(mixture, learned), given)
    (pull,) = torch.autograd.grad(found.sum(), given)
    torch.testing.assert_close(pull, expected, atol=1e-5, rtol=0)


# Layers --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def six_layers(tmp_path_factory: pytest.TempPathFactory, tokenizers: dict[str, Any]) -> Path:
    """An encoder of six layers."""
    place = tmp_path_factory.mktemp("six") / "encoder"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizers["wordpiece"]),
        hidden_size=16,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
    )
    AutoModel.from_config(config).save_pretrained(place)
    tokenizers["wordpiece"].save_pretrained(place)
    return place


@pytest.mark.parametrize(("count", "kept"), [(6, [0, 1, 2, 3, 4, 5]), (3, [1, 3, 5]), (2, [2, 5]), (1, [5])])
def test_every_nth_layer_is_kept_as_it_is(six_layers: Path, count: int, kept: Sequence[int]) -> None:
    source = read_source(six_layers)
    found = with_layers(source, count)
    assert found.config["num_hidden_layers"] == count
    place = "backbone.encoder.layer."
    for number, layer in enumerate(kept):
        before = {name: value for name, value in source.weights.items() if name.startswith(f"{place}{layer}.")}
        assert before
        for name, value in before.items():
            own = name.replace(f"{place}{layer}.", f"{place}{number}.")
            assert torch.equal(found.weights[own], value)
    others = {name for name in source.weights if not name.startswith(place)}
    assert others <= set(found.weights)
    assert len({name.split(".")[3] for name in found.weights if name.startswith(place)}) == count


def test_a_student_starts_with_layers_embeddings_head_and_crf_of_its_teacher(
    six_layers: Path, labels: LabelSet, tmp_path: Path
) -> None:
    teacher = ModelTrainer(
        label2id=labels.label2id, model=six_layers, use_crf=True, classifier_hidden_layers=[8], max_length=40
    )
    torch.nn.init.normal_(teacher.model.crf.transitions)
    teacher.save_model(tmp_path / "teacher")
    student = ModelTrainer(
        distillation=Distillation(teachers=tmp_path / "teacher"),
        options=TrainingOptions(layers=3),
        output_dir=tmp_path / "student",
    )
    theirs, ours = teacher.model.state_dict(), student.model.state_dict()
    numbers = {"0": "1", "1": "3", "2": "5"}
    for name, value in ours.items():
        parts = name.split(".")
        if parts[:3] == ["backbone", "encoder", "layer"]:
            parts[3] = numbers[parts[3]]
        assert torch.equal(value, theirs[".".join(parts)]), name
    assert student.start.fresh == ()
    assert (student.labels, student.model.config.window_length) == (labels, 40)
    assert student.settings["model"] == "teacher"


@pytest.mark.parametrize(("family", "count", "problem"), [("bert", 3, "at most 2"), ("modernbert", 1, "not alike")])
def test_layers_that_cannot_be_kept_are_refused(
    encoder_dir: Callable[[str], Path], family: str, count: int, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        with_layers(read_source(encoder_dir(family)), count)


@pytest.mark.parametrize("family", ["bert", "electra", "roberta", "xlm-roberta", "deberta-v2"])
def test_a_shortened_encoder_of_every_usual_family_has_all_its_weights(
    encoder_dir: Callable[[str], Path], labels: LabelSet, family: str, tmp_path: Path
) -> None:
    trainer = ModelTrainer(
        label2id=labels.label2id,
        model=encoder_dir(family),
        max_length=64,
        output_dir=tmp_path / "out",
        options=TrainingOptions(layers=1),
    )
    assert [name for name in trainer.start.fresh if name.startswith("backbone.")] == []
    assert trainer.model.config.build_encoder_config().num_hidden_layers == 1


# Students ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def save(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path: Path) -> Save:
    """Write a tiny teacher with opinions."""

    def write(name: str = "teacher", *, family: str = "bert", shift: float = 0.0, **settings: Any) -> Path:
        model = make_model(family, **{"use_crf": True, **settings})
        with torch.no_grad():
            model.classifier.bias += shift * torch.arange(model.num_labels)
        kind = {"bert": "wordpiece", "roberta": "byte-bpe"}[family]
        write_model_dir(model, tokenizers[kind], tmp_path / name, training_args={"labels": model.config.tags})
        return tmp_path / name

    return write


@pytest.fixture
def make_student(tmp_path: Path, encoder_dir: Callable[[str], Path]) -> Callable[..., ModelTrainer]:
    """A student of a tiny encoder."""

    def make(teachers: Any, *, unlabelled: Any = (), teaching: Mapping[str, Any] | None = None, **given: Any) -> Any:
        chosen: dict[str, Any] = {
            "model": encoder_dir("bert"),
            "batch_size": 2,
            "num_train_epochs": 1,
            "learning_rate": 5e-3,
            "output_dir": tmp_path / "student",
            "options": TrainingOptions(training_context=4, precision="float32", device="cpu", overwrite=True),
        }
        distillation = Distillation(teachers=teachers, unlabelled=unlabelled, **(teaching or {}))
        return ModelTrainer(**{**chosen, **given}, distillation=distillation)

    return make


def trained(trainer: ModelTrainer, *data: Any) -> dict[str, Tensor]:
    """The weights after training."""
    trainer.train(*data)
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def test_the_annotations_of_unlabelled_notes_play_no_part(
    save: Save, make_student: Callable[..., ModelTrainer], documents: list[Document]
) -> None:
    teacher, others = save(), [replace(document, id=f"{document.id}-2") for document in documents]
    bare = [document.with_spans(()) for document in others]
    wrong = [document.with_spans([Span(0, 4, "NO SUCH TYPE")]) for document in others]
    texts = [document.text for document in others]
    annotated, *rest = (
        trained(make_student(teacher, unlabelled=notes), documents[:1]) for notes in (wrong, bare, texts)
    )
    for weights in rest:
        assert all(torch.equal(value, annotated[name]) for name, value in weights.items())
    without = trained(make_student(teacher), documents[:1])
    assert not all(torch.equal(value, annotated[name]) for name, value in without.items())


def test_where_nothing_is_labelled_the_loss_is_the_divergence_alone(
    save: Save, make_student: Callable[..., ModelTrainer], documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    inner = DistillingTrainer._loss

    def watch(self: DistillingTrainer, outputs: Any, inputs: Any, windows: Any) -> Tensor:
        loss = inner(self, outputs, inputs, windows)
        target = self.lesson.of(windows, torch.device("cpu"))
        parts = divergence(self.crf, outputs.logits, inputs["attention_mask"], target, temperature=3.0)
        positions = inputs["attention_mask"].sum()
        seen.append((inputs["labels"], loss.detach(), (0.4 * 9.0 * parts.sum() / positions).detach(), outputs.loss))
        return loss

    monkeypatch.setattr(DistillingTrainer, "_loss", watch)
    teaching = {"teacher_weight": 0.4, "teacher_temperature": 3.0}
    make_student(save(), unlabelled=documents[1:], teaching=teaching, batch_size=1).train(documents[:1])
    bare = [row for row in seen if row[0].eq(-100).all()]
    labelled = [row for row in seen if not row[0].eq(-100).any()]
    assert len(bare) >= 2
    assert labelled
    for labels, loss, taught, own in bare + labelled:
        share = labels.ne(-100).float().mean()
        torch.testing.assert_close(loss, taught + 0.6 * share * own.detach())


def test_a_student_can_learn_from_unlabelled_notes_alone(
    save: Save, make_student: Callable[..., ModelTrainer], documents: list[Document]
) -> None:
    student = make_student(save(), unlabelled=documents)
    result = student.train([])
    assert (result.documents["training"].documents, result.documents["unlabelled"].documents) == (0, 3)
    with pytest.raises(DataError, match="training data is empty"):
        make_student(save("other")).train([])


def test_an_ensemble_teaches_the_mean(save: Save, make_student: Callable[..., ModelTrainer]) -> None:
    """What two teachers expect is the mean, and one teacher given twice teaches as it does alone."""
    one, two = save("one"), save("two", shift=0.5)

    def lesson(*teachers: Path) -> Lesson:
        student = make_student(list(teachers))
        features = [{"input_ids": [2, 7, 8, 9, 3], "labels": [0] * 5}, {"input_ids": [2, 9, 3], "labels": [0] * 3}]
        return Teachers.read(Distillation(teachers=list(teachers))).teach(
            features, student.start, device=torch.device("cpu"), progress=lambda *_, **__: None
        )

    alone, other, both, twice = (lesson(*given) for given in ((one,), (two,), (one, two), (one, one)))
    for first, second, mixed, same in zip(alone.targets, other.targets, both.targets, twice.targets, strict=True):
        for part in range(len(Expectations._fields)):
            torch.testing.assert_close(mixed[part], (first[part] + second[part]) / 2)
            torch.testing.assert_close(same[part], first[part])
        assert not torch.allclose(first.marginals, second.marginals)
        torch.testing.assert_close(mixed.marginals.sum(1), torch.ones(len(mixed.marginals)))


@pytest.mark.parametrize("overlap", ["flat", "per-type"])
@pytest.mark.parametrize(("teacher_crf", "student_crf"), [(False, False), (False, True), (True, True)])
def test_with_and_without_crf_the_student_comes_nearer_to_its_teacher(
    save: Save,
    make_student: Callable[..., ModelTrainer],
    documents: list[Document],
    teacher_crf: bool,
    student_crf: bool,
    overlap: str,
) -> None:
    student = make_student(
        save(use_crf=teacher_crf, overlap=overlap),
        unlabelled=[document.text for document in documents] * 15,
        use_crf=student_crf,
        learning_rate=2e-2,
        teaching={"teacher_weight": 1.0},
    )
    assert (student.model.uses_crf, student.labels.overlap) == (student_crf, overlap)
    result = student.train([])
    losses = [row["loss"] for row in result.history if "loss" in row]
    assert all(loss > 0 for loss in losses)
    assert losses[-1] < losses[0] / 2


def test_a_student_is_saved_whole_and_says_who_taught_it(
    save: Save, make_student: Callable[..., ModelTrainer], documents: list[Document], tmp_path: Path
) -> None:
    teachers = [save("one"), save("two", shift=0.5)]
    result = make_student(teachers, unlabelled=["Unmarked: no oedema."]).train(documents, None, documents)
    digests = [json.loads((teacher / "cardioner.json").read_text())["digest"] for teacher in teachers]
    enter(result.output_dir)
    assert result.evaluation is not None
    manifest = json.loads((result.output_dir / "cardioner.json").read_text())
    assert manifest["training"]["distillation"] == {
        "manifests": digests,
        "teacher_weight": 0.5,
        "teacher_temperature": 1.0,
    }
    assert manifest["documents"]["unlabelled"]["documents"] == 1
    card = (result.output_dir / "README.md").read_text()
    assert "Distilled from 2 teachers" in card
    assert all(digest in card for digest in digests)
    written = card + json.dumps(manifest) + (result.output_dir / "training_args.json").read_text()
    assert str(tmp_path) not in written
    assert "oedema" not in written


def test_a_student_loads_by_all_three_doors(
    save: Save, make_student: Callable[..., ModelTrainer], documents: list[Document]
) -> None:
    place = make_student(save(), unlabelled=documents, teaching={"teacher_weight": 1.0}).train([]).output_dir
    text = documents[0].text
    by_load, by_predictor = (
        [(span.start, span.end, span.label) for span in tagger(text)]
        for tagger in (cardioner.load(place), cardioner.Predictor(*read_model_dir(place)[:2]))
    )
    stock = pipeline("token-classification", model=str(place), trust_remote_code=True)
    assert by_load
    assert by_load == by_predictor == [(one["start"], one["end"], one["entity_group"]) for one in stock(text)]


def test_an_interrupted_distillation_resumes_with_the_same_teachers_alone(
    save: Save, make_student: Callable[..., ModelTrainer], documents: list[Document]
) -> None:
    first, other = save("one"), save("two", shift=0.5)

    def student(teacher: Path, **given: Any) -> ModelTrainer:
        options = TrainingOptions(training_context=4, precision="float32", device="cpu", **given)
        return make_student(teacher, num_train_epochs=2, options=options)

    def stop(stage: str, done: int, total: int, **_: Any) -> None:
        if stage == "training" and done > total // 2:
            raise KeyboardInterrupt

    whole = trained(student(first, overwrite=True), documents)
    with pytest.raises(KeyboardInterrupt):
        student(first, overwrite=True, progress=stop).train(documents)
    with pytest.raises(UsageError, match="distillation"):
        student(other, resume=True).train(documents)
    resumed = trained(student(first, resume=True), documents)
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


# Refusals ------------------------------------------------------------------------------------------------------------


def test_teachers_with_other_tags_or_tokenizers_are_refused(save: Save) -> None:
    first, other, roberta = save("one"), save("bioes", scheme="BIOES"), save("roberta", family="roberta")
    with pytest.raises(ModelError, match=r"same tags; .*one has O, .*bioes has O, .*E-DISEASE"):
        Teachers.read(Distillation(teachers=[first, other]))
    with pytest.raises(ModelError, match=r"same tokenizer; .*one and .*roberta"):
        Teachers.read(Distillation(teachers=[first, roberta]))


def test_a_student_with_other_tags_another_tokenizer_or_longer_windows_is_refused(
    save: Save, make_student: Callable[..., ModelTrainer], encoder_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    teacher = save()
    with pytest.raises(UsageError, match=r"has the tags of its teachers: O, .*; found O, B-X, I-X"):
        make_student(teacher, label2id={tag: index for index, tag in enumerate(TAGS)})
    with pytest.raises(UsageError, match=r"has the tokenizer of its teachers.*roberta has another one than .*teacher"):
        make_student(teacher, model=encoder_dir("roberta"))
    wide = AutoModel.from_pretrained(encoder_dir("bert")).config
    wide.max_position_embeddings = 200
    AutoModel.from_config(wide).save_pretrained(tmp_path / "wide")
    tokenizer = read_model_dir(teacher, device="cpu").tokenizer
    with pytest.raises(UsageError, match=r"max_length 190 is more than the 128 sub-tokens that .*teacher reads"):
        make_student(teacher, model=tmp_path / "wide", tokenizer=tokenizer, max_length=190)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"teachers": []}, "teachers: expected a model directory, or several"),
        ({"teachers": "x", "teacher_weight": 0}, "teacher_weight: expected more than 0"),
        ({"teachers": "x", "teacher_weight": 1.5}, "teacher_weight: expected 1.0 or less"),
        ({"teachers": "x", "teacher_temperature": 0}, "teacher_temperature: expected"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        Distillation(**given)


def test_annotations_of_types_that_the_teachers_lack_are_refused(
    save: Save, make_student: Callable[..., ModelTrainer], documents: list[Document]
) -> None:
    other = documents[0].with_spans([Span(0, 4, "DEVICE")])
    with pytest.raises(DataError, match="the data also has DEVICE"):
        make_student(save()).train([other])
