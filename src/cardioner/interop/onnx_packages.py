"""The packages that write a graph in ONNX."""

from __future__ import annotations

from importlib.util import find_spec

from cardioner.errors import UsageError, missing_packages

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_packages(what: str) -> None:
    """Refuse what needs a package that is not installed, before the work begins.

    Args:
        what: What needs them.

    Raises:
        UsageError: Naming those that are missing.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UsageError(missing_packages(what, missing))
