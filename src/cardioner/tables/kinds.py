"""Which places are tables, by their names; imports nothing that reads them."""

from __future__ import annotations

from pathlib import Path

from cardioner.errors import UsageError

PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather", ".ipc")
JSON_LINES = (".jsonl", ".ndjson")
_ALWAYS_TABLES = (*PARQUET, *ARROW, ".csv")
_FORMS = {
    **dict.fromkeys(PARQUET, "parquet"),
    ".csv": "csv",
    **dict.fromkeys(JSON_LINES, "jsonl"),
    **dict.fromkeys(ARROW, "arrow"),
}


def is_table(path: Path) -> bool:
    """Whether a path can only be a table: JSON lines may also be a corpus."""
    return path.suffix.lower() in _ALWAYS_TABLES or bool(parts_of(path))


def parts_of(folder: Path) -> list[Path]:
    """The Parquet parts of a folder in the order of their names, those below hidden names or `_` left out."""
    found = sorted(folder.rglob("*.parquet")) if folder.is_dir() else []
    return [path for path in found if not any(part[0] in "._" for part in path.relative_to(folder).parts)]


def form_of(output: Path) -> str:
    """In which form a place is written, by its suffix: `parquet`, `csv`, `jsonl` or `arrow`.

    Without a suffix it is `parquet`: a folder of parts. Standard output gets JSON lines.

    Raises:
        UsageError: For another suffix.
    """
    suffix = output.suffix.lower()
    if suffix and suffix not in _FORMS:
        raise UsageError(f"{output}: a table is written to {', '.join(_FORMS)}, or to a folder of Parquet parts")
    return "jsonl" if output == Path("-") else _FORMS.get(suffix, "parquet")
