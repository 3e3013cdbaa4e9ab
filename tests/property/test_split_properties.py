"""Groups against brute force; splits that part nothing that belongs together and share out what there is."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import combinations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cardioner.data.documents import Document, Span
from cardioner.data.near_duplicates import SKETCH, Group, group_near_duplicates
from cardioner.data.splits import Splits, make_folds, make_splits

RATIOS = st.tuples(st.integers(1, 100), st.integers(0, 50), st.integers(0, 50))
SEEDS = st.integers(0, 2**32)


def runs(text: str) -> set[tuple[str, ...]]:
    words = [word.casefold() for word in re.findall(r"\w+", text)]
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)} or {tuple(words)}


def jaccard(first: str, second: str) -> float:
    one, other = runs(first), runs(second)
    return len(one & other) / len(one | other)


def brute_force(texts: list[tuple[str, str]], threshold: float) -> tuple[Group, ...]:
    """All pairs, and components by flooding."""
    similar = {frozenset((a, b)) for (a, one), (b, two) in combinations(texts, 2) if jaccard(one, two) >= threshold}
    left, groups = dict(texts), []
    while left:
        component = {min(left)}
        while more := {name for name in left for known in component if {name, known} in similar} - component:
            component |= more
        groups.append(Group(tuple(sorted(component)), len({left.pop(name) for name in component}) == 1))
    return tuple(group for group in groups if len(group.ids) > 1)


@st.composite
def edited_texts(draw: st.DrawFn, longest: int) -> list[tuple[str, str]]:
    """A few texts, and texts that came out of them by edits."""
    alphabet = st.sampled_from(["a", "B", "b", "é", "É", "ß", "word", "Word", "x1", "\U0001f600", "--"])
    texts = [draw(st.lists(alphabet, max_size=longest)) for _ in range(draw(st.integers(1, 4)))]
    for _ in range(draw(st.integers(0, 6))):
        edited = list(draw(st.sampled_from(texts)))
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, len(edited)))
            edited[at : at + draw(st.integers(0, 2))] = draw(st.lists(alphabet, max_size=2))
        texts.append(edited)
    return [(f"n{number}", " ".join(text)) for number, text in enumerate(texts)]


@given(edited_texts(40), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0]))
@settings(deadline=None)
def test_groups_of_short_texts_are_those_of_brute_force(texts: list[tuple[str, str]], threshold: float) -> None:
    assert group_near_duplicates(texts, threshold=threshold) == brute_force(texts, threshold)


@given(st.lists(st.tuples(st.integers(200, 500), st.integers(0, 500)), min_size=2, max_size=6), SEEDS)
@settings(max_examples=50, deadline=None)
def test_groups_of_long_texts_are_those_of_brute_force_unless_a_similarity_is_close_to_the_threshold(
    slices: list[tuple[int, int]], seed: int
) -> None:
    generator = random.Random(seed)
    line = [f"w{generator.randrange(10**9)}" for _ in range(1000)]
    texts = [(f"n{number}", " ".join(line[start : start + size])) for number, (size, start) in enumerate(slices)]
    error = 5 * (0.8 * 0.2 / SKETCH) ** 0.5
    similarities = [jaccard(first, second) for (_, first), (_, second) in combinations(texts, 2)]
    assume(all(abs(similarity - 0.8) > error for similarity in similarities))
    assert group_near_duplicates(texts) == brute_force(texts, 0.8)


@given(edited_texts(20), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_groups_do_not_depend_on_the_order_of_the_texts(texts: list[tuple[str, str]], shuffler: random.Random) -> None:
    shuffled = shuffler.sample(texts, len(texts))
    assert group_near_duplicates(iter(shuffled)) == group_near_duplicates(iter(texts))


@st.composite
def corpora(draw: st.DrawFn, *, copies: bool = True) -> list[Document]:
    """Notes with nothing in common but those that are copies, with entities of up to four types."""
    documents: list[Document] = []
    for number in range(draw(st.integers(3, 25))):
        origin = draw(st.integers(0, number)) if copies and draw(st.booleans()) else number
        text = " ".join(f"n{origin}w{word}" for word in range(6))
        labels = draw(st.lists(st.sampled_from("ABCD"), max_size=6))
        documents.append(Document(f"n{number}", text, tuple(Span(0, 2, label) for label in labels)))
    return documents


def parts(splits: Splits) -> list[tuple[str, ...]]:
    return [splits.train, splits.validation, splits.test]


def enough(documents: list[Document], ratios: tuple[int, int, int]) -> bool:
    return len({document.text for document in documents}) >= sum(ratio > 0 for ratio in ratios)


@given(corpora(), RATIOS, SEEDS)
@settings(deadline=None)
def test_every_document_is_in_one_part_and_copies_are_together(
    documents: list[Document], ratios: tuple[int, int, int], seed: int
) -> None:
    assume(enough(documents, ratios))
    splits = make_splits(documents, ratios, seed=seed)
    assert sorted(name for part in parts(splits) for name in part) == sorted(document.id for document in documents)
    assert [bool(part) for part in parts(splits)] == [ratio > 0 for ratio in ratios]
    place = {name: number for number, part in enumerate(parts(splits)) for name in part}
    texts = {(document.text, place[document.id]) for document in documents}
    assert len(texts) == len({document.text for document in documents})


@given(corpora(), RATIOS, SEEDS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_seed_gives_the_same_parts_whatever_the_order_of_documents_and_spans(
    documents: list[Document], ratios: tuple[int, int, int], seed: int, shuffler: random.Random
) -> None:
    assume(enough(documents, ratios))
    shuffled = [document.with_spans(shuffler.sample(document.spans, len(document.spans))) for document in documents]
    shuffler.shuffle(shuffled)
    assert make_splits(iter(shuffled), ratios, seed=seed) == make_splits(documents, ratios, seed=seed)
    folds = min(3, len({document.text for document in documents}))
    assume(folds > 1)
    assert make_folds(iter(shuffled), folds, seed=seed) == make_folds(documents, folds, seed=seed)


@given(corpora(copies=False), RATIOS, SEEDS)
@settings(deadline=None)
def test_sizes_are_within_one_of_the_share_unless_a_part_would_be_left_empty(
    documents: list[Document], ratios: tuple[int, int, int], seed: int
) -> None:
    assume(enough(documents, ratios))
    shares = [len(documents) * ratio / sum(ratios) for ratio in ratios]
    sizes = [len(part) for part in parts(make_splits(documents, ratios, seed=seed))]
    if all(share == 0 or share >= 1 for share in shares):
        assert all(abs(size - share) < 1 for size, share in zip(sizes, shares, strict=True))
    assert all(size == 1 for size, share in zip(sizes, shares, strict=True) if 0 < share < 0.5)


@given(corpora(copies=False), st.integers(2, 8), SEEDS)
@settings(deadline=None)
def test_folds_differ_in_size_by_one_document_at_most(documents: list[Document], count: int, seed: int) -> None:
    assume(len(documents) >= count)
    folds = make_folds(documents, count, seed=seed)
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == len(documents)
    assert all(not set(fold.train) & set(fold.validation) for fold in folds)


def corpus_like(seed: int, size: int) -> list[Document]:
    """Notes whose numbers of entities and types are as uneven as those of real ones."""
    generator = random.Random(seed)
    documents = []
    for number in range(size):
        labels = [label for label, mean in (("A", 8), ("B", 3), ("C", 1), ("D", 0.15)) for _ in range(100)
                  if generator.random() < mean / 100]  # fmt: skip
        if generator.random() < 0.15:
            labels = []
        text = " ".join(f"n{number}w{word}" for word in range(6))
        documents.append(Document(f"n{number}", text, tuple(Span(0, 2, label) for label in labels)))
    return documents


def deviation(documents: list[Document], divided: list[list[str]], ratios: tuple[float, ...]) -> float:
    """The mean, over parts and types, of how far a part's share of a type is from what it should be."""
    counts = {document.id: Counter(span.label for span in document.spans) or Counter("-") for document in documents}
    total = sum(counts.values(), Counter[str]())
    found = [sum((counts[name] for name in part), Counter[str]()) for part in divided]
    gaps = [abs(part[label] / total[label] - ratio / sum(ratios))
            for part, ratio in zip(found, ratios, strict=True) for label in total]  # fmt: skip
    return sum(gaps) / len(gaps)


@given(st.integers(0, 10**6), st.integers(40, 150), st.sampled_from([(80, 10, 10), (60, 20, 20), (1, 1, 1)]))
@settings(max_examples=40, deadline=None)
def test_types_are_shared_out_better_than_by_chance(seed: int, size: int, ratios: tuple[int, int, int]) -> None:
    documents = corpus_like(seed, size)
    made = make_splits(documents, ratios, seed=seed, groups=())
    sizes = [len(part) for part in parts(made)]
    generator, by_chance = random.Random(seed), []
    for _ in range(30):
        ids = generator.sample([document.id for document in documents], size)
        drawn = [ids[: sizes[0]], ids[sizes[0] : sizes[0] + sizes[1]], ids[sizes[0] + sizes[1] :]]
        by_chance.append(deviation(documents, drawn, ratios))
    assert deviation(documents, [list(part) for part in parts(made)], ratios) <= sum(by_chance) / len(by_chance)
