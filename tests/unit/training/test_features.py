"""How data of every accepted form becomes labelled windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import datasets
import pytest
import torch

from cardioner.data.documents import Document, Span
from cardioner.data.labels import LabelSet, Scheme
from cardioner.errors import DataError
from cardioner.multiclass import CardioNERConfig, TokenClassificationModel
from cardioner.multiclass.encoding import EncodedNote, WindowPlan, encode_notes, plan_windows
from cardioner.multiclass.modeling import IGNORED
from cardioner.multiclass.tagging import tag_groups
from cardioner.multiclass.windows import Window
from cardioner.training.features import ILLEGAL_TAGS, Collator, balanced_weights, build_features, read_dataset

KINDS = ("wordpiece", "byte-bpe", "unigram")
TYPES = ("DISEASE", "MEDICATION", "SYMPTOM")
both_schemes = pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
TEXT = "Ernstige aortaklepstenose met dyspnoea, atrial fibrillation en furosemida. " * 7


@pytest.fixture
def plan_for(make_model: Callable[..., TokenClassificationModel], tokenizers: Mapping[str, Any]) -> Any:
    """The windows of a tiny model with a given tokenizer."""

    def build(kind: str, *, length: int = 22, context: int = 4) -> WindowPlan:
        config: CardioNERConfig = make_model(window_length=length, window_context=context).config
        return plan_windows(config, tokenizers[kind])

    return build


def annotated(identifier: str = "note") -> Document:
    """A note of several windows with three types."""
    spans = []
    for words, label in (
        ("aortaklepstenose", "DISEASE"),
        ("dyspnoea", "SYMPTOM"),
        ("atrial fibrillation en furosemida", "DISEASE"),
        ("Ernstige", "MEDICATION"),
    ):
        start = TEXT.find(words)
        while start >= 0:
            spans.append(Span(start, start + len(words), label))
            start = TEXT.find(words, start + 1)
    return Document(identifier, TEXT, tuple(spans))


@both_schemes
@pytest.mark.parametrize("kind", KINDS)
def test_every_window_position_has_the_true_tag_of_its_characters(
    kind: str, plan_for: Any, tokenizers: Mapping[str, Any], scheme: Scheme
) -> None:
    """An oracle by characters: the true tag, and -100 only for what an edge cut."""
    document, labels = annotated(), LabelSet.from_types(TYPES, scheme=scheme)
    (note,) = encode_notes(tokenizers[kind], [document.text])
    cut_edges = 0
    for length in range(18, 26):
        plan = plan_for(kind, length=length)
        windows = plan.cut(note)
        features = build_features([document], tokenizers[kind], plan, labels=labels).features
        assert len(features) == len(windows) > 3
        for window, feature in zip(windows, features, strict=True):
            assert len(feature["labels"]) == len(feature["input_ids"]) <= length
            found = [labels.id2label.get(label, "cut") for label in feature["labels"]]
            opening, closing = (len(ids) for ids in plan.special)
            assert [*found[:opening], *found[-closing:]] == ["O"] * (opening + closing)
            expected = expected_tags(document, note, window, scheme)
            assert found[opening:-closing] == expected
            cut_edges += expected.count("cut")
    assert cut_edges > 0


def expected_tags(document: Document, note: EncodedNote, window: Window, scheme: Scheme) -> list[str]:
    """What the characters say; `cut` for the rest of an entity that an edge cut, where its tags would be illegal."""
    expected: list[str] = []
    for index in range(window.start, window.stop):
        start, end = note.offsets[index]
        around = [span for span in document.spans if span.start < end and start < span.end]
        if not around:
            expected.append("O")
            continue
        (span,) = around
        places = [place for place, (left, right) in enumerate(note.offsets) if left < span.end and span.start < right]
        first, last = places[0], places[-1]
        if first < window.start or (last >= window.stop and scheme == "BIOES"):
            expected.append("cut")
        elif scheme == "BIO":
            expected.append(f"{'B' if index == first else 'I'}-{span.label}")
        elif first == last:
            expected.append(f"S-{span.label}")
        else:
            expected.append(f"{'B' if index == first else 'E' if index == last else 'I'}-{span.label}")
    return expected


@both_schemes
@pytest.mark.parametrize("kind", KINDS)
def test_windows_give_the_constrained_crf_a_finite_loss(
    kind: str,
    plan_for: Any,
    tokenizers: Mapping[str, Any],
    scheme: Scheme,
    make_model: Callable[..., TokenClassificationModel],
) -> None:
    labels = LabelSet.from_types(TYPES, scheme=scheme)
    family = {"wordpiece": "bert", "byte-bpe": "roberta", "unigram": "xlm-roberta"}[kind]
    features = build_features([annotated()], tokenizers[kind], plan_for(kind), labels=labels).features
    batch = Collator(tokenizers[kind].pad_token_id)(features)
    loss = make_model(family, use_crf=True, scheme=scheme)(**batch).loss
    assert loss.isfinite()
    assert loss < 100


@pytest.mark.parametrize("kind", KINDS)
def test_each_sub_token_is_counted_once_and_gold_is_tagged_plus_lost(
    kind: str, plan_for: Any, tokenizers: Mapping[str, Any], labels: LabelSet
) -> None:
    text = "severe heart failure with oedema"
    spans = (
        Span(0, 20, "DISEASE"),
        Span(7, 20, "DISEASE"),
        Span(26, 32, "SYMPTOM"),
        Span(0, 32, "SYMPTOM", fragments=((0, 6), (26, 32))),
        Span(6, 7, "SYMPTOM"),
    )
    found = build_features([Document("x", text, spans)], tokenizers[kind], plan_for(kind, length=96), labels=labels)
    opened = sum(labels.tags[label].startswith("B-") for label in found.features[0]["labels"])
    lost = sum(count for (reason, _), count in found.losses.items() if reason != "cut sub-token")
    assert opened + lost == len(spans)
    assert found.losses[("nested", "DISEASE")] == 1
    assert found.losses[("discontinuous", "SYMPTOM")] == 1
    assert found.losses[("no sub-token", "SYMPTOM")] == 1
    assert found.sub_tokens == len(encode_notes(tokenizers[kind], [text])[0].ids)


def test_a_note_without_text_is_one_special_window(
    plan_for: Any, tokenizers: Mapping[str, Any], labels: LabelSet
) -> None:
    found = build_features([Document("x", "")], tokenizers["wordpiece"], plan_for("wordpiece"), labels=labels)
    assert [feature["labels"] for feature in found.features] == [[0, 0]]
    assert found.sub_tokens == 0


def test_items_with_tag_names_and_with_ids_are_the_same_documents(
    tokenizers: Mapping[str, Any], labels: LabelSet
) -> None:
    tokens, tags = ["No", "heart", "failure", ",", "syncope"], ["O", "B-DISEASE", "I-DISEASE", "O", "B-SYMPTOM"]
    ids = [labels.label2id[tag] for tag in tags]
    read = [
        read_dataset([{"id": "n", "tokens": tokens, "tags": given}], labels, tokenizers["wordpiece"])
        for given in (tags, ids)
    ]
    expected = Document("n", "No heart failure , syncope", (Span(3, 16, "DISEASE"), Span(19, 26, "SYMPTOM")))
    assert [data.documents for data in read] == [(expected,), (expected,)]
    assert not read[0].remarks


def test_illegal_tags_of_items_are_repaired_and_counted(tokenizers: Mapping[str, Any], labels: LabelSet) -> None:
    item = {"tokens": ["a", "b", "c", "d"], "tags": ["I-DISEASE", "I-DISEASE", "I-SYMPTOM", "O"]}
    data = read_dataset([item], labels, tokenizers["wordpiece"])
    assert [(span.start, span.end, span.label) for span in data.documents[0].spans] == [
        (0, 3, "DISEASE"),
        (4, 5, "SYMPTOM"),
    ]
    assert sum(data.remarks.values()) == 2


@pytest.mark.parametrize("tag", ["B-PROCEDURE", 7, -100, -1, None, 1.5])
def test_a_tag_that_the_model_lacks_is_refused_with_its_item(
    tag: object, tokenizers: Mapping[str, Any], labels: LabelSet
) -> None:
    rows = [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["canary"], "tags": [tag]}]
    with pytest.raises(DataError, match=r"item-1: the tag .* is not one of the model's") as caught:
        read_dataset(rows, labels, tokenizers["wordpiece"])
    assert "canary" not in str(caught.value)


def test_items_of_unequal_length_are_refused(tokenizers: Mapping[str, Any], labels: LabelSet) -> None:
    with pytest.raises(DataError, match="item-0: 2 tokens but 1 tag"):
        read_dataset([{"tokens": ["a", "b"], "tags": ["O"]}], labels, tokenizers["wordpiece"])


def test_a_marked_word_without_characters_is_counted(tokenizers: Mapping[str, Any], labels: LabelSet) -> None:
    data = read_dataset([{"tokens": ["a", ""], "tags": ["O", "B-DISEASE"]}], labels, tokenizers["wordpiece"])
    assert data.documents[0].spans == ()
    assert sum(data.remarks.values()) == 1


def test_documents_with_unknown_types_are_refused_and_counted_by_type(
    tokenizers: Mapping[str, Any], labels: LabelSet
) -> None:
    document = Document("a", "canary word", (Span(0, 6, "TEST"), Span(7, 11, "TEST"), Span(0, 11, "DOSE")))
    with pytest.raises(DataError, match=r"DOSE \(1\), TEST \(2\)") as caught:
        read_dataset([document], labels, tokenizers["wordpiece"])
    assert "canary" not in str(caught.value)


def ready(tokenizers: Mapping[str, Any], labels: list[int], **more: Any) -> dict[str, Any]:
    """A feature of `[CLS] x x ... [SEP]` with these labels."""
    tokenizer = tokenizers["wordpiece"]
    ids = [tokenizer.cls_token_id, *[20] * (len(labels) - 2), tokenizer.sep_token_id]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels, **more}


def test_special_positions_of_ready_features_become_outside_and_are_counted(
    tokenizers: Mapping[str, Any], labels: LabelSet
) -> None:
    data = read_dataset([ready(tokenizers, [-100, 1, 2, -100])], labels, tokenizers["wordpiece"])
    assert data.features is not None
    assert data.features[0]["labels"] == [0, 1, 2, 0]
    assert data.remarks["attended special positions without label, made O"] == 2


def test_unlabelled_continuation_pieces_are_kept_out_and_reported_with_their_share(
    tokenizers: Mapping[str, Any], labels: LabelSet
) -> None:
    data = read_dataset([ready(tokenizers, [-100, 1, -100, 2, 0, -100])], labels, tokenizers["wordpiece"])
    assert data.features is not None
    assert data.features[0]["labels"] == [0, 1, IGNORED, 2, 0, 0]
    assert data.remarks["continuation pieces without label, left out of the loss"] == 1
    assert data.remarks["attended positions"] == 6
    assert data.documents[0].spans == (Span(1, 3, "DISEASE"),)


def test_illegal_labels_of_ready_features_are_repaired_and_counted(
    tokenizers: Mapping[str, Any], labels: LabelSet
) -> None:
    data = read_dataset([ready(tokenizers, [0, 2, 2, 4, 0])], labels, tokenizers["wordpiece"])
    assert data.features is not None
    assert data.features[0]["labels"] == [0, 1, 2, 3, 0]
    assert data.remarks[ILLEGAL_TAGS] == 2


def test_illegal_bioes_labels_of_ready_features_are_repaired_and_counted(tokenizers: Mapping[str, Any]) -> None:
    labels = LabelSet.from_types(["X"], scheme="BIOES")
    given = [labels.label2id[tag] for tag in ("I-X", "O", "B-X", "E-X", "E-X", "B-X", "I-X")]
    data = read_dataset([ready(tokenizers, given)], labels, tokenizers["wordpiece"])
    assert data.features is not None
    found = [labels.tags[label] for label in data.features[0]["labels"]]
    assert found == ["S-X", "O", "B-X", "E-X", "S-X", "B-X", "E-X"]
    assert data.remarks[ILLEGAL_TAGS] == 3


@pytest.mark.parametrize("left", [True, False])
def test_padding_of_ready_features_is_stripped_on_either_side(
    left: bool, tokenizers: Mapping[str, Any], labels: LabelSet
) -> None:
    plain = ready(tokenizers, [0, 1, 0])
    filler = {"input_ids": [0, 0], "attention_mask": [0, 0], "labels": [-100, 3]}
    padded = {name: [*filler[name], *row] if left else [*row, *filler[name]] for name, row in plain.items()}
    data = read_dataset([padded], labels, tokenizers["wordpiece"])
    assert data.features == ({"input_ids": plain["input_ids"], "labels": [0, 1, 0]},)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 1]}, "feature-0: input_ids has 3, attention_mask 3 and labels 2"),
        ({"attention_mask": [1]}, "attention_mask 1 and labels 3"),
        ({"labels": [0, 7, 0]}, r"labels must be 0 to 6 or -100; found \[7\]"),
        ({"labels": [0, -1, 0]}, r"found \[-1\]"),
        ({"attention_mask": [0, 0, 0]}, "feature-0: no position is attended"),
    ],
)
def test_features_that_cannot_be_right_are_refused(
    change: dict[str, list[int]], message: str, tokenizers: Mapping[str, Any], labels: LabelSet
) -> None:
    with pytest.raises(DataError, match=message):
        read_dataset([ready(tokenizers, [0, 1, 0]) | change], labels, tokenizers["wordpiece"])


def test_a_datasets_dataset_is_read_like_a_list(tokenizers: Mapping[str, Any], labels: LabelSet) -> None:
    items = [{"tokens": ["No", "syncope"], "tags": ["O", "B-SYMPTOM"]}, {"tokens": ["x"], "tags": ["O"]}]
    features = [ready(tokenizers, [-100, 1, 2, -100]), ready(tokenizers, [0, 0, 0])]
    for rows in (items, features):
        from_list = read_dataset(rows, labels, tokenizers["wordpiece"])
        table = datasets.Dataset.from_list(rows)
        assert read_dataset(table, labels, tokenizers["wordpiece"]) == from_list
    as_tensors = datasets.Dataset.from_list(features).with_format("torch")
    assert read_dataset(as_tensors, labels, tokenizers["wordpiece"]) == from_list


def test_mixtures_and_other_forms_are_refused(tokenizers: Mapping[str, Any], labels: LabelSet) -> None:
    item = {"tokens": ["a"], "tags": ["O"]}
    for rows in (
        [Document("a", "x"), item],
        [item, ready(tokenizers, [0, 1, 0])],
        ["a text"],
        [{"input_ids": [1, 2]}],
    ):
        with pytest.raises(DataError, match="all of one form"):
            read_dataset(rows, labels, tokenizers["wordpiece"])


def test_balanced_weights_agree_with_a_count_by_hand() -> None:
    features = [
        {"input_ids": [1, 2, 3, 4], "labels": [0, 0, 0, 1]},
        {"input_ids": [1, 2, 3, 4], "labels": [IGNORED, 0, 1, 0]},
        {"input_ids": [1], "labels": [2]},
    ]
    # 8 labelled positions, 4 tags: 5 of tag 0, 2 of tag 1, 1 of tag 2, none of tag 3.
    assert balanced_weights(features, tag_groups(["O", "B-X", "I-X", "B-Y"])) == [8 / 20, 8 / 8, 8 / 4, 1.0]


def test_the_collator_pads_on_the_right_and_ignores_padding() -> None:
    batch = Collator(9)([{"input_ids": [5, 6, 7], "labels": [0, 1, 2]}, {"input_ids": [5], "labels": [0]}])
    assert torch.equal(batch["input_ids"], torch.tensor([[5, 6, 7], [5, 9, 9]]))
    assert torch.equal(batch["attention_mask"], torch.tensor([[1, 1, 1], [1, 0, 0]]))
    assert torch.equal(batch["labels"], torch.tensor([[0, 1, 2], [0, IGNORED, IGNORED]]))


def test_swapped_columns_are_refused_without_a_word_of_the_note(labels: LabelSet, tokenizers: dict[str, Any]) -> None:
    item = {"tokens": ["O", "O"], "tags": ["chest", "pain"]}
    with pytest.raises(DataError, match="item-0: the tag at position 0") as caught:
        read_dataset([item], labels, tokenizers["wordpiece"])
    assert "chest" not in str(caught.value)


def test_items_that_share_an_id_are_told_apart(labels: LabelSet, tokenizers: dict[str, Any]) -> None:
    items = [{"id": "note", "tokens": ["a"], "tags": ["O"]} for _ in range(2)]
    found = read_dataset(items, labels, tokenizers["wordpiece"])
    assert [document.id for document in found.documents] == ["item-0", "item-1"]


@pytest.mark.parametrize("item", [{"tokens": "chest", "tags": "OOOOO"}, {"tokens": ["a"], "tags": None}])
def test_columns_that_are_no_lists_are_refused(
    item: dict[str, Any], labels: LabelSet, tokenizers: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match="to be lists"):
        read_dataset([item], labels, tokenizers["wordpiece"])


def test_documents_that_share_an_id_are_refused(labels: LabelSet, tokenizers: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="occur more than once: a"):
        read_dataset([Document("a", "x"), Document("a", "y")], labels, tokenizers["wordpiece"])
