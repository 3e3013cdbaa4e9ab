"""A model as an ONNX graph with what it takes to tag notes without torch, transformers and cardioner."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cardioner import __version__
from cardioner._io import grant_default_permissions, publish, staging
from cardioner.data.documents import Document
from cardioner.errors import ModelError, OutputError, UsageError
from cardioner.interop.onnx_card import onnx_card
from cardioner.interop.onnx_check import Agreement, agreement, made_up_notes
from cardioner.interop.onnx_graph import BOUND, DATA, GRAPH, greatest_difference, quantize, size_of, write_graph
from cardioner.model_dir.custom_code import own_file, tags_in_its_own_way
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import CARD, TRAINING_ARGS
from cardioner.model_dir.load import existing, read_model_dir
from cardioner.multiclass.encoding import plan_windows
from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel, legal_transitions

SHARE = 0.98
"""The least agreement, on the notes of `check`, of the spans that 8-bit weights find with the model's."""

LEAST_SPANS = 50
"""How many spans the model must find in these notes for the share to say something."""

SETTINGS = "settings.json"
TOKENIZER = "tokenizer.json"
FORMAT = 1
"""The version of `settings.json` and of the code that reads it."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_FILES = Path(__file__).parent / "onnx_files"
_SHARED = Path(__file__).parents[1] / "multiclass"
_CODE = (_FILES / "tag.py", _FILES / "viterbi.py", _SHARED / "windows.py", _SHARED / "tagging.py")
_NAMES = {GRAPH, DATA, SETTINGS, TOKENIZER, CARD, *(path.name for path in _CODE)}
_LEFT_BY_PYTHON = "__pycache__"


@dataclass(frozen=True, slots=True)
class OnnxExport:
    """What an export wrote, and what was measured before.

    Attributes:
        directory: Where it is.
        size: Bytes of the graph and its weights.
        float_size: Bytes of the same in float32.
        difference: The greatest difference of a logit from the model's, over random windows.
        agreement: Of the spans with the model's, over the notes to check, or notes made up here.
        remarks: What did not travel.
    """

    directory: Path
    size: int
    float_size: int
    difference: float
    agreement: Agreement
    remarks: tuple[str, ...]

    @property
    def figures(self) -> tuple[str, ...]:
        """What was measured, a line each, and what did not travel."""
        found, smaller = self.agreement, f" ({self.float_size:,} in float32)" if self.size != self.float_size else ""
        ties = f"; in {found.ties} of the notes they differ between tags that score the same" if found.ties else ""
        return (
            f"spans: of {found.found} that the model finds in {found.notes} notes {found.equal} are equal, "
            f"agreement {found.share:.4f}{ties}",
            f"logits: none further than {self.difference:.1g} from the model's in float32",
            f"size: {self.size:,} bytes{smaller}",
            *self.remarks,
        )


def export_onnx(
    directory: Path, out: Path, *, check: Sequence[Document] = (), int8: bool = False, overwrite: bool = False
) -> OnnxExport:
    """Write a model directory as one that onnxruntime, numpy and tokenizers run, with the same spans.

    Args:
        directory: A model directory; not one with a class of its own.
        out: Where to write; it is written whole or not at all.
        check: Notes, annotated or not, in which both must find the same spans.
        int8: Whether to quantise the weights to 8 bits. Then the spans found in `check` may move a little: the strict
            F1 of its spans against the model's must be `SHARE` or more.
        overwrite: Whether an earlier export there may be replaced.

    Raises:
        UsageError: If a package is missing, or `int8` comes without `check`.
        ModelError: If the directory is no whole model, its encoder cannot be written as ONNX, or the export computes
            other logits or finds other spans than the model.
        OutputError: If `out` holds something else, lies in `directory`, or cannot be written.
    """
    _check_installed()
    if int8 and not check:
        raise UsageError("8-bit weights move spans: name notes to check them on (--check PATH), annotated or not")
    _check_out(existing(directory), out, overwrite=overwrite)
    model, tokenizer, config = read_model_dir(directory, device="cpu", accept=_check_source)
    remarks = _remarks(config, int8=int8)
    model.config.inference_dtype = "float32"  # what the graph computes in, and is compared with
    model = model.float()
    with staging(out) as stage:
        _write_files(model, tokenizer, stage)
        write_graph(model, stage)
        done = OnnxExport(
            out, *_checked(model, tokenizer, stage, [document.text for document in check], int8=int8), remarks
        )
        precision = "with 8-bit weights" if int8 else "in float32"
        record = read_json(directory / TRAINING_ARGS)
        card = onnx_card(config, record, precision=precision, checked=done.figures)
        (stage / CARD).write_text(card, encoding="utf-8")
        _publish(stage, out)
    return done


def _check_installed() -> None:
    """Refuse to begin without the packages that export and run a graph.

    Raises:
        UsageError: Naming them.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f'export onnx needs {" and ".join(missing)}: pip install "cardioner[onnx]"')


def _check_source(directory: Path, config: Mapping[str, Any]) -> None:
    """Refuse a class that is not ours: what it does beyond its logits would not travel.

    Raises:
        ModelError: Naming it.
    """
    if tags_in_its_own_way(config) or own_file(config):
        raise ModelError(
            f"{directory} has a class of its own, {own_file(config) or config.get('custom_model_type')}, whose code "
            "would not travel: share the directory as it is"
        )


