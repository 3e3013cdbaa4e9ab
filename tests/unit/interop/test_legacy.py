"""Models of the original CardioNER come back with equal logits, or are refused by name, and nothing of theirs runs."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torchcrf
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, PretrainedConfig

from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError, OutputError, UsageError
from cardioner.interop.legacy import Upgrade, upgrade
from cardioner.model_dir.load import read_model_dir


class Original(nn.Module):
    """The model as the original built it: the encoder under the name `roberta`, a Linear or a Sequential, a CRF."""

    def __init__(self, config: PretrainedConfig, tags: int, hidden: tuple[int, ...], *, crf: bool) -> None:
        super().__init__()
        self.roberta = AutoModel.from_config(config)
        self.dropout = nn.Dropout(0.1)
        widths = [config.hidden_size, *hidden]
        layers: list[nn.Module] = []
        for before, width in zip(widths, hidden, strict=False):
            layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(0.1)]
        last = nn.Linear(widths[-1], tags)
        self.classifier = nn.Sequential(*layers, last) if layers else last
        for parameter in self.classifier.parameters():
            nn.init.normal_(parameter, std=0.7)
        if crf:
            self.crf = torchcrf.CRF(tags, batch_first=True)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.dropout(self.roberta(ids, attention_mask=mask).last_hidden_state))
        return logits


class Old:
    """An old directory, and the model that wrote it."""

    def __init__(self, place: Path, model: Original) -> None:
        self.place = place
        self.model = model

    def logits(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.model.float().eval()(ids, mask)

    def edit_config(self, *dropped: str, **changed: Any) -> None:
        path = self.place / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config = {key: value for key, value in (config | changed).items() if key not in dropped}
        path.write_text(json.dumps(config), encoding="utf-8")

    def edit_weights(self, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
        weights = load_file(self.place / "model.safetensors")
        change(weights)
        save_file(weights, self.place / "model.safetensors", metadata={"format": "pt"})


MakeOld = Callable[..., Old]

TOKENIZER_OF = {"bert": "wordpiece", "electra": "wordpiece", "roberta": "byte-bpe", "modernbert": "byte-bpe"}


@pytest.fixture
def make_old(
    encoder_config: Callable[[str], PretrainedConfig], tokenizers: dict[str, Any], labels: LabelSet, tmp_path: Path
) -> MakeOld:
    def make(
        family: str = "roberta",
        *,
        hidden: tuple[int, ...] = (),
        crf: bool = False,
        dtype: torch.dtype = torch.float32,
        pickled: bool = False,
    ) -> Old:
        torch.manual_seed(3)
        config = encoder_config(family)
        model = Original(config, len(labels.tags), hidden, crf=crf).to(dtype)
        place = tmp_path / "old"
        place.mkdir()
        own = {
            "id2label": {str(index): tag for index, tag in labels.id2label.items()},
            "label2id": labels.label2id,
            "classifier_hidden_layers": list(hidden) or None,
            "classifier_dropout": 0.2,
            "class_weights": None,
            "use_crf": crf,
            "freeze_backbone": False,
            "custom_model_type": "TokenClassificationModelCRF" if crf else "TokenClassificationModel",
            "backbone_model_name": "some-lab/some-encoder",
            "dtype": str(dtype).removeprefix("torch."),
            "auto_map": {"AutoModelForTokenClassification": "modeling.TokenClassificationModel"},
        }
        (place / "config.json").write_text(json.dumps(config.to_dict() | own), encoding="utf-8")
        (place / "modeling.py").write_text("raise SystemExit('this must not run')\n", encoding="utf-8")
        if pickled:
            torch.save(model.state_dict(), place / "pytorch_model.bin")
        else:
            save_file(model.state_dict(), place / "model.safetensors", metadata={"format": "pt"})
        tokenizers[TOKENIZER_OF.get(family, "unigram")].save_pretrained(place)
        return Old(place, model)

    return make


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(5, 60, (2, 12), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    return ids, mask


def same_logits(old: Old, new: Path, batch: tuple[torch.Tensor, torch.Tensor]) -> Any:
    """The new model, once its logits are the old ones."""
    model, _, _ = read_model_dir(new, device="cpu")
    ids, mask = batch
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=mask).logits
    kept = mask.bool()
    torch.testing.assert_close(found[kept], old.logits(ids, mask)[kept], rtol=0, atol=1e-5)
    assert all(value.dtype == torch.float32 for value in model.state_dict().values() if value.is_floating_point())
    return model


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize("hidden", [(), (9,), (9, 5)])
def test_logits_are_those_of_the_old_weights(
    hidden: tuple[int, ...],
    crf: bool,
    dtype: torch.dtype,
    pickled: bool,
    make_old: MakeOld,
    batch: tuple[torch.Tensor, torch.Tensor],
    tmp_path: Path,
    labels: LabelSet,
) -> None:
    old = make_old(hidden=hidden, crf=crf, dtype=dtype, pickled=pickled)
    found = upgrade(old.place, tmp_path / "new")
    model = same_logits(old, tmp_path / "new", batch)
    assert (model.uses_crf, model.config.classifier_hidden_layers) == (crf, list(hidden) or None)
    assert (model.config.tags, model.config.classifier_dropout) == (list(labels.tags), 0.2)
    assert found.facts["head"] == " -> ".join(map(str, [16, *hidden, 7]))
    assert str(dtype).removeprefix("torch.") in found.facts["weights"]
    assert ("pytorch_model.bin" in found.facts["weights"]) == pickled


@pytest.mark.parametrize("family", ["bert", "electra", "modernbert", "xlm-roberta", "deberta-v2"])
def test_an_encoder_of_any_family_comes_under_the_name_roberta(
    family: str, make_old: MakeOld, batch: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    old = make_old(family)
    assert upgrade(old.place, tmp_path / "new").facts["encoder"].startswith(f"{family},")
    same_logits(old, tmp_path / "new", batch)


@pytest.mark.parametrize(("family", "name"), [("bert", "backbone"), ("bert", "bert"), ("electra", "electra")])
def test_other_names_of_the_encoder_are_known(
    family: str, name: str, make_old: MakeOld, batch: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    old = make_old(family)

    def rename(weights: dict[str, torch.Tensor]) -> None:
        for key in [key for key in weights if key.startswith("roberta.")]:
            weights[key.replace("roberta.", f"{name}.", 1)] = weights.pop(key)

    old.edit_weights(rename)
    upgrade(old.place, tmp_path / "new")
    same_logits(old, tmp_path / "new", batch)


def test_viterbi_gives_the_tags_of_pytorch_crf_wherever_these_are_legal(
    make_old: MakeOld, labels: LabelSet, tmp_path: Path
) -> None:
    old = make_old(crf=True)
    nn.init.normal_(old.model.crf.transitions)
    old.edit_weights(lambda weights: weights.update({"crf.transitions": old.model.crf.transitions.detach()}))
    upgrade(old.place, tmp_path / "new")
    model, _, _ = read_model_dir(tmp_path / "new", device="cpu")
    emissions = torch.randn(300, 4, len(labels.tags), generator=torch.Generator().manual_seed(5))
    everything = torch.ones(300, 4, dtype=torch.bool)
    allowed = model.crf.legal
    legal = [
        (row, tags)
        for row, tags in enumerate(old.model.crf.decode(emissions, everything))
        if allowed.start[tags[0]] and all(allowed.transitions[a][b] for a, b in pairwise(tags))
    ]
    assert len(legal) > 30, "enough sequences to compare"
    decoded = model.decode(emissions)
    assert [decoded[row] for row, _ in legal] == [tags for _, tags in legal]


def test_an_untrained_crf_is_warned_about(make_old: MakeOld, tmp_path: Path) -> None:
    warnings = upgrade(make_old(crf=True).place, tmp_path / "new").warnings
    assert any("cross-entropy" in warning for warning in warnings)
    assert any("looks untrained" in warning for warning in warnings)
    assert any("padding labelled as O" in warning for warning in warnings)


def test_a_sequential_of_one_linear_layer_is_a_simple_head(
    make_old: MakeOld, batch: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    old = make_old()

    def rename(weights: dict[str, torch.Tensor]) -> None:
        for part in ("weight", "bias"):
            weights[f"classifier.1.{part}"] = weights.pop(f"classifier.{part}")

    old.edit_weights(rename)
    upgrade(old.place, tmp_path / "new")
    assert same_logits(old, tmp_path / "new", batch).config.classifier_hidden_layers is None


def test_poolers_and_position_ids_may_be_there_or_not(
    make_old: MakeOld, batch: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    old = make_old("bert")
    old.edit_weights(lambda weights: weights.update({"roberta.embeddings.position_ids": torch.arange(128)[None]}))
    upgrade(old.place, tmp_path / "with")
    old.edit_weights(lambda weights: [weights.pop(key) for key in list(weights) if ".pooler." in key])
    upgrade(old.place, tmp_path / "without")
    for place in ("with", "without"):
        same_logits(old, tmp_path / place, batch)


def test_windows_are_no_longer_than_what_the_encoder_reads(make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old("roberta")
    old.edit_config(max_position_embeddings=66)
    table = "roberta.embeddings.position_embeddings.weight"
    old.edit_weights(lambda weights: weights.update({table: weights[table][:66].clone()}))
    assert upgrade(old.place, tmp_path / "new").facts["windows"].startswith("64 sub-tokens")


SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def test_an_encoder_that_is_not_at_hand_is_named_with_what_to_fetch(make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old()
    old.edit_config(*SIZES)
    with pytest.raises(ModelError, match=r"hf download some-lab/some-encoder .* give --backbone encoder"):
        upgrade(old.place, tmp_path / "new")
    assert not (tmp_path / "new" / "config.json").exists()


@pytest.mark.parametrize("by", ["option", "cache"])
def test_the_encoder_and_the_tokenizer_may_come_from_a_folder(
    by: str,
    make_old: MakeOld,
    encoder_dir: Callable[[str], Path],
    batch: tuple[torch.Tensor, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = make_old()
    folder = encoder_dir("roberta")
    if by == "cache":
        monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        home = tmp_path / "hub" / "models--some-lab--some-encoder"
        shutil.copytree(folder, home / "snapshots" / ("0" * 40))
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    old.edit_config(*SIZES, backbone_model_name="some-lab/some-encoder")
    for path in old.place.glob("tokenizer*"):
        path.unlink()
    upgrade(old.place, tmp_path / "new", backbone=folder if by == "option" else None)
    same_logits(old, tmp_path / "new", batch)


def test_a_folder_that_a_model_names_is_not_read(
    make_old: MakeOld, encoder_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    old = make_old()
    old.edit_config(*SIZES, backbone_model_name=str(encoder_dir("roberta")))
    with pytest.raises(ModelError, match=r"Give --backbone with a folder"):
        upgrade(old.place, tmp_path / "new")


def test_without_a_tokenizer_anywhere_the_error_says_where_to_put_one(make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old()
    for path in old.place.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer: put .* or give --backbone"):
        upgrade(old.place, tmp_path / "new")


def test_a_tokenizer_with_more_sub_tokens_than_the_encoder_is_refused(
    make_old: MakeOld, tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    old = make_old("bert")
    tokenizers["byte-bpe"].save_pretrained(old.place)
    assert len(tokenizers["byte-bpe"]) > len(tokenizers["wordpiece"])
    with pytest.raises(ModelError, match="another encoder's"):
        upgrade(old.place, tmp_path / "new")


def test_a_tokenizer_with_code_is_refused_and_the_code_not_run(make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old()
    (old.place / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["modeling.Own", "modeling.Own"]}, "tokenizer_class": "Own"})
    )
    with pytest.raises(ModelError, match="names code of its own"):
        upgrade(old.place, tmp_path / "new")


def test_positions_without_end_cost_no_memory(make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old("deberta-v2")
    old.edit_config(max_position_embeddings=10**11, max_relative_positions=128, position_biased_input=False)
    old.edit_weights(lambda weights: weights.pop("roberta.embeddings.position_embeddings.weight"))
    with pytest.raises(ModelError, match="expected max_position_embeddings of at most"):
        upgrade(old.place, tmp_path / "new")


def drop_word_embeddings(weights: dict[str, torch.Tensor]) -> None:
    weights.pop("roberta.embeddings.word_embeddings.weight")


def add_another_weight(weights: dict[str, torch.Tensor]) -> None:
    weights["crf.temperature"] = torch.ones(1)


def cut_a_bias(weights: dict[str, torch.Tensor]) -> None:
    weights["roberta.encoder.layer.1.output.dense.bias"] = torch.zeros(3)


def count_in_integers(weights: dict[str, torch.Tensor]) -> None:
    weights["classifier.bias"] = torch.zeros(7, dtype=torch.int8)


def drop_the_head(weights: dict[str, torch.Tensor]) -> None:
    del weights["classifier.weight"], weights["classifier.bias"]


def drop_the_crf(weights: dict[str, torch.Tensor]) -> None:
    del weights["crf.transitions"]


def spoil_a_number(weights: dict[str, torch.Tensor]) -> None:
    weights["roberta.embeddings.word_embeddings.weight"][-1, -1] = float("nan")


def write_on_the_terminal(weights: dict[str, torch.Tensor]) -> None:
    weights["crf.\x1b[2J"] = torch.ones(1)


def add_a_tag(weights: dict[str, torch.Tensor]) -> None:
    weights["classifier.weight"], weights["classifier.bias"] = torch.zeros(8, 16), torch.zeros(8)


def give_the_encoder_another_name(weights: dict[str, torch.Tensor]) -> None:
    for key in [key for key in weights if key.startswith("roberta.")]:
        weights[f"module.{key}"] = weights.pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_word_embeddings, r"missing: backbone\.embeddings\.word_embeddings\.weight"),
        (add_another_weight, r"unexpected: crf\.temperature"),
        (cut_a_bias, r"misshapen: backbone\.encoder\.layer\.1\.output\.dense\.bias \(3,\), expected \(16,\)"),
        (count_in_integers, r"not floating-point numbers: classifier\.bias"),
        (drop_the_head, r"expected a head .* found none"),
        (drop_the_crf, r"missing: crf\.transitions"),
        (add_a_tag, "scores 8 tags, config.json names 7: an early CardioNER"),
        (write_on_the_terminal, "control characters"),
        (spoil_a_number, r"word_embeddings\.weight holds numbers that are not finite"),
        (give_the_encoder_another_name, "one of the names roberta, backbone, bert, found classifier, crf, module"),
    ],
)
def test_weights_of_another_model_are_named(
    change: Callable[[dict[str, torch.Tensor]], Any], message: str, make_old: MakeOld, tmp_path: Path
) -> None:
    old = make_old(crf=True)
    old.edit_weights(change)
    with pytest.raises(ModelError, match=message):
        upgrade(old.place, tmp_path / "new")
    assert not (tmp_path / "new" / "config.json").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 10**9}, "expected hidden_size of at most"),
        ({"hidden_size": 32}, "misshapen"),
        ({"hidden_size": -16}, "expected hidden_size of the encoder to be a whole number above 0"),
        ({"num_hidden_layers": 10**12}, "do not fit the"),
        ({"num_attention_heads": 0}, "expected num_attention_heads of the encoder"),
        ({"num_attention_heads": 3}, "can be built from"),
        ({"id2label": {"0": "O", "1": "O"}}, "name each tag once"),
        ({"id2label": {"0": "O", "2": "B-X"}}, "name each tag once"),
        ({"label2id": {"O": 1}}, "disagree"),
        ({"classifier_hidden_layers": [4]}, r"hidden layers of \[4\]"),
        ({"problem_type": "multi_label_classification"}, "only multiclass and multi-head models"),
        ({"model_type": "cardioner_multiclass"}, "already in the current form"),
        ({"model_type": "no-such-family"}, "hf download"),
    ],
)
def test_configurations_that_lie_are_refused(
    changed: dict[str, Any], message: str, make_old: MakeOld, tmp_path: Path
) -> None:
    old = make_old()
    old.edit_config(**changed)
    with pytest.raises(ModelError, match=message):
        upgrade(old.place, tmp_path / "new")


class Trap:
    """Pickled, it would write a file when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.place, "sprung")


