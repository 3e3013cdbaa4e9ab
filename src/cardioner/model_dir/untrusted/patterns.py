r"""Whether the normalizers of a tokenizer keep texts in bounds, and whether its patterns end.

What a step can make of one character is multiplied over all steps. The bound leaves room for what sound tokenizers do
(NFKD makes up to 18 characters of one, and sentencepiece's own table again as many), not for chains that multiply.

Not covered: patterns that take a time which grows with a power of a text's length without repeating a repetition, such
as `\s*\s*\s*x`; and tables of `Precompiled` whose tree is damaged.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
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
_MOST_PATTERNS = 64
_MOST_STEPS = 64
_MANDATORY = re.compile(r"(\\[pP]\{[^}]*\}|\\[^bBAzZGKQ]|\[\^?[^\]\\]+\]|[^\\\[(|^$*+?.])(?![*?]|\{0|\{,)")
"""An atom that a match has at least once, at the front of a pattern."""
_FLAGS = re.compile(r"^\(\?[ims-]+\)")
_SIGN = re.compile(
    r"(?P<group>\(\?(?:[:=!>]|<[=!]|<[A-Za-z]\w{0,99}>|[ims-]{1,9}:)|\((?![?*]))|(?P<close>\))|(?P<either>\|)"
    r"|(?P<times>[*+?][+?]?|\{(?=[\d,])\d*,?\d*\}\??)"
    r"|(?P<atom>\\[pPx]\{[^}]{0,99}\}|\\[^gkQcCM1-9]|[^\\[()|*+?])",
    re.DOTALL,
)
"""The signs of a pattern but for bracket expressions; what is none is refused, such as `\\g<x>`, `\\1` and `(?R)`."""


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
        if fault := fault_of(pattern):
            refuse(path, f"the pattern {shown(pattern)} {fault}: it may take for ever on some texts")


def fault_of(pattern: str) -> str | None:
    """Why matching a pattern may take for ever, or panic; `None` if nothing in it is known to.

    What is repeated more than once may not match more or less of the same text: no other repetition in it, no choice
    whose alternatives may overlap. Calls, references and conditions are refused, and so is what this reads otherwise
    than Oniguruma, the library of tokenizers, might.
    """
    groups, last = [_Group()], _Group()  # the groups that are open, and what the next repetition would repeat
    pattern, index = _FLAGS.sub("", pattern), 0
    while index < len(pattern):
        found = _SIGN.match(pattern, index)
        end = found.end() if found else _behind_class(pattern, index)
        if end is None:
            return f"holds {shown(pattern[index : index + 8])}, which is not known to be harmless"
        sign, text = (found.lastgroup, found[0]) if found else ("atom", pattern[index:end])
        index = end
        if sign == "either":
            groups[-1].firsts.append("")
        elif sign == "close":
            if len(groups) == 1:
                return "closes a group that is not open"
            last = groups.pop()
            groups[-1].varies |= last.varies
        elif sign == "times":
            again, varies = _counts(text)
            if again and (last.varies or last.may_overlap):
                return "repeats a repetition" if last.varies else "repeats a choice of what may overlap"
            last = _Group(last.varies or varies)
            groups[-1].varies |= varies
        else:
            groups[-1].begin(text)
            last = _Group()
            groups += [_Group()] if sign == "group" else []
    return "leaves a group open" if len(groups) > 1 else None


@dataclass
class _Group:
    """A part of a pattern: whether it may match more or less of the same text, and how its alternatives begin."""

    varies: bool = False
    firsts: list[str] = field(default_factory=lambda: [""])

    def begin(self, text: str) -> None:
        """Note how an alternative begins."""
        self.firsts[-1] = self.firsts[-1] or text

    @property
    def may_overlap(self) -> bool:
        """Whether two alternatives may match the same text: not where each begins with a letter of its own."""
        letters = {text.lower() for text in self.firsts if len(text) == 1 and text.isascii() and text.isalnum()}
        return len(self.firsts) > 1 and len(letters) < len(self.firsts)


def _counts(repetition: str) -> tuple[bool, bool]:
    """Whether a repetition may match more than once, and whether it may match more or less often."""
    if repetition[0] != "{":
        return repetition[0] != "?", repetition[1:] != "+"  # a possessive one never goes back
    return True, "," in repetition or repetition.endswith("?")


def _behind_class(pattern: str, index: int) -> int | None:
    """Where a bracket expression, whose brackets may be nested, ends; `None` if there is none, or it does not end."""
    depth, place = 0, index
    while place < len(pattern) and (depth or pattern[place] == "["):
        if pattern[place] == "\\":
            place += 1
        elif pattern[place] == "[":
            depth += 1
        elif pattern[place] == "]" and place > index + 1:
            depth -= 1
            if not depth:
                return place + 1
        place += 1
    return None


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
