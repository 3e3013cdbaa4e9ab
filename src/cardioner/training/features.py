"""Training data of every accepted form, to windows, to what a model takes."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from cardioner.data.documents import Document, Span
from cardioner.data.formats.words import WORDLESS, document_of_words
from cardioner.data.labels import LabelSet
from cardioner.data.quality.tokens import kind_of
from cardioner.errors import DataError, listed, many
from cardioner.multiclass.attributes import AttributeGroup
from cardioner.multiclass.encoding import EncodedNote, WindowPlan, encode_notes
from cardioner.multiclass.inference import pad
from cardioner.multiclass.modeling import IGNORED
from cardioner.multiclass.tagging import OUTSIDE, TagGroup, repair, run_tags, to_runs, to_sequences
from cardioner.multiclass.windows import Window
from cardioner.training.attributes import SPLIT, collate_attributes, places_of

ILLEGAL_TAGS = "illegal tags, such as an inside tag that continues nothing, made legal"
"""The remark on tags that were rewritten."""

Feature = dict[str, list[Any]]
"""A window: `input_ids` and `labels`, one each per attended position; with tags per type a list of labels each.

For a model with attributes, it has the spans that it shows whole, and their values, too: see `attributes.Places`.
"""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Data of any accepted form.

    Attributes:
        documents: The notes; for ready features, one stand-in a window whose characters are its labelled positions.
        features: Windows as given by the caller; `None` where they are made of the documents.
        remarks: What had to be repaired, counted.
    """

    documents: tuple[Document, ...]
    features: tuple[Feature, ...] | None = None
    remarks: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Windows ready to train on.

    Attributes:
        features: The windows.
        losses: Spans that the tags cannot represent, by kind and entity type.
        sub_tokens: Sub-tokens of all notes, each counted once.
        names: What each window is called in a message: its note's id, and its number there from 1.
        remarks: What teaches less than it could, counted.
    """

    features: tuple[Feature, ...]
    losses: Counter[tuple[str, str]]
    sub_tokens: int
    names: tuple[str, ...]
    remarks: Counter[str] = field(default_factory=Counter)

    def plus(self, other: FeatureSet) -> FeatureSet:
        """Both, one after the other."""
        return FeatureSet(
            self.features + other.features,
            self.losses + other.losses,
            self.sub_tokens + other.sub_tokens,
            self.names + other.names,
            self.remarks + other.remarks,
        )


def read_dataset(data: Iterable[Any], labels: LabelSet, tokenizer: Any) -> Dataset:
    """Take `Document`s, `{"tokens", "tags"}` items, ready features, or a `datasets.Dataset` of the latter two.

    Args:
        data: All of one form. Tags are names or ids. Tokens are words; the text is rebuilt with single spaces.
        labels: The tags of the model.
        tokenizer: Its tokenizer, which knows the special ids in ready features.

    Raises:
        DataError: For another form, a mixture, or a tag that the model does not have.
    """
    rows = list(data)
    if all(isinstance(row, Document) for row in rows):
        labels.check(rows)
        repeated = [name for name, count in Counter(row.id for row in rows).items() if count > 1]
        if repeated:
            raise DataError(f"{len(repeated)} document ids occur more than once: {listed(repeated)}")
        return Dataset(tuple(rows))
    if all(isinstance(row, Mapping) and {"tokens", "tags"} <= set(row) for row in rows):
        return _read_items(rows, labels.with_overlap("flat"))
    if all(isinstance(row, Mapping) and {"input_ids", "labels"} <= set(row) for row in rows):
        if labels.overlap == "per-type":
            raise DataError("ready features have one label a position; with tags per type give Documents instead")
        return _read_features(rows, labels, tokenizer)
    raise DataError(
        "expected Documents, items with 'tokens' and 'tags', or features with 'input_ids' and 'labels', all of one "
        f"form; found {sorted({type(row).__name__ for row in rows})}"
    )


def build_features(
    documents: Sequence[Document],
    tokenizer: Any,
    plan: WindowPlan,
    *,
    labels: LabelSet,
    attributes: Sequence[AttributeGroup] = (),
) -> FeatureSet:
    """Tokenise, tag and cut documents.

    Special positions are labelled `O`, context positions with their true tag. What is left of an entity that a window's
    edge cuts is left out where it would be illegal beside the `O` there: inside tags at the left edge, and with closing
    tags in the label set (BIOES) whatever lacks its own at the right edge.

    Raises:
        DataError: If the tokenizer fails on a note.
    """
    notes, groups = encode_documents(documents, tokenizer), labels.groups
    losses, features, names, split = Counter[tuple[str, str]](), [], [], 0
    for document, note in zip(documents, notes, strict=True):
        tags, lost = to_sequences(document.spans, note.offsets, groups)
        losses.update((kind_of(loss, document.text), loss.label) for loss in lost)
        cut, places = plan.cut(note), places_of(document.spans, note, attributes)
        windows = [_window_feature(note, tags, window, plan=plan, groups=groups) for window in cut]
        if attributes:
            opening = len(plan.special.opening)
            windows = [row | places.within(window, opening) for row, window in zip(windows, cut, strict=True)]
            split += places.split_by(cut)
        kept = [window for window in windows if window["input_ids"]]
        features += kept
        names += [f"{document.id} (window {number})" for number in range(1, len(kept) + 1)]
    remarks = +Counter({SPLIT: split})
    return FeatureSet(tuple(features), losses, sum(len(note.ids) for note in notes), tuple(names), remarks)


def encode_documents(documents: Sequence[Document], tokenizer: Any) -> list[EncodedNote]:
    """Tokenise the notes; an error names its kind and the note, not its message, which may quote the note.

    Raises:
        DataError: Naming the first note on which the tokenizer fails.
    """
    reason = ""
    try:
        return encode_notes(tokenizer, [document.text for document in documents])
    except Exception as error:  # noqa: BLE001 - whatever a tokenizer raises
        reason = type(error).__name__
    for document in documents if len(documents) > 1 else ():
        encode_documents([document], tokenizer)
    which = f"document {documents[0].id}" if len(documents) == 1 else f"{many(len(documents), 'document')} at a time"
    size = sum(len(document.text) for document in documents)
    raise DataError(f"{which}: the {size} characters could not be cut into sub-tokens ({reason})")


def _window_feature(
    note: EncodedNote,
    tags: Sequence[Sequence[str]],
    window: Window,
    *,
    plan: WindowPlan,
    groups: Sequence[TagGroup],
) -> Feature:
    """One window's input ids and labels."""
    rows = [
        _window_labels(row[window.start : window.stop], group, plan) for row, group in zip(tags, groups, strict=True)
    ]
    labels = rows[0] if groups[0].label is None else [list(labels) for labels in zip(*rows, strict=True)]
    return {"input_ids": plan.ids(note, window), "labels": labels}


