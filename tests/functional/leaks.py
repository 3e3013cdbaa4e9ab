"""Words that are planted in notes, and the search for them in whatever a run printed, logged, raised or wrote.

A word is found in any case, encoding and escaping; cut down to any six characters of it; as the ids of its sub-tokens;
and inside of archives. Nothing of it is left if the search finds nothing.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import html
import io
import json
import logging
import lzma
import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

CANARIES = {
    "mention": "zyqmwvkjtx",
    "context": "qvwxkzjpbf",
    "not ASCII": "źłükañäržq",
    "cut": "bqzhjdwkvxytjxfqwzpk",
    "row": "wqktjzkrvx",
    "quote": "jqxnzvqtwk",
    "broken": "kzvbqrxjwp",
}
"""One as a mention, one beside it, one that is not ASCII, one that borders of windows cut, one as the token of a row,
one as the quote of an annotation, and one in what is malformed."""

PIECE = 6
"""Characters of a word that give it away."""
_TEXT_ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "cp1250")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{40,}={0,2}")
_OPENERS = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ": lzma.decompress,
    b"\x78\x01": zlib.decompress,
    b"\x78\x9c": zlib.decompress,
    b"\x78\xda": zlib.decompress,
}
_ZIP = b"PK"


def _pieces(word: str) -> set[str]:
    return {word[start : start + PIECE] for start in range(len(word) - PIECE + 1)}


def _spellings(word: str) -> set[str]:
    """How a word may be written: as normalisers leave it, and escaped."""
    if word.isascii():
        return {word}
    plain = "".join(one for one in unicodedata.normalize("NFD", word) if not unicodedata.combining(one))
    forms = {word, word.upper(), unicodedata.normalize("NFD", word), plain, plain.replace("ł", "l")}
    escaped = {json.dumps(form)[1:-1] for form in forms} | {quote(form) for form in forms}
    escaped |= {ascii(form)[1:-1] for form in forms} | {repr(form.encode())[2:-1] for form in forms}
    return forms | escaped


def _encoded(text: str) -> Iterator[bytes]:
    """Bytes of a text in lower case, without the zeros that wide encodings put between letters of ASCII."""
    for encoding in _TEXT_ENCODINGS[:1] if text.isascii() else _TEXT_ENCODINGS:
        with suppress(UnicodeEncodeError):
            yield text.encode(encoding).lower().replace(b"\0", b"")


def _base64s(content: bytes) -> Iterator[bytes]:
    """The characters that stand for these bytes alone, wherever in a longer content they begin."""
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + content)
        yield coded[-(-shift * 8 // 6) : len(content + b"\0" * shift) * 8 // 6]


def _ids(rows: Iterable[list[int]]) -> Iterator[bytes]:
    """Ids of sub-tokens as text and as arrays."""
    for row in rows:
        for separator in (", ", ",", " ", "\n"):
            yield separator.join(map(str, row)).encode()
        for kind in "qih":
            yield struct.pack(f"<{len(row)}{kind}", *row)


class Search:
    """A search for some words, and for the ids that a tokenizer gives them.

    Args:
        words: The words.
        tokenizer: A tokenizer without unknown words; ids are not searched for without one.
    """

    def __init__(self, words: Iterable[str], tokenizer: Any = None) -> None:
        words = list(words)
        pieces = {piece for word in words for piece in _pieces(word)}
        self._lowered = {coded for piece in pieces for form in _spellings(piece) for coded in _encoded(form)}
        self._lowered |= {piece.encode().hex().encode() for piece in pieces}
        self._exact = {coded for word in words for coded in _base64s(word.encode())}
        if tokenizer is not None:
            rows = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
            self._exact |= set(_ids(rows))
            listed = [tokenizer.convert_ids_to_tokens(row) for row in rows]
            self._exact |= {between.join(tokens).encode() for tokens in listed for between in ("', '", '", "', " ")}

    def finds(self, content: bytes | str) -> bool:
        """Whether a word, or what gives it away, is in a content."""
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        lowered = content.lower().replace(b"\0", b"")
        if any(word in lowered for word in self._lowered) or any(word in content for word in self._exact):
            return True
        return any(self.finds(inner) for inner in _inside(content))

    def in_files(self, folder: Path, leave_out: Iterable[Path] = ()) -> list[str]:
        """Files below a folder whose name or content holds a word."""
        spared = [place.resolve() for place in leave_out]
        found = []
        for path in sorted(folder.rglob("*")):
            if any(path.resolve().is_relative_to(place) for place in spared):
                continue
            name = path.relative_to(folder).as_posix()
            if self.finds(name) or (path.is_file() and self.finds(path.read_bytes())):
                found.append(str(path))
        return found

    def in_errors(self, error: BaseException | None) -> list[str]:
        """Errors of a chain, those that `from None` hides among them, whose message or arguments hold a word."""
        found, seen = [], set[int]()
        waiting = [error]
        while waiting:
            one = waiting.pop()
            if one is None or id(one) in seen:
                continue
            seen.add(id(one))
            said = [str(one), repr(one), *map(repr, one.args), *map(str, getattr(one, "__notes__", ()))]
            if any(map(self.finds, said)):
                found.append(type(one).__name__)
            waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
        return found


def _inside(content: bytes) -> Iterator[bytes]:
    """What is packed in a content, or escaped."""
    yield from _unpacked(content)
    for run in _BASE64.findall(content):
        with suppress(binascii.Error, ValueError):
            decoded = base64.b64decode(run + b"=" * (-len(run) % 4), altchars=b"-_" if b"-" in run else None)
            if decoded.startswith((*_OPENERS, _ZIP)):
                yield decoded
    if b"&#" in content:
        yield html.unescape(content.decode("utf-8", "replace")).replace("&#", "").encode("utf-8", "replace")


def _unpacked(content: bytes) -> Iterator[bytes]:
    for opener, unpack in _OPENERS.items():
        if content.startswith(opener):
            with suppress(OSError, EOFError, zlib.error, lzma.LZMAError):
                yield unpack(content)
    if content.startswith(_ZIP):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)


class Records(logging.Handler):
    """Keeps everything that any logger says, with the errors it says it of."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.name}: {record.getMessage()} {record.args!r}")
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])
