"""Merging: the mean against a closed form, what is recorded, what is refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import cardioner
from cardioner.data.documents import Document
from cardioner.errors import DataError, ModelError, OutputError, UsageError
from cardioner.model_dir.card import model_card
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.load import read_model_dir
from cardioner.model_dir.manifest import read_manifest
from cardioner.model_dir.save import write_model_dir
from cardioner.training.merging import MOST_DISTANCE, mean_weights, merge, slerp_weights

Save = Callable[..., Path]


@pytest.fixture
def save(make_model: Callable[..., Any], tokenizers: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Write a model that learned a little: the same for each seed, from the same start."""

    def build(*, learned: int = 0, by: float = 0.02, head: bool = True, **settings: Any) -> Path:
        model = make_model("bert", **{"use_crf": True, **settings})
        if not head:
            model.classifier.apply(lambda part: isinstance(part, nn.Linear) and nn.init.normal_(part.weight))
        chance = torch.Generator().manual_seed(learned)
        with torch.no_grad():
            for value in model.parameters():
                value.add_(by * torch.randn(value.shape, generator=chance))
        place = tmp_path_factory.mktemp("learned") / f"model-{learned}"
        write_model_dir(model, tokenizers["wordpiece"], place, training_args={"model": "tiny"})
        return place

    return build


def weights(place: Path) -> dict[str, Tensor]:
    return load_file(place / "model.safetensors")


def test_the_mean_is_that_of_every_weight() -> None:
    states = [{"a": torch.tensor([1.0, 5.0]) * number, "ids": torch.tensor([7])} for number in (1, 2, 6)]
    found = mean_weights(*states)
    assert torch.equal(found["a"], torch.tensor([3.0, 15.0]))
    assert torch.equal(found["ids"], torch.tensor([7]))


@pytest.mark.parametrize("count", [2, 3, 5, 7])
def test_equal_models_give_the_same_bits(count: int) -> None:
    state = {"a": torch.randn(1000), "b": torch.rand(10, 10) * 1e-30, "half": torch.randn(50).to(torch.bfloat16)}
    merged = mean_weights(*[state] * count)
    assert all(torch.equal(merged[name], value) and merged[name].dtype == value.dtype for name, value in state.items())


def by_formula(one: Tensor, other: Tensor) -> Tensor:
    """Halfway between two vectors on a sphere, with sines as Shoemake has it."""
    left, right = one.double().numpy().ravel(), other.double().numpy().ravel()
    angle = math.acos(left @ right / math.sqrt(left @ left * (right @ right)))
    share = math.sin(angle / 2) / math.sin(angle)
    return torch.from_numpy(share * left + share * right).reshape(one.shape)


def test_an_arc_is_that_of_the_closed_form_and_keeps_the_length() -> None:
    torch.manual_seed(3)
    first = {"a": torch.randn(7, 5), "b": torch.randn(40), "ids": torch.tensor([7])}
    second = {"a": torch.randn(7, 5), "b": first["b"] + 0.1 * torch.randn(40), "ids": torch.tensor([9])}
    found = slerp_weights(first, second)
    for name in "ab":
        torch.testing.assert_close(found[name].double(), by_formula(first[name], second[name]), rtol=1e-6, atol=1e-6)
    assert found["ids"].item() == 7
    for name, value in slerp_weights({"u": torch.tensor([1.0, 0.0])}, {"u": torch.tensor([0.0, 1.0])}).items():
        torch.testing.assert_close(value, torch.full((2,), math.sqrt(0.5)), msg=name)
        assert value.norm().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0.0, 0.0], [2.0, 4.0], [1.0, 2.0]),
        ([1.0, 2.0], [3.0, 6.0], [2.0, 4.0]),
        ([1.0, 2.0], [-1.0, -2.0], [0.0, 0.0]),
    ],
)
def test_where_there_is_no_one_arc_it_is_the_mean(one: list[float], other: list[float], expected: list[float]) -> None:
    found = slerp_weights({"a": torch.tensor(one)}, {"a": torch.tensor(other)})["a"]
    assert torch.equal(found, torch.tensor(expected))


def test_a_directory_of_an_arc_loads_and_says_so(save: Save, documents: list[Document], tmp_path: Path) -> None:
    places = [save(learned=seed) for seed in range(2)]
    made = merge(places, tmp_path / "merged", evaluation=documents, method="slerp")
    first, second = map(weights, places)
    for name, value in weights(tmp_path / "merged").items():
        torch.testing.assert_close(value.double(), by_formula(first[name], second[name]), rtol=1e-5, atol=1e-6)
    assert made.to_dict()["method"] == "slerp"
    assert (
        "What lies halfway on the arc between the weights of 2 models"
        in (tmp_path / "merged" / "README.md").read_text()
    )
    assert cardioner.load(tmp_path / "merged").labels


@pytest.mark.parametrize("use_crf", [True, False])
def test_the_merged_directory_has_the_mean_and_loads(
    save: Save, documents: list[Document], tmp_path: Path, use_crf: bool
) -> None:
    places = [save(learned=seed, use_crf=use_crf) for seed in range(3)]
    made = merge(places, tmp_path / "merged", evaluation=documents)
    states, merged = [weights(place) for place in places], weights(tmp_path / "merged")
    for name, value in merged.items():
        torch.testing.assert_close(value, sum(state[name] for state in states) / 3)
    assert 0 < made.distance < MOST_DISTANCE
    assert list(made.parts) == places
    tagger = cardioner.load(tmp_path / "merged")
    assert [document.id for document in tagger.predict(documents)] == [document.id for document in documents]


