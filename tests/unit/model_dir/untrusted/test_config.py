"""A `config.json` describes a model that its weights fill, and names no code, no other places and no wrong labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cardioner.errors import ModelError
from cardioner.model_dir.json_files import read_object
from cardioner.model_dir.untrusted import structure
from cardioner.model_dir.untrusted.config import is_text_encoder
from cardioner.model_dir.untrusted.files import look


def check_safe(directory: Path) -> None:
    """Look at a directory, and at what is in its files."""
    files = look(directory)
    if "config.json" in files:
        structure.check_safe(
            directory, files, read_object(directory / "config.json"), structure.read_weights(directory, files)
        )


def change(directory: Path, name: str = "config.json", **changes: Any) -> None:
    content = json.loads((directory / name).read_text(encoding="utf-8"))
    (directory / name).write_text(json.dumps({**content, **changes}), encoding="utf-8")


def change_encoder(directory: Path, **changes: Any) -> None:
    encoder = json.loads((directory / "config.json").read_text(encoding="utf-8"))["encoder_config"]
    change(directory, encoder_config={**encoder, **changes})


def refused(directory: Path, *told: str) -> None:
    """Check that a directory is refused in one line with these words."""
    with pytest.raises(ModelError) as caught:
        check_safe(directory)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1200
    for words in told:
        assert words in message, message


# Configurations: code and places.


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"auto_map": {"AutoConfig": "other/repo--modeling.X"}}, "found other/repo--modeling.X"),
        ({"auto_map": {"AutoModelForTokenClassification": "../evil.X"}}, "auto_map"),
        ({"auto_map": {"AutoModelForTokenClassification": "a.b.X"}}, "auto_map"),
        ({"auto_map": {"AutoModelForTokenClassification": "import.X"}}, "auto_map"),
        ({"auto_map": {"AutoModelForTokenClassification": "pipeline.X"}}, "auto_map"),
        ({"auto_map": {"AutoConfig": "one.X", "AutoModelForTokenClassification": "two.X"}}, "modeling.CardioNER"),
        ({"auto_map": {"AutoConfig": ["modeling.X", "b.Y"]}}, "found a list"),
        ({"auto_map": "modeling.X"}, "auto_map"),
        ({"trust_remote_code": True}, "trust_remote_code names code"),
        ({"custom_pipelines": {"token-classification": {"impl": "evil.Pipeline"}}}, "expected custom_pipelines to be"),
        ({"custom_pipelines": {"evil": {"impl": "pipeline.CardioNERPipeline"}}}, "expected custom_pipelines to be"),
        ({"custom_pipelines": 5}, "expected custom_pipelines to be"),
        ({"_name_or_path": "other/repo"}, "_name_or_path names another place"),
        ({"name_or_path": "/home/someone"}, "name_or_path names another place"),
        ({"base_model_name_or_path": "https://evil.example/x"}, "another place"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "another way to load"),
        ({"attn_implementation": "evil/kernel"}, "attn_implementation names evil/kernel"),
        ({"_attn_implementation": "evil/kernel:f"}, "_attn_implementation names"),
        ({"_attn_implementation_internal": "evil/kernel"}, "would be fetched and run"),
        ({"attn_implementation": "flash_attention_2"}, "would be fetched and run"),
        ({"attn_implementation": {"": "evil/kernel"}}, "would be fetched and run"),
        ({"experts_implementation": "evil/kernel@main"}, "would be fetched and run"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights names another place"),
        ({"configuration_files": ["config.5.0.json"]}, "configuration_files names another place"),
        ({"fusion_config": {"a": True}}, "another way to load"),
        ({"per_layer_config": {"0": {}}}, "another way to load"),
        ({"distributed_config": {"tp_size": 2}}, "another way to load"),
        ({"attribute_map": {"id2label": "x"}}, "another way to load"),
        ({"dtype": "load"}, "expected dtype"),
        ({"torch_dtype": {"": "float32"}}, "expected torch_dtype"),
        ({"to_dict": 5}, "to_dict would replace"),
        ({"use_return_dict": True}, "use_return_dict would replace"),
        ({"__class__": "x"}, "belongs to the library"),
        ({"_auto_class": "AutoConfig"}, "_auto_class would replace"),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "no fast tokenizer"),
        ({"architectures": ["../x"]}, "name of a class"),
        ({"custom_model_type": "a\nb"}, "name of a class"),
    ],
)
def test_configuration_that_names_code_or_places_is_refused(
    changes: dict[str, Any], told: str, directory: Path
) -> None:
    change(directory, **changes)
    refused(directory, "config.json", told)


def test_an_own_class_in_a_file_that_only_newer_versions_have_is_accepted(directory: Path) -> None:
    change(directory, auto_map={"AutoModelForTokenClassification": "crf.Mine"})
    check_safe(directory)


TIMM = {"model_type": "timm_wrapper", "model_args": {"checkpoint_path": "weights.pt"}}
"""What transformers hands to `timm.create_model`, arguments and all, wherever it stands."""


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoModel": "modeling.X"}},
        {"trust_remote_code": True},
        {"custom_pipelines": {"token-classification": {"impl": "pipeline.CardioNERPipeline"}}},
        {"backbone": "resnet50", "use_pretrained_backbone": True},
        {"text_config": {"auto_map": {"AutoModel": "other/repo--a.B"}}},
        {"text_config": [{"deep": {"_name_or_path": "other/repo"}}]},
        {"text_config": {"attn_implementation": "evil/kernel"}},
        {"_attn_implementation": "evil/kernel"},
        {"quantization_config": {"a": 1}},
        {"forward": "x", "to_dict": {"a": 1}},
        {"model_type": "timm_wrapper"},
        {"model_type": "perception_lm", "vision_config": TIMM},
        {"model_type": "modernvbert"},
        {"vision_config": TIMM},
        {"text_config": {"vision_config": [{"model_type": "timm_backbone"}]}},
        {"vision_config": {"model_args": {"checkpoint_path": "/x"}}},
        {"sub": [{"architecture": "resnet50"}]},
        {"sub": {"checkpoint_path": "weights.pt"}},
        {"sub": {"pretrained": True}},
        {"detectron2_config_args": {"MODEL.WEIGHTS": "x"}},
        {"model_type": "layoutlmv2"},
        {"model_type": "llama"},
        {"model_type": "cardioner_multiclass"},
        {"model_type": ["bert"]},
    ],
)
def test_nested_configuration_that_names_code_or_places_is_refused(changes: dict[str, Any], directory: Path) -> None:
    change_encoder(directory, **changes)
    refused(directory, str(directory / "config.json"))


def test_leftovers_of_old_configurations_pass(directory: Path) -> None:
    change_encoder(directory, _num_labels=2, _attn_implementation_autoset=True, attn_implementation="eager")
    change_encoder(
        directory, finetuning_task=None, gradient_checkpointing=False, id2label={"0": "N/A", "1": "a/b--c.D"}
    )
    change_encoder(directory, task_specific_params={"x": {"prefix": "https://a.b"}}, output_past=True, dtype="float16")
    check_safe(directory)


# Configurations: sizes and labels.

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
WRONG = [-1, 0, True, 16.0, "16", 10**9, 10**18, [16], 2**63, 1e300]


@pytest.mark.parametrize("value", WRONG, ids=str)
@pytest.mark.parametrize("key", SIZES)
def test_size_that_cannot_be_is_refused(key: str, value: Any, directory: Path) -> None:
    change_encoder(directory, **{key: value})
    refused(directory, str(directory))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hidden_size": 32}, "asks for"),
        ({"vocab_size": 150_000}, "asks for an encoder of 2,406,032 numbers"),
        ({"vocab_size": 2**31 - 1, "hidden_size": 2**20}, "cannot be loaded"),
        ({"num_hidden_layers": 3}, "asks for"),
        ({"num_hidden_layers": 1000}, "asks for an encoder of more"),
        ({"max_position_embeddings": 1 << 20}, "asks for"),
        ({"type_vocab_size": 10**8}, "asks for"),
        ({"intermediate_size": 48}, "asks for"),
        ({"hidden_act": "os.system"}, "makes no encoder"),
        ({"model_type": "no-such-family"}, "found no-such-family"),
        ({"model_type": "roformer", "max_position_embeddings": 1 << 20}, "expected positions of at most"),
        ({"model_type": "distilbert", "sinusoidal_pos_embds": True, "dim": 1 << 20}, "expected positions of at most"),
        ({"num_labels": 10**7}, "expected num_labels of at most"),
        ({"depths": [10**9]}, "expected depths of at most"),
        ({"block_repeats": [300_000, 1]}, "expected block_repeats of at most"),
        ({"attention_window": [1 << 13]}, "expected attention_window of at most"),
        ({"tpu_short_seq_length": 1 << 14}, "expected tpu_short_seq_length of at most"),
        ({"some_unknown_key": 10**12}, "expected some_unknown_key of at most"),
    ],
)
def test_encoder_that_the_weights_do_not_fill_is_refused(changes: dict[str, Any], told: str, directory: Path) -> None:
    change_encoder(directory, **changes)
    refused(directory, told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classifier_hidden_layers": [16]}, "asks for (16,)"),
        ({"classifier_hidden_layers": [8, 8]}, "asks for"),
        ({"classifier_hidden_layers": None}, "no weight of the head"),
        ({"classifier_hidden_layers": [10**12]}, "expected classifier_hidden_layers of at most"),
        ({"classifier_hidden_layers": [-8]}, "found -8"),
        ({"classifier_hidden_layers": "wide"}, "found wide"),
        ({"use_crf": "yes"}, "expected use_crf to be true or false"),
        ({"window_length": 0}, "expected window_length"),
        ({"window_context": -1}, "expected window_context"),
        ({"window_length": True}, "expected window_length"),
        ({"temperature": 0}, "expected temperature"),
        ({"classifier_dropout": 1.5}, "expected classifier_dropout"),
        ({"inference_dtype": "int4"}, "expected inference_dtype"),
        ({"inference_dtypes": "int8"}, "expected inference_dtypes"),
        ({"inference_dtypes": ["float32", 5]}, "expected inference_dtypes"),
        ({"class_weights": [1.0]}, "a weight in class_weights for each of 7"),
        ({"class_weights": [1.0, "x"]}, "expected class_weights"),
        ({"id2label": {"0": "O", "1": "B-X"}, "label2id": {"O": 0, "B-X": 1}}, "asks for (2,)"),
        ({"id2label": {"0": "O", "2": "B-X"}}, "expected id2label to name the tags"),
        ({"id2label": {"0": "O", "1": 5}}, "by texts"),
        ({"id2label": {"0": "O", "1": "B-X\nerror: y"}}, "control characters"),
        ({"id2label": {"0": "O", "1": ""}}, "by texts"),
        ({"id2label": {"0": "O", "1": "O"}}, "found one twice"),
        ({"id2label": {str(i): f"B-{i}" for i in range(2100)}}, "at most 2,048"),
        ({"id2label": ["O"]}, "expected id2label to name the tags"),
        ({"label2id": {"O": 1}}, "disagree"),
        ({"label2id": ["O"]}, "disagree"),
        ({"label2id": 7}, "disagree"),
    ],
)
def test_settings_that_no_model_has_are_refused(changes: dict[str, Any], told: str, directory: Path) -> None:
    change(directory, **changes)
    refused(directory, told)


def test_label_map_with_swapped_ids_is_refused(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    swapped = {**config["label2id"], "B-DISEASE": config["label2id"]["I-DISEASE"], "I-DISEASE": 1}
    change(directory, label2id=swapped)
    refused(directory, "id2label and label2id disagree")
    change(directory, label2id={tag: float(index) for tag, index in config["label2id"].items()})
    refused(directory, "id2label and label2id disagree")


def test_number_that_overflows_is_refused(directory: Path) -> None:
    text = (directory / "config.json").read_text().replace('"temperature": 1.0', '"temperature": 1e999')
    (directory / "config.json").write_text(text)
    refused(directory, "expected a number under temperature, found inf")


def test_names_without_end_are_refused_at_once(directory: Path) -> None:
    change(directory, **{"_vocab" * 60_000: 1})
    refused(directory, "expected names of at most 200 characters")


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "eurobert", "modernbert", "nomic_bert", "roberta", "esm"])
def test_families_of_text_encoders_are_allowed(family: str) -> None:
    assert is_text_encoder(family)


@pytest.mark.parametrize("family", ["clip", "vit", "gpt2", "timm_wrapper", "t5gemma2", "modernvbert", "layoutlmv2", 5])
def test_other_families_are_not(family: object) -> None:
    assert not is_text_encoder(family)
