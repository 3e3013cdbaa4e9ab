"""A cache of emissions by the content of windows: much of a record is pasted from earlier notes."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from struct import pack
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cardioner.multiclass.encoding import Allocate, Compute

ENTRY_BYTES = 1024
"""What a window takes beside its emissions: its key, its place in the order, the objects around them; rounded up."""


class EmissionCache:
    """Keeps the emissions of one model's windows in memory; it is the `cache` of a `WindowPlan`.

    A window's key is a keyed hash of its ids (BLAKE2b, RFC 7693) with a random key of this object, so that keys say
    nothing to whoever lacks it. There is neither text nor an id in it. What was not used for longest goes first.
    A pickled cache arrives empty and with another key.

    Args:
        limit: Most bytes that are kept.

    Attributes:
        size: Bytes that are kept.
        hits: Windows that were answered without computing them.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.hits = 0
        self._key = secrets.token_bytes(blake2b.MAX_KEY_SIZE)
        self._rows: OrderedDict[bytes, Any] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        """How many windows are kept."""
        return len(self._rows)

    def __reduce__(self) -> tuple[type[EmissionCache], tuple[int]]:
        """What was kept stays in this process."""
        return EmissionCache, (self.limit,)

    def __call__(self, compute: Compute, allocate: Allocate) -> Compute:
        """Something that computes only the windows of a batch that are not kept, each once."""

        def answer(windows: list[list[int]]) -> list[Any]:
            keys = [self.key_of(ids) for ids in windows]
            known = self._kept(keys)
            fresh = {key: ids for key, ids in zip(keys, windows, strict=True) if key not in known}
            computed = compute([*fresh.values()]) if fresh else ()
            for (key, ids), rows in zip(fresh.items(), computed, strict=True):
                known[key] = allocate(len(ids))  # a copy, without the padding and without the rest of the batch
                known[key][:] = rows[: len(ids)]
            self._keep((key, known[key]) for key in fresh)
            self.hits += len(windows) - len(fresh)
            return [known[key] for key in keys]

        return answer

    def clear(self) -> None:
        """Forget all windows, as is needed after weights were changed."""
        with self._lock:
            self._rows.clear()
            self.size = 0

    def key_of(self, ids: Sequence[int]) -> bytes:
        """The key of a window: 16 bytes."""
        return blake2b(pack(f"<{len(ids)}I", *ids), key=self._key, digest_size=16).digest()

    def _kept(self, keys: Iterable[bytes]) -> dict[bytes, Any]:
        """The windows of these that are kept, which are now those used last."""
        with self._lock:
            found = {key: self._rows[key] for key in keys if key in self._rows}
            for key in found:
                self._rows.move_to_end(key)
        return found

    def _keep(self, windows: Iterable[tuple[bytes, Any]]) -> None:
        """Keep windows, and drop others where they would be too many."""
        with self._lock:
            for key, rows in windows:
                if key not in self._rows:  # another thread may have been faster
                    self._rows[key] = rows
                    self.size += _bytes_of(rows)
            while self.size > self.limit:
                self.size -= _bytes_of(self._rows.popitem(last=False)[1])


def _bytes_of(rows: Any) -> int:
    """What a window takes."""
    return int(rows.nbytes) + ENTRY_BYTES
