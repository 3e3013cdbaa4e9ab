"""A model as an ONNX graph, with all that is needed to tag notes without torch, transformers and cardioner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cardioner._io import grant_default_permissions, reporting_failed_writes, staging, writing
from cardioner.data.documents import Document
from cardioner.errors import ModelError, OutputError, UsageError
from cardioner.interop.cards import onnx_card
from cardioner.interop.exports import check_place, custom_class, publish_export
from cardioner.interop.onnx_check import Agreement, check_graph
from cardioner.interop.onnx_contents import CODE, write_code, write_settings, write_tokenizer
from cardioner.interop.onnx_graph import DATA, write_graph
from cardioner.interop.onnx_packages import check_packages
from cardioner.model_dir.entrance import existing
from cardioner.model_dir.findings import never_found
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import (
    CARD,
    FIRST_CODE,
    GRAPH_FILES,
    GRAPH_SETTINGS,
    MANIFEST,
    SIGNATURE,
    TOKENIZER,
    TORCH_FREE_CODE,
    TRAINING_ARGS,
)
from cardioner.model_dir.load import Loaded, read_model_dir
from cardioner.model_dir.manifest import Manifest, list_files, read_manifest
from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel

_EARLIER_SETTINGS = "settings.json"
_STALE = (DATA, _EARLIER_SETTINGS, "viterbi.py", *(name for name in TORCH_FREE_CODE if name in FIRST_CODE))
"""What an earlier export, of version 0.2.0 too, may have left that this one does not replace."""
_OWN = {*GRAPH_FILES, TOKENIZER, CARD, *CODE, *_STALE}
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
        warnings: What differs from the original model, and what its training says against it.
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
        compared = (
            f"spans: {found.equal} of the {found.found} that the model finds in {found.notes} notes are equal, "
            f"agreement (F1) {found.share:.4f}{ties}"
        )
        if not found.found and not found.other:
            compared = (
                f"warning: the model finds no span in the {found.notes} notes that were compared, so nothing is known "
                "of its spans: name notes in which there are some (--check PATH)"
            )
        return (
            compared,
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
            against the model's must be `onnx_check.SHARE` or more.
        overwrite: Whether an earlier export there may be replaced.

    Raises:
        UsageError: If a package is missing, or `int8` comes without `check`.
        ModelError: If the directory is not a whole model, its encoder cannot be written as ONNX, or the export gives
            other logits or spans than the model.
        OutputError: If `out` holds something else, lies in `directory`, or cannot be written.
    """
    directory, out = existing(directory), Path(out)
    _check_request(check, int8=int8)
    _check_out(directory, out, overwrite=overwrite)
    model, tokenizer, config = _read(directory)
    warnings = _warnings(directory, config, int8=int8)
    with staging(out) as stage:
        write_code(stage)
        measured = _write_graph(directory, model, tokenizer, stage, check, int8=int8)
        done = OnnxExport(out, *measured, warnings)
        precision = "with 8-bit weights" if int8 else "in float32"
        record = read_json(directory / TRAINING_ARGS)
        card = onnx_card(config, record, precision=precision, checked=done.figures)
        (stage / CARD).write_text(card, encoding="utf-8")
        publish_export(stage, out, stale=_STALE, key=GRAPH_SETTINGS)
    return done


