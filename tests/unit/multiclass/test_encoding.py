"""From text to sub-tokens: accents belong to their letter's sub-token, and a panic quotes no note."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cardioner.multiclass.encoding import TokenizerPanicError, character_offsets, encode_notes, encode_with

CANARY = "zyxwvcanary"
Pieces = list[tuple[int, int]]


def panicking_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose pattern backtracks on many letters `a` until the native code gives up."""
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"(?<x>a+)\g<x>+$"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[UNK]")


@pytest.mark.parametrize(
    ("text", "given", "found"),
    [
        ("cafe\u0301 x", [(0, 4), (6, 7)], [(0, 5), (6, 7)]),
        ("e\u0323\u0301, x", [(0, 1), (3, 4), (5, 6)], [(0, 3), (3, 4), (5, 6)]),
        ("e\u0301", [(0, 1), (1, 2)], [(0, 1), (1, 2)]),
        ("cafe\u0301", [(0, 3), (3, 4), (3, 4)], [(0, 3), (3, 5), (3, 5)]),
        ("\u1112\u1161\u11ab b", [(0, 1), (4, 5)], [(0, 3), (4, 5)]),
        ("\uff76\uff9e", [(0, 1)], [(0, 2)]),
        ("\u0915\u094d\u200d\u0937", [(0, 1), (3, 4)], [(0, 3), (3, 4)]),
        ("\u2764\ufe0f x", [(0, 1), (3, 4)], [(0, 2), (3, 4)]),
        ("\U0001f468\u200d\u2695 x", [(0, 1), (2, 3), (4, 5)], [(0, 2), (2, 3), (4, 5)]),
        ("pain\u5fc3\u623f", [(0, 4)], [(0, 4)]),
        ("pain\u00ad x", [(0, 4), (6, 7)], [(0, 4), (6, 7)]),
        ("\u0301a \u0301", [(1, 2)], [(1, 2)]),
        (" caf\u00e9 ", [(0, 5)], [(1, 5)]),
        (" \u00e9 ", [(0, 1), (1, 1), (1, 3)], [(1, 1), (1, 1), (1, 2)]),
        ("", [], []),
    ],
)
def test_a_sub_token_takes_in_the_marks_behind_it_that_none_has(text: str, given: Pieces, found: Pieces) -> None:
    assert character_offsets(text, given) == found
    assert character_offsets(text, found) == found


def test_a_panic_of_the_tokenizer_is_an_error_that_quotes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer = panicking_tokenizer()
    with pytest.raises(TokenizerPanicError) as caught:
        encode_notes(tokenizer, ["aa", f"{CANARY} {'a' * 40}b", "a"])
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert capfd.readouterr() == ("", "")
    assert [note.ids for note in encode_notes(tokenizer, ["a", "aa"])] == [[1], [0]]


def stop(error: type[BaseException]) -> Callable[[list[str]], Any]:
    def encode(texts: list[str]) -> Any:
        os.write(2, f"panicked at {texts}\n".encode())
        raise error(texts)

    return encode


def test_what_native_code_prints_of_a_panic_is_dropped_and_all_else_is_passed_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def encode(texts: list[str]) -> Any:
        os.write(2, b"a warning\n")
        return [([1], [(0, 1)]) for _ in texts]

    assert len(encode_with(encode, ["a", "b"])) == 2
    assert capfd.readouterr().err == "a warning\n"
    with pytest.raises(TokenizerPanicError):
        encode_with(stop(type("PanicException", (BaseException,), {})), [CANARY])
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, ValueError])
def test_what_is_no_panic_is_let_through(error: type[BaseException], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(error):
        encode_with(stop(error), ["a"])
    assert capfd.readouterr().err == "panicked at ['a']\n"


def test_without_standard_error_notes_are_tokenised_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise OSError("bad file descriptor")

    monkeypatch.setattr(os, "dup", refuse)
    assert encode_with(lambda texts: [([1], [(0, 1)]) for _ in texts], ["a"])[0].ids == [1]
