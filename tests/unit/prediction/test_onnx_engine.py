"""The engine without torch finds what the engine with torch finds, and refuses what it cannot trust."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cardioner.data.documents import Document, Span
from cardioner.data.labels import LabelSet
from cardioner.errors import DataError, ModelError, OutputError, UsageError
from cardioner.interop import onnx as onnx_export
from cardioner.interop import onnx_check
from cardioner.interop.onnx import add_onnx
from cardioner.model_dir.inspect import inspect
from cardioner.model_dir.layout import GRAPH_FILES, MANIFEST
from cardioner.model_dir.manifest import list_files, read_manifest
from cardioner.model_dir.save import write_model_dir
from cardioner.model_dir.signing import make_signing_key, write_signature
from cardioner.model_dir.untrusted.graph import check_graph
from cardioner.model_dir.verify import verify
from cardioner.multiclass import modeling
from cardioner.multiclass.modeling import CardioNERConfig
from cardioner.multiclass.windows import Coverage
from cardioner.prediction import engines
from cardioner.prediction.predictor import Predictor, load

HEADS: dict[str, dict[str, Any]] = {
    "crf": {"use_crf": True, "temperature": 1.7},
    "linear": {"classifier_hidden_layers": [8], "temperature": 0.6, "scheme": "BIOES"},
}
HARD = "\ufeff\tNo e\u0301dema\u00a0\u200b \U0001fac0\U0001f468\u200d\u2695\ufe0f, [SEP] </s>\r\n İ心\x00. "


@pytest.fixture(scope="module")
def with_graph(
    encoder_config: Callable[[str], Any], tokenizers: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A model directory with a graph, for each head; torch takes its time to write one."""
    made: dict[str, Path] = {}

    def build(head: str) -> Path:
        if head not in made:
            made[head] = tmp_path_factory.mktemp("with-graph") / head
            write_model_dir(model_of(encoder_config, HEADS[head]), tokenizers["wordpiece"], made[head])
            add_onnx(made[head])
        return made[head]

    return build


def model_of(encoder_config: Callable[[str], Any], settings: dict[str, Any], *, seed: int = 1) -> Any:
    """A tiny model with weights large enough to have opinions."""
    torch.manual_seed(seed)
    rest = {"window_length": 32, "window_context": 4, **settings}
    labels = LabelSet.from_types(rest.pop("types", ("DISEASE", "SYMPTOM")), scheme=rest.pop("scheme", "BIO"))
    names = {"id2label": labels.id2label, "label2id": labels.label2id}
    crf = rest.pop("use_crf", False)
    encoder = encoder_config(rest.pop("family", "bert")).to_dict()
    config = CardioNERConfig(encoder_config=encoder, **names, **rest)
    model = (modeling.TokenClassificationModelCRF if crf else modeling.TokenClassificationModel)(config)
    for parameter in [*model.classifier.parameters(), *(model.crf.parameters() if crf else ())]:
        torch.nn.init.normal_(parameter, std=0.7)
    return model.eval()


