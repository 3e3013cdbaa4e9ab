"""`cardioner predict`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import notices, progress_bars, quieten, table, tell
from cardioner.cli.inputs import DeviceOption
from cardioner.documents import Document
from cardioner.errors import DataError, OutputError
from cardioner.formats import check_target, read_texts, write_corpus


class Decoder(str, Enum):
    """How tags are chosen."""

    viterbi = "viterbi"
    argmax = "argmax"


def predict(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="The model directory.")],
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Folders of .txt notes, or single ones.")],
    output: Annotated[Path, typer.Option(metavar="OUT", help="The brat folder to write.")],
    decode: Annotated[Decoder, typer.Option(help="argmax ignores a CRF.")] = Decoder.viterbi,
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace notes that OUT holds.")] = False,
) -> None:
    """Tag notes of any length and write them as a brat folder.

    Example: cardioner predict model notes --output tagged
    """
    _check_apart(inputs, output)
    documents = _read(inputs)
    check_target(documents, output, overwrite=overwrite)
    total = sum(len(document.text) for document in documents)
    with progress_bars() as stages:
        with stages.busy("loading the model"):
            quieten()
            from cardioner.multiclass.options import counted  # noqa: PLC0415 - imports torch
            from cardioner.predictor import Predictor  # noqa: PLC0415

            predictor = Predictor.from_pretrained(model, device=device, decoder=decode.value)
        began = time.perf_counter()
        tagged = list(predictor.predict(documents, advance=counted(stages, "tagging (characters)", total)))
    write_corpus(tagged, output, overwrite=overwrite)
    counts = Counter(span.label for document in tagged for span in document.spans)
    notices.print(table("Spans found", ("type", "spans"), sorted(counts.items())))
    tell(f"{len(tagged)} notes, {total} characters, in {time.perf_counter() - began:.1f} s")
    tell(f"Notes: {output}")


def _check_apart(inputs: Sequence[Path], output: Path) -> None:
    """Refuse to write among the inputs: annotations there would be replaced, and the output read as input next time.

    Raises:
        OutputError: Naming the folder.
    """
    for path in inputs:
        if path.is_dir() and output.resolve().is_relative_to(path.resolve()):
            raise OutputError(f"{output} lies in the input {path}: choose an output folder outside of it")


def _read(paths: Sequence[Path]) -> list[Document]:
    """All notes, spans of their own left aside.

    Raises:
        DataError: If two of them have the same id.
    """
    documents = [document for path in paths for document in read_texts(path)]
    repeated = [identifier for identifier, count in Counter(document.id for document in documents).items() if count > 1]
    if repeated:
        raise DataError(
            f"{len(repeated)} ids occur in more than one input, {repeated[0]} the first: predict them apart"
        )
    return documents
