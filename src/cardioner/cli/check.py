"""`cardioner check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cardioner.cli.console import loss_table, notices, output, plain, print_json, quieten, table
from cardioner.cli.inputs import JsonOption, ReadingOptions
from cardioner.cli.option_groups import grouped
from cardioner.cli.outputs import IdsOnlyOption, OverwritePageOption, check_page, publish_page
from cardioner.data.quality import CheckReport, Request, Tokens, check_corpora, words
from cardioner.data.quality.attributes import Said
from cardioner.data.quality.findings import spread_of
from cardioner.errors import DataError, listed, many

if TYPE_CHECKING:
    from rich.table import Table

    from cardioner.data.quality.findings import FlatTags, NearDuplicates, Part, Source

_SHOWN = 10
_SPREAD = ("min", "median", "mean", "95th percentile", "max")
_BACKBONE = (
    "Count what tags of this encoder's sub-tokens can express: a folder, a model directory or a Hugging Face name. "
    "Default: tags over words, for which no encoder is needed."
)


@grouped()
def check(  # noqa: PLR0913 - one parameter an option
    corpora: Annotated[list[Path], typer.Argument(metavar="CORPUS...", help="Annotated notes: folders or files.")],
    *,
    backbone: Annotated[str | None, typer.Option(metavar="NAME_OR_DIR", help=_BACKBONE)] = None,
    splits: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON that divides the one CORPUS into parts.")
    ] = None,
    reading: ReadingOptions,
    json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with plots and ten notes.")
    ] = None,
    ids_only: IdsOnlyOption = False,
    overwrite: OverwritePageOption = False,
) -> None:
    """Check corpora before training: counts, malformed files and lines, spans that flat tags lose, and leakage.

    Every corpus is read to its end; the exit code is 3 if anything in it is malformed, or if files that look annotated
    were not read.

    Example: cardioner check notes/train notes/test --html check.html
    """
    check_page(html, [*corpora, reading.texts, splits], overwrite=overwrite)
    request = Request(reading.format, reading.encoding, reading.texts, mapping=reading.names, splits=splits)
    report = _read(corpora, request, backbone)
    if json:
        print_json(report.to_dict())
    else:
        for made in _tables(report):
            output.print(made, markup=False)
    if html is not None:
        _write_page(report, html, ids_only=ids_only, overwrite=overwrite)
    if report.malformed or report.unread:
        raise typer.Exit(DataError.exit_code)


def _read(corpora: Sequence[Path], request: Request, backbone: str | None) -> CheckReport:
    """Check the corpora, and show progress."""
    with notices.status("loading") as status:
        read = count(1)

        def advance() -> None:
            if (number := next(read)) % 50 == 0:
                status.update(f"{many(number, 'document')} read")

        return check_corpora(corpora, request, tokens=_tokens(backbone), advance=advance)


def _tokens(backbone: str | None) -> Tokens:
    """What gets the tags."""
    if backbone is None:
        return words()
    quieten()
    from cardioner.model_dir.encoder import DEFAULT_PACKAGE, default_encoder, sub_tokens  # noqa: PLC0415 - imports torch

    if backbone == "default" and not Path(backbone).exists():
        return sub_tokens(default_encoder())._replace(unit=f"sub-tokens of {DEFAULT_PACKAGE}")
    return sub_tokens(backbone)


def _write_page(report: CheckReport, html: Path, *, ids_only: bool, overwrite: bool) -> None:
    from cardioner.reports.corpus.report import render  # noqa: PLC0415

    with notices.status("drawing the page"):
        page = render(report, ids_only=ids_only)
    publish_page(page, html, overwrite=overwrite, private=not ids_only and bool(report.examples))


# Tables --------------------------------------------------------------------------------------------------------------


def _tables(report: CheckReport) -> Iterator[Table | str]:
    """Everything that is shown; sections that found nothing get a line."""
    parts, total = [*report.parts, report.total] if len(report.parts) > 1 else [*report.parts], report.total
    if total.documents:
        yield _part_table(parts)
        yield _type_table(parts, report.short_names)
        yield _spread_table(report)
        if rows := total.attributes:
            yield table(
                "Attributes of entities", ("attribute", "value", "odd", "entities"), map(_said_row, rows), left=3
            )
    for source in report.sources:
        yield from _source_tables(source)
    if total.documents:
        yield from _flat_tables(report.flat_tags)
        yield from _duplicate_tables(report)
        yield from _label_tables(report)
    found = f"{report.malformed} malformed" if report.malformed else "nothing malformed"
    if report.unread:
        found = f"{report.malformed} malformed, {many(report.unread, 'file')} with annotations that were not read"
    yield f"{many(total.documents, 'document')}, {many(total.entities, 'entity', 'entities')}: {found}"


def _part_table(parts: Sequence[Part]) -> Table:
    rows = [(part.name, part.documents, part.without_entities, part.characters, part.entities) for part in parts]
    return table("Parts", ("part", "documents", "without entities", "characters", "entities"), rows)


def _type_table(parts: Sequence[Part], short: Mapping[str, str]) -> Table:
    labels = sorted({label for part in parts for label in part.lengths})
    rows = [(label, *(part.per_type.get(label, 0) for part in parts)) for label in labels]
    return table("Entities per type", ("type", *(short.get(part.name, part.name) for part in parts)), rows)


def _said_row(said: Said) -> tuple[str, str, str, int]:
    return plain(said.name), plain(said.value), plain(said.odd), said.spans


def _spread_table(report: CheckReport) -> Table:
    total = report.total
    counted = [(label, "characters of an entity", total.lengths[label]) for label in total.per_type]
    counted.append(("all types", "characters of an entity", total.all_lengths))
    counted += [(report.short_names[part.name], "entities of a document", part.per_document) for part in report.parts]
    rows = [(name, what, *_figures(counts)) for name, what, counts in counted]
    return table("Sizes", ("of", "what", *_SPREAD), rows, left=2)


def _figures(counts: Mapping[int, int]) -> tuple[Any, ...]:
    """The figures of a row; none where nothing was counted."""
    spread = spread_of(counts)
    if spread is None:
        return ("",) * len(_SPREAD)
    return spread.least, f"{spread.median:g}", f"{spread.mean:.1f}", spread.p95, spread.most


def _source_tables(source: Source) -> Iterator[Table | str]:
    if source.issues:
        rows = [(issue.kind, plain(issue.where), issue.count) for issue in source.issues]
        yield table(f"Left out or repaired in {source.path}", ("what", "first", "count"), rows, left=2)
    if source.malformed:
        yield table(f"Malformed in {source.path}: {source.malformed}", ("the first",), zip(source.problems))


def _flat_tables(flat: FlatTags) -> Iterator[Table | str]:
    yield f"Flat tags: one tag for each of the {flat.unit}"
    rows = [
        (
            "all" if label is None else label,
            sum(flat.gold.values()) if label is None else flat.gold[label],
            _share(flat.ceiling(label)),
            _share(flat.ceiling(label, per_type=True)),
        )
        for label in (*flat.gold, None)
    ]
    yield table("Best recall of a tagger", ("type", "spans", "with flat tags", "with tags per type"), rows)
    beyond_flat = sum(flat.exact_per_type.values()) - sum(flat.exact.values())
    if beyond_flat > 0:
        yield f"Tags per type (train --overlap per-type) keep {many(beyond_flat, 'span')} that flat tags lose"
    beyond = {
        (f"not lost, but longer than a window of {flat.window}", label): n for label, n in flat.beyond_window.items()
    }
    if flat.losses or beyond:
        yield loss_table({**flat.losses, **beyond})
    if flat.unread:
        names = listed(f"{member.id} ({member.part})" for member in flat.unread)
        yield f"The tokenizer fails on {many(len(flat.unread), 'document')}: {plain(names)}"


def _share(value: float | None) -> str:
    """A recall in four figures, so that one lost of thousands shows."""
    return "" if value is None else f"{value:.4f}"


def _duplicate_tables(report: CheckReport) -> Iterator[Table | str]:
    if report.leaks:
        yield _group_table(f"Near duplicates across parts (leakage): {many(len(report.leaks), 'group')}", report.leaks)
    inside = [group for group in report.near_duplicates if not group.is_leak]
    if inside:
        yield _group_table(f"Near duplicates in one part: {many(len(inside), 'group')}", inside)
    if not report.near_duplicates:
        yield "No near-duplicate texts"
    if report.first_repeated:
        rows = [
            (one.label, one.member.part, plain(one.member.id), f"{one.start} to {one.end}", one.times)
            for one in report.first_repeated[:_SHOWN]
        ]
        title = f"Spans that repeat another one of their document: {sum(report.repeated.values())}"
        yield table(title, ("type", "part", "document", "characters", "times"), rows, left=4)


def _group_table(title: str, groups: Sequence[NearDuplicates]) -> Table:
    """The first groups, a row each."""
    rows = []
    for group in groups[:_SHOWN]:
        members = [plain(f"{member.part}: {member.id}") for member in group.members]
        more = [f"and {len(members) - _SHOWN} more"] if len(members) > _SHOWN else []
        rows.append(("equal" if group.identical else "nearly equal", "\n".join([*members[:_SHOWN], *more])))
    if len(groups) > _SHOWN:
        rows.append((f"and {many(len(groups) - _SHOWN, 'more group')}", "(--json lists all)"))
    return table(title, ("texts", "documents"), rows, left=2)


def _label_tables(report: CheckReport) -> Iterator[Table | str]:
    if report.similar_names:
        rows = [(*map(plain, pair.names), pair.why) for pair in report.similar_names]
        yield table("Types whose names look alike", ("name", "and name", "why"), rows, left=3)
    if report.missing_types:
        missing = [(name, plain(", ".join(labels))) for name, labels in report.missing_types.items()]
        yield table("Types that another part has", ("part", "lacks"), missing, left=2)
