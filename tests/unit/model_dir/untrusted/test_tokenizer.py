"""Tokenizers of every kind pass; those that run code, read other files, or let a text grow without end do not."""

from __future__ import annotations

import base64
import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from cardioner.errors import ModelError
from cardioner.model_dir.untrusted.patterns import check_growth, fault_of
from cardioner.model_dir.untrusted.tokenizer import check_tokenizer


def check(place: Path, *, rows: int | None = 1000, window: int | None = 32) -> None:
    check_tokenizer(place, frozenset(path.name for path in place.iterdir()), rows=rows, window=window)


def refused(place: Path, told: str, name: str = "tokenizer.json") -> None:
    """Check that a tokenizer is refused in one line with these words about this file."""
    with pytest.raises(ModelError) as caught:
        check(place)
    assert str(caught.value).startswith(f"{place / name}: ")
    assert told in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.fixture
def place(tokenizers: dict[str, Any], tmp_path: Path) -> Path:
    tokenizers["wordpiece"].save_pretrained(tmp_path)
    return tmp_path


def edit(place: Path, name: str = "tokenizer.json", **changes: Any) -> None:
    content = json.loads((place / name).read_text(encoding="utf-8"))
    (place / name).write_text(json.dumps({**content, **changes}), encoding="utf-8")


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "unigram"])
def test_sound_tokenizers_pass(kind: str, tokenizers: dict[str, Any], tmp_path: Path) -> None:
    tokenizers[kind].save_pretrained(tmp_path)
    check(tmp_path, rows=len(tokenizers[kind]))
    with pytest.raises(ModelError, match="the encoder knows 20 sub-tokens"):
        check(tmp_path, rows=20)


def sentencepiece_table() -> str:
    """The table of sentencepiece's own normalization, `nmt_nfkc`, as a `tokenizer.json` holds it."""
    model = io.BytesIO()
    texts = iter(["a note about a heart", "another note about another heart"] * 20)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=model, vocab_size=30, hard_vocab_limit=False, minloglevel=3
    )
    proto = model.getvalue()
    start = proto.index(b"\x0a\x08nmt_nfkc\x12") + 11  # NormalizerSpec: name, then precompiled_charsmap
    size, place = 0, start
    while proto[place] & 0x80:
        size |= (proto[place] & 0x7F) << 7 * (place - start)
        place += 1
    size |= proto[place] << 7 * (place - start)
    return base64.b64encode(proto[place + 1 : place + 1 + size]).decode()


def table_of(*texts: str) -> str:
    """A table with these texts and an empty tree."""
    return base64.b64encode(struct.pack("<I", 0) + b"".join(text.encode() + b"\0" for text in texts)).decode()


def serialized(step: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(step.__getstate__())
    return found


def test_normalizers_of_known_families_pass(tmp_path: Path) -> None:
    table = {"type": "Precompiled", "precompiled_charsmap": sentencepiece_table()}
    spaces = serialized(normalizers.Replace(Regex(" {2,}"), "▁"))
    albert = [
        *map(serialized, (normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD())),
        *map(serialized, (normalizers.StripAccents(), normalizers.Lowercase())),
    ]
    for steps in (
        [serialized(normalizers.BertNormalizer())],
        [serialized(normalizers.NFKC()), serialized(normalizers.NFKC()), serialized(normalizers.Lowercase())],
        [serialized(normalizers.Nmt()), serialized(normalizers.NFKC()), spaces],
        [table, spaces],
        [*albert, table, spaces],
        [serialized(normalizers.Prepend("▁")), serialized(normalizers.Replace(" ", "▁"))],
        [{"type": "Sequence", "normalizers": [table]}],
    ):
        check_growth(tmp_path, {"type": "Sequence", "normalizers": steps})


@pytest.mark.parametrize(
    "steps",
    [
        [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 600}],
        [{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"}] * 5,
        [{"type": "Replace", "pattern": {"String": ""}, "content": "aa"}] * 6,
        [{"type": "Replace", "pattern": {"Regex": "x*"}, "content": "a"}] * 10,
        [{"type": "Replace", "pattern": {"Regex": "a|x*"}, "content": "a"}] * 10,
        [{"type": "Precompiled", "precompiled_charsmap": table_of("x", "y" * 600)}],
        [{"type": "Precompiled", "precompiled_charsmap": table_of("y" * 18)}] * 3,
        [{"type": "Prepend", "prepend": "a" * 65}],
        [{"type": "Prepend", "prepend": "a"}] * 65,
        [{"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aaa"}]}] * 6,
        [{"type": "NFC"}] * 300,
        [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 600, "normalizers": []}],
        [{"type": "Replace", "pattern": "a", "content": "b"}],
        [{"type": "Replace", "pattern": {"String": "a"}, "content": None}],
        [{"type": "Precompiled", "precompiled_charsmap": "***"}],
        [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(struct.pack("<I", 800)).decode()}],
    ],
)
def test_normalizers_that_multiply_are_refused(steps: list[Any], place: Path) -> None:
    edit(place, normalizer={"type": "Sequence", "normalizers": steps})
    refused(place, "")


