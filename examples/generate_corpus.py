"""Write the synthetic example corpus of CardioNER in brat standoff form.

The words come from ``vocabulary/LANGUAGE.txt`` and the sentences from ``templates/LANGUAGE.txt``
beside this script. The same seed gives the same bytes in every process. The templates also say what is
negated, uncertain, past, hypothetical or of a relative, and by which cue: spans of ``build_corpus`` have both.

Usage: ``python examples/generate_corpus.py [--output DIR] [--seed N]``
"""

from __future__ import annotations

import argparse
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import NormalDist

HERE = Path(__file__).resolve().parent
DEFAULT_SEED = 20240229
SPLITS: dict[str, dict[str, int]] = {
    "train": {"en": 45, "es": 10, "nl": 9},
    "validation": {"en": 11, "es": 3, "nl": 2},
    "test": {"en": 11, "es": 2, "nl": 3},
}
LONGEST = {"train": 1150, "validation": 1080, "test": 1400}
EMPTY_NOTE = "administrative"
RESERVED_SHARE = 0.2
LIST_GROWTH = {"lines": 1.5, "bullets": 1.5, "numbers": 1.2}
LONG_NOTE = 600
LONG_KINDS = 3
MODIFIER_CHANCE = 0.22
RESERVED_CUES = 0.4
FURTHER = {"en": (7, 11), "es": (4, 6), "nl": (4, 6)}
SLOT = re.compile(r"\{([^{}]+)\}|\[([a-z]):|(\])")
RANGE = re.compile(r"(\d+(?:\.(\d+))?)-(\d+(?:\.\d+)?)")
PLAN = re.compile(r"(\??)(.*?)\s*->\s*(prose|lines|bullets|numbers)\s+(\w+)\s+(\d+)-(\d+)")
NBSP = "\u00a0"
ATTRIBUTES = {
    "n": ("Negation", ""),
    "u": ("Uncertainty", ""),
    "h": ("Temporality", "history"),
    "y": ("Temporality", "hypothetical"),
    "f": ("Experiencer", "family"),
}
MODIFIERS = {"suspected": "u", "probable": "u", "previous": "h"}
FINDINGS = ("DISEASE", "SYMPTOM")


@dataclass(frozen=True)
class Form:
    """One surface form of a concept, with the modifiers and doses it can take."""

    text: str
    layers: tuple[tuple[str, ...], ...]
    doses: tuple[str, ...]
    intakes: int


@dataclass(frozen=True)
class Concept:
    """The synonyms of one concept and how often notes mention it."""

    forms: tuple[Form, ...]
    weight: float


@dataclass(frozen=True)
class Group:
    """The concepts which can fill the slots of one name."""

    kind: str
    concepts: tuple[Concept, ...]


@dataclass(frozen=True)
class Section:
    """The plan of one section of a note."""

    optional: bool
    heads: tuple[str, ...]
    layout: str
    pool: str
    least: int
    most: int

    def count(self, rng: random.Random, scale: float, available: int) -> int:
        """Draw the number of lines: short sections and lists grow less than prose, and no line comes twice."""
        limit = 1.0 if self.most <= 2 else LIST_GROWTH.get(self.layout, 9.0)
        return min(available, max(1, round(rng.uniform(self.least, self.most) * min(scale, limit))))


