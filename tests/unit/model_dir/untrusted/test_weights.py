"""Headers of weights are believed only where they account for every byte, and pickles only where they hold tensors."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn

from cardioner.errors import ModelError
from cardioner.model_dir.untrusted.pickled import load_pickle, read_pickle
from cardioner.model_dir.untrusted.structure import read_weights
from cardioner.model_dir.untrusted.weights import read_header

SHAPES = st.lists(st.lists(st.integers(0, 3), max_size=3).map(tuple), min_size=1, max_size=5)


def header_of(entries: Any, numbers: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + numbers


def entry(shape: list[Any], start: Any, stop: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def names_in(place: Path) -> frozenset[str]:
    return frozenset(path.name for path in place.iterdir())


def refused(read: Callable[[Path], Any], path: Path) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(ModelError) as caught:
        read(path)
    message = str(caught.value)
    assert message.isprintable()
    assert str(path) in message
    return message


@given(shapes=SHAPES, dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64]))
def test_what_is_read_of_safetensors_is_what_was_saved(
    shapes: list[tuple[int, ...]], dtype: torch.dtype, tmp_path_factory: pytest.TempPathFactory
) -> None:
    weights = {f"w{index}": torch.zeros(shape, dtype=dtype) for index, shape in enumerate(shapes)}
    path = tmp_path_factory.getbasetemp() / "some.safetensors"
    path.write_bytes(save(weights, metadata={"format": "pt"}))
    found = read_header(path)
    assert {name: stored.shape for name, stored in found.items()} == {n: tuple(w.shape) for n, w in weights.items()}
    assert {stored.real for stored in found.values()} == {dtype.is_floating_point}
    assert sum(stored.numbers for stored in found.values()) == sum(weight.numel() for weight in weights.values())


LIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cut or damaged"),
    "no room for a length": (b"abc", "cut or damaged"),
    "header beyond the file": (header_of({}, length=2**63), "cut or damaged"),
    "header of 17 million bytes": (header_of(b"{}" + b" " * (17 << 20)), "at most 16,777,216 bytes"),
    "no JSON": (header_of(b"{{{{"), "damaged"),
    "no object": (header_of([1]), "found list"),
    "no UTF-8": (header_of(b'{"\xff": 1}'), "UTF-8"),
    "nothing in it": (header_of({}), "from 1 to"),
    "numbers behind": (header_of({"a": entry([2], 0, 8)}, b"\0" * 9), "cut or damaged"),
    "numbers missing": (header_of({"a": entry([4], 0, 16)}), "cut or damaged"),
    "a hole": (header_of({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"\0" * 12), "from byte 4 on"),
    "numbers used twice": (header_of({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}), "from byte 8 on"),
    "a name twice": (
        header_of(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "a": {}}'),
        "the same key twice",
    ),
    "more numbers than bytes": (header_of({"a": entry([1 << 40], 0, 8)}), "do not fill"),
    "another kind": (header_of({"a": entry([2], 0, 8, "F64")}), "do not fill"),
    "an unknown kind": (header_of({"a": entry([8], 0, 8, "F8_E4M3")}), "found F8_E4M3"),
    "a negative size": (header_of({"a": entry([-2], 0, 8)}), "0 or more"),
    "a size that overflows": (header_of({"a": entry([1 << 62, 1 << 62], 0, 8)}), "0 or more"),
    "a size that is true": (header_of({"a": entry([True, 2], 0, 8)}), "0 or more"),
    "a size with a fraction": (header_of({"a": entry([2.0], 0, 8)}), "0 or more"),
    "an offset of nothing": (header_of({"a": entry([2], None, 8)}), "0 or more"),
    "offsets backwards": (header_of({"a": entry([0], 8, 0)}), "0 or more"),
    "too many axes": (header_of({"a": entry([1] * 9, 0, 4)}), "0 or more"),
    "another key": (header_of({"a": {**entry([2], 0, 8), "code": 1}}), "expected dtype, shape"),
    "a control character": (header_of({"a\nb": entry([2], 0, 8)}), "control characters"),
    "a name without end": (header_of({"a" * 600: entry([2], 0, 8)}), "too long"),
    "metadata that is none": (header_of({"__metadata__": {"a": 1}, "a": entry([2], 0, 8)}), "__metadata__"),
    "too many weights": (header_of({f"w{i}": entry([0], 0, 0) for i in range(8_193)}, b""), "8,193"),
    "nested without end": (header_of(b'{"a":' * 5000 + b"1" + b"}" * 5000), "JSON object"),
    "a number without end": (header_of(b'{"a": ' + b"9" * 10_000 + b"}"), "damaged"),
}


@pytest.mark.parametrize("lie", LIES)
def test_header_that_lies_is_refused(lie: str, tmp_path: Path) -> None:
    content, told = LIES[lie]
    (tmp_path / "model.safetensors").write_bytes(content)
    assert told in refused(read_header, tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("shard", "told"),
    [
        ("../model.safetensors", "found ../model.safetensors"),
        ("/etc/passwd", "found /etc/passwd"),
        ("..\\model.safetensors", "expected names such as"),
        ("model\0.safetensors", "expected names such as"),
        ("model-a/../../b.safetensors", "expected names such as"),
        ("pytorch_model.bin", "expected names such as"),
        (["model.safetensors"], "expected names such as"),
        (None, "expected names such as"),
        ("model-2.safetensors", "are not those"),
    ],
)
def test_index_names_only_files_beside_it_and_what_they_hold(shard: Any, told: str, tmp_path: Path) -> None:
    save_file({"b": torch.zeros(2)}, tmp_path / "model-2.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    names = frozenset({"model-2.safetensors", index.name})
    with pytest.raises(ModelError, match="index") as caught:
        read_weights(tmp_path, names)
    assert told in str(caught.value)


def test_weights_of_several_files_are_joined(tmp_path: Path) -> None:
    files = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    for name, file in files.items():
        save_file({name: torch.zeros(3)}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    found = read_weights(tmp_path, names_in(tmp_path))
    assert found is not None
    assert set(found) == {"a", "b"}


def test_weights_beside_an_index_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors"}}')
    with pytest.raises(ModelError, match="found both"):
        read_weights(tmp_path, names_in(tmp_path))


def test_missing_weights_are_somebody_elses_affair(tmp_path: Path) -> None:
    assert read_weights(tmp_path, frozenset()) is None


# Pickles.


def pickled(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def rewritten(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """A file of `torch.save` with other members."""
    with zipfile.ZipFile(path) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, change(name, data))
    return path


@given(shapes=SHAPES, dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool]))
def test_what_is_read_of_a_pickle_is_what_was_saved(
    shapes: list[tuple[int, ...]], dtype: torch.dtype, tmp_path_factory: pytest.TempPathFactory
) -> None:
    weights = {f"w{index}": torch.zeros(shape, dtype=dtype) for index, shape in enumerate(shapes)}
    found = read_pickle(pickled(tmp_path_factory.getbasetemp() / "some.bin", weights))
    assert {name: stored.shape for name, stored in found.items()} == {n: tuple(w.shape) for n, w in weights.items()}
    assert {stored.real for stored in found.values()} == {dtype.is_floating_point}


@pytest.mark.filterwarnings("ignore")
def test_every_way_to_save_weights_is_read(tmp_path: Path) -> None:
    layer = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    shared = torch.zeros(6, 4)
    ways = {
        "state dict": layer.state_dict(),
        "parameters": dict(layer.named_parameters()),
        "ordered": OrderedDict(layer.named_parameters()),
        "tied and turned": {"a": shared, "b": shared, "c": shared.t(), "d": shared[2:]},
    }
    for name, weights in ways.items():
        for zipped in (True, False):
            path = pickled(tmp_path / name, weights, _use_new_zipfile_serialization=zipped)
            shapes = {key: tuple(value.shape) for key, value in weights.items()}
            assert {key: stored.shape for key, stored in read_pickle(path).items()} == shapes
            assert load_pickle(path).keys() == weights.keys()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place,)


class Allocation:
    """Asks for memory that torch's own restricted unpickler would give it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (1 << 45,)