@pytest.mark.parametrize(
    "step",
    [
        normalizers.NFKD(),
        normalizers.BertNormalizer(),
        normalizers.Replace("a", "aab"),
        normalizers.Replace(Regex("x*"), "x"),
        normalizers.Replace(Regex(" {2,}"), "▁"),
        normalizers.Prepend("▁"),
        normalizers.ByteLevel(),
    ],
    ids=repr,
)
def test_whatever_makes_a_text_explode_is_refused(step: Any, tmp_path: Path) -> None:
    for first in ("a", "x\ufdfa", "\u0130\u1f82", "a b  c", "\u4e2d"):
        grown, most = first, len(first)
        for _ in range(14):
            grown = step.normalize_str(grown)[: 1000 * len(first)]
            most = max(most, len(grown))
        if most > 512 * len(first):
            with pytest.raises(ModelError, match="may make more than"):
                check_growth(tmp_path, {"type": "Sequence", "normalizers": [serialized(step)] * 14})


@pytest.mark.parametrize(
    ("pattern", "endless"),
    [
        (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", False),
        (
            r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            False,
        ),
        (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{M}]+(?i:'s|'t)?|\p{N}", False),
        (r"[\p{P}\p{S}&&[^\(\)\+]]+|\w+", False),
        (r"(abc)+", False),
        (r"(a|b)+", False),
        (r"([(*+)]x)+", False),
        (r"(\(+a)?", False),
        (r"(a++)+", False),
        (r"(a+)+$", True),
        (r"(a*)*b", True),
        (r"(?:\w+\s?)+$", True),
        (r"((a+)b?)*", True),
        (r"(a{2,})+", True),
        (r"([a-z]+){2,}", True),
        (r"(?:(?:a+))?+", False),
        (r"(?:(?:a+))??", False),
        (r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))", False),
        (r"(?i)(?<word>\w+)|\s++$|[[:punct:]&&[^)(]]|\\(\x{41}{2})", False),
        (r"(?:ab|cd|ef)*\s", False),
        (r"(?:a{1,99}){1,99}$", True),
        (r"a{1,99}{1,99}$", True),
        (r"a++{2}|a+{2}", True),
        (r"(?:a?){30}a{30}", True),
        (r"(?<x>a+)\g<x>+", True),
        (r"(?<x>a+)\g'x'", True),
        (r"(?<x>a\g<x>?b)", True),
        (r"(a+)\1+", True),
        (r"(?<x>a+)\k<x>", True),
        (r"(?R)", True),
        (r"(?1)", True),
        (r"(?&x)", True),
        (r"(a)(?(1)b|c)", True),
        (r"(?~a)", True),
        (r"(*FAIL)", True),
        (r"(?{x})", True),
        (r"(?:a|a)*b", True),
        (r"(?:a|A)+b", True),
        (r"(?:a|[ab])+b", True),
        (r"(?:a|)+b", True),
        (r"(?:\w|\d)+b", True),
        (r"(a+\c))+", True),
        (r"(a+", True),
        (r"a+)+", True),
        (r"[a(b+)+", True),
        (r"(?x)(a+ # )", True),
        (r"(?#)a", True),
        (r"(x(?i)a|A)+", True),
        (r"\Qa\E", True),
        (r"\M-(", True),
        (r"((((a+))))*", True),
    ],
)
def test_repeated_repetitions_are_told_from_patterns_in_use(pattern: str, endless: bool) -> None:
    assert (fault_of(pattern) is not None) is endless


