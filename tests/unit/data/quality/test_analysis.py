"""Checking corpora: every figure against one counted by hand or by brute force, and nothing stops the reading."""

from __future__ import annotations

import json
import random
import statistics
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cardioner.cli.check import _flat_tables
from cardioner.data.documents import Document, Span
from cardioner.data.formats import write_corpus
from cardioner.data.quality import CheckReport, Request, Tokens, check_corpora, words
from cardioner.data.quality import analysis as analysis_module
from cardioner.data.quality.attributes import Said
from cardioner.data.quality.findings import Member, spread_of
from cardioner.data.splits import Splits, write_splits
from cardioner.errors import DataError, ModelError, UsageError
from cardioner.model_dir.encoder import sub_tokens
from cardioner.multiclass.encoding import TokenizerPanicError
from cardioner.multiclass.tagging import run_offsets, to_runs, to_tags

TEXT = "Severe aortic stenosis, no mitral stenosis; syncope twice."
SECRET = "quetzalcoatl"


def put(folder: Path, *documents: Document) -> Path:
    write_corpus(documents, folder)
    return folder


def marked(name: str, *spans: tuple[int, int, str], text: str = TEXT) -> Document:
    return Document(name, text, tuple(Span(*span) for span in spans))


def random_documents(seed: int, count: int = 12) -> list[Document]:
    """Notes of random words with spans anywhere, some of them discontinuous."""
    chance = random.Random(seed)
    documents = []
    for number in range(count):
        text = "".join(chance.choice("ab ä.-\n") for _ in range(chance.randrange(1, 60)))
        spans: list[Span] = []
        for _ in range(chance.randrange(0, 7)):
            start, end = sorted(chance.sample(range(len(text) + 1), 2))
            fragments = ((start, start + 1), (end - 1, end)) if end - start > 2 and chance.random() < 0.15 else ()
            spans.append(Span(start, end, chance.choice("XYZ"), fragments=fragments))
        documents.append(Document(f"n{number:02}", text, tuple(spans)))
    return documents


def losses_of(tmp_path: Path, *spans: Span) -> dict[tuple[str, str], int]:
    return dict(check_corpora([put(tmp_path / "c", Document("a", TEXT, spans))]).flat_tags.losses)


# Figures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_spread_is_that_of_the_numbers_it_counts(seed: int) -> None:
    chance = random.Random(seed)
    numbers = [chance.randrange(1, 40) for _ in range(chance.randrange(1, 130))]
    spread = spread_of(Counter(numbers))
    assert spread is not None
    assert (spread.least, spread.most) == (min(numbers), max(numbers))
    assert spread.median == statistics.median(numbers)
    assert spread.mean == pytest.approx(statistics.fmean(numbers))
    within = [sum(number <= limit for number in numbers) / len(numbers) for limit in (spread.p95, spread.p95 - 1)]
    assert within[0] >= 0.95 > within[1]
    assert spread_of({}) is None


@pytest.mark.parametrize("seed", range(5))
def test_parts_count_what_is_in_the_documents_and_add_up(seed: int, tmp_path: Path) -> None:
    parts = {"one": random_documents(seed), "two": random_documents(seed + 100, 5)}
    report = check_corpora([put(tmp_path / name, *documents) for name, documents in parts.items()])
    for found, documents in zip(
        [*report.parts, report.total], [*parts.values(), [*parts["one"], *parts["two"]]], strict=True
    ):
        spans = [span for document in documents for span in document.spans]
        assert found.documents == len(documents)
        assert found.without_entities == sum(not document.spans for document in documents)
        assert found.characters == sum(len(document.text) for document in documents)
        assert found.per_type == dict(sorted(Counter(span.label for span in spans).items()))
        assert found.entities == len(spans)
        assert found.all_lengths == Counter(span.length for span in spans)
        assert found.per_document == Counter(len(document.spans) for document in documents)
        for label, lengths in found.lengths.items():
            assert lengths == Counter(span.length for span in spans if span.label == label)


