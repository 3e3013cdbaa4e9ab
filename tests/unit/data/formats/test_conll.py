"""Reading and writing CoNLL files."""

from __future__ import annotations

from pathlib import Path

import pytest

from cardioner.data.documents import Document, Span
from cardioner.data.formats import Issue, detect_format, read_corpus, write_corpus
from cardioner.errors import DataError, FormatError, OutputError

CANARY = "Zebraquist"


def put(folder: Path, content: str | bytes, name: str = "notes.conll") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def mentions(folder: Path, tags: str) -> list[tuple[str, str]]:
    """Entities of a file whose words are a, b, c and so on, as words and types; `/` ends a sentence."""
    lines = ["" if tag == "/" else f"{chr(97 + index)} {tag}" for index, tag in enumerate(tags.split())]
    (document,) = read_corpus(put(folder, "\n".join(lines)), "conll").documents
    return [(document.text_of(span), span.label) for span in document.spans]


# Reading


def test_words_become_text_and_tags_become_spans(tmp_path: Path) -> None:
    path = put(tmp_path, "Severe\tB-X\npain\tI-X\n.\tO\n\n\nNo\tO\n\U0001fac0e\u0301\tB-Y-Z\n\n")
    assert read_corpus(path).documents == (
        Document("notes", "Severe pain .\nNo \U0001fac0e\u0301", (Span(0, 11, "X"), Span(17, 20, "Y-Z"))),
    )
    assert read_corpus(path).report.issues == ()


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-X I-X O", [("a b", "X")]),
        ("I-X I-X B-X O", [("a b", "X"), ("c", "X")]),
        ("B-X E-X S-X B-X I-X E-X", [("a b", "X"), ("c", "X"), ("d e f", "X")]),
        ("B-X L-X U-X B-X", [("a b", "X"), ("c", "X"), ("d", "X")]),
        ("B_X I_X E_X", [("a b c", "X")]),
        ("B-X I-Y E-X", [("a", "X"), ("b", "Y"), ("c", "X")]),
        ("B-X E-X I-X", [("a b", "X"), ("c", "X")]),
        ("B-X L-X I-X U-X I-X", [("a b", "X"), ("c", "X"), ("d", "X"), ("e", "X")]),
        ("S-X I-X E-X", [("a", "X"), ("b c", "X")]),
        ("B-X / I-X", [("a", "X"), ("c", "X")]),
        ("O I-X O E-X O", [("b", "X"), ("d", "X")]),
    ],
)
def test_every_scheme_is_read_alike(tmp_path: Path, tags: str, expected: list[tuple[str, str]]) -> None:
    assert mentions(tmp_path, tags) == expected


@pytest.mark.parametrize(
    ("tags", "count"), [("I-X O I-X", 0), ("E-X O I-X", 0), ("B-X O I-X", 1), ("I-X O B-X / E-X", 2)]
)
def test_inside_tags_alone_are_counted_where_the_file_has_opening_ones(tmp_path: Path, tags: str, count: int) -> None:
    mentions(tmp_path, tags)
    issues = read_corpus(tmp_path / "notes.conll").report.issues
    assert sum(issue.count for issue in issues) == count
    assert {issue.kind for issue in issues} <= {"inside tags that continued nothing, read as opening"}


def test_four_columns_are_the_word_first_and_its_tag_last(tmp_path: Path) -> None:
    path = put(tmp_path, "-DOCSTART- -X- -X- O\n\nEU NNP I-NP  S-ORG\nrejects VBZ I-VP O\n")
    corpus = read_corpus(path)
    assert corpus.documents == (Document("notes-1", "EU rejects", (Span(0, 2, "ORG"),)),)
    assert corpus.report.issues == (Issue("columns between word and tag", 2, f"{path}:3"),)


def test_documents_start_where_the_file_says(tmp_path: Path) -> None:
    content = "a O\n\n-DOCSTART- O\n\nb O\n# newdoc id = ward/1 x\nc O\n# newdoc\nd O\n-DOCSTART-\n# newdoc id = e\n\n"
    documents = read_corpus(put(tmp_path, content)).documents
    assert [(document.id, document.text) for document in documents] == [
        ("notes-1", "a"),
        ("notes-2", "b"),
        ("ward/1 x", "c"),
        ("notes-4", "d"),
        ("e", ""),
    ]