@dataclass(frozen=True)
class NoteKind:
    """A kind of note: its titles, the group of its main problem and its sections."""

    name: str
    main: str
    titles: tuple[str, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Language:
    """Everything which is needed to write notes in one language."""

    name: str
    groups: dict[str, Group]
    pools: dict[str, tuple[str, ...]]
    kinds: tuple[NoteKind, ...]
    reserved: frozenset[str]
    reserved_lines: frozenset[str]

    def mentions(self) -> Iterator[tuple[str, str]]:
        """Yield the text and the type of every term, without modifiers."""
        for group in self.groups.values():
            for concept in group.concepts:
                for form in concept.forms:
                    yield form.text, group.kind


@dataclass(frozen=True)
class Attribute:
    """What is said of an entity, and the words that say it; an attribute that is only there or not has no value."""

    name: str
    value: str
    cue: str


@dataclass(frozen=True)
class Span:
    """An entity: type, half-open code point offsets, what is said of it, and the letters and cues of its sentence."""

    kind: str
    start: int
    end: int
    attributes: tuple[Attribute, ...] = ()
    nearby: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Note:
    """A finished note."""

    text: str
    spans: tuple[Span, ...]

    def standoff(self) -> str:
        """Return the brat annotation file."""
        rows = [f"T{n}\t{s.kind} {s.start} {s.end}\t{self.text[s.start : s.end]}" for n, s in enumerate(self.spans, 1)]
        said = ((n, attribute) for n, span in enumerate(self.spans, 1) for attribute in span.attributes)
        rows += [f"A{a}\t{f'{one.name} T{n} {one.value}'.rstrip()}" for a, (n, one) in enumerate(said, 1)]
        return "".join(f"{row}\n" for row in rows)


def read_blocks(path: Path) -> dict[str, list[str]]:
    """Read the ``[name]`` blocks of a data file, without comments and blank lines."""
    blocks: dict[str, list[str]] = {}
    lines: list[str] = []
    for raw in path.read_text(encoding="utf-8").splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            lines = blocks.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return blocks


def parse_layers(line: str) -> tuple[tuple[str, ...], ...]:
    """Parse a ``~`` line into layers of modifiers, the inner layer first."""
    layers = (tuple(item.strip() for item in part.split(";") if item.strip()) for part in line[1:].split("//"))
    return tuple(layer for layer in layers if layer)


def parse_forms(entry: str, layers: tuple[tuple[str, ...], ...]) -> tuple[Form, ...]:
    """Parse ``name, synonym = 5|10 mg = 2``."""
    names, *rest = (part.strip() for part in entry.split(" = "))
    strengths, _, unit = rest[0].rpartition(" ") if rest else ("", "", "")
    doses = tuple(f"{strength} {unit}" for strength in strengths.split("|")) if rest else ()
    intakes = int(rest[1]) if len(rest) > 1 else 1
    return tuple(Form(name.strip(), layers, doses, intakes) for name in names.split(","))


def parse_group(kind: str, lines: list[str], rng: random.Random) -> Group:
    """Parse one vocabulary block and give each concept a weight."""
    found: list[tuple[Form, ...]] = []
    layers: tuple[tuple[str, ...], ...] = ()
    for line in lines:
        if line.startswith("~"):
            layers = parse_layers(line)
            continue
        found.extend(parse_forms(entry, layers) for entry in line.split(";") if entry.strip())
    ranks = list(range(len(found)))
    rng.shuffle(ranks)
    concepts = (Concept(forms, 1 / (rank + 6)) for forms, rank in zip(found, ranks, strict=True))
    return Group(kind, tuple(concepts))


def parse_section(line: str) -> Section:
    """Parse ``?HEAD|Head -> layout pool 2-4``."""
    match = PLAN.fullmatch(line)
    if match is None:
        raise ValueError(f"not a section plan: {line!r}")
    optional, heads, layout, pool, least, most = match.groups()
    return Section(bool(optional), tuple(heads.split("|")), layout, pool, int(least), int(most))


def parse_kind(words: list[str], lines: list[str]) -> NoteKind:
    """Parse one ``[note NAME MAIN]`` block."""
    titles, *plans = lines
    return NoteKind(words[0], words[1], tuple(titles.split("|")), tuple(parse_section(plan) for plan in plans))


def choose_reserved(groups: dict[str, Group], rng: random.Random) -> frozenset[str]:
    """Choose the surface forms which train notes never mention."""
    reserved: set[str] = set()
    for group in groups.values():
        texts = [form.text for concept in group.concepts for form in concept.forms]
        reserved.update(rng.sample(texts, round(RESERVED_SHARE * len(texts))))
    return frozenset(reserved)


def cues_of(template: str) -> dict[str, str]:
    """Return the cues in a template by attribute letter, with their slots."""
    return dict(re.findall(r"\[([a-z]):([^\]]+)\]", template))


def choose_reserved_lines(pools: dict[str, tuple[str, ...]], rng: random.Random) -> frozenset[str]:
    """Choose lines of the last section for test notes alone: their cues have no cue of the other pools in them."""
    common = {
        cue.lower()
        for name, lines in pools.items()
        if name != "further"
        for line in lines
        for cue in cues_of(line).values()
    }
    words = re.compile("|".join(rf"(?<!\w){re.escape(cue)}(?!\w)" for cue in sorted(common)))
    reserved: set[str] = set()
    for letter in ATTRIBUTES:
        lines = [line for line in pools["further"] if next(iter(cues_of(line)), "") == letter]
        new = [line for line in lines if not any(words.search(cue.lower()) for cue in cues_of(line).values())]
        reserved.update(rng.sample(new, min(len(new), round(RESERVED_CUES * len(lines)))))
    return frozenset(reserved)


def load_language(name: str, seed: int = DEFAULT_SEED) -> Language:
    """Load the vocabulary and the templates of a language.

    Args:
        name: Language code, the stem of the data files.
        seed: Seed of the weights and of the reserved terms.

    Returns:
        The parsed language.
    """
    rng = random.Random(f"{seed} {name}")
    words = read_blocks(HERE / "vocabulary" / f"{name}.txt")
    blocks = read_blocks(HERE / "templates" / f"{name}.txt")
    groups = {head.split()[1]: parse_group(head.split()[0], lines, rng) for head, lines in words.items()}
    kinds = [parse_kind(head.split()[1:], lines) for head, lines in blocks.items() if head.startswith("note ")]
    pools = {head: tuple(lines) for head, lines in blocks.items() if not head.startswith("note ")}
    terms = choose_reserved(groups, rng)
    return Language(name, groups, pools, tuple(kinds), terms, choose_reserved_lines(pools, rng))


@dataclass
class Writer:
    """Builds one note: appends text, fills slots and records the spans."""

    language: Language
    rng: random.Random
    kind: NoteKind
    holdout: bool
    text: str = ""
    spans: list[Span] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    cues: list[tuple[str, int, str]] = field(default_factory=list)
    queues: dict[str, list[Concept]] = field(default_factory=dict)
    decks: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    main: Concept | None = None
    dosed: Form | None = None
    shout: bool = False
    blank: str = " "

    def __post_init__(self) -> None:
        """Draw the patient and the style of the note."""
        sex = self.rng.randrange(2)
        for line in self.language.pools["sex"]:
            name, _, values = line.partition(":")
            self.facts[name] = values.split("|")[sex].strip()
        self.facts["age"] = str(self.rng.randint(38, 91))
        self.shout = self.rng.random() < 0.12
        self.blank = NBSP if self.rng.random() < 0.25 else " "
        if self.kind.main in self.language.groups:
            self.main = self.draw_concept(self.kind.main)

    def allowed(self, concept: Concept) -> list[Form]:
        """Return the forms of a concept which this split may mention."""
        return [form for form in concept.forms if self.holdout or form.text not in self.language.reserved]

    def draw_concept(self, group: str) -> Concept:
        """Draw a concept which the note has not mentioned yet, frequent ones first."""
        queue = self.queues.setdefault(group, [])
        if not queue:
            pool = [concept for concept in self.language.groups[group].concepts if self.allowed(concept)]
            keys = [self.rng.random() ** (1 / concept.weight) for concept in pool]
            queue.extend(pool[i] for i in sorted(range(len(pool)), key=lambda i: (keys[i], i)))
        return queue.pop()

    def draw_line(self, pool: str) -> str:
        """Draw a template, without repeats until the pool is empty."""
        deck = self.decks.setdefault(pool, [])
        if not deck:
            deck.extend(self.rng.sample(self.language.pools[pool], len(self.language.pools[pool])))
        return deck.pop()

    def mention(self, concept: Concept, kind: str, plain: bool = False) -> str:
        """Choose the words of a mention: a synonym, sometimes with modifiers."""
        form = self.rng.choice(self.allowed(concept))
        if kind == "MEDICATION":
            self.dosed = form
        text = form.text
        for layer in form.layers:
            if not plain and self.rng.random() < MODIFIER_CHANCE:
                text = self.rng.choice(layer).replace("_", text)
        return text

    def entity(self, name: str, flag: str, listed: bool, code: str) -> None:
        """Append a mention and record its span, and the letters of its attributes."""
        plain = name == "main"
        group = self.kind.main if plain else name
        concept = self.main if plain and self.main else self.draw_concept(group)
        kind = self.language.groups[group].kind
        text = self.mention(concept, kind, plain and self.rng.random() < 0.7)
        if flag == "!" or (listed and self.shout):
            text = text.upper()
        elif flag == "^" or (kind == "MEDICATION" and self.rng.random() < 0.05):
            text = text[0].upper() + text[1:]
        self.spans.append(Span(kind, len(self.text), len(self.text) + len(text)))
        words = text.lower().split() if kind in FINDINGS else []
        inside = [word for word in MODIFIERS if word in words]
        self.cues += ((MODIFIERS[word], len(self.text) + text.lower().index(word), word) for word in inside)
        self.codes.append("".join(dict.fromkeys([*code, *(MODIFIERS[word] for word in inside)])))
        self.text += text

    def number(self, low: str, decimals: str | None, high: str) -> str:
        """Draw a number, with the decimal mark of the language."""
        if decimals is None:
            return str(self.rng.randint(int(low), int(high)))
        value = f"{self.rng.uniform(float(low), float(high)):.{len(decimals)}f}"
        return value if self.language.name == "en" else value.replace(".", ",")

    def dose(self) -> str:
        """Draw a strength of the last drug."""
        doses = self.dosed.doses if self.dosed else ()
        return self.rng.choice(doses).replace(" ", self.blank) if doses else ""

    def plain_slot(self, name: str, flag: str, listed: bool) -> None:
        """Fill a slot which is not an entity."""
        match = RANGE.fullmatch(name)
        if name == "dose":
            self.text += self.dose()
        elif name == "freq":
            self.text += self.rng.choice(self.language.pools[f"freq{self.dosed.intakes if self.dosed else 1}"])
        elif match is not None:
            self.text += self.number(*match.groups())
        elif name in self.language.pools:
            self.fill(self.draw_line(name), listed)
        else:
            text = self.facts[name] if name in self.facts else self.rng.choice(name.split("|"))
            self.text += text[0].upper() + text[1:] if flag else text

    def literal(self, text: str) -> None:
        """Append fixed text, without a second full stop after an abbreviation."""
        self.text += text[1:] if text.startswith(".") and self.text.endswith(".") else text

    def fill(self, template: str, listed: bool = False) -> None:
        """Append a template with its slots filled, and note the cues in it."""
        position, spans, cues = 0, len(self.spans), len(self.cues)
        for match in SLOT.finditer(template):
            self.literal(template[position : match.start()])
            position = match.end()
            slot, letter, _ = match.groups()
            if slot:
                self.slot(slot, listed)
            elif letter:
                self.cues.append((letter, len(self.text), ""))
            else:
                begun, start, _ = self.cues.pop()
                self.cues.append((begun, start, self.text[start:]))
        self.literal(template[position:])
        for index in range(spans, len(self.spans)):
            span = self.spans[index]
            said = tuple(self.attribute(letter, span.start, self.cues[cues:]) for letter in self.codes[index])
            nearby = tuple((letter, cue) for letter, _, cue in self.cues[cues:])
            self.spans[index] = replace(span, attributes=said, nearby=nearby)

    def slot(self, content: str, listed: bool) -> None:
        """Fill one slot."""
        flag = content[0] if content[0] in "^!" else ""
        name, _, code = content.removeprefix(flag).partition("/")
        if name == "main" or name in self.language.groups:
            self.entity(name, flag, listed, code)
        else:
            self.plain_slot(name, flag, listed)

    def attribute(self, letter: str, start: int, cues: list[tuple[str, int, str]]) -> Attribute:
        """Return an attribute of a mention: its cue is the last one before the mention, else the first one after it."""
        places = [(place > start, abs(place - start), cue) for one, place, cue in cues if one == letter]
        return Attribute(*ATTRIBUTES[letter], min(places)[2])

    def section(self, plan: Section, scale: float) -> None:
        """Append a section."""
        count = plan.count(self.rng, scale, len(self.language.pools[plan.pool]))
        head = self.rng.choice(plan.heads)
        below = plan.layout != "prose" or self.rng.random() < 0.6
        self.text += f"{head}{chr(10) if below else ' '}" if head else ""
        bullet = self.rng.choice("-•*")
        for index in range(count):
            if index:
                self.text += "\n" if plan.layout != "prose" or index % 5 == 0 else " "
            marks = {"bullets": f"{bullet} ", "numbers": f"{index + 1}. "}
            self.text += marks.get(plan.layout, "")
            self.fill(self.draw_line(plan.pool), plan.layout != "prose")
        self.text += "\n\n"

    def further(self, split: str, rng: random.Random) -> None:
        """Append the last section, in test notes half of it with cues that no other note has."""
        self.rng = rng
        self.decks = {}
        lines, reserved = self.language.pools["further"], self.language.reserved_lines
        shuffled = rng.sample(lines, len(lines))
        common, rare = ([line for line in shuffled if (line in reserved) == wanted] for wanted in (False, True))
        picked = [
            (rare if split == "test" and rng.random() < 0.5 else common).pop()
            for _ in range(rng.randint(*FURTHER[self.language.name]))
        ]
        self.text = self.text.rstrip("\n") + f"\n\n{rng.choice(self.language.pools['furtherhead'])}\n"
        for index, line in enumerate(picked):
            self.text += " " if index else ""
            self.fill(line)

    def note(self) -> Note:
        """Return what has been written."""
        return Note(self.text.rstrip("\n") + "\n", tuple(self.spans))

    def words(self) -> int:
        """Count the words between blanks."""
        return len(self.text.split())

    def write(self, scale: float) -> Writer:
        """Write all sections but the last."""
        self.fill(self.rng.choice(self.kind.titles))
        self.text += "\n\n"
        for plan in self.kind.sections:
            if not plan.optional or self.rng.random() < 0.4 + 0.3 * scale:
                self.section(plan, scale)
        return self


def write_note(language: Language, split: str, target: int, kind: str, rng: random.Random) -> Note:
    """Write a note of about the wanted number of words.

    Args:
        language: Language of the note.
        split: Split it goes to; only train avoids the reserved terms.
        target: Wanted number of words.
        kind: Name of the note kind, or an empty string for any clinical kind.
        rng: Source of randomness.

    Returns:
        The best of several attempts.
    """
    kinds = [k for k in language.kinds if k.name == kind or (not kind and k.name != EMPTY_NOTE)]
    chosen = rng.choice(kinds[:LONG_KINDS] if target > LONG_NOTE else kinds)
    scale, holdout = 1.0, split != "train"
    best = Writer(language, rng, chosen, holdout).write(scale)
    for _ in range(10):
        one = Writer(language, rng, chosen, holdout).write(scale)
        best = min(best, one, key=lambda one: abs(one.words() - target))
        if abs(best.words() - target) < 0.04 * target:
            break
        scale = min(9.0, max(0.2, scale * target / one.words()))
    if chosen.name != EMPTY_NOTE:
        best.further(split, random.Random(f"{split} {best.text}"))
    return best.note()


def plan_targets(split: str, count: int, rng: random.Random) -> list[int]:
    """Spread the word targets of a split like a log-normal distribution, and shuffle them."""
    curve = NormalDist(math.log(280), 0.6)
    targets = [min(900, max(95, round(math.exp(curve.inv_cdf((i + 0.5) / count))))) for i in range(count)]
    rng.shuffle(targets)
    targets[0] = LONGEST[split]
    return targets


def build_corpus(seed: int = DEFAULT_SEED) -> dict[str, dict[str, Note]]:
    """Build all notes.

    Args:
        seed: Seed of everything random.

    Returns:
        The notes by split and by identifier.
    """
    rng = random.Random(seed)
    languages = {name: load_language(name, seed) for name in SPLITS["train"]}
    numbers = {n: rng.sample(range(1, t + 1), t) for n in languages for t in [sum(s[n] for s in SPLITS.values())]}
    corpus: dict[str, dict[str, Note]] = {}
    for split, counts in SPLITS.items():
        targets = plan_targets(split, sum(counts.values()), rng)
        corpus[split] = {}
        for name in [name for name, count in counts.items() for _ in range(count)]:
            target = targets[len(corpus[split])]
            empty = len(corpus[split]) == 1 and split != "validation"
            limit = target if name == "en" else min(target, 520)
            note = write_note(languages[name], split, limit, EMPTY_NOTE if empty else "", rng)
            corpus[split][f"{name}-{numbers[name].pop():04d}"] = note
    return corpus


def save_corpus(corpus: dict[str, dict[str, Note]], output: Path) -> None:
    """Write the notes as ``SPLIT/NAME.txt`` and ``SPLIT/NAME.ann``."""
    for split, notes in corpus.items():
        folder = output / split
        folder.mkdir(parents=True, exist_ok=True)
        for name, note in notes.items():
            for suffix, content in (("txt", note.text), ("ann", note.standoff())):
                (folder / f"{name}.{suffix}").write_bytes(content.encode("utf-8"))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write the synthetic example corpus in brat standoff form.")
    parser.add_argument("--output", type=Path, default=HERE / "corpus", help="folder of the splits")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="seed of everything random")
    arguments = parser.parse_args()
    save_corpus(build_corpus(arguments.seed), arguments.output)


if __name__ == "__main__":
    main()
