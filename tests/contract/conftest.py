"""A process in which cardioner cannot be imported, nor anything be fetched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

RunBare = Callable[[str, Path, dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="session")
def run_bare() -> RunBare:
    """Run a script in a new folder with what it is given, in `given.pt`; what it found, from `found.pt`."""

    def run(script: str, bare: Path, given: dict[str, Any]) -> dict[str, Any]:
        bare.mkdir()
        torch.save(given, bare / "given.pt")
        own = {"HF_HOME": str(bare / "hf"), "HF_HUB_OFFLINE": "1", "HOME": str(bare), "OMP_NUM_THREADS": "1"}
        outcome = subprocess.run(
            [sys.executable, "-I", "-W", "error", "-c", script],
            cwd=bare,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert outcome.returncode == 0, outcome.stderr
        found: dict[str, Any] = torch.load(bare / "found.pt", weights_only=True)
        return found

    return run