def test_attributes_are_counted_by_value_and_what_is_odd_about_them_is_told(tmp_path: Path) -> None:
    text = "ab cd ef gh"
    said: tuple[dict[str, str | bool], ...] = ({"Negation": True, "Time": "past"}, {"Negation": True}, {}, {})
    spans = tuple(Span(3 * at, 3 * at + 2, "ABCD"[at], attributes=one) for at, one in enumerate(said))
    notes = [Document(name, text, spans) for name in "ab"]
    notes[1] = notes[1].with_spans([replace(spans[0], attributes={"Time": "now"}), *spans[1:]])
    report = check_corpora([put(tmp_path / name, notes[number]) for number, name in enumerate(("one", "two"))])
    assert report.total.attributes == [
        Said("Negation", "true", 3, ""),
        Said("Time", "now", 1, "seen once, only on A"),
        Said("Time", "past", 1, "seen once, only on A"),
    ]
    assert [row[:3] for row in report.parts[0].attributes] == [("Negation", "true", 2), ("Time", "past", 1)]
    assert report.to_dict()["all"]["attributes"][0] == {
        "name": "Negation",
        "value": "true",
        "entities": 3,
        "per_type": {"A": 1, "B": 2},
    }


def test_values_that_may_be_comments_are_only_counted(tmp_path: Path) -> None:
    spans = [Span(place, place + 1, "A", attributes={"Comment": f"zyxwvcanary {place}"}) for place in range(21)]
    report = check_corpora([put(tmp_path / "c", Document("a", "x" * 21, tuple(spans)))])
    assert report.total.attributes == [Said("Comment", "21 values", 21, "")]
    assert "canary" not in json.dumps(report.to_dict())


def test_parts_are_named_by_their_paths_and_briefly_where_they_differ(tmp_path: Path) -> None:
    report = check_corpora([put(tmp_path / name, marked(name)) for name in ("train", "test")])
    assert [part.name for part in report.parts] == [str(tmp_path / "train"), str(tmp_path / "test")]
    assert [*report.short_names.values()] == ["train", "test"]


# Flat tags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_spans_that_are_not_reported_come_back_exactly_from_the_tags(seed: int, tmp_path: Path) -> None:
    documents = random_documents(seed)
    flat = check_corpora([put(tmp_path / "c", *documents)]).flat_tags
    exact: Counter[str] = Counter()
    losses: Counter[tuple[str, str]] = Counter()
    for document in documents:
        offsets = words().offsets(document.text)
        tags, lost = to_tags(document.spans, offsets)
        found = [(*run_offsets(run, offsets), run.label) for run in to_runs(tags)]
        reported = Counter((loss.start, loss.end, loss.label) for loss in lost)
        for span in document.spans:
            reported[span.start, span.end, span.label] -= 1
            if reported[span.start, span.end, span.label] < 0:
                assert (span.start, span.end, span.label) in found
        for span in document.spans:
            if not span.fragments and (span.start, span.end, span.label) in found:
                found.remove((span.start, span.end, span.label))
                exact[span.label] += 1
        # No character but white space is outside of all words.
        seen = {"edge in no sub-token": "white space at an edge"}
        losses.update((seen.get(loss.kind, loss.kind), loss.label) for loss in lost)
    assert flat.exact == exact
    assert flat.losses == losses
    for label, gold in flat.gold.items():
        assert gold <= exact[label] + sum(count for (_, name), count in losses.items() if name == label)
        assert flat.ceiling(label) == exact[label] / gold
    assert flat.ceiling() == sum(exact.values()) / sum(flat.gold.values())


@pytest.mark.parametrize(
    ("kind", "spans"),
    [
        ("nested", [Span(0, 22, "A"), Span(7, 22, "B")]),
        ("crossing", [Span(0, 13, "A"), Span(7, 17, "B")]),
        ("same span", [Span(0, 6, "A"), Span(0, 6, "B")]),
        ("duplicate", [Span(0, 6, "B"), Span(0, 6, "B")]),
        ("discontinuous", [Span(0, 22, "B", fragments=((0, 6), (14, 22)))]),
        ("cut sub-token", [Span(0, 3, "B")]),
        ("white space at an edge", [Span(0, 7, "B")]),
        ("white space at an edge", [Span(6, 13, "B")]),
        ("shared sub-token", [Span(0, 4, "A"), Span(4, 6, "B")]),
        ("no sub-token", [Span(6, 7, "B")]),
    ],
)
def test_each_kind_of_loss_is_told(kind: str, spans: list[Span], tmp_path: Path) -> None:
    assert losses_of(tmp_path, *spans).get((kind, "B")) == 1


