"""A model as an ONNX graph, with all that is needed to tag notes without torch, transformers and cardioner."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cardioner import __version__
from cardioner._io import staging
from cardioner.data.documents import Document
from cardioner.errors import ModelError, OutputError, UsageError, missing_packages
from cardioner.interop.cards import onnx_card
from cardioner.interop.exports import check_place, custom_class, greatest_difference, publish_export
from cardioner.interop.onnx_check import BOUND, Agreement, agreement, made_up_notes
from cardioner.interop.onnx_graph import DATA, GRAPH, quantize, size_of, write_graph
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import CARD, FIRST_CODE, TOKENIZER, TORCH_FREE_CODE, TRAINING_ARGS
from cardioner.model_dir.load import existing, read_model_dir
from cardioner.multiclass.encoding import plan_windows
from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel, legal_transitions

SHARE = 0.98
"""The least agreement (F1) with the model's spans that 8-bit weights must reach, in the notes of `check`."""

LEAST_SPANS = 50
"""How many spans the model must find in these notes for the agreement to mean something."""

SETTINGS = "settings.json"
FORMAT = 1
"""The version of `settings.json` and of the code that reads it."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_RUNNER = Path(__file__).parent / "onnx_files"
_SHARED = Path(__file__).parents[1] / "multiclass"
_FOLDER = "tagger"
_CODE = {
    "tag.py": _RUNNER / "tag.py",
    **{f"{_FOLDER}/{name}": _RUNNER / name for name in ("__init__.py", "viterbi.py")},
    **{f"{_FOLDER}/{name}": _SHARED / name for name in TORCH_FREE_CODE},
}
"""The code of an export, and what each of its files is a copy of."""
_STALE = (DATA, "viterbi.py", *(name for name in TORCH_FREE_CODE if name in FIRST_CODE))
"""What an earlier export, of version 0.2.0 too, may have left that this one does not replace."""
_OWN = {GRAPH, SETTINGS, TOKENIZER, CARD, *_CODE, *_STALE}
_PASSED = (".", "__pycache__")
"""How the names of other files and folders begin that may lie in an export."""


@dataclass(frozen=True, slots=True)
class OnnxExport:
    """What an export wrote, and what was measured.

    Attributes:
        directory: Where it is.
        size: Bytes of the graph and its weights.
        float_size: Bytes of the same in float32.
        difference: The greatest difference of a logit from the model's, over random windows.
        agreement: Of its spans with the model's, in the notes to check, and in made-up ones.
        warnings: What differs from the original model.
    """

    directory: Path
    size: int
    float_size: int
    difference: float
    agreement: Agreement
    warnings: tuple[str, ...]

    @property
    def figures(self) -> tuple[str, ...]:
        """What was measured and what differs from the original model, a line each."""
        found, smaller = self.agreement, f" ({self.float_size:,} in float32)" if self.size != self.float_size else ""
        ties = f"; {found.ties} notes differ between tags that score the same" if found.ties else ""
        return (
            f"spans: {found.equal} of the {found.found} that the model finds in {found.notes} notes are equal, "
            f"agreement (F1) {found.share:.4f}{ties}",
            f"logits: at most {self.difference:.1g} from the model's in float32",
            f"size: {self.size:,} bytes{smaller}",
            *self.warnings,
        )


def export_onnx(
    directory: str | Path,
    out: str | Path,
    *,
    check: Sequence[Document] = (),
    int8: bool = False,
    overwrite: bool = False,
) -> OnnxExport:
    """Write a model directory as one that onnxruntime, numpy and tokenizers run, with the same spans.

    Args:
        directory: A model directory, without a class of its own.
        out: Where to write; it is written whole or not at all.
        check: Notes, annotated or not, in which both must find the same spans.
        int8: Whether to quantise the weights to 8 bits. Then spans may differ a little: in `check`, their strict F1
            against the model's must be `SHARE` or more.
        overwrite: Whether an earlier export there may be replaced.

    Raises:
        UsageError: If a package is missing, or `int8` comes without `check`.
        ModelError: If the directory is not a whole model, its encoder cannot be written as ONNX, or the export gives
            other logits or spans than the model.
        OutputError: If `out` holds something else, lies in `directory`, or cannot be written.
    """
    directory, out = existing(directory), Path(out)
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise UsageError(missing_packages("export onnx", missing))
    if int8 and not check:
        raise UsageError("8-bit weights change spans: name notes to check them in (--check PATH), annotated or not")
    _check_out(directory, out, overwrite=overwrite)
    model, tokenizer, config = read_model_dir(directory, device="cpu", accept=_check_source)
    warnings = _warnings(config, int8=int8)
    model.config.inference_dtype = "float32"  # what the graph computes in, and is compared with
    model = model.float()
    with staging(out) as stage:
        _write_files(model, tokenizer, stage)
        write_graph(model, stage)
        try:
            measured = _checked(model, tokenizer, stage, [document.text for document in check], int8=int8)
        except FloatingPointError as error:
            raise ModelError(f"{directory}: spans of the model and its export cannot be compared: {error}") from error
        done = OnnxExport(out, *measured, warnings)
        precision = "with 8-bit weights" if int8 else "in float32"
        record = read_json(directory / TRAINING_ARGS)
        card = onnx_card(config, record, precision=precision, checked=done.figures)
        (stage / CARD).write_text(card, encoding="utf-8")
        publish_export(stage, out, stale=_STALE, key=SETTINGS)
    return done


def _check_source(directory: Path, config: Mapping[str, Any]) -> None:
    """Refuse a class of the user's own."""
    if own := custom_class(config):
        raise ModelError(
            f"{directory} has a class of its own, {own}, whose code an ONNX graph cannot hold: share the model "
            "directory itself"
        )


