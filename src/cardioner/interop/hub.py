"""A standard model with a linear head as its encoder family's own `...ForTokenClassification`, without custom code.

Whether a family's own class computes the same is not looked up but found out: the class is built, every weight of it is
filled with one of ours and every one of ours used, the result is saved, loaded as a stranger would, and its logits are
compared with ours. Nothing is published unless they agree.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer, PretrainedConfig

from cardioner._io import grant_default_permissions, publish, staging
from cardioner.errors import ModelError, OutputError
from cardioner.interop.hub_card import hub_card
from cardioner.model_dir.custom_code import own_file, tags_in_its_own_way
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import CARD, CONFIG, PICKLED_WEIGHTS, TRAINING_ARGS, WEIGHTS
from cardioner.model_dir.load import existing, read_model_dir
from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel

BOUND = 1e-5
"""How far a logit of the exported model may be from ours."""

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_OLD_TOKENIZER = ("special_tokens_map.json", "added_tokens.json")
_STALE = (CONFIG, "model*.safetensors*", "pytorch_model*.bin*", *_OLD_TOKENIZER)
"""What an earlier export may have left that this one does not replace."""
_REPLACED = {"id2label", "label2id", "num_labels", "architectures", "dtype", "torch_dtype", "auto_map"}
"""Keys of the encoder's configuration that are the exported model's own."""
_FAILURES = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)
"""What transformers raises of a model that it cannot build or load."""


@dataclass(frozen=True, slots=True)
class HubExport:
    """What an export wrote.

    Attributes:
        directory: Where it is.
        kind: The class of transformers that loads it.
        difference: The greatest difference of a logit from ours.
        remarks: What did not travel, and what whoever uses it must do.
    """

    directory: Path
    kind: str
    difference: float
    remarks: tuple[str, ...]


def export_hub(directory: Path, out: Path, *, overwrite: bool = False) -> HubExport:
    """Write a model directory as one that plain `AutoModelForTokenClassification` loads, with equal logits.

    Args:
        directory: A model directory without a CRF, an MLP head or a class of its own.
        out: Where to write; it is written whole or not at all.
        overwrite: Whether an earlier export there may be replaced.

    Raises:
        ModelError: If the directory is no whole model, or has what the encoder family's own class has not.
        OutputError: If `out` holds a model, lies in `directory`, or cannot be written.
    """
    _check_out(existing(directory), out, overwrite=overwrite)
    model, tokenizer, config = read_model_dir(directory, device="cpu", accept=_check_source)
    model = model.float()
    target = _converted(model)
    kind = type(target).__name__
    remarks = _remarks(config)
    with staging(out) as stage:
        target.save_pretrained(stage)
        takes = inspect.signature(target.forward).parameters
        del target  # large models: the comparison below holds two
        inputs = [name for name in tokenizer.model_input_names if name in takes]
        _copy_tokenizer(directory, stage, length=config.window_length, inputs=inputs)
        _check_tokenizer(stage, tokenizer)
        difference = _check_logits(model, stage, kind)
        card = hub_card(config, read_json(directory / TRAINING_ARGS), kind=kind, remarks=remarks)
        (stage / CARD).write_text(card, encoding="utf-8")
        _publish(stage, out)
    return HubExport(out, kind, difference, remarks)


def _check_source(directory: Path, config: Mapping[str, Any]) -> None:
    """Refuse a model that no family's own class computes.

    Raises:
        ModelError: Naming what it has.
    """
    if tags_in_its_own_way(config) or own_file(config):
        has = f"a class of its own, {own_file(config) or config.get('custom_model_type')}"
    elif config.get("use_crf"):
        has = "a CRF"
    elif config.get("classifier_hidden_layers"):
        has = f"an MLP head (hidden layers {config['classifier_hidden_layers']})"
    else:
        return
    raise ModelError(
        f"{directory} has {has}, which no encoder family's own class has: share the directory as it is, or train with "
        "one linear layer and without a CRF (the recipe `simple`)"
    )


def _check_out(directory: Path, out: Path, *, overwrite: bool) -> None:
    """Refuse a place that holds something, or that would change the model itself.

    Raises:
        OutputError: Naming what is in the way.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: expected a directory to write the model to")
    if out.resolve().is_relative_to(directory.resolve()):
        raise OutputError(f"{out} lies in the model directory {directory}: choose a place outside of it")
    if read_json(out / CONFIG).get("model_type") == CardioNERConfig.model_type:
        raise OutputError(f"{out} holds a model directory, which an export never replaces: choose another one")
    names = (CONFIG, WEIGHTS, PICKLED_WEIGHTS, CARD, *_TOKENIZER)
    standing = [name for name in names if (out / name).exists()]
    if standing and not overwrite:
        raise OutputError(
            f"{out} already holds {'a model' if CONFIG in standing else ', '.join(standing)}: "
            "choose another directory, or pass --overwrite (overwrite=True)"
        )


