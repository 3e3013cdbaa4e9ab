"""Make the golden directories of a version: tiny models that every later version must load, with what they answer.

    python tools/make_golden.py VERSION

writes `tests/golden/VERSION` with the installed cardioner, which must be that version. A golden directory never
changes: a version that has one is refused. Beside each directory is a JSON file of the same name with what its model
answered: the logits of fixed ids, the spans of a few invented notes; and with a digest of every file.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import pre_tokenizers, trainers

import cardioner
from cardioner.data.documents import Document, Span
from cardioner.data.labels import LabelSet, Scheme
from cardioner.training.options import TrainingOptions
from cardioner.training.trainer import ModelTrainer

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
SEED = 7

MARKED = (
    "Patient denies {chest pain|SYMPTOM}. {Atrial fibrillation|DISEASE} since 2019, on {bisoprolol|MEDICATION} 2.5 mg.",
    "Paciente con {disnea|SYMPTOM} e {insuficiencia cardíaca|DISEASE}; se inició {furosemida|MEDICATION} 40 mg/12h.",
    "Geen {orthopnoe|SYMPTOM}. Ernstige {aortaklepstenose|DISEASE} met {syncope|SYMPTOM}; {metoprolol|MEDICATION}.",
    "No oedema. {Heart failure|DISEASE} with {palpitations|SYMPTOM} at night; {furosemide|MEDICATION} was stopped.",
)
"""Invented notes, with spans and their types in braces."""

ASKED = ["Atrial fibrillation since 2019.", "Geen syncope."]
"""The texts whose logits are recorded."""

Tokenizer = Any


@dataclass(frozen=True)
class Kind:
    """A kind of model: the encoder's family, the head, and the file of its weights."""

    family: str
    use_crf: bool = False
    hidden: tuple[int, ...] | None = None
    scheme: Scheme = "BIO"
    temperature: float = 1.0
    pickled: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


KINDS = {
    "linear": Kind("bert"),
    "mlp-crf": Kind("roberta", use_crf=True, hidden=(12,), temperature=1.5, extra={"type_vocab_size": 1}),
    "pickle": Kind("electra", use_crf=True, scheme="BIOES", pickled=True, extra={"embedding_size": 8}),
}
"""The golden directories of a version. `pickle` only has its weights in `pytorch_model.bin`."""