def _window_labels(shown: Sequence[str], group: TagGroup, plan: WindowPlan) -> list[int]:
    """The labels of a window in one group, those of its special positions among them."""
    ids = {tag: group.first + place for place, tag in enumerate(group.tags)}
    inner = [ids[tag] for tag in shown]
    for run in to_runs(shown):
        if shown[run.first : run.stop] != run_tags(run.stop - run.first, run.label, ids):
            inner[run.first : run.stop] = [IGNORED] * (run.stop - run.first)
    opening, closing = ([ids[OUTSIDE]] * len(special) for special in plan.special)
    return [*opening, *inner, *closing]


def training_features(
    data: Dataset,
    tokenizer: Any,
    plan: WindowPlan,
    *,
    labels: LabelSet,
    attributes: Sequence[AttributeGroup] = (),
    unlabelled: Sequence[Document] = (),
) -> FeatureSet:
    """Windows of data of any accepted form, and behind them those of notes without annotations.

    Raises:
        DataError: If there is nothing to train on.
    """
    if data.features is None:
        prepared = build_features(data.documents, tokenizer, plan, labels=labels, attributes=attributes)
    else:
        size = sum(len(row["input_ids"]) for row in data.features)
        prepared = FeatureSet(data.features, Counter(), size, tuple(document.id for document in data.documents))
    bare = build_features(unlabelled, tokenizer, plan, labels=labels)
    none: Any = IGNORED if labels.overlap == "flat" else [IGNORED] * len(labels.groups)
    nothing = tuple({**feature, "labels": [none] * len(feature["labels"])} for feature in bare.features)
    prepared = prepared.plus(replace(bare, features=nothing))
    if not prepared.sub_tokens:
        raise DataError("the training data is empty: expected at least one document with text")
    return prepared


