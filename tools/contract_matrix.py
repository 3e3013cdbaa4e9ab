"""Save under some versions of transformers, load under others, and compare what the models answer.

    python tools/contract_matrix.py [OPTIONS OF PIP]

The lowest and the newest supported version save tiny models. These two versions, and an older one that sites still run,
load them and the golden directories, each version in its own processes: through the Auto classes where cardioner cannot
be imported, and through `cardioner.load` where it is supported. All must give the same logits, spans and scores.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "matrix"
GOLDEN = ROOT / "tests" / "golden"

LOWEST, OLDER = "5.3.0", "4.57.6"
PINS = {
    OLDER: ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface-hub==0.36.2"),
    LOWEST: (
        "transformers==5.3.0",
        "tokenizers==0.22.2",
        "huggingface-hub==1.33.0",
        "httpx==0.28.1",
        "httpcore==1.0.9",
    ),
}
"""Packages that take precedence over the environment's; the newest version is the one in constraints.txt."""

SAME_RUN, OTHER_MACHINE = 1e-5, 1e-4
"""How far an answer may be from that of the process that saved, and from that recorded for a golden directory."""

SAVE = """
import sys
from pathlib import Path
sys.path[:0] = [part for part in (sys.argv[1], sys.argv[2]) if part]
import make_golden
kinds = {f"{name}-{sys.argv[4]}": kind for name, kind in (make_golden.KINDS | make_golden.FURTHER).items()}
make_golden.make_all(Path(sys.argv[3]), kinds, epochs=20)
"""


@dataclass(frozen=True)
class Row:
    """A combination: what saved, what loaded and how, and the result."""

    saved: str
    loaded: str
    door: str
    models: int
    difference: float
    problem: str = ""


def main(pip_args: list[str]) -> int:
    """Run the matrix and print its table; 1 if any combination fails."""
    newest = check_versions()
    for name, pins in PINS.items():
        install(name, pins, pip_args)
    versions = (OLDER, LOWEST, newest)
    doors = [
        (name, door) for name in versions for door in ("auto", "cardioner") if (name, door) != (OLDER, "cardioner")
    ]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        place = Path(folder)
        saved = {name: place / f"saved-{name}" for name in (LOWEST, newest)}
        list(pool.map(lambda name: save(name, saved[name]), saved))
        sources = {f"transformers {name}": expectations(path) for name, path in saved.items()}
        sources |= {f"cardioner {path.name}": expectations(path) for path in sorted(GOLDEN.iterdir()) if path.is_dir()}
        found = pool.map(lambda pair: load(*pair, sources, place / "-".join(pair)), doors)
        rows = [
            compare(source, name, door, wanted=sources[source], answers=answers)
            for (name, door), answers in zip(doors, found, strict=True)
            for source in sources
        ]
    show(rows)
    return 1 if any(row.problem for row in rows) else 0