@pytest.fixture
def copied(with_graph: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the model with a CRF and a graph."""
    return Path(shutil.copytree(with_graph("crf"), tmp_path / "model"))


def both(directory: Any, **choices: Any) -> tuple[Predictor, Predictor]:
    """The same directory in the two engines."""
    light = Predictor.from_pretrained(directory, engine="onnx", **choices)
    return light, Predictor.from_pretrained(directory, engine="torch", device="cpu", dtype="float32", **choices)


def assert_same(light: Sequence[Sequence[Span]], ours: Sequence[Sequence[Span]]) -> int:
    """Equal spans, and scores within 1e-4; how many spans there were."""
    for one, two in zip(light, ours, strict=True):
        assert [(s.start, s.end, s.label) for s in one] == [(s.start, s.end, s.label) for s in two]
        assert [s.score for s in one] == pytest.approx([s.score for s in two], abs=1e-4)
    return sum(map(len, ours))


def listed_again(directory: Path) -> Path:
    """Have the manifest list the files as they are."""
    manifest = read_manifest(directory)
    assert manifest is not None
    files = list_files(directory, manifest.files)
    (directory / MANIFEST).write_bytes(manifest.model_copy(update={"files": files}).to_bytes())
    return directory


# The same answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["viterbi", "argmax"])
@pytest.mark.parametrize("head", HEADS)
def test_documents_are_those_of_torch(
    head: str, decoder: str, with_graph: Callable[[str], Path], documents: list[Document]
) -> None:
    light, ours = both(with_graph(head), decoder=decoder)
    texts = ["", " \n\t", "x", HARD, *(document.text for document in documents)]
    texts.append(" ".join([*texts] * 6))
    assert assert_same(light(texts), ours(texts)) > 50
    assert (light.labels, light.default_batch_tokens) == (ours.labels, 1024)
    assert repr(light) == repr(ours)
    for tagger in (light, ours):
        assert tagger.predict_text(texts[-1]) == tuple(tagger(texts[-1]))


@pytest.mark.parametrize("choices", [{"max_length": 20}, {"context": 9}, {"max_length": 16, "context": 0}])
def test_other_windows_and_batches_are_those_of_torch(
    choices: dict[str, int], with_graph: Callable[[str], Path], documents: list[Document]
) -> None:
    notes = [Document(f"{index}", document.text * (index + 1)) for index, document in enumerate(documents)]
    found, reports = [], []
    for tagger in both(with_graph("crf"), **choices):
        covered: list[Coverage] = []
        found.append([note.spans for note in tagger.predict(notes, batch_tokens=50, advance=covered.append)])
        reports.append(covered)
    assert assert_same(*found) > 10
    assert reports[0] == reports[1]
    assert len(reports[0]) > 2


@settings(max_examples=25)
@given(texts=st.lists(st.text(st.sampled_from("aeéè\u0301 .,-\n\t心\U0001fac0bdQTc0"), max_size=90), max_size=4))
def test_any_texts_are_tagged_as_torch_does(texts: list[str], pair: tuple[Predictor, Predictor]) -> None:
    light, ours = pair
    assert_same(light(texts), ours(texts))


@pytest.fixture(scope="module")
def pair(with_graph: Callable[[str], Path]) -> tuple[Predictor, Predictor]:
    """The model with a CRF in both engines."""
    return both(with_graph("crf"))


def test_models_are_averaged_and_vote_as_torch_does(
    with_graph: Callable[[str], Path],
    encoder_config: Callable[[str], Any],
    tokenizers: dict[str, Any],
    documents: list[Document],
    tmp_path: Path,
) -> None:
    first = with_graph("crf")
    alike, other = {"window_length": 24, "temperature": 0.5}, {"types": ("DRUG", "SYMPTOM"), "family": "roberta"}
    for name, changes, tokenizer in (("alike", alike, "wordpiece"), ("other", other, "byte-bpe")):
        made = model_of(encoder_config, {"use_crf": True, **changes}, seed=2)
        write_model_dir(made, tokenizers[tokenizer], tmp_path / name)
        add_onnx(tmp_path / name)
    texts = [document.text * 3 for document in documents]
    others = ((tmp_path / "alike", None), (tmp_path / "other", 0.2), (with_graph("linear"), 0.2), (first, None))
    for second, vote in others:
        light, ours = both([first, second], vote=vote)
        assert assert_same(light(texts), ours(texts)) > 20
        assert repr(light) == repr(ours)
    light, alone = both([first, first])[0], both(first)[0]
    assert light(texts) == alone(texts), "the mean of equal models is the model"
    assert both([first] * 3, vote="majority")[0](texts) == alone(texts), "and a model agrees with itself"


@pytest.mark.parametrize("head", HEADS)
def test_a_cache_changes_no_span_and_pasted_text_is_not_computed_again(
    head: str, with_graph: Callable[[str], Path], documents: list[Document]
) -> None:
    passage = "\n".join(document.text for document in documents) * 2
    texts = [HARD, "", *(f"{document.text * (number + 1)}\n{passage}" for number, document in enumerate(documents))]
    texts += texts[2:4]
    found = []
    for cached, without in zip(both(with_graph(head), cache_mib=1), both(with_graph(head)), strict=True):
        without.engines[0].cache = lambda compute, _: compute  # type: ignore[assignment]  # borders alone
        predictions = without.predict(texts)
        expected = [note.spans for note in predictions]
        for _ in range(2):  # in one batch, then from the cache
            assert assert_same([note.spans for note in cached.predict(texts)], expected) > 20
        assert predictions.coverage.windows < cached.windows_from_cache < 2 * predictions.coverage.windows
        found.append(expected)
    assert_same(*found)


def test_models_whose_spans_are_united_share_the_memory_and_no_emissions(
    with_graph: Callable[[str], Path],
    encoder_config: Callable[[str], Any],
    tokenizers: dict[str, Any],
    documents: list[Document],
    tmp_path: Path,
) -> None:
    made = model_of(encoder_config, {"use_crf": True, "types": ("DRUG",)}, seed=2)
    write_model_dir(made, tokenizers["wordpiece"], tmp_path / "other")
    places = [with_graph("crf"), tmp_path / "other"]
    cached, alone = (Predictor.from_pretrained(places, engine="torch", cache_mib=size) for size in (3, 0))
    texts = [document.text for document in documents]  # one window each: all borders are the same
    assert assert_same(cached(texts), alone(texts)) > 5
    assert assert_same(cached(texts), alone(texts)) > 5
    caches = [engine.cache for engine in cached.engines if engine.cache is not None]
    assert [cache.limit for cache in caches] == [3 << 19] * 2
    assert cached.windows_from_cache == 2 * len(texts)


def test_a_note_with_scores_that_are_no_numbers_is_named_and_the_others_go_on(
    with_graph: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    light = load(with_graph("crf"), engine="onnx")
    tagger = light.engines[0].tagger  # type: ignore[attr-defined]
    compute, unknown = tagger.compute, tagger.tokenizer.encode("心").ids[1]
    monkeypatch.setattr(
        tagger, "compute", lambda ids, mask: compute(ids, mask) + np.float32(np.nan if unknown in ids else 0)
    )
    found = light.predict(["No oedema", "心", "bisoprolol"])
    assert [note.id for note in found] == ["text-1", "text-3"]
    ((name, problem),) = found.problems
    assert (name, "not finite" in problem, "心" in problem) == ("text-2", True, False)
    with pytest.raises(DataError, match="text-1"):
        light(["心"])


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"engine": "onnx", "device": "cuda"}, "computes on the CPU"),
        ({"engine": "onnx", "dtype": "bfloat16"}, "computes in float32, and bfloat16"),
        ({"engine": "other"}, "the engine must be one of auto, torch, onnx"),
        ({"engine": "onnx", "max_length": 5000}, "at most"),
        ({"engine": "onnx", "context": 20}, "has no room between two contexts"),
    ],
)
def test_what_an_engine_does_not_have_is_refused(
    choices: dict[str, Any], message: str, with_graph: Callable[[str], Path]
) -> None:
    with pytest.raises(UsageError, match=message):
        Predictor.from_pretrained(with_graph("crf"), **choices)


def test_there_is_no_torch_model_in_the_light_engine(with_graph: Callable[[str], Path]) -> None:
    light, ours = both(with_graph("crf"))
    assert ours.model.config.tags == light.engines[0].tags
    with pytest.raises(UsageError, match="load the directory with engine='torch'"):
        _ = light.model


def test_auto_is_torch_where_it_is_installed_and_onnx_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines.engine_named("auto").__name__ == "TorchEngine"
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "torch" else object())
    assert engines.engine_named("auto").__name__ == "OnnxEngine"


def changed_bytes(directory: Path) -> None:
    content = bytearray((directory / "model.onnx").read_bytes())
    content[-9] ^= 1
    (directory / "model.onnx").write_bytes(content)


def other_weights(directory: Path) -> None:
    model = onnx.load(directory / "model.onnx")
    (bias,) = (weights for weights in model.graph.initializer if weights.name.endswith("classifier.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias)[::-1].copy(), bias.name))
    onnx.save(model, directory / "model.onnx")
    listed_again(directory)


def other_settings(**changes: Any) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        content = json.loads((directory / "onnx.json").read_text())
        (directory / "onnx.json").write_text(json.dumps(content | changes))
        listed_again(directory)

    return change


def all_illegal(directory: Path) -> None:
    """No tag may come first: every sequence is as bad as any other, and the first tag, `O`, wins everywhere."""
    (field,) = json.loads((directory / "onnx.json").read_text())["crf"]
    legal = field["legal"] | {"start": [False] * len(field["start"])}
    other_settings(crf=[field | {"legal": legal}])(directory)


def ending_in(operator: str, kind: int, **attributes: Any) -> Callable[[Path], None]:
    """A graph whose logits are no array of numbers."""

    def change(directory: Path) -> None:
        model = onnx.load(directory / "model.onnx")
        for node in model.graph.node:
            node.output[:] = ["before" if name == "logits" else name for name in node.output]
        model.graph.node.append(helper.make_node(operator, ["before"], ["logits"], **attributes))
        value = helper.make_tensor_value_info("logits", kind, None)
        if operator == "SequenceConstruct":
            value = helper.make_tensor_sequence_value_info("logits", kind, None)
        model.graph.output[0].CopyFrom(value)
        onnx.save(model, directory / "model.onnx")
        listed_again(directory)

    return change


def without_graph(directory: Path) -> None:
    for name in GRAPH_FILES:
        (directory / name).unlink()
    manifest = read_manifest(directory)
    assert manifest is not None
    files = {name: entry for name, entry in manifest.files.items() if name not in GRAPH_FILES}
    (directory / MANIFEST).write_bytes(manifest.model_copy(update={"files": files}).to_bytes())


def unlisted(directory: Path) -> None:
    kept = {name: (directory / name).read_bytes() for name in GRAPH_FILES}
    without_graph(directory)
    for name, content in kept.items():
        (directory / name).write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_bytes, r"model\.onnx \(its content has changed\)"),
        (other_weights, "does not compute here what it did"),
        (lambda directory: (directory / "onnx.json").unlink(), r"onnx\.json \(it is missing\)"),
        (without_graph, "has no graph for the onnx engine: run `cardioner export onnx"),
        (unlisted, "has no graph for the onnx engine"),
        (
            other_settings(tags=["O", "B-X", "I-X", "B-Y", "I-Y"]),
            "its tags are not those of the model",
        ),
        (other_settings(format=3), "install a newer one"),
        (other_settings(temperature=0), "expected settings of a graph; temperature"),
        (other_settings(crf=None), "tags are others than they were"),
        (other_settings(special_ids={"opening": [], "closing": [-1]}), "special_ids"),
        (other_settings(more=1), "more"),
        (other_settings(padding_id=1_000_000), "it adds the id 1,000,000"),
        (other_settings(special_ids={"opening": [2], "closing": [1_000_000]}), "it adds the id 1,000,000"),
        (all_illegal, "tags are others than they were"),
        (ending_in("Cast", TensorProto.STRING, to=TensorProto.STRING), "cannot be run"),
        (ending_in("SequenceConstruct", TensorProto.FLOAT), "cannot be run"),
        (
            lambda directory: other_settings(
                crf=[json.loads((directory / "onnx.json").read_text())["crf"][0] | {"start": [0.0]}]
            )(directory),
            "expected scores of a CRF for 5 tags",
        ),
    ],
)
def test_a_directory_that_does_not_belong_together_is_refused_in_one_line(
    change: Callable[[Path], None], message: str, copied: Path
) -> None:
    change(copied)
    with pytest.raises(ModelError, match=message) as caught:
        load(copied, engine="onnx")
    assert "\n" not in str(caught.value)


def test_without_a_manifest_there_is_nothing_that_the_graph_belongs_to(
    copied: Path, without_manifest: Callable[[Path], Path]
) -> None:
    with pytest.raises(ModelError, match="has no manifest, which the onnx engine needs"):
        load(without_manifest(copied), engine="onnx")


def test_a_key_is_checked_before_anything_is_read(copied: Path, tmp_path: Path) -> None:
    make_signing_key(tmp_path / "key")
    with pytest.raises(ModelError, match="is not signed"):
        load(copied, engine="onnx", key=tmp_path / "key.pub")
    write_signature(copied, tmp_path / "key")
    assert load(copied, engine="onnx", key=tmp_path / "key.pub")("bisoprolol") is not None
    changed_bytes(copied)
    listed_again(copied)
    with pytest.raises(ModelError, match="the signature does not hold"):
        load(copied, engine="onnx", key=tmp_path / "key.pub")


# Graphs of strangers -------------------------------------------------------------------------------------------------


def graph_with(**parts: Any) -> onnx.ModelProto:
    """A model of one operator, changed as asked."""
    nodes = parts.pop("nodes", [helper.make_node("Identity", ["x"], ["y"])])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], parts.pop("weights", []))
    return helper.make_model(graph, **parts)


def outside() -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    model = graph_with(weights=[weights])
    found = model.graph.initializer[0]
    found.ClearField("raw_data")
    found.data_location = TensorProto.EXTERNAL
    found.external_data.add(key="location", value="../../etc/passwd")
    return model


def noted() -> onnx.ModelProto:
    model = graph_with()
    model.metadata_props.add(key="ort_config", value="{}")
    return model


def branching() -> onnx.ModelProto:
    body = graph_with().graph
    return graph_with(nodes=[helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)])


def own_function() -> onnx.ModelProto:
    function = helper.make_function(
        "own", "f", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    return graph_with(functions=[function])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (outside(), "weights in another file"),
        (noted(), "settings for the library"),
        (branching(), "a graph in a graph"),
        (own_function(), "functions of its own"),
        (graph_with(nodes=[helper.make_node("Op", ["x"], ["y"], domain="evil")]), "found one of evil"),
        (graph_with(opset_imports=[helper.make_opsetid("evil", 1)]), "found one of evil"),
    ],
)
def test_a_graph_that_is_more_than_a_graph_is_refused(model: onnx.ModelProto, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message):
        check_graph(tmp_path / "model.onnx")


def test_every_cut_and_an_unknown_field_are_refused(tmp_path: Path) -> None:
    content = graph_with().SerializeToString()
    place = tmp_path / "model.onnx"
    place.write_bytes(content)
    check_graph(place)
    refused = 0
    for stop in range(1, len(content)):
        place.write_bytes(content[:stop])
        try:
            check_graph(place)
        except ModelError:
            refused += 1
    assert refused > len(content) // 2, "only a cut between two fields leaves a buffer that is whole"
    for more in (b"\xfa\x01\x00", b"\x00\x00", b"\x0b", b"\xff" * 11):
        place.write_bytes(content + more)
        with pytest.raises(ModelError, match="expected"):
            check_graph(place)
    place.write_bytes(b"")
    with pytest.raises(ModelError, match="less than"):
        check_graph(place)


def test_a_graph_of_fields_without_end_is_refused_before_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x10\x01" * 2_000_000)
    begun = time.monotonic()
    with pytest.raises(ModelError, match="found more"):
        check_graph(tmp_path / "model.onnx")
    assert time.monotonic() - begun < 2


def test_a_probability_that_is_no_number_is_a_problem_of_the_note_as_it_is_in_torch(copied: Path) -> None:
    """The temperature is so small that scores divided by it overflow."""
    other_settings(temperature=1e-320)(copied)
    predictions = load(copied, engine="onnx").predict(["No oedema. " * 9])
    assert list(predictions) == []
    assert "not finite numbers" in predictions.problems[0][1]


def test_no_id_of_a_note_is_printed_when_a_graph_cannot_be_run(
    with_graph: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    light = load(with_graph("crf"), engine="onnx")
    compute = light.engines[0].tagger.compute  # type: ignore[attr-defined]
    capfd.readouterr()  # what making the model printed
    with pytest.raises(Exception, match="123456"):
        compute(np.array([[123456]]), np.array([[1]]))
    assert capfd.readouterr() == ("", "")


def test_damaged_graphs_are_answered_in_one_line_and_nothing_is_printed(
    copied: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content, generator = (copied / "model.onnx").read_bytes(), random.Random(7)
    messages = set()
    capfd.readouterr()  # what making the model printed
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(generator.choice([1, 2, 8])):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        (copied / "model.onnx").write_bytes(damaged)
        try:
            load(listed_again(copied), engine="onnx")
        except ModelError as error:
            messages.add(str(error))
    assert len(messages) > 3
    assert not [message for message in messages if "\n" in message]
    assert capfd.readouterr() == ("", "")


# Adding a graph ------------------------------------------------------------------------------------------------------


def test_a_directory_with_a_graph_is_sound_and_described(copied: Path, documents: list[Document]) -> None:
    assert verify(copied).issues == ()
    assert inspect(copied).facts["graph"]["precision"] == "float32"
    assert "graph" not in inspect_without(copied).facts
    before = load(copied, engine="torch", device="cpu")([document.text for document in documents])
    assert assert_same(before, before) > 0


def inspect_without(directory: Path) -> Any:
    without_graph(directory)
    return inspect(directory)


def test_no_path_of_this_machine_is_in_a_graph(copied: Path) -> None:
    content = (copied / "model.onnx").read_bytes()
    for part in (b"site-packages", b"cardioner", b".py", str(Path.home()).encode() + b"/"):
        assert part not in content


def test_a_signed_model_and_one_with_a_graph_are_left_as_they_are(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="already has a graph: pass --overwrite"):
        add_onnx(copied)
    make_signing_key(tmp_path / "key")
    write_signature(copied, tmp_path / "key")
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    with pytest.raises(OutputError, match=r"is signed, .*: delete cardioner\.sig, add the graph, and sign again"):
        add_onnx(copied, overwrite=True)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


@pytest.mark.parametrize("interrupted", [None, 0, 1, 2, 3])
def test_a_graph_is_replaced_and_an_interruption_leaves_a_model(
    interrupted: int | None, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "write_graph", lambda _, folder: shutil.copy(copied / "model.onnx", folder))
    steps, replace, write = [], Path.replace, onnx_export._write_manifest

    def step() -> None:
        if len(steps) == interrupted:
            raise KeyboardInterrupt
        steps.append(1)

    def replaced(path: Path, target: Path) -> Path:
        if path.name in GRAPH_FILES:
            step()
        return replace(path, target)

    def written(*given: Any) -> None:
        step()
        write(*given)

    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(onnx_export, "_write_manifest", written)
    if interrupted is None:
        add_onnx(copied, overwrite=True)
        assert len(steps) == 4
        assert load(copied, engine="onnx").labels == ("DISEASE", "SYMPTOM")
    else:
        with pytest.raises(KeyboardInterrupt):
            add_onnx(copied, overwrite=True)
    assert [path.name for path in copied.parent.iterdir()] == ["model"]
    assert not [issue for issue in verify(copied).issues if issue.serious]


def test_eight_bits_are_recorded_and_held_to_what_was_measured(
    copied: Path, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = copied / "model.onnx"
    monkeypatch.setattr(onnx_export, "write_graph", lambda _, folder: shutil.copy(graph, folder))
    monkeypatch.setattr(onnx_check, "SHARE", 0.3)  # of random weights, more spans are near to others
    notes = [Document(f"{index}", document.text * 9) for index, document in enumerate(documents)]
    done = add_onnx(copied, check=notes, int8=True, overwrite=True)
    settings = json.loads((copied / "onnx.json").read_text())
    assert (settings["precision"], settings["tolerance"]) == ("int8", 2 * done.difference)
    light = Predictor.from_pretrained(copied, engine="onnx", dtype="int8")
    assert repr(light).endswith("device: cpu; dtype: int8)")
    assert sum(map(len, light([note.text for note in notes]))) > 20
    assert inspect(copied).facts["graph"]["precision"] == "int8"
    with pytest.raises(UsageError, match="computes in int8, and float32"):
        Predictor.from_pretrained(copied, engine="onnx", dtype="float32")
    other_settings(tolerance=1e-6)(copied)
    with pytest.raises(ModelError, match="does not compute here what it did"):
        load(copied, engine="onnx")


def test_weights_that_need_a_second_file_are_refused_and_nothing_changes(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = copied / "model.onnx"

    def large(_: Any, folder: Path) -> None:
        shutil.copy(graph, folder)
        (folder / "model.onnx.data").write_bytes(b"more")

    monkeypatch.setattr(onnx_export, "write_graph", large)
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    with pytest.raises(ModelError, match=r"too large for the one file .*: try --int8, or export to another directory"):
        add_onnx(copied, overwrite=True)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before
    assert [path.name for path in copied.parent.iterdir()] == ["model"]


def test_a_model_saved_again_drops_the_graph_of_the_one_before(
    copied: Path, encoder_config: Callable[[str], Any], tokenizers: dict[str, Any]
) -> None:
    write_model_dir(model_of(encoder_config, {}, seed=3), tokenizers["wordpiece"], copied)
    assert not [name for name in GRAPH_FILES if (copied / name).exists()]
    assert verify(copied).sound