def test_equal_models_tag_and_score_as_each_of_them(save: Save, documents: list[Document], tmp_path: Path) -> None:
    place = save()
    made = merge([place, shutil.copytree(place, tmp_path / "copy")], tmp_path / "merged", evaluation=documents)
    assert all(torch.equal(value, weights(place)[name]) for name, value in weights(tmp_path / "merged").items())
    assert (made.distance, made.gain) == (0, 0)


def test_the_record_says_what_it_was_made_of(save: Save, documents: list[Document], tmp_path: Path) -> None:
    places = [save(learned=seed) for seed in range(2)]
    made = merge(places, tmp_path / "merged", evaluation=documents)
    manifest = read_manifest(tmp_path / "merged")
    assert manifest is not None
    digests = [read_json(place / "cardioner.json")["digest"] for place in places]
    assert manifest.training["merged"] == {"method": "mean", "manifests": digests, "distance": round(made.distance, 4)}
    assert manifest.training["model"] == "tiny"
    assert manifest.scores["evaluation"]["strict"] == made.scored.scores.to_dict()["strict"]
    assert manifest.documents["evaluation"].documents == len(documents)
    card = model_card(read_json(tmp_path / "merged" / "config.json"), manifest)
    assert "The mean of the weights of 2 models" in card
    assert digests[0] in card
    assert str(places[0].parent) not in card + json.dumps(manifest.training)


def test_a_folder_of_repeated_trainings_stands_for_its_models(
    save: Save, documents: list[Document], tmp_path: Path
) -> None:
    names = []
    for seed in range(2):
        names.append(f"seed-{seed}")
        save(learned=seed).rename(tmp_path / names[-1])
    summary = {"complete": True, "members": [{"name": name, "scores": {}} for name in names]}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert list(merge(tmp_path, tmp_path / "merged", evaluation=documents).parts) == [tmp_path / name for name in names]


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"use_crf": False}, "differ in use_crf"),
        ({"classifier_hidden_layers": [8]}, "differ in classifier_hidden_layers"),
        ({"by": 3.0}, "did not begin from the same encoder"),
        ({"head": False}, "did not begin from the same head"),
    ],
)
def test_models_whose_weights_do_not_mean_the_same_are_refused(
    save: Save, documents: Sequence[Document], tmp_path: Path, other: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ModelError, match=problem):
        merge([save(), save(learned=1, **other)], tmp_path / "merged", evaluation=documents)
    assert not (tmp_path / "merged" / "config.json").exists()


def test_other_tags_and_other_tokenizers_are_refused(
    save: Save,
    make_model: Callable[..., Any],
    tokenizers: dict[str, Any],
    documents: list[Document],
    tmp_path: Path,
) -> None:
    model, tokenizer, config = read_model_dir(save(), device="cpu")
    tags = [tag.replace("DISEASE", "ILLNESS") for tag in config.tags]
    model.config.id2label, model.config.label2id = dict(enumerate(tags)), {tag: i for i, tag in enumerate(tags)}
    write_model_dir(model, tokenizer, tmp_path / "tags")
    with pytest.raises(ModelError, match="different tags"):
        merge([save(), tmp_path / "tags"], tmp_path / "merged", evaluation=documents)
    other = make_model("roberta", use_crf=True)
    write_model_dir(other, tokenizers["byte-bpe"], tmp_path / "tokenizer")
    with pytest.raises(ModelError, match="different tokenizers"):
        merge([save(), tmp_path / "tokenizer"], tmp_path / "merged", evaluation=documents)
    assert not (tmp_path / "merged").exists()


def test_one_model_no_notes_and_a_taken_place_are_refused(
    save: Save, documents: list[Document], tmp_path: Path
) -> None:
    place, other = save(), save(learned=1)
    with pytest.raises(UsageError, match="two models or more"):
        merge(place, tmp_path / "merged", evaluation=documents)
    with pytest.raises(DataError, match="needs annotated notes"):
        merge([place, other], tmp_path / "merged", evaluation=[])
    with pytest.raises(OutputError, match="already holds a model"):
        merge([place, other], save(), evaluation=documents)
    with pytest.raises(OutputError, match="is one of the models that the new one is made from"):
        merge([place, other], place, evaluation=documents, overwrite=True)


def test_a_model_that_is_named_twice_and_an_arc_between_three_are_refused(
    save: Save, documents: list[Document], tmp_path: Path
) -> None:
    places = [save(learned=seed) for seed in range(3)]
    (tmp_path / "link").symlink_to(places[0])
    for same in (places[0], str(places[0].parent / "." / places[0].name), tmp_path / "link"):
        with pytest.raises(UsageError, match="is named twice"):
            merge([places[0], places[1], same], tmp_path / "merged", evaluation=documents)
    with pytest.raises(UsageError, match="slerp is between two models; found 3"):
        merge(places, tmp_path / "merged", evaluation=documents, method="slerp")
    with pytest.raises(UsageError, match="must be one of mean, slerp"):
        merge(places, tmp_path / "merged", evaluation=documents, method="median")  # type: ignore[arg-type]
    assert not (tmp_path / "merged").exists()