@pytest.mark.parametrize("where", ["value", "nested", "list", "key", "alone"])
def test_pickle_with_code_is_refused_and_nothing_of_it_runs(where: str, tmp_path: Path) -> None:
    trap = Trap(tmp_path / "sprung")
    content = {
        "value": {"a": trap},
        "nested": {"a": {"b": trap}},
        "list": {"a": [trap]},
        "key": {("a", trap): torch.zeros(1)},
        "alone": trap,
    }[where]
    assert "holds more than weights" in refused(read_pickle, pickled(tmp_path / "pytorch_model.bin", content))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"a": Allocation()},
        {"a": 5},
        {"a": [torch.zeros(1)]},
        {"a": torch.zeros(1), "b": {"c": torch.zeros(1)}},
        {5: torch.zeros(1)},
        {"a": torch.zeros(1).expand(1 << 40)},
        {"a": torch.zeros(2, 2).to_sparse()},
        {"a": torch.zeros(2, device="meta")},
        [torch.zeros(1)],
        torch.zeros(1),
        nn.Linear(1, 1),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_pickle_of_anything_but_dense_weights_is_refused(content: Any, tmp_path: Path) -> None:
    assert "holds more than weights" in refused(read_pickle, pickled(tmp_path / "pytorch_model.bin", content))


