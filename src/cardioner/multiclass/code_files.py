"""The code files of a saved model: those that every one has, and that of a user's own class.

This file is copied into every saved model directory and imports nothing but the standard library.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

_NEEDED = (
    *("attributes.py", "checks.py", "code_files.py", "crf.py", "crf_cuda.py", "crf_recursions.py", "crf_scan.py"),
    *("heads.py", "tagging.py"),
)
"""The files that `modeling.py` imports from beside it."""
PIPELINE_FILES = ("windows.py", "encoding.py", "int8.py", "precision.py", "inference.py", "pipeline.py")
"""The files that a directory needs further for `pipeline("token-classification")`."""
COMPANIONS = (*_NEEDED, *PIPELINE_FILES)
"""The files of a directory beside `modeling.py`."""
_PIPELINE = {"impl": "pipeline.CardioNERPipeline", "pt": ["AutoModelForTokenClassification"], "type": "text"}
PIPELINES = {"token-classification": _PIPELINE}
"""What `config.json` says of the pipeline."""

_OF_ANOTHER_MODEL = ("cardioner.json", "cardioner.sig")
"""A manifest and a signature, left in a directory by the model that was there before."""

_TRAINING_ALONE = {"loss", "accepts_loss_kwargs", "own_code", "_auto_class"}
"""What a subclass may define without tagging differently from its base; and what every class has."""
_EVERY_CLASS_HAS = {"__module__", "__qualname__", "__doc__", "__annotations__", "__static_attributes__"}
_EVERY_CLASS_HAS |= {"__firstlineno__", "__annotate__", "__annotate_func__", "__annotations_cache__"}


class OwnCode(NamedTuple):
    """The file that a subclass is saved with.

    Attributes:
        name: Its name in the directory, such as `focal.py`.
        content: What it holds there; it imports our classes from `.modeling`.
    """

    name: str
    content: bytes


def own_code_of(kind: type) -> OwnCode | None:
    """The code of a subclass: what was prepared for it, or its file if that came with a directory, beside this one."""
    prepared: OwnCode | None = vars(kind).get("own_code")
    file, here = file_of(kind), Path(__file__)
    if prepared or file is None or file.name == "modeling.py" or kind.__qualname__ != kind.__name__:
        return prepared
    return OwnCode(file.name, file.read_bytes()) if file.parent == here.parent and file.is_file() else None


def file_of(kind: type) -> Path | None:
    """The file that a class was defined in, if it was read from one."""
    name = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return Path(name) if name else None


def tags_like(model: Any, base: type) -> bool:
    """Whether a model tags as one of its base classes does, and differs from it in training alone."""
    known = {*dir(base), *vars(model), *model._modules, "training"} - _EVERY_CLASS_HAS - _TRAINING_ALONE
    return not any(
        name in known and value is not getattr(base, name, None)
        for kind in takewhile(lambda each: each is not base, type(model).__mro__)
        for name, value in vars(kind).items()
    )


def check_loaded(model: Any, report: Mapping[str, Any], place: Any) -> None:
    """Refuse a model whose weights or class are not those that its directory was saved with.

    Args:
        model: What was loaded.
        report: What transformers says of the weights: which it missed, did not expect, or found in another shape.
        place: The directory.

    Raises:
        ValueError: Naming the first of the weights, or the class.
    """
    kind = type(model)
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    wrong = {name: sorted(map(str, report[name])) for name in kinds if report.get(name)}
    if wrong:
        counted = "; ".join(f"{len(keys)} {name}, {keys[0]} the first" for name, keys in wrong.items())
        raise ValueError(
            f"{place}: the weights are not those of {kind.__name__}: {counted}. The directory was saved as "
            f"{model.config.architectures}: load it with that class, or save the model again"
        )
    if model._saved_type not in {None, *(each.__name__ for each in kind.__mro__)}:
        raise ValueError(
            f"{place}: saved by {model._saved_type}, which tags in a way of its own, not by {kind.__name__}: load "
            "it with that class, or through AutoModelForTokenClassification with trust_remote_code=True"
        )


def pipeline_home(name_or_path: str | None) -> Path | None:
    """Where the files of the pipeline are: beside this one, or in the directory that a model was loaded from."""
    folders = [Path(__file__).parent, *([Path(name_or_path)] if name_or_path else [])]
    return next((each for each in folders if all((each / name).is_file() for name in PIPELINE_FILES)), None)


def copy_code(target: Path, home: Path | None, own: OwnCode | None) -> None:
    """Give a directory its code files, and remove what vouched for the files that were there before.

    Args:
        target: The directory.
        home: Where the files of the pipeline are, if they are anywhere.
        own: The file of a user's own class.
    """
    for name in _OF_ANOTHER_MODEL:
        (target / name).unlink(missing_ok=True)
    needed = [Path(__file__).with_name(name) for name in ("modeling.py", *_NEEDED)]
    for source in (*needed, *(home / name for name in PIPELINE_FILES if home)):
        if source.resolve() != (target / source.name).resolve():
            shutil.copyfile(source, target / source.name)
    if own:
        (target / own.name).write_bytes(own.content)
