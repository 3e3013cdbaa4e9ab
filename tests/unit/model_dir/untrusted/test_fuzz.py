"""Whatever is changed in a directory, every door answers soon: with a model that is whole, or with one line."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cardioner.errors import ModelError
from cardioner.model_dir.encoder import load_encoder, load_tokenizer
from cardioner.model_dir.inspect import inspect
from cardioner.model_dir.load import read_model_dir
from cardioner.model_dir.manifest import canonical, read_manifest
from cardioner.model_dir.verify import verify

pytestmark = pytest.mark.slow

MOST_SECONDS = 2.0
DESCRIPTIONS = ("config.json", "tokenizer.json", "tokenizer_config.json")
NAMES = ("auto_map", "model_type", "vocab", "type", "_file", "name_or_path", "pattern", "Regex", "num_hidden_layers")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30, 1e300, 0.5, "", "/", "../x", "timm_wrapper", "(a+)+$", "\x1b[2J"]),
    st.text(max_size=4),
)
VALUES = st.recursive(
    SCALARS, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(NAMES), part, max_size=3)
)
PIECES = st.binary(max_size=8) | st.sampled_from([b'{"', b"[", b"\n", b"\0", b"\xff", b"vocab", b"9" * 400])
FUZZING = settings(
    max_examples=settings.default.max_examples // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def unvouched(
    whole_directory: Path, tmp_path_factory: pytest.TempPathFactory, without_manifest: Callable[[Path], Path]
) -> Path:
    """A directory whose files no manifest vouches for: what is refused is so for what it is."""
    return without_manifest(Path(shutil.copytree(whole_directory, tmp_path_factory.mktemp("fuzz") / "model")))


def answered(doors: tuple[Callable[[Path], Any], ...], place: Path, name: str, content: bytes) -> None:
    """Check that each door answers to a changed file, and put the file back."""
    before = (place / name).read_bytes()
    (place / name).write_bytes(content)
    try:
        for door in doors:
            begun = time.process_time()
            try:
                door(place)
            except ModelError as error:
                told = str(error)
                assert told.isprintable(), told
                assert len(told) < 2000
            assert time.process_time() - begun < MOST_SECONDS
    finally:
        (place / name).write_bytes(before)


def nodes(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value, as what holds it and its key or index."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        yield content, key
        yield from nodes(value)


def changed(content: Any, draw: Any) -> Any:
    """A JSON value with another value somewhere in it."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        places = list(nodes(content))
        home, key = places[draw(st.integers(0, len(places) - 1))]
        if isinstance(home, dict) and draw(st.booleans()):
            key = draw(st.sampled_from(NAMES))
        home[key] = draw(VALUES)
    return content


@pytest.mark.filterwarnings("ignore")
@FUZZING
@given(data=st.data())
@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_any_value_in_a_description_is_answered(name: str, unvouched: Path, data: st.DataObject) -> None:
    found = json.loads((unvouched / name).read_text(encoding="utf-8"))
    text = json.dumps(changed(found, data.draw))
    answered((read_model_dir, verify, inspect), unvouched, name, text.encode())


@pytest.mark.filterwarnings("ignore")
@FUZZING
@given(data=st.data())
@pytest.mark.parametrize("name", [*DESCRIPTIONS, "model.safetensors", "cardioner.json", "modeling.py"])
def test_any_bytes_in_a_file_are_answered(
    name: str, whole_directory: Path, unvouched: Path, data: st.DataObject
) -> None:
    place = whole_directory if name == "cardioner.json" else unvouched
    sound = (place / name).read_bytes()
    start = data.draw(st.integers(0, min(len(sound), 5000)))
    end = start + data.draw(st.integers(0, 40))
    piece = data.draw(PIECES) * data.draw(st.sampled_from([1, 3, 1000]))
    answered((read_model_dir, verify), place, name, sound[:start] + piece + sound[end:])


@pytest.mark.filterwarnings("ignore")
@FUZZING
@given(data=st.data())
def test_any_manifest_that_agrees_with_its_digest_is_answered(whole_directory: Path, data: st.DataObject) -> None:
    found = json.loads((whole_directory / "cardioner.json").read_bytes())
    content = changed({key: value for key, value in found.items() if key != "digest"}, data.draw)
    text = json.dumps({**content, "digest": hashlib.sha256(canonical(content)).hexdigest()}, indent=1, sort_keys=True)
    answered((read_manifest, read_model_dir, verify), whole_directory, "cardioner.json", text.encode())


@pytest.mark.filterwarnings("ignore")
@FUZZING
@given(data=st.data())
@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_any_value_in_a_folder_of_an_encoder_is_answered(
    name: str, encoder_dir: Callable[[str], Path], data: st.DataObject
) -> None:
    place = encoder_dir("bert")
    text = json.dumps(changed(json.loads((place / name).read_text(encoding="utf-8")), data.draw))
    answered((load_encoder, load_tokenizer), place, name, text.encode())