def _converted(model: TokenClassificationModel) -> Any:
    """The family's own model with our weights.

    Raises:
        ModelError: If the family has none, or one that is made in another way.
    """
    family = model.config.encoder_config["model_type"]
    try:
        target = AutoModelForTokenClassification.from_config(_target_config(model), dtype=torch.float32)
    except _FAILURES as error:
        problem = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"transformers has no token classification of its own for the family {family}: {problem}"
        ) from error
    weights = _renamed(model, target)
    wanted, kind = target.state_dict(), type(target).__name__
    for name in sorted({*wanted, *weights}):
        if name not in wanted or name not in weights or wanted[name].shape != weights[name].shape:
            found = "of another shape" if name in wanted and name in weights else "only on one side"
            raise ModelError(f"{kind} is made in another way than this {family} model ({name} is {found}): no export")
    target.load_state_dict(weights)
    return target.eval()


def _target_config(model: TokenClassificationModel) -> PretrainedConfig:
    """The encoder's configuration with our tags; no key that names code or other places."""
    ours = model.config
    kept = {k: v for k, v in ours.encoder_config.items() if k not in _REPLACED and not k.startswith("_")}
    config = AutoConfig.for_model(**kept, id2label=dict(ours.id2label), label2id=dict(ours.label2id))
    if hasattr(config, "classifier_dropout"):  # other families take the encoder's own share
        config.classifier_dropout = ours.classifier_dropout
    return config


def _renamed(model: TokenClassificationModel, target: Any) -> dict[str, Tensor]:
    """Our weights by the names that they have in the family's own class.

    Raises:
        ModelError: If its head is not one linear layer.
    """
    prefix, kind = f"{target.base_model_prefix}.", type(target).__name__
    head = sorted(name for name in target.state_dict() if not name.startswith(prefix))
    layer = head[0].rpartition(".")[0] if head else ""
    if head != [f"{layer}.bias", f"{layer}.weight"] or not isinstance(target.get_submodule(layer), nn.Linear):
        raise ModelError(
            f"{kind} has another head than one linear layer on the encoder's last states ({', '.join(head) or 'none'}):"
            " a model with this encoder cannot leave without its own code; share the directory as it is"
        )
    places = {"backbone.": prefix, "classifier.": f"{layer}."}
    renamed = {}
    for name, value in model.state_dict().items():
        first = name.partition(".")[0] + "."
        renamed[places.get(first, first) + name.removeprefix(first)] = value
    return renamed


