"""The bundled example corpus is regenerable, well formed and held out as its README says."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPT = EXAMPLES / "generate_corpus.py"
CORPUS = EXAMPLES / "corpus"
SPLITS = ("train", "validation", "test")
LANGUAGES = ("en", "es", "nl")
TYPES = ("DISEASE", "MEDICATION", "PROCEDURE", "SYMPTOM")
ROW = re.compile(r"T(\d+)\t([A-Z]+) (\d+) (\d+)\t(.+)")
SAID = re.compile(r"A(\d+)\t(\w+) T(\d+)(?: (\w+))?")
ATTRIBUTES = {"Negation": {None}, "Uncertainty": {None}, "Temporality": {"history", "hypothetical"}}
ATTRIBUTES["Experiencer"] = {"family"}

Entity = tuple[str, int, int, str]


@cache
def script() -> ModuleType:
    """Load the generator as a module."""
    spec = importlib.util.spec_from_file_location("example_corpus_generator", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def lines_of(path: Path) -> list[str]:
    """Return the lines of the annotations of a note."""
    return path.with_suffix(".ann").read_text(encoding="utf-8").split("\n")[:-1]


@cache
def attributes(split: str) -> list[tuple[str, Entity, str, str | None]]:
    """Read every attribute of a split: its note, its entity, its name and its value."""
    found = []
    for path in sorted((CORPUS / split).glob("*.txt")):
        matches = [SAID.fullmatch(row) for row in lines_of(path) if row[0] == "A"]
        assert all(matches), path
        entities = notes(split)[path.stem][1]
        found += [(path.stem, entities[int(m[3]) - 1], m[2], m[4]) for m in matches if m]
    return found


@cache
def cues() -> dict[str, set[tuple[str, str, str, str]]]:
    """Return the cues of every split, each with its language and with the attribute and the value that it gives."""
    return {
        split: {
            (name[:2], one.name, one.value, re.sub(r"\d+", "#", one.cue.lower()))
            for name, note in found.items()
            for span in note.spans
            for one in span.attributes
        }
        for split, found in script().build_corpus().items()
    }


@cache
def notes(split: str) -> dict[str, tuple[str, tuple[Entity, ...]]]:
    """Read the text and the entities of every note of a split."""
    found: dict[str, tuple[str, tuple[Entity, ...]]] = {}
    for path in sorted((CORPUS / split).glob("*.txt")):
        rows = [row for row in lines_of(path) if row[0] != "A"]
        matches = [ROW.fullmatch(row) for row in rows]
        assert all(matches), path
        entities = tuple((m[2], int(m[3]), int(m[4]), m[5]) for m in matches if m)
        assert [int(m[1]) for m in matches if m] == list(range(1, len(rows) + 1))
        found[path.stem] = (path.read_bytes().decode("utf-8"), entities)
    return found


def mentions(split: str) -> list[tuple[str, str]]:
    """Return the lower-cased surface and the type of all entities of a split."""
    return [(quote.lower(), kind) for _, found in notes(split).values() for kind, _, _, quote in found]


def unseen_share() -> float:
    """Return the share of test mentions which train does not contain."""
    seen, tested = set(mentions("train")), mentions("test")
    return sum(mention not in seen for mention in tested) / len(tested)


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the corpus files below a folder."""
    found = sorted((*folder.rglob("*.txt"), *folder.rglob("*.ann")))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_regenerating_gives_the_committed_bytes(tmp_path: Path, hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    subprocess.run([sys.executable, str(SCRIPT), "--output", str(tmp_path)], check=True, env=environment)
    assert files(tmp_path) == files(CORPUS)


def test_another_seed_gives_another_corpus(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), "--output", str(tmp_path), "--seed", "7"], check=True)
    assert files(tmp_path) != files(CORPUS)


@pytest.mark.parametrize("split", SPLITS)
def test_annotations_are_exact_and_flat(split: str) -> None:
    for name, (text, entities) in notes(split).items():
        last = 0
        for kind, start, end, quote in entities:
            assert kind in TYPES, name
            assert last <= start < end, name
            assert text[start:end] == quote == quote.strip(), name
            last = end


@pytest.mark.parametrize("split", SPLITS)
def test_words_are_not_cut(split: str) -> None:
    for name, (text, entities) in notes(split).items():
        for _, start, end, quote in entities:
            assert not (text[start - 1 : start] + quote[0]).isalnum() or start == 0, (name, quote)
            assert not (quote[-1] + text[end : end + 1]).isalnum(), (name, quote)


def test_identifiers_are_unique() -> None:
    names = [name for split in SPLITS for name in notes(split)]
    assert len(names) == len(set(names)) >= 80