def test_a_folder_is_read_in_sorted_order_with_ids_below_it(tmp_path: Path) -> None:
    put(tmp_path, "b O\n", "ward/b.iob2")
    put(tmp_path, "a O\n", "ward/a.x.BIO")
    put(tmp_path, "c O\n# newdoc\nd O\n", "c.conll")
    other = put(tmp_path, "", "notes.md")
    corpus = read_corpus(tmp_path)
    assert [document.id for document in corpus.documents] == ["c-1", "c-2", "ward/a.x", "ward/b"]
    assert corpus.report.issues == (Issue("other files", 1, str(other)),)


@pytest.mark.parametrize("separator", ["\t", " ", "   "])
def test_a_word_may_be_any_character(tmp_path: Path, separator: str) -> None:
    words = ["x", "#", '"', "\ufeff", "\u200b", "\x00", "\u0301", "-DOCSTART", "\\", "# ".strip(), "\U0001f468\u200d"]
    path = put(tmp_path, "".join(f"{word}{separator}O\n" for word in words))
    corpus = read_corpus(path)
    assert corpus.documents[0].text == " ".join(words)
    assert corpus.report.issues == ()


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    path = put(tmp_path, "\ufeffa\u2028b\tO\r\nc\x85\x0c\tB-X\r\n\r\nd\rd\tO\n")
    assert read_corpus(path).documents[0].text == "a\u2028b c\x85\x0c\nd\rd"


def test_words_may_hold_spaces_between_tabs(tmp_path: Path) -> None:
    path = put(tmp_path, "New York\tB-X\n # \tO\n")
    assert read_corpus(path).documents == (Document("notes", "New York  # ", (Span(0, 8, "X"),)),)


def test_words_without_a_character_leave_exact_offsets(tmp_path: Path) -> None:
    path = put(tmp_path, "a\tO\n\tB-X\n\tI-X\nb\tB-X\n\tI-X\n")
    corpus = read_corpus(path)
    assert corpus.documents == (Document("notes", "a   b ", (Span(4, 5, "X"),)),)
    assert corpus.report.issues == (Issue("entities whose words have no character, left out", 1, "notes"),)