def test_pickles_with_code_are_refused_and_not_run(make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old(pickled=True)
    torch.save({"classifier.weight": Trap(tmp_path / "sprung")}, old.place / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds more than weights"):
        upgrade(old.place, tmp_path / "new")
    assert not (tmp_path / "sprung").exists()


def endless() -> Any:
    return {"classifier.weight": torch.zeros(1).expand(10**6, 10**6)}


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"classifier.weight": [1.0]}, {3: torch.zeros(1)}, endless()])
def test_pickles_of_more_than_plain_tensors_are_refused(content: Any, make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old(pickled=True)
    torch.save(content, old.place / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds more than weights"):
        upgrade(old.place, tmp_path / "new")


def test_a_compressed_pickle_is_refused_before_it_unfolds(make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old(pickled=True)
    path = old.place / "pytorch_model.bin"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ModelError, match="cut, damaged or compressed"):
        upgrade(old.place, tmp_path / "new")


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("kept", [0, 9, 300])
def test_cut_weights_are_named(kept: int, pickled: bool, make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old(pickled=pickled)
    path = old.place / ("pytorch_model.bin" if pickled else "model.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=f"{path.name} is cut"):
        upgrade(old.place, tmp_path / "new")


def test_state_dicts_with_their_metadata_are_read(make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old(pickled=True)
    assert isinstance(torch.load(old.place / "pytorch_model.bin", weights_only=True), OrderedDict)
    assert isinstance(upgrade(old.place, tmp_path / "new"), Upgrade)


def test_nothing_is_written_over_the_old_model(make_old: MakeOld) -> None:
    old = make_old()
    before = {path.name: path.read_bytes() for path in old.place.iterdir()}
    with pytest.raises(OutputError, match="another program's model"):
        upgrade(old.place, old.place, overwrite=True)
    assert {path.name: path.read_bytes() for path in old.place.iterdir()} == before


def test_a_new_model_is_replaced_only_on_request(make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old()
    upgrade(old.place, tmp_path / "new")
    with pytest.raises(OutputError, match="--overwrite"):
        upgrade(old.place, tmp_path / "new")
    upgrade(old.place, tmp_path / "new", overwrite=True)


def test_folders_that_hold_no_model_are_named(make_old: MakeOld, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        upgrade(tmp_path, tmp_path / "new")
    with pytest.raises(UsageError, match="--backbone"):
        upgrade(make_old().place, tmp_path / "new", backbone=tmp_path)


def test_tags_that_are_not_bio_and_weights_that_are_not_read_give_warnings(make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old()
    torch.save(old.model.state_dict(), old.place / "pytorch_model.bin")
    old.edit_config("label2id", id2label={str(index): f"LABEL_{index}" for index in range(7)}, class_weights=[1.0])
    warnings = " ".join(upgrade(old.place, tmp_path / "new").warnings)
    for message in ("the tags must be O", "pytorch_model.bin was not read", "class_weights do not fit"):
        assert message in warnings


def test_an_encoder_of_another_library_is_refused_unbuilt(make_old: MakeOld, tmp_path: Path) -> None:
    old = make_old()
    timm = {"model_type": "timm_wrapper", "model_args": {"checkpoint_path": "weights.pt"}}
    old.edit_config(model_type="perception_lm", vision_config=timm)
    with pytest.raises(ModelError, match=r"found perception_lm|another place"):
        upgrade(old.place, tmp_path / "new")
