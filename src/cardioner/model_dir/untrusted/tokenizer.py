"""Whether a tokenizer's files only describe one: no code, no other places, and no text that grows without end.

What the keys that are refused would do is listed in `cardioner.model_dir.untrusted.structure`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from cardioner.model_dir.json_files import LARGE, check_name, read_object, refuse, shown
from cardioner.model_dir.layout import OLD_TOKENIZER_FILES, TOKENIZER, TOKENIZER_CONFIG, refused_in_tokenizer
from cardioner.model_dir.untrusted.patterns import check_growth, check_patterns, steps_of

_CLASS = re.compile(r"[^\W\d]\w{0,99}", re.ASCII)
_NUMBERS = {"max_length", "stride", "pad_to_multiple_of", "max_cell_length"}
_MOST_NUMBER = 1 << 20
_MODELS = {"BPE", "Unigram", "WordLevel", "WordPiece"}
_MOST_ADDED = 50_000
_LONGEST_TOKEN = 4_096
_MOST_FIXED = 1 << 16
"""Most sub-tokens that a tokenizer may pad a text to."""
_MOST_SPECIAL = 64
_VOCABULARIES = re.compile(r"(vocab|merges|dict)\.\w+|.+\.(model|codes|tiktoken)|tekken\.json|.+\.jinja")


def check_tokenizer(directory: Path, files: frozenset[str], *, rows: int | None, window: int | None) -> None:
    """Refuse tokenizers that run code, read other files, blow texts up, or know more sub-tokens than the encoder.

    Args:
        directory: The model directory.
        files: The names of its files.
        rows: How many sub-tokens the encoder has vectors for, if that is known.
        window: Most sub-tokens in a window, if that is known.
    """
    for name in sorted(files):
        if _VOCABULARIES.fullmatch(name) and (directory / name).stat().st_size > LARGE:
            refuse(directory / name, f"expected at most {LARGE:,} bytes, found {(directory / name).stat().st_size:,}")
    if TOKENIZER in files:
        check_content(directory / TOKENIZER, rows=rows, window=window)
    if TOKENIZER_CONFIG in files:
        path = directory / TOKENIZER_CONFIG
        settings = read_object(path)
        _check_settings(path, settings)
        _check_decoder(path, settings.get("added_tokens_decoder"), rows)
    for name in OLD_TOKENIZER_FILES:
        if name in files:
            _check_other(directory / name, read_object(directory / name))


def check_content(path: Path, *, rows: int | None, window: int | None) -> None:
    """Refuse a `tokenizer.json` whose parts are none, or whose work has no bounds; as `check_tokenizer` has it."""
    _check_content(path, read_object(path, most=LARGE), rows=rows, most_special=window or _MOST_SPECIAL)


def check_class(path: Path, name: Any) -> None:
    """Refuse a class of tokenizers that is none of `tokenizers`: others read files and options of their own."""
    if name is None:
        return
    if not isinstance(name, str) or not _CLASS.fullmatch(name):
        refuse(path, f"expected tokenizer_class to name a class, found {shown(name)}")
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - only here; the light engine has none
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name  # noqa: PLC0415

    for known_as in (name, f"{name.removesuffix('Fast')}Fast", name.removesuffix("Fast")):
        kind = tokenizer_class_from_name(known_as)
        if kind is not None and issubclass(kind, PreTrainedTokenizerFast):
            return
        if kind is not None and kind.__name__ not in {"PythonBackend", "PreTrainedTokenizer"}:
            refuse(
                path,
                f"{shown(name)} is no fast tokenizer: only one that reads {TOKENIZER} alone can tell which characters "
                "a sub-token stands for",
            )


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse what makes a loader run code, or read other files than those it always reads."""
    for key, value in settings.items():
        check_name(path, key)
        nothing = value in (None, False, "", [], {}) or (key.endswith("_file") and _is_left_over(value))
        if refused_in_tokenizer(key) and not nothing:
            refuse(path, f"{shown(key)} names code of its own or other files: a tokenizer is its {TOKENIZER}")
        whole = isinstance(value, int) and 0 <= value <= _MOST_NUMBER
        if key in _NUMBERS and value is not None and not whole:
            refuse(path, f"expected {shown(key)} to be a whole number up to {_MOST_NUMBER:,}, found {shown(value, 24)}")
        if key.endswith("_token") and isinstance(value, str) and len(value) > _LONGEST_TOKEN:
            refuse(path, f"expected {shown(key)} of at most {_LONGEST_TOKEN:,} characters, found {len(value):,}")
    longest = settings.get("model_max_length")
    if longest is not None and (isinstance(longest, bool) or not isinstance(longest, (int, float)) or longest < 1):
        refuse(path, f"expected model_max_length to be a number above 0, found {shown(longest, 24)}")
    check_class(path, settings.get("tokenizer_class"))