FURTHER = {
    "modernbert": Kind("modernbert", extra={"num_hidden_layers": 2, "global_attn_every_n_layers": 2}),
    "mmbert": Kind(
        "modernbert",
        use_crf=True,
        extra={
            "num_hidden_layers": 4,
            "global_attn_every_n_layers": 2,
            "local_attention": 8,
            "local_rope_theta": 160000.0,
        },
    ),
    "xlm-roberta": Kind("xlm-roberta", hidden=(12,), scheme="BIOES", extra={"type_vocab_size": 1}),
    "deberta-v2": Kind(
        "deberta-v2", use_crf=True, temperature=0.8, extra={"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    ),
}
"""Made by the contract matrix only: encoders whose configurations and tokenizers changed between versions."""


def notes() -> list[Document]:
    """The invented notes with their spans."""
    return [_read_marked(f"note-{number}", text) for number, text in enumerate(MARKED, 1)]


def texts() -> list[str]:
    """What the models tag: the notes, one longer than any window, an odd one, and an empty one."""
    plain = [note.text for note in notes()]
    return [*plain, "\r\n".join(reversed(plain)) * 2, "Atrial flutter 🫀, no dyspnœa;\tSYNCOPE, bisoprolol?", ""]


def make_all(folder: Path, kinds: dict[str, Kind], *, epochs: int = 150) -> None:
    """Make a model of each kind in a folder that is made for them."""
    folder.mkdir(parents=True)
    for name, kind in kinds.items():
        make(folder / name, kind, epochs=epochs)


def make(directory: Path, kind: Kind, *, epochs: int) -> None:
    """Train a tiny model briefly, save it, and record its answers beside it."""
    torch.set_num_threads(1)  # tiny tensors: threads would only wait for each other
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as name:
        encoder = Path(name) / f"tiny-{kind.family}"
        save_encoder(kind, encoder)
        trainer = ModelTrainer(
            label2id=LabelSet.from_types(["DISEASE", "MEDICATION", "SYMPTOM"], scheme=kind.scheme).label2id,
            model=encoder,
            use_crf=kind.use_crf,
            classifier_hidden_layers=kind.hidden,
            classifier_dropout=0.0,
            batch_size=4,
            max_length=24,
            learning_rate=1e-2,
            num_train_epochs=epochs,
            output_dir=Path(name) / "trained",
            options=TrainingOptions(seed=SEED, training_context=4, precision="float32", also_bin=kind.pickled),
        )
        trainer.train(notes())
    trainer.model.config.score_temperature = kind.temperature
    trainer.save_model(directory)
    if kind.pickled:
        trainer.model.save_pretrained(directory)  # by itself, which drops a manifest: it would miss the file
        (directory / "model.safetensors").unlink()
    content = json.dumps(answers(directory), ensure_ascii=False)
    text = re.sub(r"(?<=[\]}],) (?=[\[{])", "\n", content) + "\n"
    directory.with_name(f"{directory.name}.json").write_text(text, encoding="utf-8")


def answers(directory: Path) -> dict[str, Any]:
    """What the model in a directory says, through `cardioner.load`.

    Returns:
        The versions that computed it; `input_ids` and `attention_mask` `(2, length)`, padded; their `logits`
        `(2, length, tags)`; per note its `text` and `spans`, each `[start, end, label, score]`; `files`: per file of
        the directory its SHA-256.
    """
    predictor = cardioner.load(directory, device="cpu")
    inputs = predictor.tokenizer(ASKED, padding=True, return_tensors="pt")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    with torch.no_grad():
        logits = predictor.model(input_ids=ids, attention_mask=mask).logits
    documents = [Document(str(number), text) for number, text in enumerate(texts())]
    tagged = [(note.text, note.spans) for note in predictor.predict(documents)]
    return {
        "versions": {"cardioner": cardioner.__version__, "transformers": transformers.__version__},
        "input_ids": ids.tolist(),
        "attention_mask": mask.tolist(),
        "logits": [[[round(value, 6) for value in row] for row in rows] for rows in logits.tolist()],
        "notes": [
            {"text": text, "spans": [[span.start, span.end, span.label, round(span.score or 0, 6)] for span in spans]}
            for text, spans in tagged
        ],
        "files": digests(directory),
    }


def digests(directory: Path) -> dict[str, str]:
    """The SHA-256 of each file of a directory."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def save_encoder(kind: Kind, folder: Path) -> None:
    """Write an encoder with random weights, and its tokenizer."""
    tokenizer = _TOKENIZERS[kind.family]()
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 40,
    }
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = transformers.AutoConfig.for_model(kind.family, **(shape | special | kind.extra))
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _wordpiece() -> Tokenizer:
    """Characters and a few whole words, lower-cased."""
    words = {word for text in texts() for word in re.findall(r"\w+|[^\w\s]", text.lower())}
    characters = sorted({character for word in words for character in word if character.isascii()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    whole = sorted(word for word in words if word.isascii() and len(word) < 8)
    pieces = dict.fromkeys([*special, *characters, *(f"##{character}" for character in characters), *whole])
    return transformers.BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})


def _byte_bpe() -> Tokenizer:
    """Bytes and their most frequent pairs."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(texts(), trainer)
    merges = json.loads(trained.to_str())["model"]["merges"]
    return transformers.RobertaTokenizer(vocab=trained.get_vocab(), merges=[tuple(pair) for pair in merges])


def _unigram() -> Tokenizer:
    """Characters, and a few whole words, which are likelier than their characters."""
    words = sorted({"▁" + word for text in texts() for word in text.split() if word.isalpha() and len(word) < 8})
    characters = sorted({"▁", *(character for text in texts() for character in text if not character.isspace())})
    special = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces = [*((word, -3.0) for word in words), *((character, -4.0) for character in characters)]
    return transformers.XLMRobertaTokenizer(vocab=[*special, *pieces])


_TOKENIZERS = {
    "bert": _wordpiece,
    "electra": _wordpiece,
    "roberta": _byte_bpe,
    "modernbert": _byte_bpe,
    "xlm-roberta": _unigram,
    "deberta-v2": _unigram,
}


def _read_marked(identifier: str, marked: str) -> Document:
    """A document from a text with its spans in braces."""
    text, spans = "", []
    for before, mention, label in _pieces(marked):
        text += before
        if label:
            spans.append(Span(len(text), len(text) + len(mention), label))
            text += mention
    return Document(identifier, text, tuple(spans))


def _pieces(marked: str) -> Iterator[tuple[str, str, str]]:
    """What stands before a span, the span, and its type; what stands behind the last one comes without a span."""
    parts = re.split(r"\{([^|]*)\|([^}]*)\}", marked)
    yield from zip(parts[0::3], [*parts[1::3], ""], [*parts[2::3], ""], strict=True)


def main() -> int:
    """Make the golden directories of the version that the first argument names."""
    version = sys.argv[1] if len(sys.argv) == 2 else ""
    if version != cardioner.__version__:
        print(f"expected the version that is installed, {cardioner.__version__}; found {version!r}", file=sys.stderr)
        return 2
    if (GOLDEN / version).exists():
        print(f"{GOLDEN / version} exists, and golden directories never change: make a new version", file=sys.stderr)
        return 5
    make_all(GOLDEN / version, KINDS)
    size = sum(path.stat().st_size for path in (GOLDEN / version).rglob("*") if path.is_file())
    print(f"{GOLDEN / version}: {', '.join(KINDS)}; {size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