def _copy_tokenizer(directory: Path, stage: Path, *, length: int, inputs: Sequence[str]) -> None:
    """The tokenizer's files as they are, but for the length that it cuts texts to and the inputs that it makes.

    Ours ignores inputs that the encoder does not know, such as the segments of a BERT tokenizer before DistilBERT; the
    family's own class fails.
    """
    for name in (*_TOKENIZER, *_OLD_TOKENIZER):
        if (directory / name).is_file():
            shutil.copyfile(directory / name, stage / name)
    settings = stage / _TOKENIZER[1]
    content = {key: value for key, value in read_json(settings).items() if key != "auto_map"}
    content |= {"model_max_length": length, "model_input_names": list(inputs)}
    settings.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_tokenizer(stage: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer that the family's name in `config.json` turns into another one.

    Raises:
        ModelError: If it is not the model's.
    """
    try:
        loaded = AutoTokenizer.from_pretrained(stage, local_files_only=True, trust_remote_code=False)
        same = loaded.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    except _FAILURES as error:
        problem = str(error).strip().partition("\n")[0]
        raise ModelError(f"the tokenizer cannot be loaded beside the family's own model: {problem}") from error
    if not same:
        raise ModelError("the tokenizer is another one when it is loaded beside the family's own model: no export")


def _check_logits(model: TokenClassificationModel, stage: Path, kind: str) -> float:
    """The greatest difference between our logits and those of the saved model, loaded as a stranger would.

    Raises:
        ModelError: If it cannot be loaded whole, or computes something else.
    """
    try:
        theirs, report = AutoModelForTokenClassification.from_pretrained(
            stage, dtype=torch.float32, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
        whole = not (report["missing_keys"] or report["unexpected_keys"])
        worst = max(_differences(model, theirs.eval())) if whole else float("inf")
    except _FAILURES as error:
        problem = str(error).strip().partition("\n")[0]
        raise ModelError(f"{kind} cannot read what was made of this model: {problem}") from error
    if not whole:
        raise ModelError(f"{kind} does not find all of its weights again: no export")
    if not worst <= BOUND:  # no number compares as greater
        raise ModelError(
            f"{kind} computes something else than this model: logits differ by {worst:.1e}, and {BOUND:.0e} is the most"
        )
    return worst


@torch.inference_mode()
def _differences(ours: TokenClassificationModel, theirs: Any) -> list[float]:
    """Per synthetic batch the greatest difference of a logit, over attended positions; infinite for no number.

    Batches have two rows of random ids, up to a whole window long; half of the second row is padding.
    """
    padding, generator = ours.config.encoder_config.get("pad_token_id") or 0, torch.Generator().manual_seed(0)
    longest, size = int(ours.config.window_length), len(theirs.get_input_embeddings().weight)
    found = []
    for length in sorted({2, min(17, longest), longest}):
        ids = torch.randint(size, (2, length), generator=generator)
        ids[ids == padding] = (padding + 1) % size
        mask = torch.ones_like(ids)
        mask[1, length // 2 :] = 0
        ids[mask == 0] = padding
        inputs = {"input_ids": ids, "attention_mask": mask}
        gap = (ours(**inputs).logits - theirs(**inputs).logits).abs()[mask.bool()]
        found.append(float(gap.nan_to_num(nan=float("inf")).max()))
    return found


def _remarks(config: CardioNERConfig) -> tuple[str, ...]:
    """What has no place in a family's own class, and what that leaves to whoever uses it."""
    window, shared = config.window_length, 2 * config.window_context
    remarks = [
        f"Notes of more than {window} sub-tokens must be cut by who uses it: windows of {window}, special ones "
        f"included, with {shared} shared between neighbours."
    ]
    if config.score_temperature != 1.0:
        remarks.append(
            f"The temperature {config.score_temperature:.4g} stays behind: divide logits by it before probabilities "
            "are taken, or scores are not calibrated. Spans are the same."
        )
    if config.inference_dtype != "float32":
        remarks.append(
            f"The wish to compute the encoder in {config.inference_dtype} stays behind: it computes in float32 unless "
            "it is loaded otherwise."
        )
    if any(tag.startswith(("E-", "S-")) for tag in config.tags):
        remarks.append(
            "The tags are BIOES: the aggregation of transformers' pipeline knows BIO only and must not be used."
        )
    return tuple(remarks)


def _publish(stage: Path, out: Path) -> None:
    """Move a finished export to its place, in the stead of what stands there."""
    for pattern in _STALE:
        for path in out.glob(pattern):
            path.unlink()
    grant_default_permissions(stage)
    publish(stage, out, sorted(path.name for path in stage.iterdir()), key=CONFIG)