def test_keys_that_would_take_for_ever_to_hash_are_refused(tmp_path: Path) -> None:
    key: tuple[Any, ...] = ()
    for _ in range(100):
        key = (key, key)
    path = pickled(tmp_path / "pytorch_model.bin", {"a": torch.zeros(1)})
    operations = b"\x80\x02}" + pickle.dumps(key, 2)[2:-1] + b"K\x01s."
    rewritten(path, lambda name, data: operations if name.endswith("data.pkl") else data)
    assert "holds more than weights" in refused(read_pickle, path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"K\x04", b"K\x63"),
        (b"K\x02K\x02\x86", b"K\x09K\x09\x86"),
        (b"FloatStorage", b"DoubleStorage"),
        (b"K\x04", b"N"),
    ],
)
def test_tensor_larger_than_what_stands_for_it_is_refused(before: bytes, after: bytes, tmp_path: Path) -> None:
    path = pickled(tmp_path / "pytorch_model.bin", {"a": torch.zeros(2, 2)})
    rewritten(path, lambda name, data: data.replace(before, after) if name.endswith("data.pkl") else data)
    assert "holds more than weights" in refused(read_pickle, path)


def test_compressed_pickle_is_refused(tmp_path: Path) -> None:
    path = pickled(tmp_path / "pytorch_model.bin", {"a": torch.zeros(1000, 1000)})
    assert "compressed" in refused(read_pickle, rewritten(path, lambda _, data: data, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda _: b"", "cut or damaged"),
        (lambda data: data[:-30], "cut or damaged"),
        (lambda data: b"x" * 50 + data, "other data"),
        (lambda data: data.replace(b"data.pkl", b"data.pkx"), "cut or damaged"),
        (lambda data: data.replace(b"archive/data/0", b"archive/data/1"), "holds more than weights"),
        (lambda _: pickle.dumps({"a": 1}), "cut or damaged"),
        (lambda _: b"PK\x05\x06" + b"\xff" * 18, "cut or damaged"),
    ],
)
def test_damaged_pickle_is_refused(damage: Callable[[bytes], bytes], told: str, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with path.open("wb") as file:  # a name of the file would become the name of its members' folder
        torch.save({"a": torch.zeros(3)}, file)
    path.write_bytes(damage(path.read_bytes()))
    assert told in refused(read_pickle, path)


def before_zip(path: Path, content: Any) -> bytes:
    return pickled(path, content, _use_new_zipfile_serialization=False).read_bytes()


@pytest.mark.parametrize("content", [{"a": Allocation()}, {"a": 5}, [torch.zeros(1)], {"a": torch.zeros(1).expand(99)}])
def test_old_pickle_of_anything_but_weights_is_refused(content: Any, tmp_path: Path) -> None:
    before_zip(tmp_path / "pytorch_model.bin", content)
    assert "holds more than weights" in refused(read_pickle, tmp_path / "pytorch_model.bin")


def test_old_pickle_with_code_is_refused_and_nothing_of_it_runs(tmp_path: Path) -> None:
    before_zip(tmp_path / "pytorch_model.bin", {"a": Trap(tmp_path / "sprung")})
    assert "holds more than weights" in refused(read_pickle, tmp_path / "pytorch_model.bin")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (b"K\x07N", b"J\xff\xff\xff\x7fN", "cut or damaged"),  # storages of 8 GB in a file of a few hundred bytes
        (b"K\x07", b"K\x63", "cut or damaged"),
        (b"K\x07", b"N", "holds more than weights"),
        (b"FloatStorage", b"CharStorage", "cut or damaged"),
        (b"l\xfc\x9cF", b"l\xfc\x9cG", "cut or damaged"),
    ],
)
def test_old_pickle_whose_storages_are_not_in_the_file_is_refused(
    before: bytes, after: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "pytorch_model.bin"
    data = before_zip(path, {"a": torch.zeros(7)[:3]})
    assert before in data
    path.write_bytes(data.replace(before, after))
    assert told in refused(read_pickle, path)


@pytest.mark.parametrize("kept", [20, 100, -1])
def test_old_pickle_that_is_cut_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(before_zip(path, {"a": torch.zeros(7)})[:kept])
    refused(read_pickle, path)
