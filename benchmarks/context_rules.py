"""What the rules of medspaCy's ConText say of given spans: JSON lines in, JSON lines out.

Runs in an environment of its own, with medspaCy alone: see attributes.py. The rules are those that medspaCy brings,
behind its own sentence splitter. The lines of a note are given to it one by one: the splitter joins the items of lists,
so that a cue of one would reach the next. The first line in lists further rules, each its words, the letter of an
attribute and a direction; every other line is `{"text": ..., "spans": [[start, end], ...]}`. A line out lists the
attributes of each span, by the categories of its modifiers.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

import medspacy
from loguru import logger
from medspacy.context import ConTextRule

ATTRIBUTES = {
    "NEGATED_EXISTENCE": ("Negation", True),
    "POSSIBLE_EXISTENCE": ("Uncertainty", True),
    "HISTORICAL": ("Temporality", "history"),
    "HYPOTHETICAL": ("Temporality", "hypothetical"),
    "FAMILY": ("Experiencer", "family"),
}
CATEGORIES = dict(zip("nuhyf", ATTRIBUTES, strict=True))
"""By the letters of examples/templates."""


def said_of(nlp: Any, text: str, spans: list[list[int]]) -> list[dict[str, str | bool]]:
    """The attributes of each span of a text, in the order of the text."""
    found, start = [], 0
    for line in text.splitlines(keepends=True):
        end = start + len(line)
        found += _said_in_line(nlp, line, [(a - start, min(b, end) - start) for a, b in spans if start <= a < end])
        start = end
    return found


def _said_in_line(nlp: Any, line: str, spans: list[tuple[int, int]]) -> list[dict[str, str | bool]]:
    doc = nlp.make_doc(line)
    targets = [doc.char_span(start, end, label="FINDING", alignment_mode="expand") for start, end in spans]
    for name, pipe in nlp.pipeline:
        if name == "medspacy_context":
            doc.spans[pipe.span_group_name] = targets  # which may overlap, as entities may not
        doc = pipe(doc)
    return [dict(ATTRIBUTES[one.category] for one in target._.modifiers) for target in targets]


def main() -> None:
    """Answer line by line, the versions first."""
    logger.remove()  # it logs every sentence
    nlp = medspacy.load(medspacy_enable={"medspacy_pyrush", "medspacy_context"})
    context = nlp.get_pipe("medspacy_context")
    context.input_span_type = "group"
    own = json.loads(sys.stdin.readline())
    context.add([ConTextRule(words, CATEGORIES[letter], direction=direction) for words, letter, direction in own])
    print(json.dumps({name: version(name) for name in ("medspacy", "spacy")} | {"rules": len(context.rules)}))
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(said_of(nlp, asked["text"], asked["spans"])))


if __name__ == "__main__":
    main()
