"""Directories that released versions wrote load for ever, through every door, and answer as they did then."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import cardioner
from cardioner.data.documents import Document

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
CASES = sorted(str(path.relative_to(GOLDEN)) for path in GOLDEN.glob("*/*") if path.is_dir())
KINDS = {"linear", "mlp-crf", "pickle"}
NEAR = 1e-4
"""How far a logit or a score may be from what another machine computed."""


def expected(case: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDEN / f"{case}.json").read_text(encoding="utf-8"))
    return content


def check(case: str, logits: torch.Tensor, spans: list[list[list[Any]]]) -> None:
    """Compare with what stands beside the directory; spans are `[start, end, label, score]`."""
    wanted = expected(case)
    attended = torch.tensor(wanted["attention_mask"]).bool()  # nobody reads the others
    torch.testing.assert_close(logits[attended], torch.tensor(wanted["logits"])[attended], rtol=0, atol=NEAR)
    for note, found in zip(wanted["notes"], spans, strict=True):
        assert [span[:3] for span in found] == [span[:3] for span in note["spans"]]
        assert [span[3] for span in found] == pytest.approx([span[3] for span in note["spans"]], abs=NEAR)


@pytest.fixture(scope="session")
def found_bare(tmp_path_factory: pytest.TempPathFactory, run_bare: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """What a process without cardioner finds in all of them."""
    asked = {}
    for case in CASES:
        wanted = expected(case)
        asked[case] = {key: wanted[key] for key in ("input_ids", "attention_mask")} | {
            "path": str(GOLDEN / case),
            "texts": [note["text"] for note in wanted["notes"]],
        }
    script = (ROOT / "tools" / "read_saved.py").read_text(encoding="utf-8")
    given = {"door": "auto", "first": "", "directories": asked}
    answers: dict[str, Any] = run_bare(script, tmp_path_factory.mktemp("golden") / "bare", given)["answers"]
    return answers


@pytest.mark.parametrize("case", CASES)
def test_a_golden_directory_answers_as_it_did_through_load(case: str) -> None:
    predictor = cardioner.load(GOLDEN / case, device="cpu")
    wanted = expected(case)
    with torch.no_grad():
        logits = predictor.model(
            input_ids=torch.tensor(wanted["input_ids"]), attention_mask=torch.tensor(wanted["attention_mask"])
        ).logits
    documents = [Document(str(number), note["text"]) for number, note in enumerate(wanted["notes"])]
    tagged = predictor.predict(documents)
    check(case, logits, [[[s.start, s.end, s.label, s.score] for s in document.spans] for document in tagged])


@pytest.mark.parametrize("case", CASES)
def test_a_golden_directory_answers_as_it_did_in_a_bare_process(case: str, found_bare: dict[str, Any]) -> None:
    found = found_bare[case]
    assert "error" not in found, found["error"]
    check(case, found["logits"], found["spans"])


@pytest.mark.parametrize("case", CASES)
def test_a_golden_directory_has_not_changed(case: str) -> None:
    files = {path.name: path.read_bytes() for path in (GOLDEN / case).iterdir() if path.is_file()}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == expected(case)["files"]
    weights = {name for name in files if name.endswith((".bin", ".safetensors"))}
    assert weights == {"pytorch_model.bin" if case.endswith("pickle") else "model.safetensors"}


@pytest.mark.parametrize("case", CASES)
def test_a_golden_directory_has_something_to_say(case: str) -> None:
    """A model that finds nothing, or has logits near zero, would agree with anything."""
    wanted = expected(case)
    found = [span for note in wanted["notes"] for span in note["spans"]]
    assert len(found) > 10
    assert len({span[2] for span in found}) == 3
    assert torch.tensor(wanted["logits"]).std() > 0.5
    assert any(0.05 < span[3] < 0.95 for span in found), "a score that could move"


def test_every_released_version_has_golden_directories() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = set(re.findall(r"^## \[?v?(\d+\.\d+\.\d+[^\s\]]*)", changes, re.MULTILINE))
    there: dict[str, set[str]] = {}
    for case in CASES:
        version, _, kind = case.partition("/")
        there.setdefault(version, set()).add(kind)
    lacking = sorted(version for version in released if not there.get(version, set()) >= KINDS)
    assert not lacking, "python tools/make_golden.py VERSION, with that version installed"
    assert there, "golden directories were found"
