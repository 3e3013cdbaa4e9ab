"""Whatever bytes lie in a corpus: a reader gives documents or one of our errors, says nothing of the text, and ends."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cardioner.data.formats import read_corpus
from cardioner.errors import CardioNERError

CANARY = "Kanarienvogel"
TEXT = f"{CANARY} has\tchest pain\r\nand \u00e9dema.\n"
VALID = {
    "brat": (
        "a.ann",
        f"T1\tA 0 13\t{CANARY}\nT2\tB 18 23;24 28\tchest pain\nR1\tC Arg1:T1 Arg2:T2\t\n#1\tN T1\t{CANARY}\n",
    ),
    "tsv": ("a.tsv", f"filename\tlabel\tstart_span\tend_span\ttext\na\tA\t0\t13\t{CANARY}\na\tB\t18\t28\tchest pain\n"),
    "jsonl": ("a.jsonl", f'{{"id": "a", "text": "{CANARY} pain", "tags": [{{"start": 0, "end": 13, "tag": "A"}}]}}\n'),
    "conll": ("a.conll", f"# newdoc id = a\n{CANARY}\tB-A\nhas\tO\n\nchest\tB-B\npain\tI-B\n"),
}
PIECES = st.sampled_from(
    [
        *(
            b"\t",
            b"\n",
            b"\r\n",
            b'"',
            b"\xff",
            b"\xef\xbb\xbf",
            b"\x00",
            b"-1",
            b"1e9",
            b"9" * 5000,
            b"{",
            b"[" * 3000,
        ),
        *(b"}", b"T1", b"\tO", b"I-X", b"null", b"NaN", b"\xed\xa0\x80", b"#", b";", b" ", "\u2028\x85\u00a0".encode()),
    ]
)
EDITS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 12), PIECES | st.binary(max_size=6)), max_size=6)


def edited(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Cut something out at each place and put something else there."""
    for place, length, piece in edits:
        start = place % (len(content) + 1)
        content = content[:start] + piece + content[start + length :]
    return content


@pytest.mark.parametrize("name", VALID)
@settings(max_examples=250, deadline=None)
@given(EDITS, EDITS, st.sampled_from(["stop", "skip"]), st.booleans())
@example([], [], "stop", True)
def test_a_reader_gives_documents_or_one_of_our_errors(
    name: str,
    edits: list[tuple[int, int, bytes]],
    note_edits: list[tuple[int, int, bytes]],
    on_error: str,
    require_annotations: bool,
) -> None:
    file, content = VALID[name]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / file).write_bytes(edited(content.encode(), edits))
        if name in {"brat", "tsv"}:
            (Path(folder) / "a.txt").write_bytes(edited(TEXT.encode(), note_edits))
        try:
            corpus = read_corpus(
                Path(folder),
                name,
                on_error=on_error,
                require_annotations=require_annotations,  # type: ignore[arg-type]
            )
        except CardioNERError as error:
            assert edits or note_edits
            told = [str(error), str(error.__cause__ or "")]
        else:
            assert all(document.text_of(span) for document in corpus.documents for span in document.spans)
            told = [f"{issue.kind} {issue.where}" for issue in corpus.report.issues]
    assert not any(CANARY[:6] in message for message in told)