@pytest.mark.parametrize("pattern", [r"(a+)+$", "a" * 9000])
@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "decoder"])
def test_patterns_without_end_are_refused_wherever_they_stand(pattern: str, part: str, place: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    edit(place, **{part: {"type": "Sequence", "pretokenizers": [split]}})
    refused(place, "pattern")


TEMPLATE = {"type": "TemplateProcessing", "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}}
PIECE, TEXT = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"padding": {"strategy": {"Fixed": 10**9}}}, "padding of at most"),
        ({"padding": {"strategy": "BatchLongest", "pad_to_multiple_of": 1 << 40}}, "pad_to_multiple_of of at most"),
        ({"padding": 5}, "expected padding"),
        ({"truncation": {"max_length": 10, "stride": -1}}, "stride of at most"),
        ({"post_processor": {**TEMPLATE, "single": [PIECE] * 40 + [TEXT]}}, "adds 40 special sub-tokens"),
        ({"post_processor": {**TEMPLATE, "single": [PIECE] * 40 + [TEXT], "processors": []}}, "adds 40 special"),
        ({"post_processor": {**TEMPLATE, "single": [TEXT] * 2}}, "found it 2 times"),
        ({"post_processor": {**TEMPLATE, "single": [PIECE]}}, "found it 0 times"),
        (
            {"post_processor": {"type": "Sequence", "processors": [{**TEMPLATE, "single": [PIECE, TEXT]}] * 40}},
            "adds 32 special sub-tokens",
        ),
        (
            {"post_processor": {**TEMPLATE, "special_tokens": {"[CLS]": {"ids": [2] * 99}}, "single": [PIECE, TEXT]}},
            "adds 99 special",
        ),
        (
            {"post_processor": {**TEMPLATE, "special_tokens": {"[CLS]": {"ids": [2000]}}, "single": [PIECE, TEXT]}},
            "does not know",
        ),
        ({"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 5000]}}, "does not know"),
        ({"post_processor": {**TEMPLATE, "single": 5}}, "list pieces"),
        ({"post_processor": [1]}, "expected a post processor"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 1000}}}, "ids up to 1,000"),
        ({"model": {"type": "WordPiece", "vocab": {"a": -1}}}, "0 or more"),
        ({"model": {"type": "WordPiece", "vocab": {"a": True}}}, "0 or more"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]] * 1001}}, "ids up to 1,000"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 3}}, "unk_id"),
        ({"model": {"type": "Unigram", "vocab": [["a"]]}}, "name sub-tokens"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.5}}, "dropout"),
        ({"model": {"type": "Wasm", "vocab": {}}}, "found Wasm"),
        ({"model": 3}, "expected a model"),
        ({"added_tokens": [{"id": 0, "content": ""}]}, "1 to 4,096 characters"),
        ({"added_tokens": [{"id": 0, "content": "a" * 5000}]}, "1 to 4,096 characters"),
        ({"added_tokens": [{"id": -1, "content": "a"}]}, "an id and a text"),
        ({"added_tokens": [{"id": 0, "content": 7}]}, "an id and a text"),
        ({"added_tokens": [5]}, "an id and a text"),
        ({"added_tokens": [{"id": 1000, "content": "a", "special": False}]}, "adds a token with the id 1,000"),
        ({"added_tokens": [{"id": 1, "content": "a"}] * 60_000}, "at most 50,000"),
    ],
)
def test_hostile_tokenizer_is_refused(changes: dict[str, Any], told: str, place: Path) -> None:
    edit(place, **changes)
    refused(place, told)