def test_a_span_that_comes_back_by_the_tags_of_a_wider_one_counts_as_found(tmp_path: Path) -> None:
    flat = check_corpora([put(tmp_path / "c", marked("a", (6, 13, "A"), (7, 13, "A")))]).flat_tags
    assert (flat.losses, flat.exact) == ({("white space at an edge", "A"): 1, ("nested", "A"): 1}, {"A": 1})


def test_a_character_at_an_edge_that_no_sub_token_has_is_no_white_space(tmp_path: Path) -> None:
    tokens = Tokens("letters", lambda text: [(0, len(text) - 1)], 9)
    flat = check_corpora([put(tmp_path / "c", Document("a", "ab+", (Span(0, 3, "A"),)))], tokens=tokens).flat_tags
    assert flat.losses == {("edge in no sub-token", "A"): 1}


def test_a_discontinuous_span_never_counts_as_found_by_the_tags_of_another(tmp_path: Path) -> None:
    gapped = Span(7, 22, "A", fragments=((7, 13), (14, 22)))
    flat = check_corpora([put(tmp_path / "c", Document("a", TEXT, (Span(6, 22, "A"), gapped)))]).flat_tags
    assert (flat.exact, flat.ceiling()) == ({}, 0.0)


def test_a_note_on_which_the_tokenizer_fails_loses_its_spans_and_stops_no_other(tmp_path: Path) -> None:
    def offsets(text: str) -> list[tuple[int, int]]:
        if "lung" in text:
            raise TokenizerPanicError("panicked")
        return words().offsets(text)

    notes = [marked("a", (0, 6, "A")), Document("b", "lung and", (Span(0, 4, "A"), Span(5, 8, "B"))), marked("c")]
    flat = check_corpora([put(tmp_path / "c", *notes)], tokens=Tokens("words", offsets, 9)).flat_tags
    assert (flat.exact, flat.gold) == ({"A": 1}, {"A": 2, "B": 1})
    assert flat.losses == {("tokenizer fails on the note", "A"): 1, ("tokenizer fails on the note", "B"): 1}
    assert flat.unread == (Member(str(tmp_path / "c"), "b"),)
    assert flat.to_dict()["unread"] == [{"part": str(tmp_path / "c"), "id": "b"}]
    assert f"The tokenizer fails on 1 document: b ({tmp_path / 'c'})" in list(_flat_tables(flat))


def test_a_cut_sub_token_lowers_the_ceiling_though_it_has_tags(tmp_path: Path) -> None:
    flat = check_corpora([put(tmp_path / "c", marked("a", (0, 6, "A"), (7, 10, "A")))]).flat_tags
    assert (flat.losses, flat.ceiling()) == ({("cut sub-token", "A"): 1}, 0.5)


def test_a_span_longer_than_a_window_is_told_and_lowers_nothing(tmp_path: Path) -> None:
    text = "a " * 128 + "b" + " c" * 128
    spans = ((0, 255, "LONG"), (256, 513, "LONG"))  # 128 words, and 129
    flat = check_corpora([put(tmp_path / "c", marked("a", *spans, text=text))]).flat_tags
    assert (flat.beyond_window, flat.losses, flat.ceiling()) == ({"LONG": 1}, {}, 1.0)


