"""`cardioner ablate`: recipes side by side, an ablation gone on with, and what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cardioner.model_dir.load import read_model_dir
from cardioner.training.sweep.process import Cost, Problem, Tagged

CANARY = "zyxwvcanary"
TINY = ("--epochs", "1", "--batch-size", "2", "--max-length", "64", "--device", "cpu", "--learning-rate", "0.005")


@dataclass(frozen=True)
class Ablated:
    """Two runs over one folder: the second went on with another recipe, and printed JSON."""

    folder: Path
    first: subprocess.CompletedProcess[str]
    first_report: dict[str, Any]
    second: subprocess.CompletedProcess[str]


def cardioner(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, in whose processes one thread is enough."""
    command = [sys.executable, "-m", "cardioner", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


@pytest.fixture(scope="module")
def ablated(corpus: Path, encoder_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Ablated:
    """Train a linear head with a CRF; then go on with an MLP."""
    folder = tmp_path_factory.mktemp("ablated") / "out"
    command = [
        *("ablate", "--train", corpus / "train", "--test", corpus / "dev", "--output", folder, "--bootstrap", "100"),
        *("--backbone", encoder_dir("bert"), "--hidden-layers", "8", *TINY),
    ]
    first = cardioner(*command, "--recipes", "crf")
    report = json.loads((folder / "ablation.json").read_text())
    return Ablated(folder, first, report, cardioner(*command, "--recipes", "crf,mlp", "--resume", "--json"))


@pytest.mark.slow
def test_recipes_are_shown_side_by_side_in_80_columns(ablated: Ablated) -> None:
    done = ablated.first
    assert done.returncode == 0, done.stderr
    assert "Strict F1 of 2 test notes" in done.stdout
    assert "Times depend on what else this machine does" in " ".join(done.stdout.split())
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("│ crf")]
    assert row.count(" MiB") == 2
    assert "flatters" not in done.stderr


@pytest.mark.slow
def test_going_on_trains_what_is_missing_and_json_is_alone_on_standard_output(ablated: Ablated) -> None:
    done = ablated.second
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((ablated.folder / "ablation.json").read_text())
    assert (found["order"], found["failures"]) == (["crf", "mlp"], {})
    assert (found["documents"], found["scored_on"]) == (2, "test")
    assert "crf: training" not in done.stderr
    assert "mlp" not in ablated.first_report["recipes"]
    crf, before = found["recipes"]["crf"], ablated.first_report["recipes"]["crf"]
    assert crf["training"] == before["training"]
    assert crf["decodings"]["viterbi"]["scores"] == before["decodings"]["viterbi"]["scores"]


@pytest.mark.slow
def test_every_recipe_is_decoded_as_it_can_be_and_compared_with_the_first(ablated: Ablated) -> None:
    found = json.loads(ablated.second.stdout)["recipes"]
    assert {name: sorted(recipe["decodings"]) for name, recipe in found.items()} == {
        "crf": ["argmax", "viterbi"],
        "mlp": ["argmax"],
    }
    assert found["crf"]["difference"] is None
    difference = found["mlp"]["difference"]["strict"]["micro"]["f1"]
    f1 = {
        name: found[name]["decodings"][way]["scores"]["strict"]["micro"]["f1"]
        for name, way in (("crf", "viterbi"), ("mlp", "argmax"))
    }
    assert (difference["a"], difference["b"]) == (f1["mlp"], f1["crf"])
    assert 0 < difference["p"] <= 1


@pytest.mark.slow
def test_every_recipe_has_costs_that_are_measured(ablated: Ablated) -> None:
    for name, recipe in json.loads(ablated.second.stdout)["recipes"].items():
        assert recipe["training"]["seconds"] > 0
        assert recipe["training"]["memory"] > 50 << 20, "torch alone takes more"
        files = [path for path in (ablated.folder / name).rglob("*") if path.is_file()]
        assert recipe["disk"] == sum(path.stat().st_size for path in files)
        assert all(way["sub_tokens_per_second"] > 0 for way in recipe["decodings"].values())


@pytest.mark.slow
def test_models_are_kept_and_are_what_the_recipes_say(ablated: Ablated) -> None:
    configs = {name: read_model_dir(ablated.folder / name, device="cpu")[2] for name in ("crf", "mlp")}
    assert {name: (config.use_crf, config.classifier_hidden_layers) for name, config in configs.items()} == {
        "crf": (True, None),
        "mlp": (False, [8]),
    }
    assert sorted(path.name for path in ablated.folder.iterdir()) == [
        *("ablation-state.json", "ablation.json"),
        *("crf", "mlp"),
    ]


@pytest.mark.slow
def test_no_word_of_a_note_and_no_id_comes_out(ablated: Ablated) -> None:
    reports = [(ablated.folder / name).read_text() for name in ("ablation.json", "ablation-state.json")]
    for text in (*reports, ablated.first.stdout, ablated.first.stderr, ablated.second.stdout, ablated.second.stderr):
        assert CANARY not in text.lower()
        assert "bisoprolol" not in text.lower()
    assert all('"d1"' not in text and '"t1"' not in text for text in reports)


@pytest.fixture
def ablate(run: Callable[..., Any], corpus: Path, tmp_path: Path) -> Callable[..., Any]:
    """`cardioner ablate` in this process, for what ends before anything is trained."""

    def execute(*arguments: Any, notes: Sequence[Any] | None = None) -> Any:
        given = ("--train", corpus / "train", "--eval", corpus / "dev") if notes is None else notes
        return run("ablate", *given, "--output", tmp_path / "out", *arguments)

    return execute


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--recipes", "simple,lstm"), "found 'lstm'"),
        (("--recipes", "crf,crf"), "each once"),
        (("--hidden-layers", "wide"), "--hidden-layers: expected widths such as 512,256"),
        (("--resume", "--overwrite"), "one of them"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(
    arguments: tuple[str, ...], said: str, ablate: Callable[..., Any], tmp_path: Path
) -> None:
    done = ablate(*arguments)
    assert done.code == 2
    assert said in done.error
    assert not (tmp_path / "out").exists()


def test_recipes_need_notes_to_be_compared_on(ablate: Callable[..., Any], corpus: Path) -> None:
    done = ablate(notes=("--train", corpus / "train"))
    assert done.code == 2
    assert "held-out notes" in done.error


def test_models_that_are_there_are_only_replaced_on_request(ablate: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out" / "crf").mkdir(parents=True)
    (tmp_path / "out" / "crf" / "config.json").write_text("{}")
    done = ablate()
    assert done.code == 5
    assert "already holds crf" in done.error
    assert "--resume" in done.error


def test_ctrl_c_says_how_to_go_on(ablate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cardioner.training.sweep.ablation.run_apart", interrupted)
    done = ablate()
    assert (done.code, done.out) == (130, "")
    assert "the same command with --resume" in done.err


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of a play: the CRF's fails, the others find nothing."""

    def play(job: Any, receive: Callable[[Any], None]) -> None:
        if job.trial.name == "crf":
            receive(Problem("there is no room", 5))
            return
        receive(Cost(seconds=1.0, memory=None, device_memory=3 << 20, best_epoch=1))
        receive(Tagged({way: {} for way in job.decoders}, dict.fromkeys(job.decoders, 5.0), 1))

    monkeypatch.setattr("cardioner.training.sweep.ablation.run_apart", play)


@pytest.mark.usefixtures("played")
def test_a_recipe_that_fails_is_named_and_the_others_are_shown(ablate: Callable[..., Any]) -> None:
    done = ablate("--recipes", "crf,simple,mlp-crf", "--bootstrap", "10")
    assert done.code == 5
    assert "crf failed: there is no room" in done.err
    assert "error: 1 of 3 recipes failed" in done.err
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in done.out.splitlines()]
    assert ["simple", "0.000", "no CRF", "1 s", "5", "not known", "3 MiB", "0 MiB"] in rows
    assert ["mlp-crf", "+0.000", "0.000–0.000", "1.0000"] in rows


@pytest.mark.usefixtures("played")
def test_where_every_recipe_fails_json_says_so(ablate: Callable[..., Any]) -> None:
    done = ablate("--recipes", "crf", "--json")
    assert done.code == 5
    assert (done.json["recipes"], done.json["failures"]) == ({}, {"crf": "there is no room"})


@pytest.mark.usefixtures("played")
def test_scores_on_the_notes_that_picked_the_epoch_are_said_to_flatter(ablate: Callable[..., Any]) -> None:
    done = ablate("--recipes", "simple", "--bootstrap", "10")
    assert done.code == 0
    assert "Strict F1 of 2 evaluation notes" in done.out
    assert "all scores are too good" in done.err
    assert "1 note could not be tagged by simple" in done.err
