r"""Whether the normalizers of a tokenizer keep texts in bounds, and whether its patterns end.

What a step can make of one character is multiplied over all steps. The bound leaves room for what sound tokenizers do
(NFKD makes up to 18 characters of one, and sentencepiece's own table again as many), not for chains that multiply.

Not covered: patterns that take a time which grows with a power of a text's length without repeating a repetition, such
as `\s*\s*\s*x`, or whose alternatives overlap, such as `(a|a)*`; and tables of `Precompiled` whose tree is damaged.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cardioner.model_dir.json_files import refuse, shown

_MOST_GROWTH = 512
"""Most characters that normalizing may make of one."""
_MOST_ADDED = 64
"""Most characters put before a text."""
_FORMS = {"NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "BertNormalizer": 4}
"""Most characters that a step makes of one; of the forms of Unicode the second adds nothing to the first (UAX 15)."""
_BYTES = 4
"""Most characters that `ByteLevel` makes of one: one a byte, each of which is two bytes for the next `ByteLevel`."""
_LONGEST_PATTERN = 8_192
_MOST_PATTERNS = 256
_MOST_STEPS = 64
_MANDATORY = re.compile(r"(\\[pP]\{[^}]*\}|\\[^bBAzZGKQ]|\[\^?[^\]\\]+\]|[^\\\[(|^$*+?.])(?![*?]|\{0|\{,)")
"""An atom that a match has at least once, at the front of a pattern."""
_ENDLESS = re.compile(r"[*+]\+?|\{\d*,\}")


def check_growth(path: Path, *steps: Any) -> None:
    """Refuse a chain of steps that may make more than a few hundred characters of one."""
    forms, growth, added = 1, 1, 0
    for count, part in enumerate((part for step in steps for part in steps_of(step)), 1):
        kind = part.get("type")
        if count > _MOST_STEPS:
            refuse(path, f"expected at most {_MOST_STEPS} steps of normalizing")
        if kind == "Replace":
            growth *= _replaced(path, part)
        elif kind == "Precompiled":
            growth *= _precompiled(path, part.get("precompiled_charsmap"))
        elif kind == "ByteLevel":
            growth *= _BYTES
        elif kind == "Prepend":
            added += len(str(part.get("prepend", "")))
        else:
            forms = max(forms, _FORMS.get(str(kind), 1))
        if growth * forms > _MOST_GROWTH or added > _MOST_ADDED:
            refuse(path, f"its normalizers may make more than {_MOST_GROWTH} characters of one, so a note may not fit")


def check_patterns(path: Path, parts: Any) -> None:
    """Refuse patterns that are too long, too many, or repeat a repetition, which may take for ever."""
    for count, pattern in enumerate(_patterns(parts), 1):
        if count > _MOST_PATTERNS or len(pattern) > _LONGEST_PATTERN:
            refuse(path, f"expected at most {_MOST_PATTERNS} patterns of at most {_LONGEST_PATTERN:,} characters")
        if repeats_repetition(pattern):
            refuse(path, f"the pattern {shown(pattern)} repeats a repetition: it may take for ever on some texts")


def repeats_repetition(pattern: str) -> bool:
    """Whether a group that holds a repetition without end is itself repeated without end: `(a+)+`."""
    opened = [False]  # per group, whether it holds a repetition so far
    closed = False  # whether a group that does has just been closed
    for sign in _signs(pattern):
        if sign == "(":
            opened.append(False)
        elif sign == ")" and len(opened) > 1:
            closed = opened.pop()
            opened[-1] |= closed
            continue
        elif sign in {"*", "+", "{"}:
            if closed:
                return True
            opened[-1] = True
        closed = closed and sign == "?"
    return False


def _signs(pattern: str) -> Iterator[str]:
    """The parts of a pattern: brackets of groups, repetitions without end (`*`, `+`, `{`), anything else as `.`."""
    index = 0
    while index < len(pattern):
        sign, after = pattern[index], index + 1
        if sign == "\\":
            after, sign = index + 2, "."
        elif sign == "[":
            after, sign = _behind_class(pattern, index), "."
        elif found := _ENDLESS.match(pattern, index):
            after, sign = found.end(), "." if found[0] in {"*+", "++"} else sign  # a possessive one never goes back
        elif sign == "{":
            sign = "."
        yield sign
        index = after


def _behind_class(pattern: str, index: int) -> int:
    """Where a bracket expression, whose brackets may be nested, ends."""
    depth, place = 0, index
    while place < len(pattern):
        if pattern[place] == "\\":
            place += 1
        elif pattern[place] == "[":
            depth += 1
        elif pattern[place] == "]" and place > index + 1:
            depth -= 1
            if not depth:
                return place + 1
        place += 1
    return place


def steps_of(part: Any) -> Iterator[dict[str, Any]]:
    """A normalizer, a pre-tokenizer or a post processor, and the steps in it at any depth."""
    if isinstance(part, dict):
        yield part  # a sequence too: what it says beside its steps may make it something else
        for key in ("normalizers", "pretokenizers", "processors"):
            inner = part.get(key)
            for one in inner if isinstance(inner, list) else ():
                yield from steps_of(one)


def _replaced(path: Path, part: dict[str, Any]) -> int:
    """Most characters that a replacement makes of one."""
    pattern, content = part.get("pattern"), part.get("content")
    if not isinstance(pattern, dict) or not isinstance(content, str):
        refuse(path, "expected replacements to have a pattern and a content")
    text = pattern.get("String")
    if isinstance(text, str) and text:
        return max(1, -(-len(content) // len(text)))
    found = pattern.get("Regex")
    mandatory = isinstance(found, str) and _MANDATORY.match(found) and "|" not in found
    return max(1, len(content)) if mandatory else 1 + len(content)


def _precompiled(path: Path, table: Any) -> int:
    """The longest text in a table of sentencepiece: its size, a tree of that size, texts that end with a zero byte."""
    try:
        data = base64.b64decode(table or "", validate=True)
    except (TypeError, ValueError, binascii.Error):
        refuse(path, "expected precompiled_charsmap to be a table of sentencepiece")
    if not data:
        return 1
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 or size % 4 or size > len(data) - 4:
        refuse(path, "expected precompiled_charsmap to be a table of sentencepiece, found one that is cut")
    return max(1, *(len(text.decode("utf-8", "replace")) for text in data[4 + size :].split(b"\0")))


def _patterns(parts: Any) -> Iterator[str]:
    """Every pattern in a part of a tokenizer, at any depth."""
    stack = [parts]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            if isinstance(part.get("Regex"), str):
                yield part["Regex"]
            stack += part.values()
        elif isinstance(part, list):
            stack += part
