"""What an export holds beside the graph: the code that runs it, its settings, and the tokenizer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from cardioner import __version__
from cardioner.errors import ModelError
from cardioner.model_dir.golden_comparison import TOLERANCE
from cardioner.model_dir.graph_settings import FORMAT, GraphSettings
from cardioner.model_dir.layout import GRAPH_SETTINGS, TOKENIZER, TORCH_FREE_CODE
from cardioner.multiclass.encoding import plan_windows
from cardioner.multiclass.modeling import TokenClassificationModel, legal_transitions

_RUNNER = Path(__file__).parent / "onnx_files"
_SHARED = Path(__file__).parents[1] / "multiclass"
_ENGINE = Path(__file__).parents[1] / "prediction" / "engines"
_FOLDER = "tagger"
CODE = {
    "tag.py": _RUNNER / "tag.py",
    f"{_FOLDER}/__init__.py": _RUNNER / "__init__.py",
    **{f"{_FOLDER}/{name}": _ENGINE / name for name in ("tagger.py", "viterbi.py")},
    **{f"{_FOLDER}/{name}": _SHARED / name for name in TORCH_FREE_CODE},
}
"""The code of an export, and what each of its files is a copy of."""


def write_code(stage: Path) -> None:
    """Write what runs a graph."""
    (stage / _FOLDER).mkdir()
    for name, source in CODE.items():
        text = source.read_text(encoding="utf-8")
        text = re.sub(
            r"^from cardioner\.(?:\w+\.)*(\w+) import", rf"from {_FOLDER}.\1 import", text, flags=re.MULTILINE
        )
        (stage / name).write_text(text, encoding="utf-8")


def write_tokenizer(tokenizer: Any, stage: Path) -> None:
    """Write `tokenizer.json`, which neither cuts nor fills up."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    (stage / TOKENIZER).write_text(tokenizer.backend_tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")


def write_settings(
    model: TokenClassificationModel,
    tokenizer: Any,
    stage: Path,
    *,
    precision: Literal["float32", "int8"] = "float32",
    tolerance: float = TOLERANCE,
) -> None:
    """Write `onnx.json`.

    Raises:
        ModelError: If the CRF holds a score that is not a number.
    """
    config, plan = model.config, plan_windows(model.config, tokenizer)
    content = {
        "format": FORMAT,
        "cardioner": __version__,
        "precision": precision,
        "tolerance": tolerance,
        "vocabulary": len(model.get_input_embeddings().weight),
        "tags": config.tags,
        "crf": _crf(model) if model.uses_crf else None,
        "temperature": config.score_temperature,
        "attributes": config.attributes,
        "attribute_temperatures": config.attribute_temperatures,
        "windows": {"length": plan.length, "context": plan.context, "aligned": plan.aligned},
        "special_ids": {name: list(ids) for name, ids in plan.special._asdict().items()},
        "padding_id": tokenizer.pad_token_id or 0,
    }
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    GraphSettings.model_validate_json(text)
    (stage / GRAPH_SETTINGS).write_text(text + "\n", encoding="utf-8")


def _crf(model: TokenClassificationModel) -> list[dict[str, Any]]:
    """Per tag group the scores of the CRF, and which transitions are legal.

    Raises:
        ModelError: If a score is not a number.
    """
    crf = model.crf
    legal = crf.legal or legal_transitions(list(model.config.tag_groups[0].tags))
    scores = {"start": crf.start_transitions, "transitions": crf.transitions, "end": crf.end_transitions}
    if not all(bool(value.isfinite().all()) for value in scores.values()):
        raise ModelError("the CRF holds scores that are not numbers: train the model again")
    fields = {name: (value if model.types else value.unsqueeze(0)).tolist() for name, value in scores.items()}
    return [
        {**{name: values[index] for name, values in fields.items()}, "legal": legal._asdict()}
        for index in range(model.types or 1)
    ]
