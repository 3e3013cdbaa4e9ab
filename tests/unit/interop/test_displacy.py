"""Documents for displaCy, drawn by displaCy itself."""

from __future__ import annotations

import re
from html import unescape

import pytest
from spacy import displacy

from cardioner.data.documents import Document, Span
from cardioner.errors import UsageError
from cardioner.interop.displacy import displacy_of

NOTE = Document(
    "ward <7>",
    "No 40mg/12h oedema\nof <both> lungs.",
    (
        Span(3, 7, "DOSE", 0.5),
        Span(3, 11, "ORDER"),
        Span(4, 6, "NUMBER", 0.9),
        Span(12, 34, "FINDING", fragments=((12, 18), (29, 34))),
    ),
)


def text_of(page: str) -> str:
    """What a page shows, without white space."""
    return re.sub(r"\s", "", unescape(re.sub(r"<[^>]*>", "", page)))


def test_the_style_span_has_every_span_with_exact_edges() -> None:
    made = displacy_of(NOTE)
    assert "".join(made["tokens"]) == NOTE.text
    covered = ["".join(made["tokens"][span["start_token"] : span["end_token"]]) for span in made["spans"]]
    assert covered == ["40mg", "40mg/12h", "0m", "oedema", "lungs"]
    page = displacy.render(made, style="span", manual=True, jupyter=False)
    for label in ("DOSE", "ORDER", "NUMBER", "FINDING"):
        assert label in page
    assert "<both>" not in page


def test_the_style_ent_has_a_flat_choice_in_the_order_of_the_text() -> None:
    made = displacy_of(NOTE, style="ent")
    assert [(NOTE.text[one["start"] : one["end"]], one["label"]) for one in made["ents"]] == [
        ("40mg/12h", "ORDER"),
        ("oedema\nof <both> lungs", "FINDING"),
    ]
    page = displacy.render(made, style="ent", manual=True, jupyter=False)
    shown = text_of(page.replace(">ward <7><", "><"))
    assert "DOSE" not in shown
    assert "40mg/12hORDERoedemaof<both>lungsFINDING." in shown


@pytest.mark.parametrize("style", ["ent", "span"])
def test_a_note_without_spans_or_text_is_drawn(style: str) -> None:
    for note in (Document("a", "No oedema."), Document("b", "x", (Span(0, 1, "X"),))):
        assert displacy.render(displacy_of(note, style=style), style=style, manual=True, jupyter=False)  # type: ignore[arg-type, call-overload]


def test_another_style_is_refused() -> None:
    with pytest.raises(UsageError, match="ent or span"):
        displacy_of(NOTE, style="dep")  # type: ignore[arg-type]