def _is_left_over(value: Any) -> bool:
    """Whether a value is the full path of nothing here: where a tokenizer was once made is often written down."""
    full = isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute())
    return full and not os.path.lexists(value)


def _check_decoder(path: Path, tokens: Any, rows: int | None) -> None:
    """Refuse added tokens under ids that are none."""
    if tokens is None:
        return
    if not isinstance(tokens, dict) or len(tokens) > _MOST_ADDED:
        refuse(path, f"expected added_tokens_decoder to name at most {_MOST_ADDED:,} tokens")
    for key, token in tokens.items():
        index = int(key) if re.fullmatch(r"\d{1,9}", key, re.ASCII) else None
        _check_added(path, index, token, rows)


def _check_other(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse old lists of tokens that are no such lists."""
    for key, value in content.items():
        right = isinstance(value, (str, int, dict, list)) and not isinstance(value, bool)
        many = isinstance(value, list) and len(value) > _MOST_ADDED
        if not right or many or len(key) > _LONGEST_TOKEN:
            refuse(path, f"expected tokens and their ids, found {shown(value)} under {shown(key)}")


def _check_content(path: Path, content: Mapping[str, Any], *, rows: int | None, most_special: int) -> None:
    """Refuse parts of a `tokenizer.json` that are none, or whose work has no bounds."""
    model = content.get("model")
    kinds = {} if not isinstance(model, dict) else model
    kind = kinds.get("type", "BPE" if "merges" in kinds else "WordPiece")
    if not isinstance(model, dict) or not isinstance(kind, str) or kind not in _MODELS:
        refuse(path, f"expected a model such as {', '.join(sorted(_MODELS))}, found {shown(kind)}")
    largest = _largest_id(path, model)
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > _MOST_ADDED:
        refuse(path, f"expected at most {_MOST_ADDED:,} added tokens")
    if rows is not None and largest >= rows:
        refuse(path, f"the vocabulary has ids up to {largest:,}, and the encoder knows {rows:,} sub-tokens")
    for token in added:
        _check_added(path, token.get("id") if isinstance(token, dict) else None, token, rows)
    _check_lengths(path, content)
    _check_specials(path, content.get("post_processor"), rows=rows, most=most_special)
    parts = {key: value for key, value in content.items() if key not in {"model", "added_tokens"}}
    check_patterns(path, parts)
    check_growth(path, content.get("normalizer"), content.get("pre_tokenizer"))
    if kinds.get("dropout"):
        refuse(path, "expected no dropout: the same text would be cut in another way each time")


def _largest_id(path: Path, model: Mapping[str, Any]) -> int:
    """The largest id in a vocabulary, -1 without one."""
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        ids = vocabulary.values()
        if not all(type(index) is int and 0 <= index < 1 << 31 for index in ids):
            refuse(path, "expected the vocabulary to give whole numbers of 0 or more as ids")
        return max(ids, default=-1)
    if not isinstance(vocabulary, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in vocabulary):
        refuse(path, f"expected the vocabulary to name sub-tokens, found {shown(vocabulary)}")
    unknown = model.get("unk_id")
    if unknown is not None and not (type(unknown) is int and 0 <= unknown < len(vocabulary)):
        refuse(path, f"expected unk_id to be an id of the vocabulary, found {shown(unknown, 24)}")
    return len(vocabulary) - 1


def _check_added(path: Path, index: Any, token: Any, rows: int | None) -> None:
    """Refuse an added token without a text, or that the encoder has no vector for.

    A special one may lie beyond the encoder's, as a mask that no note holds: it is never put anywhere by itself.
    """
    text = token.get("content") if isinstance(token, dict) else None
    if type(index) is not int or not 0 <= index < 1 << 31 or not isinstance(text, str):
        refuse(path, "expected added tokens to have an id and a text")
    if not 0 < len(text) <= _LONGEST_TOKEN:
        refuse(path, f"expected added tokens of 1 to {_LONGEST_TOKEN:,} characters, found one of {len(text):,}")
    if rows is not None and index >= rows and token.get("special") is not True:
        refuse(path, f"it adds a token with the id {index:,}, and the encoder knows {rows:,} sub-tokens")


def _check_lengths(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse padding to an absurd length."""
    padding, truncation = content.get("padding") or {}, content.get("truncation") or {}
    if not isinstance(padding, dict) or not isinstance(truncation, dict):
        refuse(path, "expected padding and truncation to be objects, or null")
    strategy = padding.get("strategy")
    fixed = strategy.get("Fixed", 0) if isinstance(strategy, dict) else 0
    lengths = {"padding": fixed, "pad_to_multiple_of": padding.get("pad_to_multiple_of") or 0}
    lengths["stride"] = truncation.get("stride") or 0
    for name, length in lengths.items():
        if type(length) is not int or not 0 <= length <= _MOST_FIXED:
            refuse(path, f"expected {name} of at most {_MOST_FIXED:,} sub-tokens, found {shown(length, 24)}")


def _check_specials(path: Path, processor: Any, *, rows: int | None, most: int) -> None:
    """Refuse a post processor that puts so many special sub-tokens around a text that no window has room for it."""
    if processor is not None and not isinstance(processor, dict):
        refuse(path, f"expected a post processor, found {shown(processor)}")
    added: list[Any] = []
    for part in steps_of(processor):
        for key in ("sep", "cls"):
            pair = part.get(key)
            added += pair[1:2] if isinstance(pair, list) else []
        added += _template(path, part)
        if len(added) >= most:
            refuse(path, f"the post processor adds {len(added):,} special sub-tokens to a text, a window has {most:,}")
    if rows is not None and not all(type(index) is int and 0 <= index < rows for index in added):
        refuse(path, f"the post processor adds ids that the encoder, with {rows:,} sub-tokens, does not know")


def _template(path: Path, part: Mapping[str, Any]) -> list[Any]:
    """The ids that a template puts around one text."""
    pieces, known = part.get("single") or [], part.get("special_tokens") or {}
    if not isinstance(pieces, list) or not isinstance(known, dict) or not all(isinstance(one, dict) for one in pieces):
        refuse(path, "expected the template of the post processor to list pieces")
    texts = sum("Sequence" in piece for piece in pieces)
    if pieces and texts != 1:
        refuse(path, f"expected the template of the post processor to name the text once, found it {texts} times")
    ids = {name: entry.get("ids") if isinstance(entry, dict) else None for name, entry in known.items()}
    if not all(isinstance(found, list) for found in ids.values()):
        refuse(path, "expected special tokens of the post processor to have ids")
    names = [piece["SpecialToken"].get("id") for piece in pieces if isinstance(piece.get("SpecialToken"), dict)]
    return [index for name in names if isinstance(name, str) for index in ids.get(name) or ()]
