"""Models of the original CardioNER with a head for each type come back with equal logits and tags, or are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel

from cardioner import ModelTrainer, Predictor
from cardioner.errors import ModelError
from cardioner.interop.legacy import upgrade
from cardioner.model_dir.load import read_model_dir

TYPES = ("DRUG", "SYMPTOM", "DISEASE")
"""Not in the order of ours."""
CRF = {"start_transitions": (3,), "end_transitions": (3,), "transitions": (3, 3)}


class Original(nn.Module):
    """Built from torch's modules alone, with the names that the original gave them."""

    def __init__(self, config: Any, types: tuple[str, ...], hidden: int, *, crf: bool) -> None:
        super().__init__()
        self.roberta = AutoModel.from_config(config, add_pooling_layer=False)
        self.types, self.hidden = types, hidden
        for label in types:
            for layer in range(hidden):
                self.add_module(f"{label}_dense_{layer}", nn.Linear(config.hidden_size, config.hidden_size))
            self.add_module(f"{label}_classifier", nn.Linear(config.hidden_size, 3))
            if crf:
                field = nn.ParameterDict()
                for name, shape in CRF.items():
                    field[name] = nn.Parameter(torch.randn(shape))
                with torch.no_grad():
                    field["start_transitions"][2] = field["transitions"][0, 2] = -1e9
                self.add_module(f"{label}_crf", field)
        for name, parameter in self.named_parameters():
            if "_dense_" in name or "_classifier" in name:
                nn.init.normal_(parameter, std=0.7)

    @torch.inference_mode()
    def logits(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Per type `(batch, length, 3)`."""
        states = self.roberta(ids, attention_mask=mask).last_hidden_state
        logits = {}
        for label in self.types:
            own = states
            for layer in range(self.hidden):
                own = nn.functional.gelu(self.get_submodule(f"{label}_dense_{layer}")(own))
            logits[label] = self.get_submodule(f"{label}_classifier")(own)
        return logits

    def best(self, label: str, logits: Tensor) -> list[int]:
        """The best of all sequences of a type's tags for logits `(length, 3)`, each one scored."""
        field = self.get_submodule(f"{label}_crf")
        start, end, transitions = (value.tolist() for value in (field[name].data for name in CRF))
        rows = logits.tolist()

        def score(tags: tuple[int, ...]) -> float:
            total = start[tags[0]] + end[tags[-1]] + sum(row[tag] for row, tag in zip(rows, tags, strict=True))
            return float(total + sum(transitions[one][other] for one, other in pairwise(tags)))

        return list(max(product(range(3), repeat=len(logits)), key=score))


class Old:
    """An old directory, the encoder's folder, and the model."""

    def __init__(self, place: Path, backbone: Path, model: Original) -> None:
        self.place, self.backbone, self.model = place, backbone, model

    def upgrade(self, new: Path) -> Any:
        return upgrade(self.place, new, backbone=self.backbone)

    def edit_config(self, **changed: Any) -> None:
        config = json.loads((self.place / "config.json").read_text(encoding="utf-8"))
        (self.place / "config.json").write_text(json.dumps(config | changed), encoding="utf-8")

    def edit_weights(self, change: Callable[[dict[str, Tensor]], Any]) -> None:
        weights = load_file(self.place / "model.safetensors")
        change(weights)
        save_file(weights, self.place / "model.safetensors")


@pytest.fixture
def make_old(
    encoder_config: Callable[[str], Any],
    encoder_dir: Callable[[str], Path],
    tokenizers: dict[str, Any],
    tmp_path: Path,
) -> Callable[..., Old]:
    def make(types: tuple[str, ...] = TYPES, *, hidden: int = 1, crf: bool = True, weighted: bool = False) -> Old:
        torch.manual_seed(5)
        config = encoder_config("roberta")
        model, kind = Original(config, types, hidden, crf=crf).eval(), f"MultiHead{'CRF' if crf else ''}"
        place = tmp_path / "old"
        place.mkdir()
        weights = model.state_dict()
        if weighted:
            weights["loss_fns.DRUG.weight"] = torch.tensor([1.0, 2.0, 2.0])
        save_file(weights, place / "model.safetensors")
        saved = {
            "model_type": "multihead-crf-tagger" if crf else "multihead-tagger",
            "architectures": [f"TokenClassificationModel{kind}"],
            "auto_map": {"AutoModelForTokenClassification": f"modeling.TokenClassificationModel{kind}"},
            "entity_types": list(types),
            "number_of_layers_per_head": hidden,
            "classifier_dropout": 0.2,
            "class_weights": {label: [1.0, 2.0, 3.0] for label in types} if weighted else None,
            "id2label": {"0": "O", "1": "B", "2": "I"},
            "label2id": {"O": 0, "B": 1, "I": 2},
            "hidden_size": config.hidden_size,
            "backbone_model_name": "some-lab/some-encoder",
        }
        (place / "config.json").write_text(json.dumps(saved), encoding="utf-8")
        (place / "modeling.py").write_text("raise SystemExit('this must not run')\n", encoding="utf-8")
        tokenizers["byte-bpe"].save_pretrained(place)
        return Old(place, encoder_dir("roberta"), model)

    return make


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    ids = torch.randint(5, 60, (2, 6), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return ids, mask


@pytest.mark.parametrize("hidden", [0, 1, 2])
@pytest.mark.parametrize("crf", [True, False])
@pytest.mark.parametrize("types", [TYPES, ("DRUG",)])
def test_logits_and_tags_are_those_of_each_head(
    types: tuple[str, ...],
    crf: bool,
    hidden: int,
    make_old: Callable[..., Old],
    batch: tuple[Tensor, Tensor],
    tmp_path: Path,
) -> None:
    old = make_old(types, hidden=hidden, crf=crf)
    facts = old.upgrade(tmp_path / "new").facts
    model, _, _ = read_model_dir(tmp_path / "new", device="cpu")
    assert facts["head"] == " -> ".join(map(str, [16] * (hidden + 1) + [3 * len(types)]))
    assert (model.uses_crf, model.config.classifier_dropout) == (crf, 0.2)
    ids, mask = batch
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask).logits
    decoded = model.decode(logits, mask)
    expected = old.model.logits(ids, mask)
    for index, label in enumerate(sorted(types)):
        own, kept = slice(3 * index, 3 * index + 3), mask.bool()
        torch.testing.assert_close(logits[..., own][kept], expected[label][kept], rtol=0, atol=1e-5)
        prefix = "O-" if len(types) > 1 else ""
        assert model.config.tags[own] == [f"{prefix}{label}" if prefix else "O", f"B-{label}", f"I-{label}"]
        for row, tags in enumerate(decoded):
            found = tags if model.types is None else tags[index]
            scores = expected[label][row][kept[row]]
            best = old.model.best(label, scores) if crf else scores.argmax(-1).tolist()
            assert [tag - 3 * index for tag in found] == best


def test_an_upgraded_model_tags_and_is_trained_on_as_it_is(make_old: Callable[..., Old], tmp_path: Path) -> None:
    found = make_old().upgrade(tmp_path / "new")
    assert not any("cross-entropy" in warning for warning in found.warnings), "its CRFs were trained"
    tagger = Predictor.from_pretrained(tmp_path / "new")
    assert tagger.labels == ("DISEASE", "DRUG", "SYMPTOM")
    assert tagger("No chest pain on bisoprolol. " * 9)
    transitions = tagger.model.crf.state_dict()["transitions"]
    assert (transitions.shape, transitions.min().item() > -10) == ((3, 3, 3), True)
    trainer = ModelTrainer(
        label2id=tagger.model.config.label2id,
        model=tmp_path / "new",
        use_crf=True,
        classifier_hidden_layers=(16,),
        max_length=64,
        output_dir=tmp_path / "more",
    )
    assert trainer.start.fresh == ()
    ids = torch.arange(5, 15)[None]
    with torch.inference_mode():
        again, before = (one.eval()(input_ids=ids).logits for one in (trainer.model, tagger.model))
    torch.testing.assert_close(again, before)


def test_class_weights_are_kept_in_the_order_of_the_tags(make_old: Callable[..., Old], tmp_path: Path) -> None:
    old = make_old(crf=False, weighted=True)
    old.edit_config(class_weights={"DRUG": [1, 2, 3], "DISEASE": [4, 5, 6], "SYMPTOM": [7, 8, 9]})
    old.upgrade(tmp_path / "new")
    model, _, _ = read_model_dir(tmp_path / "new", device="cpu")
    assert model.config.class_weights == [4, 5, 6, 1, 2, 3, 7, 8, 9]


def test_without_the_encoder_it_is_said_what_to_fetch(make_old: Callable[..., Old], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"hf download some-lab/some-encoder .* give --backbone encoder"):
        upgrade(make_old().place, tmp_path / "new")


def a_fourth_tag(weights: dict[str, Tensor]) -> None:
    weights["DRUG_classifier.weight"], weights["DRUG_classifier.bias"] = torch.zeros(4, 16), torch.zeros(4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (a_fourth_tag, r"score the tags O, B and I; that of DRUG has weights of the shape \(4, 16\)"),
        (lambda weights: weights.pop("DISEASE_crf.transitions"), r"lacks DISEASE_crf\.transitions"),
        (lambda weights: weights.pop("DRUG_classifier.bias"), r"lacks DRUG_classifier\.bias"),
        (lambda weights: weights.update({"DRUG_crf.transitions": torch.zeros(3, 4)}), r"\(3, 4\) where \(3, 3\)"),
        (lambda weights: weights.update({"DRUG_dense_0.bias": torch.zeros(9)}), r"misshapen: classifier\.1\.0\.bias"),
        (lambda weights: weights.update({"DATE_classifier.bias": torch.zeros(3)}), r"unexpected: DATE_classifier"),
    ],
)
def test_heads_that_are_not_alike_are_refused(
    change: Callable[[dict[str, Tensor]], Any], message: str, make_old: Callable[..., Old], tmp_path: Path
) -> None:
    old = make_old()
    old.edit_weights(change)
    with pytest.raises(ModelError, match=message):
        old.upgrade(tmp_path / "new")
    assert not (tmp_path / "new" / "config.json").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"id2label": {"0": "O", "1": "B", "2": "I", "3": "PADDING"}},
            "the tags O, B and I of each head, in this order; found 4",
        ),
        ({"id2label": {"0": "B", "1": "I", "2": "O"}}, "in this order"),
        ({"entity_types": ["DRUG", "DRUG"]}, "name each type once"),
        ({"entity_types": []}, "name each type once"),
        ({"entity_types": ["DRUG", 3]}, "name each type once"),
        ({"entity_types": ["DRUG", "DATE"]}, "gives each head 1 hidden layers, .*DATE 0"),
        ({"number_of_layers_per_head": 2}, "gives each head 2 hidden layers, .*DISEASE 1"),
        ({"problem_type": "multi_label_classification"}, "only multiclass and multi-head models"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(
    changed: dict[str, Any], message: str, make_old: Callable[..., Old], tmp_path: Path
) -> None:
    old = make_old()
    old.edit_config(**changed)
    with pytest.raises(ModelError, match=message):
        old.upgrade(tmp_path / "new")
