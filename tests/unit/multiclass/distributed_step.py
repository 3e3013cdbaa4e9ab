"""One of two processes that share a training step of each model given; `test_models` starts it with RANK set."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import distributed

from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF


def step(place: Path, rank: int) -> None:
    """Run forward and backward on this process's half of the batch; the first one writes what both agreed on."""
    given = torch.load(place / "given.pt", weights_only=True)
    config = CardioNERConfig.from_json_file(place / "config.json")
    model = (TokenClassificationModelCRF if config.use_crf else TokenClassificationModel)(config).eval()
    model.load_state_dict(given["weights"])
    half = {name: values[2 * rank : 2 * rank + 2] for name, values in given["inputs"].items()}
    shared = torch.nn.parallel.DistributedDataParallel(model)  # must outlive backward
    shared(**half).loss.backward()
    if rank == 0:
        gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        torch.save(gradients, place / "gradients.pt")
    distributed.barrier()


if __name__ == "__main__":
    meeting, *places = sys.argv[1:]
    own = int(os.environ["RANK"])
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=own, world_size=2)
    for one in places:
        step(Path(one), own)
    os._exit(0)  # gloo's threads now and then wait for each other for ever when the interpreter takes them down
