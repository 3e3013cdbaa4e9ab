"""Whatever a table holds: without its notes it gives the same spans as with them, or one of our errors."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cardioner.data.documents import Annotations, Document, Span
from cardioner.data.formats import Reading, ReadOptions, stream_corpus, stream_spans, write_corpus
from cardioner.errors import CardioNERError

CANARY = "Kanarienvogel"
TABLE = f"filename\tlabel\tstart_span\tend_span\ttext\na\tA\t0\t13\t{CANARY}\nb\tB\t18\t28\t{CANARY} pain\n".encode()
PIECES = st.sampled_from([b"\t", b"\n", b"\r\n", b'"', b"\xff", b"\xef\xbb\xbf", b"\x00", b"-1", b"9" * 20, b"../"])
EDITS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 12), PIECES | st.binary(max_size=6)), max_size=6)
IDS = st.lists(st.sampled_from(["a", "b.c", "ward/a", "é"]), min_size=1, max_size=4, unique=True)


@st.composite
def documents(draw: st.DrawFn, name: str) -> Document:
    text = draw(st.text('abé"\t\n ', min_size=2, max_size=20))
    cuts = st.sets(st.integers(0, len(text)), min_size=2, max_size=2).map(sorted)
    marked = [Span(*edges, draw(st.sampled_from("AB"))) for edges in draw(st.lists(cuts, min_size=1, max_size=6))]
    return Document(name, text, tuple(marked))


CORPORA = IDS.flatmap(lambda ids: st.tuples(*map(documents, ids))).map(list)


@given(CORPORA)
def test_a_table_gives_the_same_spans_with_its_notes_and_without(corpus: list[Document]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        notes, alone = Path(folder, "notes"), Path(folder, "alone.tsv")
        write_corpus(corpus, notes, "tsv")
        alone.write_bytes((notes / "annotations.tsv").read_bytes())
        whole = list(stream_spans(notes, reading=Reading()))
        assert whole == list(stream_corpus(notes))
        reading = Reading()
        found = list(stream_spans(alone, reading=reading))
    expected = [
        Annotations(note.id, note.spans, tuple(map(note.text_of, note.spans)))
        for note in whole
        if isinstance(note, Document)
    ]
    assert found == expected
    assert [issue.count for issue in reading.report.issues] == [len(corpus)]


@given(CORPORA, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(corpus: list[Document], chance: random.Random) -> None:
    rows = [
        f"{note.id}\t{span.label}\t{span.start}\t{span.end}\n" for note in corpus for span in note.spans for _ in "12"
    ]
    shuffled = chance.sample(rows, len(rows))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for order in (rows, shuffled):
            table = Path(folder, "a.tsv")
            table.write_text("filename\tlabel\tstart\tend\n" + "".join(order), encoding="utf-8")
            found.append(list(stream_spans(table, reading=Reading())))
    assert found[0] == found[1]
    assert sum(len(note.spans) for note in found[0]) == len(rows)


@settings(max_examples=250, deadline=None)
@given(EDITS, st.sampled_from(["stop", "skip"]))
@example([], "stop")
@example([(69, 2, b"\t")], "stop")  # a row whose start and end trade places
def test_a_damaged_table_gives_spans_or_one_of_our_errors(edits: list[tuple[int, int, bytes]], on_error: str) -> None:
    content = TABLE
    for place, length, piece in edits:
        start = place % (len(content) + 1)
        content = content[:start] + piece + content[start + length :]
    reading = Reading(ReadOptions(on_error=on_error))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.tsv").write_bytes(content)
        try:
            found = list(stream_spans(Path(folder, "a.tsv"), reading=reading))
        except CardioNERError as error:
            assert edits
            told = repr((error, error.__cause__, error.__context__))
        else:
            for note in found:
                assert isinstance(note, Annotations)
                assert note.id
                assert note.spans or note.impossible, "no note without a row"
            assert edits or len(found) == 2
            told = repr(reading.report.issues)
    assert CANARY not in told
