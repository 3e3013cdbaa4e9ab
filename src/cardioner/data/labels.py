"""Entity types, their tags, and the ids a model knows the tags by."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cardioner.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cardioner.data.documents import Document


Scheme = Literal["BIO", "BIOES"]
PREFIXES: dict[Scheme, str] = {"BIO": "BI", "BIOES": "BIES"}
"""What stands before a type in its tags."""


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The tags of a model, in the order of their ids.

    Attributes:
        tags: `tags[i]` is the tag with id `i`.

    Raises:
        UsageError: If a tag appears twice, or if there is no tag.
    """

    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.tags or len(set(self.tags)) != len(self.tags):
            raise UsageError(f"a label set needs at least one tag, each of them once; found {list(self.tags)}")

    @classmethod
    def from_types(cls, types: Iterable[str], *, scheme: Scheme = "BIO") -> LabelSet:
        """`O` as id 0, then `B-X`, `I-X` and, in BIOES, `E-X` and `S-X` for the sorted types: the same everywhere."""
        return cls(("O", *(f"{prefix}-{name}" for name in sorted(set(types)) for prefix in PREFIXES[scheme])))

    @classmethod
    def from_mapping(cls, label2id: Mapping[str, int]) -> LabelSet:
        """A caller's own tags and ids, whatever their order.

        Raises:
            UsageError: If the ids are not 0 to n - 1, each once.
        """
        by_id = {int(index): tag for tag, index in label2id.items()}
        if sorted(by_id) != list(range(len(label2id))):
            raise UsageError(
                f"label2id must give the ids 0 to {len(label2id) - 1}, each once; "
                f"found {sorted(int(index) for index in label2id.values())}"
            )
        return cls(tuple(by_id[index] for index in range(len(by_id))))

    def check(self, documents: Iterable[Document]) -> None:
        """Refuse documents with entity types that there are no tags for.

        Raises:
            DataError: Naming them.
        """
        known = set(self.types)
        unknown = Counter(span.label for document in documents for span in document.spans if span.label not in known)
        if unknown:
            found = ", ".join(f"{label} ({count})" for label, count in sorted(unknown.items()))
            raise DataError(
                f"the model tags {', '.join(self.types) or 'nothing'}; the data also has {found}: "
                "rename these types or drop them (on the command line: --map OLD=NEW, --map OLD=)"
            )

    def check_scheme(self) -> None:
        """Refuse tags that are not `O` and, for each type, those of BIO or of BIOES.

        Raises:
            UsageError: Naming what is missing, and what is there in its place.
        """
        closed = {tag[2:] for tag in self.tags if tag.startswith(("E-", "S-"))}
        prefixes = {name: PREFIXES["BIOES" if name in closed else "BIO"] for name in self.types}
        wanted = {"O", *(f"{prefix}-{name}" for name in self.types for prefix in prefixes[name])}
        if set(self.tags) != wanted:
            raise UsageError(
                "the tags must be O and, for each type X, B-X and I-X (BIO), or B-X, I-X, E-X and S-X (BIOES); "
                f"missing: {', '.join(sorted(wanted - set(self.tags))) or 'none'}; "
                f"not understood: {', '.join(sorted(set(self.tags) - wanted)) or 'none'}"
            )

    @property
    def types(self) -> tuple[str, ...]:
        """The entity types, sorted."""
        return tuple(sorted({tag.partition("-")[2] for tag in self.tags if "-" in tag}))

    @property
    def label2id(self) -> dict[str, int]:
        """Tag to id."""
        return {tag: index for index, tag in enumerate(self.tags)}

    @property
    def id2label(self) -> dict[int, str]:
        """Id to tag."""
        return dict(enumerate(self.tags))