def _check_out(directory: Path, out: Path, *, overwrite: bool) -> None:
    """Refuse a place that holds something else, or that would change the model itself."""
    check_place(directory, out)
    files = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    ours = [path for path in files if path.as_posix() in _OWN]
    others = [path for path in files if path not in ours and not any(part.startswith(_PASSED) for part in path.parts)]
    if others:
        raise OutputError(f"{out} holds {others[0]}, which is not part of an export: choose another directory")
    if ours and not overwrite:
        raise OutputError(f"{out} already holds an export: choose another directory, or pass --overwrite")


def _write_files(model: TokenClassificationModel, tokenizer: Any, stage: Path) -> None:
    """Write what runs the graph: the tokenizer, the settings, the code."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    (stage / TOKENIZER).write_text(tokenizer.backend_tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    settings = json.dumps(_settings(model, tokenizer), indent=2, ensure_ascii=False, allow_nan=False)
    (stage / SETTINGS).write_text(settings + "\n", encoding="utf-8")
    (stage / _FOLDER).mkdir()
    for name, source in _CODE.items():
        text = source.read_text(encoding="utf-8")
        text = re.sub(
            r"^from cardioner\.(?:\w+\.)*(\w+) import", rf"from {_FOLDER}.\1 import", text, flags=re.MULTILINE
        )
        (stage / name).write_text(text, encoding="utf-8")


def _settings(model: TokenClassificationModel, tokenizer: Any) -> dict[str, Any]:
    """The content of `settings.json`."""
    config, plan = model.config, plan_windows(model.config, tokenizer)
    return {
        "format": FORMAT,
        "cardioner": __version__,
        "tags": config.tags,
        "crf": _crf(model) if model.uses_crf else None,
        "temperature": config.score_temperature,
        "windows": {"length": plan.length, "context": plan.context, "aligned": plan.aligned},
        "special_ids": plan.special._asdict(),
        "padding_id": tokenizer.pad_token_id or 0,
    }


def _crf(model: TokenClassificationModel) -> dict[str, Any]:
    """The scores of the CRF, and which transitions are legal.

    Raises:
        ModelError: If a score is not a number.
    """
    crf = model.crf
    legal = crf.legal or legal_transitions(model.config.tags)
    scores = {"start": crf.start_transitions, "transitions": crf.transitions, "end": crf.end_transitions}
    if not all(bool(value.isfinite().all()) for value in scores.values()):
        raise ModelError("the CRF holds scores that are not numbers: train the model again")
    return {**{name: value.tolist() for name, value in scores.items()}, "legal": legal._asdict()}


def _warnings(config: CardioNERConfig, *, int8: bool) -> tuple[str, ...]:
    """What differs from the original model."""
    warnings = []
    if config.inference_dtype != "float32":
        instead = "it has 8-bit weights instead" if int8 else "it computes in float32"
        warnings.append(
            f"the setting to compute the encoder in {config.inference_dtype} is not part of the export: {instead}"
        )
    if int8:
        warnings.append(
            "with 8-bit weights, values are rounded by their range in the whole batch: which notes are tagged together "
            "can change a span"
        )
    return tuple(warnings)


def _checked(
    model: TokenClassificationModel, tokenizer: Any, stage: Path, texts: Sequence[str], *, int8: bool
) -> tuple[int, int, float, Agreement]:
    """Check the graph in float32; then, if asked, reduce it to 8 bits and check it again.

    Returns:
        Its size and its size in float32, the greatest difference of a logit, and the agreement of spans.

    Raises:
        ModelError: If logits or spans differ more from the model's than the bounds allow.
    """
    from cardioner.interop.onnx_files.tag import Tagger  # noqa: PLC0415 - needs onnxruntime

    tagger, padding = Tagger(stage), tokenizer.pad_token_id or 0
    difference = greatest_difference(model, tagger.logits, padding=padding)
    if not difference <= BOUND:  # a difference that is not a number is refused too
        raise ModelError(
            f"the {model.config.encoder_config['model_type']} encoder computes other logits in ONNX: they differ by "
            f"{difference:.1e} (at most {BOUND:.0e}); share the model directory itself"
        )
    found = agreement(model, tokenizer, tagger, [*made_up_notes(), *(() if int8 else texts)], exact=True)
    if found.moved:
        raise ModelError(
            f"spans differ from the model's in {found.moved} of {found.notes} notes ({found.equal} of {found.found} "
            "are equal): share the model directory itself"
        )
    float_size = size_of(stage)
    if int8:
        quantize(stage)
        tagger = Tagger(stage)
        difference = greatest_difference(model, tagger.logits, padding=padding)
        found = agreement(model, tokenizer, tagger, texts, exact=False)
        _check_quantized(found)
    return size_of(stage), float_size, difference, found


def _check_quantized(found: Agreement) -> None:
    """Refuse 8-bit weights that find other spans, and notes with too few spans to judge by."""
    if found.found < LEAST_SPANS:
        raise ModelError(
            f"the model finds {found.found} spans in the notes to check ({found.notes}): name notes in which it finds "
            f"at least {LEAST_SPANS}"
        )
    if found.share < SHARE:
        raise ModelError(
            f"8-bit weights change too many spans: the model finds {found.found} in {found.notes} notes, the export "
            f"{found.other}, and {found.equal} are equal: an agreement (F1) of {found.share:.4f}, at least {SHARE} is "
            "needed: export without --int8"
        )
