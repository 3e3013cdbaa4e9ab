"""A standard model with a linear head as its encoder family's own `...ForTokenClassification`, without custom code.

No table says which families' own classes compute the same: each export finds out. The class is built, each of its
weights is filled with one of ours and each of ours is used, the result is saved and loaded with plain transformers, and
its logits are compared with ours. Nothing is published unless they agree.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer, PretrainedConfig

from cardioner._io import staging
from cardioner.errors import ModelError, OutputError, first_line, listed
from cardioner.interop.cards import hub_card
from cardioner.interop.exports import check_place, custom_class, greatest_difference, logits_of, publish_export
from cardioner.model_dir.entrance import existing
from cardioner.model_dir.findings import never_found
from cardioner.model_dir.json_files import object_under, read_json
from cardioner.model_dir.layout import (
    CARD,
    CONFIG,
    OLD_TOKENIZER_FILES,
    PICKLED_WEIGHTS,
    TOKENIZER_CONFIG,
    TOKENIZER_FILES,
    TRAINING_ARGS,
    WEIGHTS,
)
from cardioner.model_dir.load import read_model_dir
from cardioner.model_dir.save import check_free
from cardioner.multiclass.heads import ATTRIBUTE_HEAD
from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel

BOUND = 1e-5
"""How far a logit of the exported model may be from ours."""

_STALE = ("model*.safetensors*", "pytorch_model*.bin*", *OLD_TOKENIZER_FILES)
"""What an earlier export may have left that this one does not replace."""
_REPLACED = {"id2label", "label2id", "num_labels", "architectures", "dtype", "torch_dtype", "auto_map"}
"""Keys of the encoder's configuration that are the exported model's own."""


@dataclass(frozen=True, slots=True)
class HubExport:
    """What an export wrote.

    Attributes:
        directory: Where it is.
        kind: The class of transformers that loads it.
        difference: The greatest difference between one of its logits and ours.
        warnings: What differs from the original model, and what its users have to do.
    """

    directory: Path
    kind: str
    difference: float
    warnings: tuple[str, ...]


def export_hub(directory: str | Path, out: str | Path, *, overwrite: bool = False) -> HubExport:
    """Write a model directory as one that plain `AutoModelForTokenClassification` loads, with equal logits.

    Args:
        directory: A model directory without a CRF, an MLP head or a class of its own.
        out: Where to write; it is written whole or not at all.
        overwrite: Whether an earlier export there may be replaced.

    Raises:
        ModelError: If the directory is not a whole model, or has something that the encoder family's own class lacks.
        OutputError: If `out` holds a model, lies in `directory`, or cannot be written.
    """
    directory, out = existing(directory), Path(out)
    _check_out(directory, out, overwrite=overwrite)
    model, tokenizer, config = read_model_dir(directory, device="cpu", accept=_check_source)
    model = model.float()
    target = _converted(model)
    kind, warnings = type(target).__name__, _warnings(config)
    record = read_json(directory / TRAINING_ARGS)
    if unfound := never_found(record):
        warnings = (f"warning: {unfound}", *warnings)
    with staging(out) as stage:
        target.save_pretrained(stage)
        takes = inspect.signature(target.forward).parameters
        del target  # large models: the comparison below holds two
        inputs = [name for name in tokenizer.model_input_names if name in takes]
        _copy_tokenizer(directory, stage, length=config.window_length, inputs=inputs)
        _check_tokenizer(stage, tokenizer)
        difference = _check_logits(model, stage, kind, padding=tokenizer.pad_token_id or 0)
        card = hub_card(config, record, kind=kind, warnings=warnings)
        (stage / CARD).write_text(card, encoding="utf-8")
        publish_export(stage, out, stale=_STALE, key=CONFIG)
    return HubExport(out, kind, difference, warnings)


def _check_source(directory: Path, config: Mapping[str, Any]) -> None:
    """Refuse a model that no family's own class computes."""
    if own := custom_class(config):
        has = f"a class of its own, {own}"
    elif config.get("use_crf"):
        has = "a CRF"
    elif "O" not in object_under(config, "id2label").values():
        has = "tags per type"
    elif config.get("classifier_hidden_layers"):
        has = f"an MLP head (hidden layers {config['classifier_hidden_layers']})"
    else:
        return
    raise ModelError(
        f"{directory} has {has}, which transformers' own classes do not have: share the model directory itself, or "
        "train with one linear layer and without a CRF (the recipe `simple`)"
    )


def _check_out(directory: Path, out: Path, *, overwrite: bool) -> None:
    """Refuse a place that holds something else, or that would change the model itself."""
    check_place(directory, out)
    if read_json(out / CONFIG).get("model_type") == CardioNERConfig.model_type:
        raise OutputError(f"{out} holds a model directory, which an export never replaces: choose another one")
    if not overwrite:
        check_free(out, (CONFIG, WEIGHTS, PICKLED_WEIGHTS, CARD, *TOKENIZER_FILES))