def check_versions() -> str:
    """The newest version, which must be installed.

    Raises:
        SystemExit: If another one is installed, or if the lowest one here is not that of pyproject.toml.
    """
    pinned = re.search(r"^transformers==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    lowest = re.search(r'"transformers>=([\d.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    newest = version("transformers")
    if pinned is None or pinned[1] != newest:
        sys.exit(f"expected transformers as constraints.txt pins it, found {newest}: make setup")
    if lowest is None or f"{lowest[1]}.0" != LOWEST:
        sys.exit(f"pyproject.toml supports another lowest version than {LOWEST}: change PINS in {Path(__file__).name}")
    return newest


def folder_of(name: str) -> str:
    """The folder whose packages make a version, empty for the version of the environment."""
    return str(BUILD / name) if name in PINS else ""


def install(name: str, pins: Iterable[str], pip_args: list[str]) -> None:
    """Install packages into their own folder, unless they are there."""
    folder, wanted = BUILD / name, "\n".join(pins) + "\n"
    done = folder / "pins.txt"
    if done.is_file() and done.read_text(encoding="utf-8") == wanted:
        return
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--upgrade", "--target", str(folder), *pip_args, *pins], check=True)
    done.write_text(wanted, encoding="utf-8")


def save(name: str, place: Path) -> None:
    """Make a model of each kind under a version."""
    run([SAVE, folder_of(name), str(ROOT / "tools"), str(place), name], place.parent, f"saving under {name}")


def load(name: str, door: str, sources: dict[str, dict[str, Any]], place: Path) -> dict[str, Any]:
    """What the models of all sources answer under a version, through a door, by the path of their directory."""
    place.mkdir()
    keys = ("path", "input_ids", "attention_mask", "texts")
    asked = {path: {key: wanted[key] for key in keys} for models in sources.values() for path, wanted in models.items()}
    torch.save({"door": door, "first": folder_of(name), "directories": asked}, place / "given.pt")
    script = (ROOT / "tools" / "read_saved.py").read_text(encoding="utf-8")
    run([script], place, f"loading under {name} through {door}")
    found = torch.load(place / "found.pt", weights_only=True)
    if found["transformers"] != name:
        sys.exit(f"loading under {name}: expected this version of transformers, found {found['transformers']}")
    answers: dict[str, Any] = found["answers"]
    return answers


def run(arguments: list[str], place: Path, what: str) -> None:
    """Run a script offline in its own process, in a folder.

    Raises:
        SystemExit: With the output of the process, if it fails.
    """
    own = {
        "HF_HOME": str(place / f"hf-{os.urandom(4).hex()}"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", *arguments],
        cwd=place,
        env={**os.environ, **own},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{what} failed")


def expectations(folder: Path) -> dict[str, Any]:
    """What each model of a folder should answer, by the path of its directory."""
    found = {}
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        path = str(file.with_suffix(""))
        found[path] = content | {"path": path, "texts": [note["text"] for note in content["notes"]]}
    if not found:
        sys.exit(f"{folder} holds no models")
    return found


def compare(saved: str, loaded: str, door: str, *, wanted: dict[str, Any], answers: dict[str, Any]) -> Row:
    """The greatest difference of a logit or a score over the models of one source, and what is wrong."""
    bound = SAME_RUN if saved.startswith("transformers") else OTHER_MACHINE
    greatest, problems = 0.0, []
    for path, expected in wanted.items():
        difference, problem = measure(expected, answers[path])
        if not problem and not difference <= bound:
            problem = f"more than {bound:.0e}"
        if problem:
            problems.append(f"{Path(path).name}: {problem}")
        greatest = max(greatest, difference)
    return Row(saved, loaded, door, len(wanted), greatest, "; ".join(problems))


def measure(expected: dict[str, Any], answer: dict[str, Any]) -> tuple[float, str]:
    """The greatest difference of a logit or a score of one model, or what prevented the comparison."""
    if "error" in answer:
        print(answer["error"], file=sys.stderr)
        return math.inf, answer["error"].strip().rpartition("\n")[2][:80]
    wanted, found = [note["spans"] for note in expected["notes"]], answer["spans"]
    if places(wanted) != places(found):
        return math.inf, "other spans"
    attended = torch.tensor(expected["attention_mask"]).bool()  # the others are padding, where versions differ
    logits = (answer["logits"] - torch.tensor(expected["logits"]))[attended].abs().max()
    return max(logits.item(), (scores(wanted) - scores(found)).abs().max().item()), ""


def places(notes: list[list[Any]]) -> list[list[Any]]:
    """The start, end and label of each span of each note."""
    return [[span[:3] for span in spans] for spans in notes]


def scores(notes: list[list[Any]]) -> torch.Tensor:
    """The scores of the spans of all notes."""
    return torch.tensor([span[3] for spans in notes for span in spans])


def show(rows: list[Row]) -> None:
    """Print the table."""
    names = {"auto": "Auto classes, bare", "cardioner": "cardioner.load"}
    table = Table(
        "saved by", "loaded by transformers", "through", "models", "greatest difference", "", title="Contract"
    )
    for row in rows:
        outcome = f"[red]{row.problem}" if row.problem else "same"
        table.add_row(row.saved, row.loaded, names[row.door], str(row.models), f"{row.difference:.1e}", outcome)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