@pytest.mark.parametrize("split", SPLITS)
def test_split_holds_all_languages_types_and_lengths(split: str) -> None:
    lengths = [len(text.split()) for text, _ in notes(split).values()]
    assert {name[:2] for name in notes(split)} == set(LANGUAGES)
    assert {kind for _, kind in mentions(split)} == set(TYPES)
    assert min(lengths) >= 80
    assert 1000 < max(lengths) <= 1500


@pytest.mark.parametrize("split", ["train", "test"])
def test_split_has_a_note_without_entities(split: str) -> None:
    assert any(not entities for _, entities in notes(split).values())


@pytest.mark.parametrize("split", SPLITS)
def test_attributes_are_of_findings_and_each_is_said_once(split: str) -> None:
    said = [(name, entity, attribute) for name, entity, attribute, _ in attributes(split)]
    assert len(set(said)) == len(said)
    assert {entity[0] for _, entity, _ in said} == {"DISEASE", "SYMPTOM"}
    values = {name: {value for _, _, one, value in attributes(split) if one == name} for name in ATTRIBUTES}
    assert values == ATTRIBUTES


@pytest.mark.parametrize(
    "value", [value for values in ATTRIBUTES.values() for value in sorted(values, key=str)], ids=str
)
def test_some_cues_of_the_test_notes_are_in_no_other_note(value: str | None) -> None:
    others = cues()["train"] | cues()["validation"]
    new = {cue for cue in cues()["test"] - others if cue[0] == "en" and cue[2] == (value or "")}
    assert len(new) >= 4


@pytest.mark.parametrize("language", LANGUAGES)
def test_reserved_cues_stay_out_of_other_notes_than_those_of_the_test(language: str) -> None:
    lines = script().load_language(language).reserved_lines
    reserved = {cue.lower() for line in lines for cue in script().cues_of(line).values() if "{" not in cue}
    found = {cue for one, _, _, cue in cues()["train"] | cues()["validation"] if one == language}
    assert reserved
    assert not reserved & (found - {"suspected", "probable", "previous"})  # these are modifiers of terms too


def test_enough_test_mentions_are_unseen() -> None:
    assert 0.25 <= unseen_share() <= 0.5


@pytest.mark.parametrize("language", LANGUAGES)
def test_reserved_terms_stay_out_of_train(language: str) -> None:
    reserved = {text.lower() for text in script().load_language(language).reserved}
    seen = {q.lower() for n, (_, found) in notes("train").items() if n[:2] == language for _, _, _, q in found}
    assert not reserved & seen


@pytest.mark.parametrize("language", LANGUAGES)
def test_vocabulary_is_wide_and_of_one_type_per_term(language: str) -> None:
    terms = {(text.lower(), kind) for text, kind in script().load_language(language).mentions()}
    assert len({text for text, _ in terms}) == len(terms)
    assert min(Counter(kind for _, kind in terms).values()) >= (140 if language == "en" else 60)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_mention_is_left_unannotated(language: str) -> None:
    terms = sorted({text for text, _ in script().load_language(language).mentions()}, key=lambda t: (-len(t), t))
    long = "|".join(re.escape(term) for term in terms if len(term) >= 5)
    short = "|".join(re.escape(term) for term in terms if len(term) < 5)
    patterns = [re.compile(rf"(?<!\w)(?:{long})(?!\w)", re.IGNORECASE), re.compile(rf"(?<!\w)(?:{short})(?!\w)")]
    for name, (text, entities) in ((n, note) for split in SPLITS for n, note in notes(split).items()):
        if name.startswith(language):
            covered = [(start, end) for _, start, end, _ in entities]
            for match in (m for pattern in patterns for m in pattern.finditer(text)):
                assert any(start <= match.start() and match.end() <= end for start, end in covered), (name, match[0])


def test_readme_states_the_figures() -> None:
    readme = (CORPUS / "README.md").read_text(encoding="utf-8")
    for split in SPLITS:
        words = sum(len(text.split()) for text, _ in notes(split).values())
        counts = Counter(kind for _, kind in mentions(split))
        cells = [split, len(notes(split)), words, *(counts[kind] for kind in TYPES), sum(counts.values())]
        assert f"| {' | '.join(map(str, cells))} |" in readme
        said = Counter((name, value) for _, _, name, value in attributes(split))
        cells = [
            split,
            *(said[name, value] for name, values in ATTRIBUTES.items() for value in sorted(values, key=str)),
        ]
        assert f"| {' | '.join(map(str, cells))} |" in readme
    assert f"{100 * unseen_share():.1f} %" in readme
