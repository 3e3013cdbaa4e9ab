"""Tiny encoders, tokenizers and models that every test builds its case from; nothing is downloaded."""

from __future__ import annotations

import atexit
import gc
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import log
from pathlib import Path
from typing import Any

# Before transformers is imported: its cache of remote code belongs to this process alone, and so do the user's keys.
_HOME = Path(tempfile.mkdtemp(prefix="cardioner-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ["HF_HOME"] = str(_HOME / "hugging-face")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["XDG_CONFIG_HOME"] = str(_HOME / "config")
os.environ["XDG_CACHE_HOME"] = str(_HOME / "cache")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # of every process: tiny tensors, and as many workers as cores

import hypothesis
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizer,
    DebertaV2Config,
    ElectraConfig,
    ModernBertConfig,
    PretrainedConfig,
    RobertaConfig,
    RobertaTokenizer,
    XLMRobertaConfig,
    XLMRobertaTokenizer,
)

from cardioner.data.documents import Document, Span
from cardioner.data.labels import LabelSet, Overlap, Scheme
from cardioner.model_dir.layout import MANIFEST
from cardioner.multiclass import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF

# The same examples each time, so that a test fails for a change alone; `make fuzz` looks for new ones. How long an
# example takes is for benchmarks.
hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, derandomize=False, max_examples=2000, print_blob=True)
hypothesis.settings.load_profile("project")
torch.set_num_threads(1)  # tiny tensors: threads would only wait for each other

ROOT = Path(__file__).parents[1]
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""What Python itself starts once and keeps until the process ends."""

TYPES = ("DISEASE", "MEDICATION", "SYMPTOM")
SAMPLE_TEXTS = (
    "Patient denies chest pain. Atrial fibrillation since 2019, treated with bisoprolol 2.5 mg o.d.",
    "Paciente con disnea de esfuerzo e insuficiencia cardíaca; se inició furosemida 40 mg/12h.",
    "Geen orthopnoe. Ernstige aortaklepstenose met syncope; metoprolol 50 mg, coronaire bypass.",
    "No oedema. Dyspnoea on exertion, palpitations, heart failure with reduced ejection fraction.",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what lacks what it needs: corpora (CARDIONER_DATA says where), a browser, a compiler, a GPU."""
    lacking = set[str]()
    if not os.environ.get("CARDIONER_DATA"):
        lacking.add("corpus")
    if shutil.which("chromium") is None:
        lacking.add("browser")
    if not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        lacking.add("postgresql")
    if shutil.which("c++") is None:
        lacking.add("compiler")
    if not torch.cuda.is_available():
        lacking.add("gpu")
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in lacking)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="module", autouse=True)
def what_stays_is_not_collected() -> None:
    """Let the garbage collector pass over what was imported and collected before this module's tests.

    Each training asks for whole collections, and one walk over the objects of torch and transformers takes a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fail the session if a test leaves a process that still runs, or a file beside the project's own."""
    before = visible_files()
    yield
    assert visible_files() - before == set()
    assert [command for command in running_children() if not any(helper in command for helper in HELPERS)] == []


def visible_files() -> set[Path]:
    """What stands in the project's folder and in its source, caches of tools left out."""
    return {path for folder in (ROOT, ROOT / "src") for path in folder.iterdir() if not path.name.startswith(".")}