def test_a_special_token_that_nothing_places_may_lie_beyond_the_encoders(place: Path) -> None:
    content = json.loads((place / "tokenizer.json").read_text())
    edit(place, added_tokens=[*content["added_tokens"], {"id": 1000, "content": "<mask>", "special": True}])
    check(place)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"auto_map": {"AutoTokenizer": [None, "evil.Tokenizer"]}}, "auto_map names code of its own"),
        ({"auto_map": ["other/repo--evil.Tokenizer", None]}, "auto_map names code of its own"),
        ({"trust_remote_code": True}, "trust_remote_code names code"),
        ({"vocab_file": "/etc/passwd"}, "vocab_file names"),
        ({"merges_file": "../../x"}, "merges_file names"),
        ({"tokenizer_file": "../x.json"}, "tokenizer_file names"),
        ({"spm_file": "x"}, "spm_file names"),
        ({"fast_tokenizer_files": ["tokenizer.0.0.0.json"]}, "fast_tokenizer_files names"),
        ({"gguf_file": "x.gguf"}, "gguf_file names"),
        ({"init_inputs": ["x"]}, "init_inputs names"),
        ({"tokenizer_padding": {"length": 10**9}}, "tokenizer_padding names"),
        ({"tokenizer_truncation": {"max_length": 1}}, "tokenizer_truncation names"),
        ({"tokenizer_object": {}, "vocab": {"a": 1}}, "vocab names"),
        ({"_commit_hash": "x"}, "_commit_hash names"),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "no fast tokenizer"),
        ({"tokenizer_class": "../evil"}, "expected tokenizer_class to name a class"),
        ({"tokenizer_class": 5}, "expected tokenizer_class to name a class"),
        ({"mecab_kwargs": {"mecab_option": "-r /etc/passwd"}}, "mecab_kwargs names"),
        ({"max_length": 10**12}, "max_length to be"),
        ({"model_max_length": -5}, "model_max_length to be"),
        ({"model_max_length": "all"}, "model_max_length to be"),
        ({"pad_token": "a" * 5000}, "pad_token of at most"),
        ({"added_tokens_decoder": {"-1": {"content": "a"}}}, "an id and a text"),
        ({"added_tokens_decoder": {"5000": {"content": "a", "special": False}}}, "adds a token with the id 5,000"),
        ({"added_tokens_decoder": {"1": "a"}}, "an id and a text"),
        ({"added_tokens_decoder": [1]}, "added_tokens_decoder"),
    ],
)
def test_hostile_settings_are_refused(changes: dict[str, Any], told: str, place: Path) -> None:
    edit(place, "tokenizer_config.json", **changes)
    refused(place, told, "tokenizer_config.json")


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json"])
@pytest.mark.parametrize("content", ['{"a": null}', '{"a": true}', '{"a": 1.5}', "[]", "{", '{"a": 1, "a": 2}'])
def test_hostile_lists_of_tokens_are_refused(name: str, content: str, place: Path) -> None:
    (place / name).write_text(content)
    refused(place, "expected", name)


@pytest.mark.parametrize("name", ["vocab.txt", "spiece.model", "merges.txt", "chat_template.jinja"])
def test_files_of_a_tokenizer_have_a_sane_size(name: str, place: Path) -> None:
    with (place / name).open("wb") as file:
        file.truncate(1 << 40)
    refused(place, "expected at most", name)


def test_settings_in_use_pass(place: Path) -> None:
    edit(place, "tokenizer_config.json", model_max_length=1000000000000000019884624838656, do_lower_case=True)
    edit(place, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", vocab_file=None, name_or_path="")
    (place / "special_tokens_map.json").write_text('{"pad_token": "[PAD]", "unk_token": {"content": "[UNK]"}}')
    (place / "added_tokens.json").write_text('{"[X]": 5}')
    check(place)


def test_a_tokenizer_with_every_part_passes(tmp_path: Path) -> None:
    made = Tokenizer(models.BPE(vocab={"a": 0, "<s>": 1, "</s>": 2, "<unk>": 3}, merges=[], unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r" ?\p{L}+|\s+(?!\S)"), "isolated"), pre_tokenizers.ByteLevel(use_regex=False)]
    )
    made.post_processor = processors.Sequence(
        [processors.ByteLevel(), processors.RobertaProcessing(("</s>", 2), ("<s>", 1))]
    )
    made.enable_padding(length=512)
    made.enable_truncation(512, stride=128)
    made.save(str(tmp_path / "tokenizer.json"))
    check(tmp_path, rows=4)
