"""What lies in a directory, and whether it can be opened without harm."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from cardioner.model_dir.json_files import refuse, shown
from cardioner.model_dir.layout import READ_BY_US

_MOST_ENTRIES = 10_000
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def look(directory: Path) -> frozenset[str]:
    """The names of a directory's files, refused if they cannot even be opened without harm.

    Links may not lead out, nor may there be anything but files and folders: a pipe would wait for ever for a writer,
    and a link may name any file of the reader's. Nothing is opened here.
    """
    home, names = _home(directory), []
    for place in (directory, directory / "additional_chat_templates"):
        for count, entry in enumerate(_entries(place), 1):
            path = place / entry.name
            if count > _MOST_ENTRIES:
                refuse(place, f"expected a model's files, found more than {_MOST_ENTRIES:,} entries")
            kind = _checked_kind(path, home)
            if place == directory and kind == "file":
                names.append(entry.name)
    if folders := [name for name in READ_BY_US if name not in names and (directory / name).is_dir()]:
        refuse(directory / folders[0], "expected a file, found a folder")
    return frozenset(names)


def _entries(place: Path) -> Iterable[os.DirEntry[str]]:
    """The entries of a folder, none if there is none."""
    if place.is_dir():
        with os.scandir(place) as entries:
            yield from entries


def _home(directory: Path) -> str:
    """Where links may lead: into the directory; from a snapshot in the cache of Hugging Face, into its repository."""
    home = Path(os.path.realpath(directory))
    cached = home.parent.name == "snapshots" and (home.parents[1] / "blobs").is_dir()
    return str(home.parents[1] if cached else home)


def _checked_kind(path: Path, home: str) -> str:
    """What an entry is, links followed; refused if it lies outside, or is neither a file nor a folder."""
    target = os.path.realpath(path)
    if path.is_symlink() and os.path.commonpath([home, target]) != home:
        refuse(
            path,
            f"expected a file, found a link out of the directory, to {shown(target, 200)}",
            "if you trust what it leads to, copy the directory with `cp -rL DIR COPY` and use the copy",
        )
    try:
        kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode), "something else")
    except (OSError, RuntimeError):
        return "link"  # to nothing, or to itself: as good as missing
    if kind not in {"file", "folder"}:
        refuse(path, f"expected a file, found {kind}", "delete it, and mistrust where it came from")
    return kind
