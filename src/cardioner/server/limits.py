"""What a server accepts, and how long it lets requests wait for each other."""

from __future__ import annotations

from dataclasses import dataclass, fields

from cardioner.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of requests and of the queue.

    Attributes:
        body_bytes: Of the body of a request, and of one line of a stream.
        texts: In a request.
        characters: In all texts of a request, and in one line of a stream.
        queue: Texts that may wait to be tagged, per model.
        wait_ms: Milliseconds that a request waits at most for others to share its batch.
        idle_seconds: Seconds without a byte after which an unfinished body is given up.

    Raises:
        UsageError: If one of them is not positive, or the largest request does not fit into an empty queue.
    """

    body_bytes: int = 16 << 20
    texts: int = 64
    characters: int = 1_000_000
    queue: int = 256
    wait_ms: float = 5
    idle_seconds: float = 30

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name != "wait_ms"):
                raise UsageError(f"{field.name} must be more than 0; found {value}")
        if self.queue < self.texts:
            raise UsageError(
                f"a queue of {self.queue} has no room for a request of {self.texts} texts, the most that one may have: "
                "give a longer queue, or allow fewer texts"
            )
