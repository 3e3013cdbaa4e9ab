"""The notes that a person may open on the page, in an order that may say where corrections teach most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cardioner.data.documents import Document
from cardioner.server.corrections import Corrections


class Notes(Mapping[str, Document]):
    """Notes by id, in order.

    Args:
        documents: The notes; their spans are shown as the annotations that they came with.
        order: By id, how much a correction of the note should teach; notes with more come first, those without any
            last. `None` keeps the order of the documents.
    """

    def __init__(self, documents: Iterable[Document] = (), *, order: Mapping[str, float] | None = None) -> None:
        self.order = dict(order or {})
        listed = sorted(documents, key=lambda document: -self.order.get(document.id, float("-inf")))
        self._documents = {document.id: document for document in listed}

    def __getitem__(self, name: str) -> Document:
        """The note of an id."""
        return self._documents[name]

    def __iter__(self) -> Iterator[str]:
        """The ids, in order."""
        return iter(self._documents)

    def __len__(self) -> int:
        """How many notes there are."""
        return len(self._documents)


@dataclass(frozen=True, slots=True)
class Workspace:
    """What the page works on.

    Attributes:
        notes: The notes to open.
        corrections: Where corrected ones are kept; `None` if they cannot be saved.
        places: Where each model is, by its name.
    """

    notes: Notes = field(default_factory=Notes)
    corrections: Corrections | None = None
    places: Mapping[str, Path] = field(default_factory=dict)

    @property
    def saved(self) -> Mapping[str, Document]:
        """The corrected notes by id."""
        return self.corrections.saved if self.corrections else {}