def running_children() -> list[str]:
    """The commands of the processes that this one has started and that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):  # it has ended meanwhile
            facts = status.read_text()
            if f"\nPPid:\t{os.getpid()}\n" in facts and "\nState:\tZ" not in facts:
                found.append(status.with_name("cmdline").read_text().replace("\0", " "))
    return found


def shared_pieces(words: set[str], *, inside: str = "") -> dict[str, int]:
    """Every character and whatever two words have in common, with how many words have it, the most frequent first.

    The trainers of tokenizers that cut words this way give another vocabulary in every process; this one is the same.

    Args:
        words: The words.
        inside: How a piece begins that does not begin a word.
    """
    counts = Counter(
        piece
        for word in sorted(words)
        for piece in {
            (inside if start else "") + word[start:end]
            for start in range(len(word))
            for end in range(start + 1, len(word) + 1)
        }
    )
    kept = {piece: count for piece, count in counts.items() if count > 1 or len(piece.removeprefix(inside)) == 1}
    return dict(sorted(kept.items(), key=lambda item: (-item[1], item[0])))


def words_of(normalizer: Any, pre_tokenizer: Any) -> set[str]:
    """The words of the sample texts, as a tokenizer cuts them."""
    texts = [normalizer.normalize_str(text) if normalizer else text for text in SAMPLE_TEXTS]
    return {word for text in texts for word, _ in pre_tokenizer.pre_tokenize_str(text)}


def wordpiece_tokenizer() -> BertTokenizer:
    words = words_of(normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer())
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = sorted(set("".join(words)))  # as the beginning of a word too, where none begins so
    pieces = dict.fromkeys([*special, *characters, *shared_pieces(words, inside="##"), *sorted(words)])
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, model_max_length=512)


def byte_bpe_tokenizer() -> RobertaTokenizer:
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trained.post_processor = processors.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    trained.train_from_iterator(SAMPLE_TEXTS, trainer)
    merges = json.loads(trained.to_str())["model"]["merges"]
    return RobertaTokenizer(vocab=trained.get_vocab(), merges=[tuple(pair) for pair in merges], model_max_length=512)


def unigram_tokenizer() -> XLMRobertaTokenizer:
    counts = shared_pieces(words_of(None, pre_tokenizers.Metaspace()))
    total = sum(counts.values())
    special = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces = [(piece, log(count / total)) for piece, count in counts.items()]
    return XLMRobertaTokenizer(vocab=[*special, *pieces], model_max_length=512)


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "wordpiece": wordpiece_tokenizer,
    "byte-bpe": byte_bpe_tokenizer,
    "unigram": unigram_tokenizer,
}

_SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}

FAMILIES: dict[str, tuple[type[PretrainedConfig], str, dict[str, Any]]] = {
    "bert": (BertConfig, "wordpiece", {"max_position_embeddings": 128}),
    "electra": (ElectraConfig, "wordpiece", {"max_position_embeddings": 128, "embedding_size": 12}),
    "roberta": (RobertaConfig, "byte-bpe", {"max_position_embeddings": 130, "type_vocab_size": 1}),
    "modernbert": (ModernBertConfig, "byte-bpe", {"max_position_embeddings": 128, "global_attn_every_n_layers": 2}),
    "xlm-roberta": (XLMRobertaConfig, "unigram", {"max_position_embeddings": 130, "type_vocab_size": 1}),
    "deberta-v2": (
        DebertaV2Config,
        "unigram",
        {"max_position_embeddings": 128, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
}
"""Encoder families: configuration class, the kind of tokenizer they take, and what they need beside the tiny shape."""


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Any]:
    """One fast tokenizer of each kind."""
    return {kind: build() for kind, build in TOKENIZERS.items()}


@pytest.fixture(scope="session")
def encoder_config(tokenizers: dict[str, Any]) -> Callable[[str], PretrainedConfig]:
    """The configuration of a tiny encoder of a family."""

    def build(family: str) -> PretrainedConfig:
        kind, tokenizer_kind, extra = FAMILIES[family]
        tokenizer = tokenizers[tokenizer_kind]
        special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        if family == "modernbert":
            special |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
        return kind(vocab_size=len(tokenizer), **_SHAPE, **extra, **special)

    return build


@pytest.fixture(scope="session")
def encoder_dir(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizers: dict[str, Any],
    encoder_config: Callable[[str], PretrainedConfig],
) -> Callable[[str], Path]:
    """A folder with a tiny pretrained encoder of a family and its tokenizer."""
    made: dict[str, Path] = {}

    def build(family: str) -> Path:
        if family not in made:
            torch.manual_seed(0)
            made[family] = tmp_path_factory.mktemp("encoder") / family
            AutoModel.from_config(encoder_config(family)).save_pretrained(made[family])
            tokenizers[FAMILIES[family][1]].save_pretrained(made[family])
        return made[family]

    return build


@pytest.fixture(scope="session")
def without_manifest() -> Callable[[Path], Path]:
    """Turns a directory into one of a version that wrote no manifest, so that it can be changed at will."""

    def strip(directory: Path) -> Path:
        (directory / MANIFEST).unlink()
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        del config["manifest"]
        (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return directory

    return strip


@pytest.fixture(scope="session")
def labels() -> LabelSet:
    """The tags of three entity types."""
    return LabelSet.from_types(TYPES)


def _with_opinions_of_attributes(model: TokenClassificationModel) -> TokenClassificationModel:
    """The model whose head of attributes, if it has one, says something else of every other span."""
    if model.attribute_head is not None:
        torch.nn.init.normal_(model.attribute_head.output.weight, std=0.7)
        ids = torch.randint(5, 60, (1, 30))
        with torch.no_grad():
            model.attribute_head.output.bias -= model(input_ids=ids).attribute_logits[0].mean(0)
    return model


@pytest.fixture
def make_model(
    encoder_config: Callable[[str], PretrainedConfig],
) -> Callable[..., TokenClassificationModel]:
    """A tiny model of a family with weights large enough to have opinions."""

    def build(
        family: str = "bert",
        *,
        use_crf: bool = False,
        scheme: Scheme = "BIO",
        overlap: Overlap = "flat",
        **settings: Any,
    ) -> TokenClassificationModel:
        torch.manual_seed(1)
        labels = LabelSet.from_types(TYPES, scheme=scheme, overlap=overlap)
        settings = {"window_length": 32, "window_context": 4, **settings}
        config = CardioNERConfig(
            encoder_config=encoder_config(family).to_dict(),
            id2label=labels.id2label,
            label2id=labels.label2id,
            **settings,
        )
        model = (TokenClassificationModelCRF if use_crf else TokenClassificationModel)(config)
        for parameter in [*model.classifier.parameters(), *(model.crf.parameters() if use_crf else ())]:
            torch.nn.init.normal_(parameter, std=0.7)
        return _with_opinions_of_attributes(model.eval())

    return build


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """Three annotated notes; the second has nothing marked in it."""
    first, second, third, _ = SAMPLE_TEXTS

    def span(text: str, words: str, label: str) -> Span:
        start = text.index(words)
        return Span(start, start + len(words), label)

    return [
        Document(
            "a",
            first,
            (
                span(first, "chest pain", "SYMPTOM"),
                span(first, "Atrial fibrillation", "DISEASE"),
                span(first, "bisoprolol", "MEDICATION"),
            ),
        ),
        Document("b", second),
        Document("c", third, (span(third, "aortaklepstenose", "DISEASE"), span(third, "syncope", "SYMPTOM"))),
    ]
