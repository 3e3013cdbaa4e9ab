"""A check as one HTML page that needs no network, no script and no other file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardioner.data.highlight import cut
from cardioner.data.quality.findings import spread_of
from cardioner.reports.corpus.plots import plots_of
from cardioner.reports.html import SHOWN, Table, render_page, score_text, type_styles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cardioner.data.documents import Document
    from cardioner.data.quality.findings import CheckReport, FlatTags, NearDuplicates, Source


def render(report: CheckReport, *, ids_only: bool = False) -> str:
    """The page.

    Args:
        report: What was found.
        ids_only: Leave the text of the notes out; else the page holds up to ten notes, and is as private as they are.

    Returns:
        HTML, the same for the same report.

    Raises:
        UsageError: If jinja2 or matplotlib is missing.
    """
    return render_page(
        "cardioner.reports.corpus",
        plots_of(report),
        report=report,
        flat=report.flat_tags,
        tables=_tables(report),
        names=report.short_names,
        sources=[_source(source) for source in report.sources if source.malformed or source.issues],
        styles=type_styles(report.total.per_type),
        examples=[
            _example(report.short_names[member.part], document, ids_only=ids_only)
            for member, document in report.examples
        ],
        ids_only=ids_only,
    )


def _tables(report: CheckReport) -> dict[str, Table]:
    """The tables of the page, by name."""
    parts = [*report.parts, report.total] if len(report.parts) > 1 else report.parts
    names = {**report.short_names, report.total.name: report.total.name}
    contents = [
        (names[part.name], part.documents, part.without_entities, part.characters, part.entities) for part in parts
    ]
    repeated = [
        (names[found.member.part], found.member.id, found.label, str(found.start), str(found.end), found.times)
        for found in report.first_repeated
    ]
    groups = sorted(report.near_duplicates, key=lambda group: not group.is_leak)[:SHOWN]
    similar = [_similar_row(group, names) for group in groups]
    missing = [(names[part], ", ".join(labels)) for part, labels in report.missing_types.items()]
    heads = ("part", "documents", "without entities", "characters", "entities")
    return {
        "parts": Table(heads, contents, total=len(parts) > 1),
        "spreads": _spreads(report),
        "attributes": Table(
            ("attribute", "value", "odd", "entities"),
            [(said.name, said.value, said.odd, said.spans) for said in report.total.attributes],
            left=3,
        ),
        **_flat_tables(report.flat_tags),
        "similar": Table(("texts", "in one part", "documents"), similar, left=3),
        "repeated": Table(("part", "document", "type", "from", "to", "times"), repeated, left=3),
        "alike": Table(
            ("name", "looks like", "why"), [(*pair.names, pair.why) for pair in report.similar_names], left=3
        ),
        "missing": Table(("part", "has none of these types"), missing, left=2),
    }


def _spreads(report: CheckReport) -> Table:
    """Lengths of entities, and entities of documents: of how many, and how they are spread."""
    total = report.total
    given = [(f"{label}, characters", count, total.lengths[label]) for label, count in total.per_type.items()]
    given.append(("all types, characters", total.entities, total.all_lengths))
    given += [
        (f"{report.short_names[part.name]}, entities per document", part.documents, part.per_document)
        for part in report.parts
    ]
    found = [(name, count, spread) for name, count, counts in given if (spread := spread_of(counts))]
    rows = [(name, count, one.least, one.median, one.mean, one.p95, one.most) for name, count, one in found]
    return Table(("", "count", "minimum", "median", "mean", "95th percentile", "maximum"), rows)


def _flat_tables(flat: FlatTags) -> dict[str, Table]:
    """What flat tags can express of each type, and why not more."""
    *rows, total = (
        (
            label or "all",
            flat.gold[label] if label else sum(flat.gold.values()),
            score_text(flat.ceiling(label)),
            score_text(flat.ceiling(label, per_type=True)),
        )
        for label in (*flat.gold, None)
    )
    losses = [(kind, label, count) for (kind, label), count in flat.losses.items()]
    return {
        "flat": Table(
            ("type", "spans", "best recall, flat tags", "tags per type"), [*rows, total] if rows else [], total=True
        ),
        "losses": Table(("reason", "type", "spans"), losses, left=2),
    }


def _source(source: Source) -> tuple[Source, Table]:
    """How a corpus was read, without the folders that it lies in, and what was left out or repaired on the way."""
    folder = str(Path(source.path).parent)

    def below(text: str) -> str:
        return text if folder == "." else text.replace(f"{folder.rstrip('/')}/", "")

    rows = [(issue.kind, below(issue.where), issue.count) for issue in source.issues]
    shown = replace(source, path=below(source.path), problems=tuple(map(below, source.problems)))
    return shown, Table(("left out or repaired", "first at", "count"), rows, left=2)


def _similar_row(group: NearDuplicates, names: Mapping[str, str]) -> tuple[str, str, str]:
    """A row of the table of similar texts."""
    more = len(group.members) - SHOWN
    documents = "; ".join(f"{names[member.part]}: {member.id}" for member in group.members[:SHOWN])
    documents += f" and {more} more" if more > 0 else ""
    return "equal" if group.identical else "nearly equal", "no" if group.is_leak else "yes", documents


def _example(part: str, document: Document, *, ids_only: bool) -> dict[str, Any]:
    """A document as the template takes it: its spans, and its segments unless the text is to be left out."""
    segments = [] if ids_only else cut(len(document.text), document.spans)
    return {
        "part": part,
        "id": document.id,
        "spans": document.spans,
        "characters": len(document.text),
        "segments": [(document.text[one.start : one.end], one.marks, one.start) for one in segments],
        "depth": max((mark.lane for segment in segments for mark in segment.marks), default=0),
    }