def test_sub_tokens_are_those_of_the_tokenizer_and_leave_room_for_special_ones(
    encoder_dir: Any, tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    tokens = sub_tokens(encoder_dir("bert"))
    encoded = tokenizers["wordpiece"](TEXT, add_special_tokens=False, return_offsets_mapping=True)
    assert tokens.offsets(TEXT) == [tuple(pair) for pair in encoded["offset_mapping"]]
    assert tokens.window == 126
    spans = [(start, end, "A") for start, end in tokens.offsets(TEXT)]
    corpus = put(tmp_path / "c", marked("a", *spans))
    assert check_corpora([corpus], tokens=tokens).flat_tags.ceiling() == 1.0
    assert check_corpora([corpus]).flat_tags.ceiling() != 1.0


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be loaded|no vocabulary"):
        sub_tokens(tmp_path)


# Reading -------------------------------------------------------------------------------------------------------------


def break_lines(folder: Path, name: str, *lines: str) -> None:
    (folder / f"{name}.ann").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_everything_malformed_in_every_corpus_is_told_with_file_and_line(tmp_path: Path) -> None:
    first = put(tmp_path / "first", marked("a", (0, 6, "A")), marked("b"))
    second = put(tmp_path / "second", marked("c"), marked("d", (0, 6, "A")))
    break_lines(first, "a", "T1\tA 0 6\tSevere", f"T2\tA 0 6\t{SECRET}", "T3\tA 900 906\tSevere")
    break_lines(second, "c", "nonsense", "R1\tX Arg1:T1 Arg2:T1")
    (second / "e.txt").write_bytes(b"caf\xe9")
    report = check_corpora([first, second])
    assert report.malformed == 4
    assert [source.malformed for source in report.sources] == [2, 2]
    problems = [problem for source in report.sources for problem in source.problems]
    assert [problem.startswith(f"{first}/a.ann:{line}:") for problem, line in zip(problems, (2, 3), strict=False)]
    assert all(any(place in problem for problem in problems) for place in ("a.ann:2", "a.ann:3", "c.ann:1", "e.txt"))
    assert SECRET not in json.dumps(report.to_dict())
    assert (report.total.documents, report.total.entities) == (4, 2)
    set_aside = [(issue.kind, issue.count) for issue in report.sources[1].issues]
    assert set_aside == [(".txt without .ann", 1), ("relations", 1)]


def test_a_corpus_that_cannot_be_read_at_all_is_told_beside_the_others(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    report = check_corpora([tmp_path / "empty", put(tmp_path / "whole", marked("a", (0, 6, "A")))])
    assert (report.malformed, report.total.entities) == (1, 1)
    assert "holds no .txt file" in report.sources[0].problems[0]


def test_a_path_where_nothing_is_stops_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        check_corpora([put(tmp_path / "c", marked("a")), tmp_path / "mistyped"])


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    corpus = put(tmp_path / "c", marked("a"))
    with pytest.raises(UsageError, match="each of them once"):
        check_corpora([corpus, corpus])
    with pytest.raises(UsageError, match="divides one corpus"):
        check_corpora([corpus, put(tmp_path / "d", marked("b"))], Request(splits=tmp_path / "splits.json"))
    with pytest.raises(UsageError, match="no format"):
        check_corpora([corpus], Request(format="docx"))
    with pytest.raises(UsageError, match="no encoding"):
        check_corpora([corpus], Request(encoding="klingon"))


def test_splits_divide_one_corpus_and_what_they_leave_out_or_lack_is_told(tmp_path: Path) -> None:
    corpus = put(tmp_path / "c", *(marked(name, (0, 6, name.upper())) for name in "abcd"))
    write_splits(Splits(("a", "c"), (), ("b", "gone")), tmp_path / "splits.json")
    report = check_corpora([corpus], Request(splits=tmp_path / "splits.json"))
    assert [(part.name, part.documents) for part in report.parts] == [("train", 2), ("test", 1)]
    assert report.missing_types == {"train": ("B",), "test": ("A", "C")}
    assert report.leaks == tuple(report.near_duplicates)  # one text, four notes, two parts
    assert [(issue.kind, issue.count) for issue in report.sources[0].issues] == [
        ("documents in no part of the splits", 1)
    ]
    assert report.malformed == 1
    assert "gone" in report.sources[0].problems[0]


def test_types_are_renamed_and_dropped_and_a_name_that_nothing_has_is_told(tmp_path: Path) -> None:
    corpus = put(tmp_path / "c", marked("a", (0, 6, "OLD"), (7, 13, "GONE"), (14, 22, "KEPT")))
    report = check_corpora([corpus], Request(mapping={"OLD": "NEW", "GONE": "", "TYPO": "X"}))
    assert report.total.per_type == {"KEPT": 1, "NEW": 1}
    assert [(issue.kind, issue.count) for issue in report.sources[0].issues] == [
        ("spans of a type that --map drops", 1)
    ]
    assert "--map names TYPO" in report.sources[0].problems[0]


# What looks like a mistake -------------------------------------------------------------------------------------------


def test_equal_and_nearly_equal_texts_are_grouped_and_leaks_are_those_across_parts(tmp_path: Path) -> None:
    chance = random.Random(1)
    long, other, lone = (" ".join(str(chance.random()) for _ in range(100)) for _ in range(3))
    train = put(tmp_path / "train", Document("a", long), Document("b", other), Document("c", other))
    test = put(tmp_path / "test", Document("a", f"{long} end"), Document("d", lone))
    report = check_corpora([train, test])
    groups = [
        ([(member.part, member.id) for member in group.members], group.identical) for group in report.near_duplicates
    ]
    assert groups == [
        ([(str(train), "a"), (str(test), "a")], False),
        ([(str(train), "b"), (str(train), "c")], True),
    ]
    assert report.leaks == report.near_duplicates[:1]


def test_spans_that_repeat_another_one_are_counted_and_placed(tmp_path: Path) -> None:
    corpus = put(tmp_path / "c", marked("a", *[(0, 6, "A")] * 3, (0, 6, "B"), (7, 13, "A")), marked("b", (0, 6, "A")))
    report = check_corpora([corpus])
    assert report.repeated == {"A": 2}
    assert [(one.member.id, one.start, one.end, one.label, one.times) for one in report.first_repeated] == [
        ("a", 0, 6, "A", 3)
    ]


def test_types_that_a_part_lacks_are_listed_for_that_part(tmp_path: Path) -> None:
    train = put(tmp_path / "train", marked("a", (0, 6, "DISEASE"), (7, 13, "DRUG")))
    test = put(tmp_path / "test", marked("b", (0, 6, "ENFERMEDAD"), (7, 13, "DRUG")))
    report = check_corpora([train, test])
    assert report.missing_types == {str(train): ("ENFERMEDAD",), str(test): ("DISEASE",)}


# The report as a whole -----------------------------------------------------------------------------------------------


def checked(folder: Path, documents: Sequence[Document]) -> CheckReport:
    return check_corpora([put(folder, *documents)])


def test_the_report_is_plain_json_and_holds_no_word_of_a_note(tmp_path: Path) -> None:
    text = f"{SECRET} {TEXT}"
    report = checked(
        tmp_path / "c", [marked("a", (0, len(SECRET), "A"), (0, 3, "A"), text=text), marked("b", text=text)]
    )
    plain = report.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert SECRET not in json.dumps(plain) + repr(report)
    assert [document.id for _, document in report.examples] == ["a"]


def test_the_order_of_spans_in_the_files_changes_nothing(tmp_path: Path) -> None:
    documents = random_documents(7)
    turned = [document.with_spans(document.spans[::-1]) for document in documents]
    reports = [checked(tmp_path / name / "c", made).to_dict() for name, made in (("one", documents), ("two", turned))]
    assert json.dumps(reports[0]).replace(str(tmp_path / "one"), "") == json.dumps(reports[1]).replace(
        str(tmp_path / "two"), ""
    )


def test_the_first_ten_documents_with_entities_are_kept_and_no_other(tmp_path: Path) -> None:
    documents = [marked(f"n{number:02}", *[(0, 6, "A")] * (number % 2)) for number in range(30)]
    kept = [document.id for _, document in checked(tmp_path / "c", documents).examples]
    assert kept == [f"n{number:02}" for number in range(1, 20, 2)]


def test_a_corpus_without_entities_has_no_ceiling(tmp_path: Path) -> None:
    report = checked(tmp_path / "c", [marked("a")])
    assert report.flat_tags.ceiling() is None
    assert report.to_dict()["all"]["entity_characters"] is None


def test_documents_are_forgotten_once_they_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 200_000

    def peak(count: int) -> int:
        def documents(*_: Any, **__: Any) -> Iterator[Document]:
            for number in range(count):
                yield Document(f"n{number}", f"{number} {'x' * size}")

        monkeypatch.setattr(analysis_module, "stream_corpus", documents)
        tracemalloc.start()
        check_corpora([put(tmp_path / str(count), marked("a"))], tokens=Tokens("none", lambda _: [], 1))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1)
    assert peak(60) - peak(3) < 3 * size