def check_features(features: Sequence[Feature], model: Any, max_length: int) -> None:
    """Refuse windows that the encoder cannot read.

    Raises:
        DataError: If there are sub-token ids that it lacks, or windows that are too long.
    """
    known = model.get_input_embeddings().num_embeddings
    if max((max(feature["input_ids"], default=0) for feature in features), default=0) >= known:
        raise DataError(
            f"the data has sub-token ids from {known} up, which the encoder lacks: it needs its own tokenizer"
        )
    longest = max((len(feature["input_ids"]) for feature in features), default=0)
    if longest > max_length:
        raise DataError(
            f"a ready feature has {longest} sub-tokens, max_length is {max_length}: "
            "raise max_length, or give Documents, which are cut into windows without loss"
        )


@dataclass(frozen=True, slots=True)
class Collator:
    """Pad features to the longest of their batch, on the right.

    Attributes:
        padding_id: The tokenizer's padding id.
        attributes: How many attributes of spans there are to learn.
    """

    padding_id: int
    attributes: int = 0

    def __call__(self, features: Sequence[Feature]) -> dict[str, Tensor]:
        """Tensors `(batch, length)`: `input_ids`, `attention_mask` and `labels`, `IGNORED` on padding.

        With tags per type, `labels` is `(batch, length, types)`.
        Spans with attributes are as `collate_attributes` has them.
        Where features carry their number under `window`, these come along as `windows` `(batch)`.
        """
        numbers = (
            {"windows": torch.tensor([feature["window"][0] for feature in features])} if "window" in features[0] else {}
        )
        return {
            **numbers,
            "input_ids": pad([feature["input_ids"] for feature in features], self.padding_id),
            "attention_mask": pad([[1] * len(feature["input_ids"]) for feature in features], 0),
            "labels": pad([feature["labels"] for feature in features], self._no_label(features)),
            **(collate_attributes(features, self.attributes) if self.attributes else {}),
        }

    def _no_label(self, features: Sequence[Feature]) -> Any:
        """What padding has for a label."""
        label = next((label for feature in features for label in feature["labels"]), IGNORED)
        return [IGNORED] * len(label) if isinstance(label, list) else IGNORED


def balanced_weights(features: Iterable[Feature], groups: Sequence[TagGroup]) -> list[float]:
    """A weight per tag: the labelled positions of its group, over the number of tags there times the tag's own.

    A tag that never occurs gets weight 1.
    """
    labels = (label for feature in features for label in feature["labels"])
    counts = Counter(
        label for given in labels for label in (given if isinstance(given, list) else [given]) if label != IGNORED
    )
    weights = []
    for group in groups:
        own = [counts[group.first + place] for place in range(len(group.tags))]
        weights += [sum(own) / (len(own) * count) if count else 1.0 for count in own]
    return weights


def _tag_names(tags: Sequence[Any], labels: LabelSet, where: str) -> list[str]:
    """Tags given as names or ids, as names."""
    known = labels.label2id
    names: list[str] = []
    for tag in tags:
        name = tag if isinstance(tag, str) else labels.id2label.get(_as_id(tag))
        if name not in known:
            raise DataError(
                f"{where}: the tag at position {len(names)} is not one of the model's: {', '.join(labels.tags)} "
                "(are tokens and tags in each other's place?)"
            )
        names.append(str(name))
    return names


def _as_id(tag: Any) -> int:
    """A tag's id where it is any kind of whole number, else one that no tag has."""
    try:
        return operator.index(tag)
    except TypeError:
        return IGNORED


