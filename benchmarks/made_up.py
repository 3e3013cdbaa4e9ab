"""Encoders with random weights, tokenizers learned from the bundled notes, and as many long notes as are wanted."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModel, BertConfig, BertTokenizer, PretrainedConfig, RobertaConfig, RobertaTokenizer

from cardioner import Document, Span, read_corpus

CORPUS = Path(__file__).parents[1] / "examples" / "corpus"
ENCODERS = ("MiniLM-size", "RoBERTa-large-size")

VOCABULARY = 2_000
"""Sub-tokens of the tokenizers: so few that words are cut about as often as unseen text is by those in use."""

JOINED = 3
"""Notes of the corpus that make one: about 2,000 sub-tokens, the length of a discharge letter."""


def write_encoder(name: str, place: Path, *, tiny: bool) -> Path:
    """Write one of `ENCODERS` and its tokenizer to a folder, unless an earlier run has left them there."""
    folder = place / name
    if not (folder / "tokenizer_config.json").is_file():
        texts = [path.read_text(encoding="utf-8") for path in sorted((CORPUS / "train").glob("*.txt"))]
        tokenizer = (_wordpiece if name == ENCODERS[0] else _byte_bpe)(texts)
        torch.manual_seed(0)
        AutoModel.from_config(_config(name, tiny=tiny)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def take(part: str, wanted: int, size: Callable[[str], int]) -> list[Document]:
    """As many long notes, made of those of a part of the corpus, as come to so much."""
    taken: list[Document] = []
    for document in _notes(part):
        if wanted <= 0:
            break
        taken.append(document)
        wanted -= size(document.text)
    return taken


def _notes(part: str) -> Iterator[Document]:
    """Notes without end: those of the corpus in a shuffled order, several to one."""
    pool, chance = list(read_corpus(CORPUS / part).documents), random.Random(0)
    for number in count():
        text, spans = "", []
        for document in chance.sample(pool, JOINED):
            spans += [Span(span.start + len(text), span.end + len(text), span.label) for span in document.spans]
            text += document.text + "\n"
        yield Document(f"{part}-{number}", text, tuple(spans))


def _config(name: str, *, tiny: bool) -> PretrainedConfig:
    """The configuration of one of the two encoders."""
    if name == ENCODERS[0]:
        shape = (2, 32, 2, 64) if tiny else (6, 384, 12, 1536)
        kind, own = BertConfig, {"vocab_size": 30_522, "max_position_embeddings": 512}
    else:
        shape = (3, 48, 4, 96) if tiny else (24, 1024, 16, 4096)
        kind, own = RobertaConfig, {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1}
    layers, hidden, heads, inner = shape
    return kind(num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads, intermediate_size=inner, **own)


def _wordpiece(texts: Sequence[str]) -> Any:
    """A tokenizer as BERT's."""
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer, trained.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special))
    return BertTokenizer(vocab=trained.get_vocab(), model_max_length=512)


def _byte_bpe(texts: Sequence[str]) -> Any:
    """A tokenizer as RoBERTa's."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    trained.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    return RobertaTokenizer(vocab=trained.get_vocab(), merges=merges, model_max_length=512)