def add_onnx(
    directory: str | Path, *, check: Sequence[Document] = (), int8: bool = False, overwrite: bool = False
) -> OnnxExport:
    """Add a graph to a model directory itself, for the engine that needs no torch; its manifest then lists the graph.

    The directory is whole at every moment: while an earlier graph is replaced, it has none.

    Args:
        directory: A model directory with a manifest, without a signature and without a class of its own.
        check: Notes, annotated or not, in which both engines must find the same spans.
        int8: Whether to quantise the weights to 8 bits, as for `export_onnx`.
        overwrite: Whether a graph that is there may be replaced.

    Raises:
        UsageError: If a package is missing, or `int8` comes without `check`.
        ModelError: If the directory is not a whole model, its encoder cannot be written as ONNX or needs more than one
            file, or the graph gives other logits or spans than the model.
        OutputError: If the directory is signed, has a graph already, or cannot be written.
    """
    directory = existing(directory)
    _check_request(check, int8=int8)
    manifest = _check_into(directory, overwrite=overwrite)
    model, tokenizer, config = _read(directory)
    with staging(directory) as stage:
        measured = _write_graph(directory, model, tokenizer, stage, check, int8=int8)
        if (stage / DATA).exists():
            raise ModelError(
                f"{directory}: the weights are too large for the one file that the onnx engine reads: try --int8, or "
                "export to another directory"
            )
        grant_default_permissions(stage)
        with reporting_failed_writes(directory):
            _publish_into(stage, directory, manifest)
    return OnnxExport(directory, *measured, _warnings(directory, config, int8=int8))


def _check_request(check: Sequence[Document], *, int8: bool) -> None:
    """Refuse what cannot be done here."""
    check_packages("export onnx")
    if int8 and not check:
        raise UsageError("8-bit weights change spans: name notes to check them in (--check PATH), annotated or not")


def _check_into(directory: Path, *, overwrite: bool) -> Manifest:
    """The manifest of a directory that may get a graph."""
    manifest = read_manifest(directory)
    if manifest is None:
        raise ModelError(f"{directory} has no manifest, which must list the graph: save the model again")
    if (directory / SIGNATURE).exists():
        raise OutputError(
            f"{directory} is signed, and a graph changes the manifest that is signed: delete {SIGNATURE}, add the "
            "graph, and sign again"
        )
    if not overwrite and any((directory / name).exists() for name in GRAPH_FILES):
        raise OutputError(f"{directory} already has a graph: pass --overwrite to replace it")
    return manifest


def _publish_into(stage: Path, directory: Path, manifest: Manifest) -> None:
    """Move a finished graph to its model; the manifest lists it only while it is whole there."""
    files = {name: entry for name, entry in manifest.files.items() if name not in GRAPH_FILES}
    if len(files) < len(manifest.files):
        _write_manifest(directory, manifest, files)
    for name in GRAPH_FILES:
        (stage / name).replace(directory / name)
    _write_manifest(directory, manifest, {**files, **list_files(directory, GRAPH_FILES)})


def _write_manifest(directory: Path, manifest: Manifest, files: Mapping[str, Any]) -> None:
    with writing(directory / MANIFEST, overwrite=True) as file:
        file.write(manifest.model_copy(update={"files": dict(sorted(files.items()))}).to_bytes())


def _read(directory: Path) -> Loaded:
    """The model, as the graph is compared with it: in float32."""
    loaded = read_model_dir(directory, device="cpu", accept=_check_source)
    dtype = loaded.config.inference_dtype
    model = loaded.model.float()
    model.config.inference_dtype = "float32"
    config = copy(loaded.config)
    config.inference_dtype = dtype
    return Loaded(model, loaded.tokenizer, config)


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


def _write_graph(
    directory: Path,
    model: TokenClassificationModel,
    tokenizer: Any,
    stage: Path,
    check: Sequence[Document],
    *,
    int8: bool,
) -> tuple[int, int, float, Agreement]:
    """Write the graph, its settings and the tokenizer, and compare the spans; returns what `check_graph` does."""
    write_tokenizer(tokenizer, stage)
    write_settings(model, tokenizer, stage)
    write_graph(model, stage)
    try:
        measured = check_graph(model, tokenizer, stage, [document.text for document in check], int8=int8)
    except FloatingPointError as error:
        raise ModelError(f"{directory}: spans of the model and its export cannot be compared: {error}") from error
    if int8:
        write_settings(model, tokenizer, stage, precision="int8", tolerance=2 * measured[2])
    return measured


def _warnings(directory: Path, config: CardioNERConfig, *, int8: bool) -> tuple[str, ...]:
    """What differs from the original model, and what its training says against it."""
    unfound = never_found(read_json(directory / TRAINING_ARGS))
    warnings = [] if unfound is None else [f"warning: {unfound}"]
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