def _read_items(rows: Sequence[Mapping[str, Any]], labels: LabelSet) -> Dataset:
    """Rebuild documents of words and their tags."""
    documents, remarks = [], Counter[str]()
    own = [str(row["id"]) for row in rows if "id" in row]
    unique = len(set(own)) == len(rows)  # sentences of one note often share its id
    for number, row in enumerate(rows):
        identifier = own[number] if unique else f"item-{number}"
        if any(isinstance(row[key], str) or not isinstance(row[key], Sequence) for key in ("tokens", "tags")):
            raise DataError(f"{identifier}: expected 'tokens' and 'tags' to be lists")
        tokens = [str(token) for token in row["tokens"]]
        if len(tokens) != len(row["tags"]):
            raise DataError(f"{identifier}: {many(len(tokens), 'token')} but {many(len(row['tags']), 'tag')}")
        tags, repaired = repair(_tag_names(row["tags"], labels, identifier), labels.tags)
        remarks[ILLEGAL_TAGS] += repaired
        runs = to_runs(tags)
        document = document_of_words(identifier, [tokens], runs)
        remarks[WORDLESS] += len(runs) - len(document.spans)
        documents.append(document)
    return Dataset(tuple(documents), remarks=+remarks)


def _read_features(rows: Sequence[Mapping[str, Any]], labels: LabelSet, tokenizer: Any) -> Dataset:
    """Check ready features, repair their labels, and keep only attended positions."""
    special = set(tokenizer.all_special_ids)
    documents, features, remarks = [], [], Counter[str]()
    for number, row in enumerate(rows):
        feature, found = _clean_feature(row, labels, special=special, where=f"feature-{number}")
        remarks.update(found)
        tags = [labels.tags[label] for label in feature["labels"] if label != IGNORED]
        spans = tuple(Span(run.first, run.stop, run.label) for run in to_runs(tags))
        documents.append(Document(f"feature-{number}", " " * len(tags), spans))
        features.append(feature)
    return Dataset(tuple(documents), tuple(features), +remarks)


def _clean_feature(
    row: Mapping[str, Any], labels: LabelSet, *, special: set[int], where: str
) -> tuple[Feature, Counter[str]]:
    """One ready feature without padding, special positions labelled `O`, inside tags repaired."""
    ids = _whole_numbers(row["input_ids"], f"{where}: 'input_ids'")
    mask = row.get("attention_mask", [1] * len(ids))
    given = _whole_numbers(row["labels"], f"{where}: 'labels'")
    if not len(ids) == len(mask) == len(given):
        raise DataError(f"{where}: input_ids has {len(ids)}, attention_mask {len(mask)} and labels {len(given)}")
    if not any(mask):
        raise DataError(f"{where}: no position is attended")
    wrong = sorted({label for label in given if label != IGNORED and not 0 <= label < len(labels.tags)})
    if wrong:
        raise DataError(f"{where}: labels must be 0 to {len(labels.tags) - 1} or {IGNORED}; found {wrong}")
    remarks = Counter[str]()
    outside = labels.label2id[OUTSIDE]
    kept = [(token, label) for token, label, attended in zip(ids, given, mask, strict=True) if attended]
    remarks["attended positions"] = len(kept)
    remarks["attended special positions without label, made O"] = sum(
        token in special and label == IGNORED for token, label in kept
    )
    kept = [(token, outside if token in special and label == IGNORED else label) for token, label in kept]
    places = [index for index, (_, label) in enumerate(kept) if label != IGNORED]
    remarks["continuation pieces without label, left out of the loss"] = len(kept) - len(places)
    tags, repaired = repair([labels.tags[kept[index][1]] for index in places], labels.tags)
    remarks[ILLEGAL_TAGS] = repaired
    final = [label for _, label in kept]
    for index, tag in zip(places, tags, strict=True):
        final[index] = labels.label2id[tag]
    return {"input_ids": [token for token, _ in kept], "labels": final}, remarks


def _whole_numbers(values: Iterable[Any], where: str) -> list[int]:
    """Values of any kind of number; those of other kinds may be words, and are not quoted."""
    with suppress(TypeError, ValueError, OverflowError):
        return [int(value) for value in values]
    raise DataError(f"{where}: expected whole numbers")
