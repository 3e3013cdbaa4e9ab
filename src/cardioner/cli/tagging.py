"""What every way to tag shares: its options, loading the models, progress, and a warning of what was not found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cardioner import __version__
from cardioner.cli.console import Stages, quieten, show, table, tell
from cardioner.cli.inputs import LogFileOption
from cardioner.errors import many

if TYPE_CHECKING:
    from cardioner.data.formats import ReadReport
    from cardioner.multiclass.windows import Coverage
    from cardioner.prediction.predictor import Predictor

PROBLEMS_SHOWN = 20

Models = tuple[Path, ...]
Decoder = Literal["viterbi", "argmax"]
Dtype = Literal["auto", "float32", "bfloat16", "int8"]
EngineName = Literal["auto", "torch", "onnx"]


@dataclass(frozen=True)
class ComputingOptions:
    """What models are computed with, and whose they must be."""

    engine: Annotated[
        EngineName, typer.Option(metavar="NAME", help="torch or onnx; auto takes torch if it is installed, else onnx.")
    ] = "auto"
    device: Annotated[str, typer.Option(help="auto takes the GPU where there is one; or cpu, cuda.")] = "auto"
    dtype: Annotated[
        Dtype,
        typer.Option(metavar="NAME", help="float32, bfloat16 or int8; auto takes the fastest that the model allows."),
    ] = "auto"
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Most sub-tokens in a batch. Default: 2048 on a CPU (onnx: 1024), 16384 on a GPU."
        ),
    ] = None
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A public key (.pub): every model must be signed with its private key."),
    ] = None
    log_file: LogFileOption = None


@dataclass(frozen=True)
class PredictorOptions(ComputingOptions):
    """How one predictor is made of models."""

    ensemble: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="One more model; may be given several times. Models with the same tags and tokenizer, all with a "
            "CRF or all without, are averaged; others vote on spans.",
        ),
    ] = None
    vote: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Let models vote even if they can be averaged: majority, score, or a number, the least mean score "
            "of a span that not all models find (score: 0.4).",
        ),
    ] = None
    decode: Annotated[Decoder, typer.Option(metavar="WAY", help="viterbi, or argmax, which ignores a CRF.")] = "viterbi"
    cache: Annotated[
        int,
        typer.Option(
            metavar="MIB",
            min=0,
            help="Memory for windows that were already read, so that pasted text is computed once; 0 for none.",
        ),
    ] = 0


@dataclass(frozen=True)
class TaggingOptions(PredictorOptions):
    """How notes are tagged and written."""

    min_score: Annotated[
        float, typer.Option(metavar="P", min=0, max=1, help="Leave out, and count, spans with a lower score.")
    ] = 0.0
    resume: Annotated[bool, typer.Option("--resume", help="Resume a run that was interrupted.")] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what OUT holds.")] = False


def load_predictor(models: Models, options: PredictorOptions, stages: Stages) -> tuple[Predictor, int]:
    """The models as one predictor, and how many sub-tokens they read at a time."""
    with stages.busy("loading the model"):
        from cardioner.prediction.engines import chosen  # noqa: PLC0415 - starts fast

        if chosen(options.engine) == "torch":
            quieten()
        from cardioner.prediction.predictor import Predictor  # noqa: PLC0415

        predictor = Predictor.from_pretrained(
            models,
            engine=options.engine,
            device=options.device,
            dtype=options.dtype,
            decoder=options.decode,
            key=options.key,
            cache_mib=options.cache,
            vote=options.vote,
        )
        if predictor.combination:
            tell(f"Models: {predictor.combination}")
        tell_of_manifests(models)
        return predictor, options.batch_tokens or predictor.default_batch_tokens


def tell_of_manifests(models: Models) -> None:
    """Say which models cannot be checked, and what they are known never to find."""
    from cardioner.model_dir.findings import never_found  # noqa: PLC0415 - starts fast
    from cardioner.model_dir.manifest import read_manifest  # noqa: PLC0415
    from cardioner.prediction.directories import model_directories  # noqa: PLC0415

    for place in model_directories(models):
        manifest = read_manifest(place)
        if manifest is None:
            tell(f"{place} has no manifest, so nothing shows whether it is what was saved")
        elif problem := never_found(manifest.record):
            tell(f"warning: {place}: {problem}")


def request_of(predictor: Predictor, models: Models, options: TaggingOptions, batch_tokens: int) -> dict[str, Any]:
    """All that decides what is found in a note, and written."""
    from cardioner.prediction.directories import model_directories, models_digest  # noqa: PLC0415 - starts fast

    return {
        "version": __version__,
        "model": models_digest(model_directories(models)),
        "decoder": options.decode,
        "engine": predictor.engines[0].name,
        "device": predictor.engines[0].device.partition(":")[0],
        "dtype": [engine.dtype for engine in predictor.engines],
        "windows": [list(engine.windows) for engine in predictor.engines],
        "cache": options.cache > 0,  # which decides where windows end
        "batch size": batch_tokens,
        "minimum score": options.min_score,
        "combination of models": predictor.combination,
    }


def own_scores(labels: Sequence[str], models: Models) -> dict[str, tuple[Any, ...]]:
    """For each type, what a model that finds it scored when it was made: the notes, gold spans and strict F1."""
    from cardioner.prediction.directories import model_directories, scores_by_type  # noqa: PLC0415 - starts fast

    found = scores_by_type(model_directories(models), labels)
    return {
        label: (score.notes, "", "")
        if score.gold_spans is None
        else (score.notes, score.gold_spans, "not known" if score.f1 is None else score.f1)
        for label, score in found.items()
    }


def tagging_bar(stages: Stages, total: int | None, done: tuple[int, ...]) -> Callable[[Coverage], None]:
    """Shows how many notes are tagged, and how many sub-tokens a second; those of earlier runs do not count."""
    began, before = time.perf_counter(), done[2] if done else 0

    def advance(coverage: Coverage) -> None:
        pace = (coverage.tokens - before) / max(time.perf_counter() - began, 1e-3)
        stages("tagging (notes)", coverage.documents, total, detail=f"{pace:,.0f} sub-tokens/s")

    if done:
        stages("tagging (notes)", done[0], total)
    return advance


def warn_of_unfound(found: Sequence[str], scores: Mapping[str, tuple[Any, ...]], notes: int) -> None:
    """Warn of types without a single span: there may be none, or the model may not be able to find them.

    Args:
        found: The types of which there are spans.
        scores: What `own_scores` gives.
        notes: How many notes were tagged.
    """
    if not (labels := [label for label in scores if label not in found]):
        return
    what = "nothing at all" if len(labels) == len(scores) else "no span of " + many(len(labels), "type")
    tell(f"warning: {what} was found in {many(notes, 'note')}; the model's scores for these types follow")
    rows = [(label, *scores[label]) for label in labels]
    show(table("Types without a span", ("type", "scored on", "gold spans", "strict F1"), rows, left=2))


def left_out(reports: Sequence[tuple[str, ReadReport]], untagged: Sequence[tuple[str, str]]) -> list[str]:
    """The notes or lines that could not be read or tagged, and why: the first of each place.

    Args:
        reports: What came up in each place that was read.
        untagged: Notes that could not be tagged, and why.
    """
    unread = [f"not read: {problem}" for _, report in reports for problem in report.problems]
    return [*unread, *(f"not tagged: {name}: {problem}" for name, problem in untagged)]
