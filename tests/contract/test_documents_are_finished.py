"""No document is left with a gap to be filled in, and links between documents lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import cardioner

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "RESULTS.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_has_no_gap_and_no_dead_link(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"@@\w+@@", text)
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_the_page_on_the_crf_alone_runs_as_it_stands() -> None:
    text = (ROOT / "docs" / "how-to" / "use-the-crf-on-its-own.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "use-the-crf-on-its-own.md", "exec"), names)
    shapes = {
        name: tuple(names[name].shape) for name in ("marginals", "best_tags", "five_best", "drawn", "uncertainty")
    }
    assert shapes == {
        "marginals": (2, 7, 3),
        "best_tags": (2, 7),
        "five_best": (5, 2, 7),
        "drawn": (100, 2, 7),
        "uncertainty": (2,),
    }
    assert [len(row) for row in names["best"]] == [7, 4]
    assert all(0 <= probability <= 1 for probability in names["probabilities"].tolist())


def test_the_worked_examples_of_scores_print_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "reference" / "scores.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "scores.md", "exec"), names)
        printed = capsys.readouterr().out
        assert printed
        assert f"```text\n{printed}```" in text


def test_every_public_name_is_in_the_python_reference() -> None:
    text = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    documented = re.findall(r"^::: cardioner\.(\w+)$", text, re.MULTILINE)
    assert set(cardioner.__all__) - {"__version__"} <= set(documented)


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    listed = re.findall(r"\]\((\d{4}-[^)]+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == sorted(page.name for page in folder.glob("0*.md"))