def test_comments_are_counted(tmp_path: Path) -> None:
    path = put(tmp_path, "# sent_id = 3\n# a O\na\tB-X\n# text = a\n#\tO\n")
    corpus = read_corpus(path)
    assert corpus.documents == (Document("notes", "a #", (Span(0, 1, "X"),)),)
    assert corpus.report.issues == (Issue("comment lines", 3, f"{path}:1"),)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (CANARY, "found one column"),
        (f"{CANARY} b O", "expected 2 columns as in the lines before, found 3"),
        (f"a {CANARY}", "expected O or a tag"),
        (f"{CANARY} B-", "expected O or a tag"),
        (f"{CANARY} o", "expected O or a tag"),
        (f"{CANARY} X-Y", "expected O or a tag"),
        (f"{CANARY}\tO", "found one column"),
        (f"#{CANARY}", "found one column"),
    ],
)
def test_a_malformed_line_is_named_without_its_words(tmp_path: Path, line: str, problem: str) -> None:
    path = put(tmp_path, f"{CANARY} O\n{line}\nb I-X\n")
    with pytest.raises(FormatError) as caught:
        read_corpus(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert problem in str(caught.value)
    assert CANARY not in str(caught.value)
    skipped = read_corpus(path, on_error="skip")
    assert skipped.documents == (Document("notes", f"{CANARY} b", (Span(11, 12, "X"),)),)
    assert skipped.report.issues == (Issue("malformed, skipped", 1, f"{path}:2"),)


def test_bytes_of_another_encoding_are_refused_or_read_as_named(tmp_path: Path) -> None:
    path = put(tmp_path, "# newdoc id = a\ncaf\xe9\tB-X\n".encode("latin-1"))
    with pytest.raises(DataError, match="not valid UTF-8"):
        read_corpus(path)
    assert read_corpus(path, encoding="latin-1").documents == (Document("a", "café", (Span(0, 4, "X"),)),)


def test_ids_that_repeat_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'a' occurs more than once"):
        read_corpus(put(tmp_path, "# newdoc id = a\nx O\n# newdoc id = a\ny O\n"))


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_place_without_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected a file, or a folder of \.conll or"):
        read_corpus(tmp_path / name, "conll")


@pytest.mark.parametrize("suffix", ["conll", "iob", "iob2", "bio", "bioes", "iobes"])
def test_files_are_known_by_their_suffix(tmp_path: Path, suffix: str) -> None:
    assert detect_format(put(tmp_path, "a O\n", f"a.{suffix}")) == "conll"
    assert detect_format(tmp_path) == "conll"
    put(tmp_path, "", "a.ann")
    assert detect_format(tmp_path) == "brat"


# Writing


def test_words_are_runs_of_letters_marks_and_digits_or_single_characters(tmp_path: Path) -> None:
    text = "Pat. 12,5mg e\u0301te\u0301_x;\u0915\u0940 -DOCSTART- # \u200b"
    write_corpus([Document("a", text)], tmp_path / "o.conll", "conll")
    lines = (tmp_path / "o.conll").read_text(encoding="utf-8").splitlines()
    words = [line.split("\t")[0] for line in lines[1:] if line]
    assert lines[0] == "# newdoc id = a"
    assert words == [
        *("Pat", ".", "12", ",", "5mg", "e\u0301te\u0301_x", ";", "\u0915\u0940"),
        *("-", "DOCSTART", "-", "#", "\u200b"),
    ]


def test_the_file_is_two_columns_with_blank_lines_between_sentences(tmp_path: Path) -> None:
    documents = [Document("a", "Severe pain\nnone", (Span(0, 11, "X"),)), Document("b", ""), Document("c", "x")]
    assert write_corpus(documents, tmp_path / "o.conll", "conll") == ()
    assert (tmp_path / "o.conll").read_bytes() == (
        b"# newdoc id = a\nSevere\tB-X\npain\tI-X\n\nnone\tO\n\n# newdoc id = b\n\n# newdoc id = c\nx\tO\n\n"
    )


def test_what_conll_cannot_hold_is_counted(tmp_path: Path) -> None:
    text = "heart failure  (mild)\nstable"
    spans = (
        Span(0, 5, "X"),  # in the next one
        Span(0, 13, "X", 0.5),
        Span(0, 13, "Y"),  # as long, but later
        Span(13, 15, "X"),  # white space
        Span(15, 18, "X"),  # cuts "mild"
        Span(18, 20, "Z"),  # claims it too
        Span(0, 20, "X", fragments=((0, 5), (16, 20))),
        Span(21, 28, "Y"),  # begins with a newline
    )
    issues = write_corpus([Document("a", text, spans)], tmp_path / "o.conll", "conll")
    assert issues == (
        Issue("discontinuous spans, left out", 1, "a"),
        Issue("overlapping spans, left out", 3, "a"),
        Issue("scores, left out", 1, "a"),
        Issue("spans that cut a word, widened", 1, "a"),
        Issue("spans with white space at an edge, trimmed", 1, "a"),
        Issue("spans without a word, left out", 1, "a"),
        Issue("texts, rebuilt with single spaces", 1, "a"),
    )
    (again,) = read_corpus(tmp_path / "o.conll").documents
    assert again.text == "heart failure ( mild )\nstable"
    assert [(again.text_of(span), span.label) for span in again.spans] == [
        ("heart failure", "X"),
        ("( mild", "X"),
        ("stable", "Y"),
    ]


def test_a_span_across_a_line_end_stays_one_span(tmp_path: Path) -> None:
    issues = write_corpus([Document("a", "x heart\nfailure\ny", (Span(2, 15, "X"),))], tmp_path / "o.conll", "conll")
    assert read_corpus(tmp_path / "o.conll").documents == (Document("a", "x heart failure\ny", (Span(2, 15, "X"),)),)
    assert issues == (Issue("texts, rebuilt with single spaces", 1, "a"),)


@pytest.mark.parametrize(
    "document",
    [
        Document("a\nb", CANARY),
        Document("a\r", CANARY),
        Document("", CANARY),
        Document("\ud800", CANARY),
        Document("a", CANARY, (Span(0, 1, "X Y"),)),
        Document("a", CANARY, (Span(0, 1, "X\u2028"),)),
        Document("a", CANARY, (Span(0, 1, "\ud800"),)),
    ],
)
def test_a_document_that_conll_cannot_hold_is_refused(tmp_path: Path, document: Document) -> None:
    with pytest.raises(OutputError) as caught:
        write_corpus([document], tmp_path / "o.conll", "conll")
    assert CANARY not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = put(tmp_path, "kept")
    with pytest.raises(OutputError, match="exists"):
        write_corpus([Document("a", "x")], path, "conll")
    assert path.read_bytes() == b"kept"
    write_corpus([Document("a", "x")], path, "conll", overwrite=True)
    assert [document.id for document in read_corpus(path).documents] == ["a"]


# As people have them


@pytest.mark.parametrize("end", ["\t", " ", "\t \t", "\t\r"])
def test_white_space_behind_the_tag_is_no_column(tmp_path: Path, end: str) -> None:
    corpus = read_corpus(put(tmp_path, f"No\tO{end}\nfever\tB-X{end}\n\t\nx\tO\n"))
    assert corpus.documents == (Document("notes", "No fever\nx", (Span(3, 8, "X"),)),)
    assert corpus.report.issues == ()


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-X M-X E-X S-X O", [("a b c", "X"), ("d", "X")]),
        ("B-X M-X M-X E-X W-Y O", [("a b c d", "X"), ("e", "Y")]),
        ("W-X W-X", [("a", "X"), ("b", "X")]),
        ("X X O Y Y O", [("a b", "X"), ("d e", "Y")]),
        ("O CELL-LINE CELL-LINE DNA O DNA", [("b c", "CELL-LINE"), ("d", "DNA"), ("f", "DNA")]),
        ("O Mention O X Mention X O", [("b", "Mention"), ("d", "X"), ("e", "Mention"), ("f", "X")]),
    ],
)
def test_middle_whole_and_bare_tags_are_read(tmp_path: Path, tags: str, expected: list[tuple[str, str]]) -> None:
    assert mentions(tmp_path, tags) == expected


