"""Whatever bytes lie in a corpus: a reader gives documents or one of our errors, says nothing of the text, and ends."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cardioner.data.formats import ReadReport, read_corpus
from cardioner.data.notes import NoteSource
from cardioner.data.quality import check_corpora
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
    "pubtator": ("a.txt", f"1|t|{CANARY} has\n1|a|chest pain\n1\t0\t13\t{CANARY}\tA\tD1\n1\tCID\tD1\tD2\n"),
    "bioc": (
        "a.xml",
        f"<collection><document><id>1</id><passage><offset>0</offset><text>{CANARY} pain</text><annotation id='1'>"
        f"<infon key='type'>A</infon><location offset='0' length='13'/><text>{CANARY}</text></annotation></passage>"
        "</document></collection>",
    ),
    "xmi": (
        "a.xmi",
        "<xmi:XMI xmlns:xmi='http://www.omg.org/XMI' xmlns:cas='http:///uima/cas.ecore' xmlns:n='http:///a.ecore' "
        "xmi:version='2.0'><cas:NULL xmi:id='0'/><n:B xmi:id='2' sofa='1' begin='0' end='13' value='A'/><cas:Sofa "
        f"xmi:id='1' sofaNum='1' sofaID='_InitialView' sofaString='{CANARY} pain'/><cas:View sofa='1' members='2'/>"
        "</xmi:XMI>",
    ),
    "doccano": ("a.json", f'[{{"text": "{CANARY} pain", "label": [[0, 13, "A"], [14, 18, "B"]], "ward": "{CANARY}"}}]'),
    "prodigy": (
        "a.jsonl",
        f'{{"text": "{CANARY} pain", "spans": [{{"start": 0, "end": 13, "label": "A"}}], "tokens": [], '
        f'"answer": "accept"}}\n',
    ),
    "label-studio": (
        "a.json",
        f'[{{"id": 1, "data": {{"text": "{CANARY} pain"}}, "annotations": [{{"result": [{{"type": "labels", "value": '
        f'{{"start": 0, "end": 13, "text": "{CANARY}", "labels": ["A"]}}}}]}}], "predictions": []}}]\n',
    ),
}
TYPES = (
    "<typeSystemDescription xmlns='http://uima.apache.org/resourceSpecifier'><types><typeDescription><name>a.B</name>"
    "<supertypeName>uima.tcas.Annotation</supertypeName><features><featureDescription><name>value</name><rangeTypeName>"
    "uima.cas.String</rangeTypeName></featureDescription></features></typeDescription></types></typeSystemDescription>"
)
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


Edits: TypeAlias = list[tuple[int, int, bytes]]


def edited(content: bytes, edits: Edits) -> bytes:
    """Cut something out at each place and put something else there."""
    for place, length, piece in edits:
        start = place % (len(content) + 1)
        content = content[:start] + piece + content[start + length :]
    return content


@contextmanager
def collecting_later() -> Iterator[None]:
    """Collect no garbage meanwhile: deep in nested JSON, finalizers of whatever is collected find the stack used up."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def check(name: str, edits: Edits, note_edits: Edits, on_error: str, *, named: bool, annotated: bool) -> None:
    """Read a corpus with edits, with its annotations and as notes to tag, and look at all that is said."""
    file, content = VALID[name]
    start = edited(content.encode(), edits).partition(b"\n")[0]
    assume(
        not (start.startswith(b"# newdoc id =") and CANARY[:6].encode() in start)
    )  # then it is an id, which is shown
    with collecting_later(), tempfile.TemporaryDirectory() as folder:
        (Path(folder) / file).write_bytes(edited(content.encode(), edits))
        if name in {"brat", "tsv"}:
            (Path(folder) / "a.txt").write_bytes(edited(TEXT.encode(), note_edits))
        if name == "xmi":
            (Path(folder) / "TypeSystem.xml").write_text(TYPES)
        reports: list[tuple[str, ReadReport]] = []
        said = []
        try:
            corpus = read_corpus(
                Path(folder),
                name if named else None,
                on_error=on_error,  # type: ignore[arg-type]
                require_annotations=annotated,
            )
        except CardioNERError as error:
            assert edits or note_edits
            said += [str(error), str(error.__cause__ or "")]
        else:
            assert all(document.text_of(span) for document in corpus.documents for span in document.spans)
            reports.append(("", corpus.report))
        try:
            list(NoteSource((Path(folder),)).read(reports))
        except CardioNERError as error:
            said.append(str(error))
    for _, report in reports:
        said += [f"{issue.kind} {issue.where}" for issue in report.issues] + [*report.problems]
    assert not any(CANARY[:6] in message for message in said)


MODES = st.sampled_from(["stop", "skip"])


@pytest.mark.parametrize("name", VALID)
@settings(max_examples=100, deadline=None)
@given(EDITS, EDITS, MODES, st.booleans(), st.booleans())
@example([], [], "stop", True, True)
@example([], [], "stop", False, True)
def test_a_reader_gives_documents_or_one_of_our_errors(
    name: str, edits: Edits, note_edits: Edits, on_error: str, named: bool, annotated: bool
) -> None:
    check(name, edits, note_edits, on_error, named=named, annotated=annotated)


@pytest.mark.slow
@pytest.mark.parametrize("name", VALID)
@settings(max_examples=700, deadline=None)
@given(EDITS, EDITS, MODES, st.booleans(), st.booleans())
def test_readers_survive_a_minute_of_edits(
    name: str, edits: Edits, note_edits: Edits, on_error: str, named: bool, annotated: bool
) -> None:
    check(name, edits, note_edits, on_error, named=named, annotated=annotated)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(
    st.sampled_from(["a.txt", "a.tsv", "a.json", "a.jsonl", "a.conll", "a.pubtator", "a"]),
    st.lists(PIECES, max_size=30),
)
def test_files_of_anything_give_documents_or_one_of_our_errors(file: str, pieces: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / file).write_bytes(b"".join(pieces))
        with collecting_later():
            with suppress(CardioNERError):
                read_corpus(Path(folder) / file)
            with suppress(CardioNERError):
                check_corpora([Path(folder)])
