"""What lies in a directory, found out without opening anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from cardioner.model_dir.json_files import refuse, shown

_MOST_ENTRIES = 10_000
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_entries(directory: Path) -> frozenset[str]:
    """Refuse links that lead out of a directory, and what is neither a file nor a folder; nothing is opened.

    A pipe would wait for ever for a writer, and a link may name any file of the reader's.

    Returns:
        The names of the files.
    """
    home, names = os.path.realpath(directory), []
    for place in (directory, directory / "additional_chat_templates"):
        for count, entry in enumerate(_entries(place), 1):
            path = place / entry.name
            if count > _MOST_ENTRIES:
                refuse(place, f"expected a model's files, found more than {_MOST_ENTRIES:,} entries")
            if entry.is_symlink():
                _check_link(path, home)
            kind = _kind_of(path)
            if kind not in {"file", "folder", "link"}:
                refuse(path, f"expected a file, found {kind}", "delete it, and mistrust where it came from")
            if place == directory and kind == "file":
                names.append(entry.name)
    return frozenset(names)


def _entries(place: Path) -> Iterable[os.DirEntry[str]]:
    """The entries of a folder, none if there is none."""
    if place.is_dir():
        with os.scandir(place) as entries:
            yield from entries


def _check_link(path: Path, home: str) -> None:
    """Refuse a link whose end lies outside."""
    target = os.path.realpath(path)
    if os.path.commonpath([home, target]) != home:
        refuse(
            path,
            f"expected a file, found a link out of the directory, to {shown(target, 200)}",
            "if you trust what it leads to, copy the directory with `cp -rL DIR COPY` and use the copy",
        )


def _kind_of(path: Path) -> str:
    """What an entry is, links followed."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "something else")
    except (OSError, RuntimeError):
        return "link"  # to nothing, or to itself: as good as missing