def test_bare_types_are_counted_as_neighbours_cannot_be_told_apart(tmp_path: Path) -> None:
    path = put(tmp_path, "No O\nfever X\n\ncough X\n. O\n. O\n")
    kind = "types without a prefix, where neighbours of a type are one entity"
    assert read_corpus(path).report.issues == (Issue(kind, 2, f"{path}:2"),)


@pytest.mark.parametrize(
    "content",
    [
        f"{CANARY} NN\npain NN\nis VBZ\n",  # parts of speech: no word is outside
        f"{CANARY} O\npain X\nis B-X\n",  # one of two schemes is a mistake
        f"{CANARY} O\nO O\npain B\nis B\nO O\n",  # a prefix without a type
        f"x O\ny O\nz O\n. O\nx {CANARY}\n",  # another column: each word occurs once
    ],
)
def test_a_last_column_that_is_not_of_tags_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"expected O or a tag such as B-TYPE.*found \d+ character") as caught:
        read_corpus(put(tmp_path, content))
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("tags", "count"),
    [
        ("I-X O I-X B-X I-X O I-Y", 0),  # IOB1: a B- only where an entity of the same type comes right before
        ("I-X B-X / I-X", 0),
        ("I-X O B-X O I-X", 2),  # IOB2: a B- after O
        ("I-X B-Y I-X", 2),
    ],
)
def test_inside_tags_are_no_repairs_in_iob1_that_has_some_opening_tags(tmp_path: Path, tags: str, count: int) -> None:
    mentions(tmp_path, tags)
    assert sum(issue.count for issue in read_corpus(tmp_path / "notes.conll").report.issues) == count


def test_white_space_behind_the_first_line_does_not_make_tabs_the_separator(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("The O \t\nheart B-X\nfailed I-X\t\n")
    (document,) = read_corpus(tmp_path / "a.conll")
    assert (document.text, document.spans) == ("The heart failed", (Span(4, 16, "X"),))
