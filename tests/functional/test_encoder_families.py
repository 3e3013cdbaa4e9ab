"""Every encoder-only family of transformers trains and tags, or is refused with a line that says why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel

from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError
from cardioner.model_dir.encoder import load_encoder
from cardioner.model_dir.positions import max_positions
from cardioner.training.initialization import build, read_source

SHAPE = {
    "vocab_size": 70,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 130,
    "pad_token_id": 1,
}
XLM_SHAPE = {"emb_dim": 24, "n_layers": 2, "n_heads": 2}
WORKING: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 8},
    "bert": {},
    "big_bird": {},
    "camembert": {},
    "convbert": {"embedding_size": 24},
    "data2vec-text": {},
    "deberta": {},
    "deberta-v2": {},
    "distilbert": {"dim": 24, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "electra": {"embedding_size": 8},
    "ernie": {},
    "esm": {"mask_token_id": 2},
    "eurobert": {"num_key_value_heads": 2, "head_dim": 12},
    "flaubert": XLM_SHAPE,
    "fnet": {},
    "ibert": {},
    "layoutlm": {},
    "lilt": {"channel_shrink_ratio": 2},
    "longformer": {"attention_window": 8},
    "luke": {"entity_vocab_size": 5, "entity_emb_size": 4},
    "markuplm": {},
    "megatron-bert": {},
    "mobilebert": {"embedding_size": 8, "intra_bottleneck_size": 8, "true_hidden_size": 8},
    "modernbert": {},
    "mpnet": {},
    "nomic_bert": {},
    "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 8},
    "rembert": {"input_embedding_size": 8, "output_embedding_size": 8},
    "roberta": {},
    "roberta-prelayernorm": {},
    "roc_bert": {},
    "roformer": {},
    "squeezebert": {"embedding_size": 24},
    "tapas": {},
    "xlm": XLM_SHAPE,
    "xlm-roberta": {},
    "xlm-roberta-xl": {},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "yoso": {},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "mra": ({}, "CUDA kernel"),
    "bros": ({}, "bbox"),
    "gpt2": ({"n_embd": 24, "n_layer": 1, "n_head": 2}, "no encoder"),
    "t5": ({"d_model": 24, "num_layers": 1, "num_heads": 2, "d_kv": 12, "d_ff": 24}, "no encoder"),
    "vit": ({}, "per sub-token"),
    "clip": ({}, "per sub-token"),
}
BLIND_TO_MASKS = {"convbert", "fnet", "nystromformer", "yoso"}
"""Families whose own attention lets padding in: convolutions, Fourier transforms, landmarks, hashes."""


@pytest.fixture(scope="session")
def family_dir(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a tiny random encoder."""

    def build_dir(family: str, extra: Mapping[str, Any]) -> Path:
        known = (
            AutoConfig.for_model(family).to_dict().keys()
            | getattr(type(AutoConfig.for_model(family)), "attribute_map", {}).keys()
        )
        shape = {name: value for name, value in SHAPE.items() if name in known}
        torch.manual_seed(0)
        place = tmp_path_factory.mktemp("family") / family
        AutoModel.from_config(AutoConfig.for_model(family, **{**shape, **extra})).save_pretrained(place)
        return place

    return build_dir


@pytest.mark.filterwarnings("ignore")  # what old families say of themselves is transformers' own affair
@pytest.mark.parametrize("family", WORKING)
def test_family_gives_a_row_per_sub_token_and_a_gradient_to_every_parameter(
    family: str, family_dir: Any, tokenizers: Mapping[str, Any]
) -> None:
    source = read_source(family_dir(family, WORKING[family]))
    labels = LabelSet.from_types(["A", "B"])
    start = build(source, labels, use_crf=True, tokenizer=tokenizers["wordpiece"], classifier_hidden_layers=(8,))
    model = start.model.train()
    assert all(name.startswith(("classifier.", "crf.", "backbone.pooler.")) for name in start.fresh)

    length = max_positions(source.config) or 300
    ids = torch.randint(4, 70, (2, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[1, length // 2 :], mask[1, length // 2 :] = SHAPE["pad_token_id"], 0
    output = model(input_ids=ids, attention_mask=mask, labels=torch.randint(0, 2, ids.shape))
    assert output.logits.shape == (2, length, 5)
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    before = {name: value.detach().clone() for name, value in trainable.items()}
    output.loss.backward()
    assert [name for name, value in trainable.items() if value.grad is None] == []
    torch.optim.AdamW(trainable.values(), lr=1e-2).step()
    moved = [name for name, value in trainable.items() if not torch.equal(value, before[name])]
    assert len(moved) > len(trainable) / 2
    assert any(name.startswith("backbone.") for name in moved)

    short = length // 2
    with torch.inference_mode():
        alone = model.eval()(input_ids=ids[1:, :short], attention_mask=mask[1:, :short]).logits
        padded = model(input_ids=ids, attention_mask=mask).logits[1:, :short]
    assert torch.allclose(alone, padded, atol=5e-6) is (family not in BLIND_TO_MASKS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", REFUSED)
def test_family_that_cannot_work_is_refused_with_its_reason(family: str, family_dir: Any) -> None:
    extra, reason = REFUSED[family]
    if family == "vit":
        extra = {"image_size": 16, "patch_size": 8}
    if family == "clip":
        tiny = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        extra = {
            "text_config": {**tiny, "vocab_size": 70},
            "vision_config": {**tiny, "image_size": 16, "patch_size": 8},
            "projection_dim": 8,
        }
    with pytest.raises(ModelError, match=reason) as caught:
        load_encoder(family_dir(family, extra))
    assert "\n" not in str(caught.value)
