"""Ray Train and `torchrun` on two machines learn the same, also if a process is killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from cardioner import write_corpus
from cardioner.data.documents import Document, Span

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
LIMIT = 300
"""Seconds within which a training must end."""
PROGRAM = '''
import os
import signal
import sys
from pathlib import Path


def fit(paths):
    from transformers import Trainer

    from cardioner import LabelSet, ModelTrainer, TrainingOptions, read_corpus

    notes = read_corpus(paths["train"])
    if paths["mark"]:
        step = Trainer.training_step

        def fatal(self, *arguments, **others):
            """The second process dies in the fifth step, once."""
            mark = Path(paths["mark"])
            if self.state.global_step == 4 and os.environ["RANK"] == "1" and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, *arguments, **others)

        Trainer.training_step = fatal
    trainer = ModelTrainer(
        LabelSet.from_types(notes.labels).label2id,
        model=paths["encoder"],
        use_crf=True,
        classifier_dropout=0.0,
        batch_size=4,
        num_train_epochs=4,
        max_length=48,
        learning_rate=0.005,
        output_dir=paths["model"],
        options=TrainingOptions(device="cpu", precision="float32", training_context=8, checkpoint_steps=1, resume=True),
    )
    trainer.train(notes, eval_data=notes)


def main():
    way, *given = sys.argv[1:]
    paths = dict(zip(("train", "encoder", "model", "mark"), given, strict=True))
    if way == "torchrun":
        fit(paths)
        return
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    ray.init(num_cpus=2, object_store_memory=200_000_000, include_dashboard=False, log_to_driver=False)
    TorchTrainer(
        fit,
        train_loop_config=paths,
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=paths["model"] + "-ray", failure_config=FailureConfig(max_failures=1)),
    ).fit()


if __name__ == "__main__":
    main()
'''


@pytest.fixture(scope="module")
def program(encoder_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program, with notes and an encoder without dropout, which every process would draw for itself, beside it."""
    place = tmp_path_factory.mktemp("training")
    (place / "program.py").write_text(PROGRAM)
    texts = [f"Patient {number} denies chest pain; syncope since {number} days." for number in range(8)]
    notes = [
        Document(f"n{number}", text, (Span(text.index("chest"), text.index("chest") + 10, "SYMPTOM"),))
        for number, text in enumerate(texts)
    ]
    write_corpus(notes, place / "notes")
    shutil.copytree(encoder_dir("bert"), place / "encoder")
    config = json.loads((place / "encoder" / "config.json").read_text())
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (place / "encoder" / "config.json").write_text(json.dumps({**config, **still}))
    return place / "program.py"


def begin(program: Path, start: tuple[str, ...], way: str, model: Path, mark: str = "") -> subprocess.Popen[str]:
    place = program.parent
    arguments = [way, place / "notes", place / "encoder", model, mark]
    return subprocess.Popen(
        [sys.executable, *start, str(program), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*running: subprocess.Popen[str]) -> None:
    for one in running:
        said = one.communicate(timeout=LIMIT)[0]
        assert one.returncode == 0, said[-3000:]


@pytest.fixture(scope="module")
def together(program: Path) -> Path:
    """What two processes of torchrun learn, each started as on a machine of its own."""
    model = program.parent / "together"
    start = (
        *("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", "127.0.0.1:29517", "--rdzv-id", "test", "--local-addr", "127.0.0.1"),
    )
    finish(*[begin(program, start, "torchrun", model) for _ in range(2)])
    return model


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "a process is killed"])
def test_ray_train_learns_what_torchrun_does(killed: bool, program: Path, together: Path, tmp_path: Path) -> None:
    mark = tmp_path / "killed"
    finish(begin(program, (), "ray", tmp_path / "model", str(mark) if killed else ""))
    assert mark.exists() == killed
    weights: dict[str, Any] = load_file(tmp_path / "model" / "model.safetensors")
    expected = load_file(together / "model.safetensors")
    assert weights.keys() == expected.keys()
    assert max(float((value - expected[name]).abs().max()) for name, value in weights.items()) < 1e-5
    assert (tmp_path / "model" / "cardioner.json").is_file()
