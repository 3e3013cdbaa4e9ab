"""Whatever happens to a file of a saved directory, `verify` names it, and `load` gives no model."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PretrainedConfig

import cardioner
from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError
from cardioner.model_dir import golden_outputs
from cardioner.model_dir.layout import CARD
from cardioner.model_dir.save import write_model_dir
from cardioner.model_dir.verify import verify
from cardioner.multiclass import CardioNERConfig, TokenClassificationModelCRF

PLACES = 200
TRAINED = {"model": "tiny", "labels": ["O"], "best_epoch": 1}

Saved = Callable[[str, str, int], Path]


@pytest.fixture(scope="module")
def saved(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizers: dict[str, Any],
    encoder_config: Callable[[str], PretrainedConfig],
) -> Saved:
    """A directory of a model with a CRF: of a family, a tokenizer and a seed."""

    def save(family: str, tokenizer: str, seed: int) -> Path:
        torch.manual_seed(seed)
        labels = LabelSet.from_types(["DISEASE"] if seed else ["DRUG"])
        config = CardioNERConfig(
            encoder_config=encoder_config(family).to_dict(),
            id2label=labels.id2label,
            label2id=labels.label2id,
            window_length=32 + seed,
            window_context=4,
        )
        directory = tmp_path_factory.mktemp("saved") / family
        model = TokenClassificationModelCRF(config).eval()
        write_model_dir(model, tokenizers[tokenizer], directory, training_args={**TRAINED, "seed": seed}, also_bin=True)
        return directory

    return save


@pytest.fixture(scope="module")
def model(saved: Saved) -> Path:
    return saved("bert", "wordpiece", 0)


@pytest.fixture(scope="module")
def other(saved: Saved) -> Path:
    directory = saved("roberta", "byte-bpe", 1)
    for code in directory.glob("*.py"):
        code.write_bytes(code.read_bytes() + b"\n# of another version\n")
    return directory


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != CARD)


def flipped(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ draw.randrange(1, 256)]) + content[place + 1 :]


def mutations(model: Path, other: Path) -> Iterator[tuple[str, str, bytes | None]]:
    """A name, what is done to that file, and its new content; `None` for a file that is removed."""
    draw, names = random.Random(8), files(model)
    for number in range(PLACES):
        name = names[number % len(names)]
        yield name, "a flipped byte", flipped((model / name).read_bytes(), draw)
    for name in names:
        content = (model / name).read_bytes()
        yield name, "cut", content[: len(content) // 2]
        yield name, "one byte short", content[:-1]
        yield name, "longer", content + b"\n"
        yield name, "emptied", b""
        yield name, "removed", None
        yield name, "swapped", (other / name).read_bytes()


def test_what_was_saved_is_sound_and_loads(model: Path) -> None:
    found = verify(model)
    assert found.issues == ()
    assert found.golden_outputs
    assert cardioner.load(model).predict_text("Patient denies chest pain.") is not None


def test_every_altered_file_is_named_and_no_model_is_loaded(model: Path, other: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(model, tmp_path / "model"))
    tried = 0
    for name, done, content in mutations(model, other):
        before = (directory / name).read_bytes()
        assert content != before, (name, done)
        if content is None:
            (directory / name).unlink()
        else:
            (directory / name).write_bytes(content)
        found = verify(directory)
        assert not found.sound, (name, done)
        assert name in {issue.name for issue in found.issues if issue.serious}, (name, done, found.issues)
        with pytest.raises(ModelError):
            cardioner.load(directory)
        (directory / name).write_bytes(before)
        tried += 1
    assert tried == PLACES + 6 * len(files(model))
    assert verify(directory).sound


def test_an_edited_card_is_reported_and_held_against_nobody(model: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(model, tmp_path / "model"))
    (directory / CARD).write_text("our own words")
    found = verify(directory)
    assert [(issue.name, issue.serious) for issue in found.issues] == [(CARD, False)]
    assert found.sound
    (directory / CARD).unlink()
    assert [issue.name for issue in verify(directory).issues] == [CARD]
    cardioner.load(directory)


@pytest.mark.parametrize(
    "name",
    [
        "extra.py",
        "adapter_config.json",
        "pytorch_model-00001.bin",
        "vocab.txt",
        "special_tokens_map.json",
        "x.so",
        "A.PY",
    ],
)
def test_a_file_that_would_be_loaded_with_the_model_is_one_too_many(name: str, model: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(model, tmp_path / "model"))
    (directory / name).write_text("{}")
    assert name in {issue.name for issue in verify(directory).issues if issue.serious}
    with pytest.raises(ModelError, match=name):
        cardioner.load(directory)


def test_a_file_that_nothing_reads_is_only_mentioned(model: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(model, tmp_path / "model"))
    (directory / "scores.html").write_text("")
    (directory / "logs").mkdir()
    (directory / ".gitattributes").write_text("")
    found = verify(directory)
    assert [(issue.name, issue.serious) for issue in found.issues] == [("logs", False), ("scores.html", False)]
    cardioner.load(directory)


def test_a_library_that_computes_otherwise_is_noticed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = torch.nn.Linear.forward
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda self, given: forward(self, given) * 1.02)
    found = verify(model)
    assert [issue.name for issue in found.issues] == ["golden outputs"]
    assert "emissions differ" in found.issues[0].problem
    with pytest.raises(ModelError, match="emissions differ"):
        cardioner.load(model)


def test_a_tokenizer_that_cuts_otherwise_is_noticed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = golden_outputs.encode_notes
    monkeypatch.setattr(
        golden_outputs,
        "encode_notes",
        lambda tokenizer, texts: encode(tokenizer, [text.lower() + "x" for text in texts]),
    )
    assert "the tokenizer cuts" in verify(model).issues[0].problem


def test_a_decoder_that_decides_otherwise_is_noticed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = TokenClassificationModelCRF.decode
    monkeypatch.setattr(
        TokenClassificationModelCRF,
        "decode",
        lambda self, logits, mask=None: [[(tag + 1) % 3 for tag in row] for row in decode(self, logits, mask)],
    )
    assert "tags are others" in verify(model).issues[0].problem
