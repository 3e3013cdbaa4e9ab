"""What commands read: corpora with their texts, or spans that need none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cardioner.cli.inputs import BY_DEFAULT, read_parts, read_spans
from cardioner.data.documents import Annotations, Document, Span
from cardioner.data.formats import ReadOptions
from cardioner.errors import DataError, FormatError

TABLE = "filename\tlabel\tstart\tend\ttext\na\tA\t0\t6\tSevere\na\tB\t7\t13\tmitral\n"
TEXT = "Severe mitral stenosis.\n"
Read = Callable[[Sequence[Path], dict[str, str], ReadOptions], object]


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    """A table with its note."""
    (tmp_path / "gold").mkdir()
    (tmp_path / "gold" / "a.txt").write_text(TEXT)
    (tmp_path / "gold" / "spans.tsv").write_text(TABLE)
    return tmp_path / "gold"


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A table without its note."""
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "run.tsv").write_text(TABLE)
    return tmp_path / "alone" / "run.tsv"


def test_tables_with_notes_and_without_are_read_and_renamed_together(
    gold: Path, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, spans = read_spans([gold, alone], {"A": "", "B": "X"})
    assert whole == [Document("a", TEXT, (Span(7, 13, "X"),))]
    assert spans == [Annotations("a", (Span(7, 13, "X"),), ("mitral",))]
    said = capsys.readouterr().err
    assert f"Left out or repaired in {alone}" in said
    assert "notes without text, spans only" in said
    assert f"Left out or repaired in {gold}" not in said


def test_texts_are_still_needed_where_parts_are_read(alone: Path) -> None:
    with pytest.raises(DataError, match=r"found no \.txt file beside it"):
        read_parts([alone], {})


@pytest.mark.parametrize("read", [read_parts, read_spans])
def test_a_type_that_no_part_has_cannot_be_renamed(read: Read, gold: Path) -> None:
    with pytest.raises(DataError, match="--map names NOPE; the data has the types A, B"):
        read([gold], {"NOPE": "X"}, BY_DEFAULT)


def test_spans_are_read_as_the_options_say(gold: Path, alone: Path) -> None:
    alone.write_text(TABLE + "a\tC\t6\n")
    with pytest.raises(FormatError, match=":4: expected 5 tab-separated fields"):
        read_spans([alone], {})
    assert [len(note.spans) for (note,) in read_spans([alone], {}, ReadOptions(on_error="skip"))] == [2]
    (found,) = read_spans([alone], {}, ReadOptions(on_error="skip", texts=gold))
    assert found == list(read_parts([gold], {})[0])
