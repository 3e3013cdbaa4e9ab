"""An ONNX export of every family, run where there is neither cardioner nor torch nor transformers, and no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cardioner.data.documents import Document
from cardioner.data.formats import read_corpus
from cardioner.interop.onnx import export_onnx
from cardioner.model_dir.save import write_model_dir
from cardioner.prediction.predictor import Predictor

pytestmark = pytest.mark.slow

DOORS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("wordpiece", {"use_crf": True, "temperature": 1.7}),
    "electra": ("wordpiece", {"classifier_hidden_layers": [8]}),
    "roberta": ("byte-bpe", {"temperature": 0.6}),
    "modernbert": ("byte-bpe", {"scheme": "BIOES"}),
    "xlm-roberta": ("unigram", {"use_crf": True, "scheme": "BIOES", "attributes": {"Negation": [None, True]}}),
    "deberta-v2": ("unigram", {"use_crf": True, "classifier_hidden_layers": [8], "window_context": 0}),
}
"""Families and their tokenizers; between them they have every scheme, head and decoding."""

BARE = """
import contextlib, io, json, runpy, socket, sys
for name in ("cardioner", "torch", "transformers", "safetensors", "huggingface_hub"):
    sys.modules[name] = None
def refuse(*_, **__):
    raise RuntimeError("a socket was opened")
socket.socket.connect = socket.create_connection = refuse
*places, notes = sys.argv[1:]
found = {}
for place in places:
    sys.path[:0] = [place]
    sys.argv = ["tag.py", notes, "--text", "--threads", "1"]
    with contextlib.redirect_stdout(io.StringIO()) as lines:
        runpy.run_path(place + "/tag.py", run_name="__main__")
    found[place] = [json.loads(line) for line in lines.getvalue().splitlines()]
    sys.path.remove(place)
    loaded = [name for name in sys.modules if name.partition(".")[0] == "tagger"]
    assert len(loaded) == 7
    for name in loaded:
        assert sys.modules.pop(name).__file__.startswith(place)
print(json.dumps(found))
"""


def notes_of(documents: list[Document]) -> dict[str, str]:
    """Ids and texts, from nothing to many windows."""
    texts = [document.text for document in documents]
    hard = "\ufeff\tNo e\u0301dema\u00a0\u200b \U0001fac0\U0001f468\u200d\u2695\ufe0f, [SEP] </s>\r\n"
    hard += " bisoprolol\x85 İ心\x00. "
    return {"empty": "", "white": " \n\t", "hard": hard, "a/long": " ".join([*texts, hard] * 6), "b/short": texts[0]}


def test_every_family_tags_without_us_as_the_predictor_does(
    make_model: Callable[..., Any], tokenizers: dict[str, Any], documents: list[Document], tmp_path: Path
) -> None:
    notes = notes_of(documents)
    for name, text in notes.items():
        (tmp_path / "notes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "notes" / f"{name}.txt").write_bytes(text.encode())
    for family, (kind, settings) in DOORS.items():
        write_model_dir(make_model(family, **settings), tokenizers[kind], tmp_path / "models" / family)
        done = export_onnx(tmp_path / "models" / family, tmp_path / family)
        assert done.agreement.moved == 0
        assert done.agreement.equal > 100, "there was something to agree on"
        assert done.difference < 2e-5
    outcome = subprocess.run(
        [
            sys.executable,
            "-I",
            "-W",
            "error",
            "-c",
            BARE,
            *(str(tmp_path / name) for name in DOORS),
            tmp_path / "notes",
        ],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr == ""
    for place, rows in json.loads(outcome.stdout).items():
        family = Path(place).name
        predictor = Predictor.from_pretrained(tmp_path / "models" / family, device="cpu")
        assert [row["id"] for row in rows] == sorted(notes)
        tagged = predictor.predict([Document(row["id"], notes[row["id"]]) for row in rows])
        for row, document in zip(rows, tagged, strict=True):
            ours = [(span.start, span.end, span.label) for span in document.spans]
            assert [(span["start"], span["end"], span["label"]) for span in row["spans"]] == ours, (family, row["id"])
            said = [dict(span.attributes) for span in document.spans]
            assert [span.get("attributes", {}) for span in row["spans"]] == said
            scores = [span.score for span in document.spans]
            assert [span["score"] for span in row["spans"]] == pytest.approx(scores, abs=1e-4)
        assert sum(len(row["spans"]) for row in rows) > 20
        lines = tmp_path / f"{family}.jsonl"
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        read = {document.id: document for document in read_corpus(lines).documents}
        assert {name: document.text for name, document in read.items()} == notes
        assert [len(read[row["id"]].spans) for row in rows] == [len(row["spans"]) for row in rows]
