"""Entity types, their tags, and the ids a model knows the tags by."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cardioner.errors import DataError, UsageError
from cardioner.multiclass.tagging import TagGroup, tag_groups, types_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cardioner.data.documents import Document


Scheme = Literal["BIO", "BIOES"]
Overlap = Literal["flat", "per-type"]
"""Whether a sub-token has one tag, or one for each entity type, so that spans of different types may overlap."""

PREFIXES: dict[Scheme, str] = {"BIO": "BI", "BIOES": "BIES"}
"""What stands before a type in its tags."""


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The tags of a model, in the order of their ids.

    Attributes:
        tags: `tags[i]` is the tag with id `i`.

    Raises:
        UsageError: If a tag appears twice, if there is no tag, or if tags per type are in no order.
    """

    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.tags or len(set(self.tags)) != len(self.tags):
            raise UsageError(f"a label set needs at least one tag, each of them once; found {list(self.tags)}")
        try:
            tag_groups(self.tags)
        except ValueError as error:
            raise UsageError(str(error)) from error

    @classmethod
    def from_types(cls, types: Iterable[str], *, scheme: Scheme = "BIO", overlap: Overlap = "flat") -> LabelSet:
        """`O` as id 0, then `B-X`, `I-X` and, in BIOES, `E-X` and `S-X` for the sorted types: the same everywhere.

        With `per-type` each type has an `O-X` of its own before these. Of one type alone both are the same: flat tags.
        """
        names = sorted(set(types))
        if overlap == "per-type" and len(names) > 1:
            return cls(tuple(f"{prefix}-{name}" for name in names for prefix in f"O{PREFIXES[scheme]}"))
        return cls(("O", *(f"{prefix}-{name}" for name in names for prefix in PREFIXES[scheme])))

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
        """Refuse tags that are not `O` and, for each type, those of BIO or of BIOES; or the same with an `O-X` a type.

        Raises:
            UsageError: Naming what is missing, and what is there in its place.
        """
        if self.overlap == "per-type":
            scheme: Scheme = "BIOES" if len(self.groups[0].tags) > len(PREFIXES["BIO"]) + 1 else "BIO"
            if set(self.tags) != {f"{prefix}-{name}" for name in self.types for prefix in f"O{PREFIXES[scheme]}"}:
                raise UsageError(
                    "with tags per type, each type X must have O-X, B-X, I-X and, in BIOES, E-X, S-X; "
                    f"found {', '.join(self.tags)}"
                )
            return
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
        return tuple(types_of(self.tags))

    @property
    def groups(self) -> tuple[TagGroup, ...]:
        """The tags that exclude each other at a sub-token."""
        return tag_groups(self.tags)

    @property
    def overlap(self) -> Overlap:
        """Whether sub-tokens have one tag, or one for each type."""
        return "flat" if self.groups[0].label is None else "per-type"

    def with_overlap(self, overlap: Overlap) -> LabelSet:
        """The tags of the same types and scheme, in the other layout; as they are if they are in it already."""
        if overlap == self.overlap or len(self.types) == 1:
            return self
        scheme: Scheme = "BIOES" if any(tag.startswith("E-") for tag in self.tags) else "BIO"
        return LabelSet.from_types(self.types, scheme=scheme, overlap=overlap)

    @property
    def label2id(self) -> dict[str, int]:
        """Tag to id."""
        return {tag: index for index, tag in enumerate(self.tags)}

    @property
    def id2label(self) -> dict[int, str]:
        """Id to tag."""
        return dict(enumerate(self.tags))
