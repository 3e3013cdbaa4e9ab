"""What a file looks like inside, whatever its name says: annotations in `.txt` files are common."""

from __future__ import annotations

import json
import re
from itertools import chain
from typing import TYPE_CHECKING

from cardioner.data.formats.files import files_below, is_hidden, looking_at, visible_below
from cardioner.data.formats.words import are_bare_types, parse_tag
from cardioner.errors import DataError
from cardioner.multiclass.tagging import OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from cardioner.data.formats.reading import Reading

SUFFIXES = {
    "jsonl": (".jsonl", ".ndjson"),
    "conll": (".conll", ".iob", ".iob2", ".bio", ".bioes", ".iobes"),
    "pubtator": (".pubtator",),
    "xmi": (".xmi",),
    "bioc": (".bioc",),
    "docbin": (".spacy",),
}
"""The suffixes that belong to a format alone."""
SHARED = (".txt", ".tsv", ".tab", ".json", ".xml")
"""Suffixes under which several formats are found."""

WITHOUT_NOTE = ".ann without .txt"
LOOKS_LIKE = "other files that look like the format"
"""The kinds of issue, or how they begin, of files that seem to hold annotations and are not read."""

_HEAD = 1 << 14
"""Bytes that are looked at."""
_BRAT = re.compile(r"\ufeff?T[0-9]+\t[^\s]{1,100} [0-9]+ [0-9]+")
_PUBTATOR = re.compile(r"[^|\t]{1,100}\|[ta]\|")
_BEGINS_XML = re.compile(r"\ufeff?\s*<")
_XML = re.compile(
    r"\ufeff?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!DOCTYPE[^>\[]*>\s*)?<(collection|xmi:XMI)[\s>]", re.DOTALL
)
_OF_XML = {"collection": "bioc", "xmi:XMI": "xmi"}
"""The format of XML by its first element."""
_JSON_ROWS = re.compile(r"\[\s*[\[{]\s*\"")


def form_of_file(path: Path, encoding: str = "utf-8") -> str | None:
    """The name of the format of a file, by its suffix where that belongs to one alone, else by its content."""
    suffix = path.suffix.lower()
    for name, suffixes in SUFFIXES.items():
        if suffix in suffixes:
            return name
    if suffix == ".txt" and path.with_suffix(".ann").exists():
        return "brat"
    names = {".txt": "brat", ".tsv": "tsv", ".tab": "tsv", ".json": "jsonl"}
    return likely_format(path, encoding) or names.get(suffix)


def form_of_folder(path: Path, encoding: str = "utf-8") -> str:
    """The name of the format of the visible files in a folder; brat, whose reader says what lacks, if there is none.

    Annotations of brat go first, then tables of spans. Texts are of another format only if all of them look like it.
    """
    files = [file for file in files_below(path) if not is_hidden(file, path)]
    if any(file.suffix == ".ann" for file in files):
        return "brat"
    by_suffix: dict[str, list[Path]] = {}
    for file in files:
        by_suffix.setdefault(file.suffix.lower(), []).append(file)
    texts, others = by_suffix.pop(".txt", []), [*by_suffix.pop(".json", []), *by_suffix.pop(".xml", [])]
    known = [file for suffix in (".tsv", *chain(*SUFFIXES.values())) for file in by_suffix.get(suffix, [])]
    forms = {form_of_file(file, encoding) for file in known}
    for name in ("tsv", *SUFFIXES):
        if name in forms:
            return name
    if texts:
        form = likely_format(texts[0], encoding)
        return form if form and all(likely_format(file, encoding) == form for file in texts) else "brat"
    return next((form for file in others if (form := likely_format(file, encoding))), "brat")


def line_files(path: Path, form: str, reading: Reading) -> list[tuple[str, Path]]:
    """The files to read at a path, sorted, each with its name for ids: relative to the folder, without the suffix.

    In a folder these are the files with a suffix of the format and those that look like it under a shared suffix. If
    there are none, all files with a shared suffix are: they will be refused line by line.
    """
    expected = f"expected a file, or a folder of {' or '.join(SUFFIXES[form])} files"
    with looking_at(path, expected):
        if not path.is_dir():
            return [(path.stem, path)]
        shared = visible_below(path, *SHARED)
        alike = [file for file in shared if likely_format(file, reading.options.encoding) == form]
        chosen = sorted([*visible_below(path, *SUFFIXES[form]), *alike]) or shared
        if not chosen:
            raise DataError(f"{path} holds none; {expected}")
        count_others(path, set(chosen), reading)
        return [(file.relative_to(path).with_suffix("").as_posix(), file) for file in chosen]


def count_others(folder: Path, used: Collection[Path], reading: Reading) -> None:
    """Report the files below a folder that are not read, apart those that look as if they held annotations."""
    for file in files_below(folder):
        if file in used:
            continue
        if is_hidden(file, folder):
            reading.add_issue("hidden files", file)
        else:
            form = _form_of_other(file, reading.options.encoding)
            reading.add_issue(f"{LOOKS_LIKE} {form}" if form else "other files", file)


def _form_of_other(path: Path, encoding: str) -> str | None:
    """The name of the format of annotations that a file may hold which no reader takes for its own, such as `X.ANN`."""
    for name, suffixes in SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return name
    head = _head(path, encoding)
    return "brat" if _BRAT.match(head) else likely_format_of(head)


def likely_format(path: Path, encoding: str = "utf-8") -> str | None:
    """The name of the format that the content of a file looks like; `None` for notes, tables and what is unreadable."""
    return likely_format_of(_head(path, encoding))


def _head(path: Path, encoding: str) -> str:
    """The first whole lines of a file; nothing if it cannot be read, or is no file."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            head = file.read(_HEAD + 1)
    except OSError:
        return ""
    text = head[:_HEAD].decode(encoding, errors="replace")
    whole = len(head) <= _HEAD or _BEGINS_XML.match(text)  # which may be all on one line
    return text if whole else text.rpartition("\n")[0]


def likely_format_of(text: str) -> str | None:
    """The name of the format that the beginning of a file looks like; `None` for plain text."""
    lines = [line for line in text[:_HEAD].removeprefix("\ufeff").split("\n") if line.strip()]
    if not lines:
        return None
    if _PUBTATOR.match(lines[0]):
        return "pubtator"
    if root := _XML.match(text):
        return _OF_XML[root[1]]
    if _is_json(lines[0]) or _JSON_ROWS.match(text.lstrip("\ufeff \t\r\n")):
        return "jsonl"
    return "conll" if _has_tags(lines) else None


def _is_json(line: str) -> bool:
    """Whether a line is a JSON object with a note."""
    if not line.lstrip().startswith("{"):
        return False
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and not row.keys().isdisjoint({"text", "data"})


def _has_tags(lines: Sequence[str]) -> bool:
    """Whether each line has a word and, in the last column, a tag: with prefixes, or types alone among many `O`."""
    rows = [line.split() for line in lines if not line.startswith(("#", "-DOCSTART-"))]
    tags = [row[-1] for row in rows]
    if not rows or min(map(len, rows)) < 2:
        return False
    named = [tag for tag in tags if tag != OUTSIDE]
    if all(map(parse_tag, named)):
        return bool(named) or len(tags) >= 5
    return are_bare_types(tags)
