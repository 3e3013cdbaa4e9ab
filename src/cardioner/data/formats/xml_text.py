"""XML as formats read and write it: what it cannot hold, and problems that quote nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cardioner.errors import OutputError, needing

if TYPE_CHECKING:
    from cardioner.data.corpus import IssueCounter
    from cardioner.data.documents import Document

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML 1.0 document can hold, not even escaped: https://www.w3.org/TR/xml/#charsets"""


def text_for_xml(document: Document, counter: IssueCounter) -> str:
    """The text of a note with a space for each character that XML cannot hold, such as a form feed; notes are counted.

    Raises:
        OutputError: If XML cannot hold the id or a label.
    """
    for name in (document.id, *(span.label for span in document.spans)):
        if _FORBIDDEN.search(name):
            raise OutputError(f"document {document.id!r}: the id or a label has a character that XML cannot hold")
    if not _FORBIDDEN.search(document.text):
        return document.text
    counter.add("texts with characters that XML cannot hold, written as spaces", document.id)
    return _FORBIDDEN.sub(" ", document.text)


def holds_attribute(name: str, value: str | bool) -> bool:
    """Whether XML can hold all characters of an attribute of a span."""
    return not _FORBIDDEN.search(f"{name}{value}")


def lxml_etree() -> Any:
    """The module `lxml.etree`, of the extra `formats`. By default it reads no file and no address that XML names.

    Raises:
        UsageError: If it is not installed.
    """
    with needing("BioC XML", {"lxml": "lxml"}):
        from lxml import etree  # noqa: PLC0415 - of an extra
    return etree