def _check_out(directory: Path, out: Path, *, overwrite: bool) -> None:
    """Refuse a place that holds something, or that would change the model itself.

    Raises:
        OutputError: Naming what is in the way.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: expected a directory to write to")
    if out.resolve().is_relative_to(directory.resolve()):
        raise OutputError(f"{out} lies in the model directory {directory}: choose a place outside of it")
    standing = sorted(path.name for path in out.iterdir()) if out.exists() else []
    other = [name for name in standing if name not in _NAMES and name != _LEFT_BY_PYTHON and not name.startswith(".")]
    if other:
        raise OutputError(f"{out} holds {other[0]}, which is no part of an export: choose another directory")
    if not overwrite and _NAMES.intersection(standing):
        raise OutputError(f"{out} already holds an export: choose another directory, or pass --overwrite")


def _write_files(model: TokenClassificationModel, tokenizer: Any, stage: Path) -> None:
    """Write what the graph is run with: the tokenizer, the settings, the code."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    (stage / TOKENIZER).write_text(tokenizer.backend_tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    settings = json.dumps(_settings(model, tokenizer), indent=2, ensure_ascii=False, allow_nan=False)
    (stage / SETTINGS).write_text(settings + "\n", encoding="utf-8")
    for source in _CODE:
        text = source.read_text(encoding="utf-8")
        text = re.sub(r"^from cardioner\.(?:\w+\.)*(\w+) import", r"from \1 import", text, flags=re.MULTILINE)
        (stage / source.name).write_text(text, encoding="utf-8")


def _settings(model: TokenClassificationModel, tokenizer: Any) -> dict[str, Any]:
    """The content of `settings.json`.

    Raises:
        ModelError: If a score of the CRF is no number.
    """
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
        ModelError: If a score is no number.
    """
    crf = model.crf
    legal = crf.legal or legal_transitions(model.config.tags)
    scores = {"start": crf.start_transitions, "transitions": crf.transitions, "end": crf.end_transitions}
    if not all(bool(value.isfinite().all()) for value in scores.values()):
        raise ModelError("the CRF holds scores that are no numbers: train the model again")
    return {**{name: value.tolist() for name, value in scores.items()}, "legal": legal._asdict()}


def _remarks(config: CardioNERConfig, *, int8: bool) -> tuple[str, ...]:
    """What stays behind, and what is otherwise."""
    remarks = []
    if config.inference_dtype != "float32":
        instead = "8-bit weights take its place" if int8 else "it computes in float32"
        remarks.append(f"the wish to compute the encoder in {config.inference_dtype} stays behind: {instead}")
    if int8:
        remarks.append(
            "with 8-bit weights what is computed is rounded by its range in the whole batch: which notes are tagged "
            "together can move a span"
        )
    return tuple(remarks)


def _checked(
    model: TokenClassificationModel, tokenizer: Any, stage: Path, texts: Sequence[str], *, int8: bool
) -> tuple[int, int, float, Agreement]:
    """Sizes, the greatest difference of a logit, and the agreement of spans; with 8-bit weights in the end.

    Raises:
        ModelError: If logits or spans are further from the model's than the bounds allow.
    """
    from cardioner.interop.onnx_files.tag import Tagger  # noqa: PLC0415 - needs onnxruntime

    tagger, padding = Tagger(stage), tokenizer.pad_token_id or 0
    difference = greatest_difference(model, tagger.logits, padding=padding)
    if not difference <= BOUND:  # no number compares as greater
        family = model.config.encoder_config["model_type"]
        raise ModelError(
            f"the {family} encoder computes something else in ONNX: logits differ by {difference:.1e}, and {BOUND:.0e} "
            "is the most: share the directory as it is"
        )
    found = agreement(model, tokenizer, tagger, [*made_up_notes(), *(() if int8 else texts)], exact=True)
    if found.moved:
        raise ModelError(
            f"spans differ from the model's in {found.moved} of {found.notes} notes ({found.equal} of {found.found} "
            "are equal): share the directory as it is"
        )
    float_size = size_of(stage)
    if not int8:
        return float_size, float_size, difference, found
    quantize(stage)
    tagger = Tagger(stage)
    difference = greatest_difference(model, tagger.logits, padding=padding)
    found = agreement(model, tokenizer, tagger, texts, exact=False)
    _check_quantized(found)
    return size_of(stage), float_size, difference, found


def _check_quantized(found: Agreement) -> None:
    """Refuse 8-bit weights that find other spans, and notes too few to tell.

    Raises:
        ModelError: With the figures.
    """
    if found.found < LEAST_SPANS:
        raise ModelError(
            f"the model finds {found.found} spans in the {found.notes} notes to check: name notes in which it finds "
            f"{LEAST_SPANS} or more"
        )
    if found.share < SHARE:
        raise ModelError(
            f"8-bit weights move spans: of {found.found} that the model finds in {found.notes} notes and {found.other} "
            f"that they find {found.equal} are equal, an agreement (F1) of {found.share:.4f}, and {SHARE} is the "
            "least: export without --int8"
        )


def _publish(stage: Path, out: Path) -> None:
    """Move a finished export to its place; the graph's weights of an earlier one go."""
    grant_default_permissions(stage)
    (out / SETTINGS).unlink(missing_ok=True)
    (out / DATA).unlink(missing_ok=True)
    publish(stage, out, sorted(path.name for path in stage.iterdir()), key=SETTINGS)