def _converted(model: TokenClassificationModel) -> Any:
    """The family's own model with our weights; an error if the family has none, or one with other weights."""
    family = model.config.encoder_config["model_type"]
    with _failing_as(f"transformers has no token classifier of its own for the family {family}"):
        target = AutoModelForTokenClassification.from_config(_target_config(model), dtype=torch.float32)
    weights = _renamed(model, target)
    wanted, kind = target.state_dict(), type(target).__name__
    for name in sorted({*wanted, *weights}):
        if name not in wanted or name not in weights or wanted[name].shape != weights[name].shape:
            found = "has another shape" if name in wanted and name in weights else "is only on one side"
            raise ModelError(f"{kind} does not have the weights of this {family} model: {name} {found}; not exported")
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
    """Our weights by the names that they have in the family's own class, whose head must be one linear layer."""
    prefix, kind = f"{target.base_model_prefix}.", type(target).__name__
    head = sorted(name for name in target.state_dict() if not name.startswith(prefix))
    layer = head[0].rpartition(".")[0] if head else ""
    if head != [f"{layer}.bias", f"{layer}.weight"] or not isinstance(target.get_submodule(layer), nn.Linear):
        raise ModelError(
            f"{kind} has a head other than one linear layer on the encoder's last states ({', '.join(head) or 'none'}):"
            " a model with this encoder needs its own code; share the model directory itself"
        )
    places = {"backbone.": prefix, "classifier.": f"{layer}."}
    renamed = {}
    for name, value in model.state_dict().items():
        first = name.partition(".")[0] + "."
        if first == ATTRIBUTE_HEAD:  # of which the export warns
            continue
        renamed[places.get(first, first) + name.removeprefix(first)] = value
    return renamed


def _copy_tokenizer(directory: Path, stage: Path, *, length: int, inputs: Sequence[str]) -> None:
    """Copy the tokenizer's files; only the length that it cuts texts to and the inputs that it makes are set anew.

    Our models ignore inputs that the encoder does not know, such as the segments that a BERT tokenizer gives
    DistilBERT; the family's own class would fail.
    """
    for name in (*TOKENIZER_FILES, *OLD_TOKENIZER_FILES):
        if (directory / name).is_file():
            shutil.copyfile(directory / name, stage / name)
    settings = stage / TOKENIZER_CONFIG
    content = {key: value for key, value in read_json(settings).items() if key != "auto_map"}
    content |= {"model_max_length": length, "model_input_names": list(inputs)}
    settings.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_tokenizer(stage: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer that the family's name in `config.json` turns into another one."""
    with _failing_as("the tokenizer cannot be loaded together with the family's own model"):
        loaded = AutoTokenizer.from_pretrained(stage, local_files_only=True, trust_remote_code=False)
        same = loaded.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    if not same:
        raise ModelError("the tokenizer changes when it is loaded together with the family's own model; not exported")


def _check_logits(model: TokenClassificationModel, stage: Path, kind: str, *, padding: int) -> float:
    """The greatest difference between our logits and those of the saved model, loaded with plain transformers."""
    with _failing_as(f"{kind} cannot read the exported model"):
        theirs, report = AutoModelForTokenClassification.from_pretrained(
            stage, dtype=torch.float32, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
        theirs.eval()
        whole = not (report["missing_keys"] or report["unexpected_keys"])
        worst = greatest_difference(model, lambda rows: logits_of(theirs, rows, padding), padding=padding)
    if not whole:
        raise ModelError(f"{kind} does not find all of its weights in the exported model; not exported")
    if not worst <= BOUND:  # a difference that is not a number is refused too
        raise ModelError(
            f"{kind} computes other logits than this model: they differ by {worst:.1e}, allowed {BOUND:.0e}"
        )
    return worst


@contextmanager
def _failing_as(problem: str) -> Iterator[None]:
    """Turn what transformers raises of a model into one line that begins with the problem."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(f"{problem}: {first_line(error)}") from error


def _warnings(config: CardioNERConfig) -> tuple[str, ...]:
    """What a family's own class cannot do, and what its users have to do instead."""
    window, shared = config.window_length, 2 * config.window_context
    warnings = [
        f"Cut notes of more than {window} sub-tokens yourself: windows of {window}, special ones included, with "
        f"{shared} shared between neighbours."
    ]
    if config.score_temperature != 1.0:
        warnings.append(
            f"The temperature {config.score_temperature:.4g} is not part of the export: divide the logits by it before "
            "taking probabilities, or scores are not calibrated. Spans are the same."
        )
    if config.inference_dtype != "float32":
        warnings.append(
            f"The setting to compute the encoder in {config.inference_dtype} is not part of the export: it computes in "
            "float32 unless you load it otherwise."
        )
    if any(tag.startswith(("E-", "S-")) for tag in config.tags):
        warnings.append("The tags are BIOES: do not use the pipeline's aggregation, which only knows BIO.")
    if config.attributes:
        warnings.append(
            f"What this model says of spans ({listed(config.attributes)}) is not part of the export: a family's own "
            "class has no place for it."
        )
    return tuple(warnings)
