"""What computes spans: torch, or ONNX Runtime without torch. Each engine is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cardioner.errors import UsageError
from cardioner.multiclass.attributes import AttributeGroup
from cardioner.multiclass.tagging import Entity, types_of
from cardioner.multiclass.windows import Coverage, Window
from cardioner.prediction.emission_cache import EmissionCache

if TYPE_CHECKING:
    from typing_extensions import Self

ENGINES = ("auto", "torch", "onnx")


class Engine(Protocol):
    """A model that is ready to tag.

    Attributes:
        cache: Where the emissions of windows are kept that it has read before; `None` to read all.
    """

    cache: EmissionCache | None

    @property
    def name(self) -> str:
        """As `engine_named` takes it."""

    @property
    def tags(self) -> Sequence[str]:
        """In the order of their ids."""

    @property
    def attributes(self) -> tuple[AttributeGroup, ...]:
        """What it says of spans."""

    @property
    def uses_crf(self) -> bool:
        """Whether there is a CRF."""

    @property
    def device(self) -> str:
        """Where it computes."""

    @property
    def dtype(self) -> str:
        """What the encoder computes in."""

    @property
    def default_batch_tokens(self) -> int:
        """How many sub-tokens the encoder reads at a time by default."""

    @property
    def windows(self) -> tuple[int, int]:
        """Most positions in a window, special ones included, and the sub-tokens that neighbours share."""

    @property
    def special_count(self) -> int:
        """How many positions of a window are special ones."""

    @property
    def max_positions(self) -> int | None:
        """Most positions that the encoder reads at a time; `None` if nothing limits it."""

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tokenizers must have in common so that their sub-tokens are the same."""

    @classmethod
    def load(cls, directory: Path, *, device: str, dtype: str, key: Path | None) -> Self:
        """The model of a directory, which is checked first.

        Raises:
            ModelError: If the directory cannot be trusted, or lacks what this engine reads.
            UsageError: If the engine has no such device or dtype, or a package is missing.
        """

    @classmethod
    def averaged(cls, engines: Sequence[Self]) -> Self:
        """The mean of models with the same tags and the same tokenizer."""

    def set_windows(self, length: int, context: int) -> None:
        """Cut notes into other windows than the model says."""

    def cut(self, text: str) -> list[Window]:
        """The windows of a text.

        Raises:
            ValueError: If the tokenizer does not tell which characters a sub-token stands for, or windows have no room.
            TokenizerPanicError: If the tokenizer gives up.
        """

    def tag(
        self,
        texts: Sequence[str],
        *,
        viterbi: bool,
        batch_tokens: int | None,
        advance: Callable[[Coverage], None] | None,
    ) -> list[list[Entity]]:
        """The spans of each text.

        Args:
            texts: The notes.
            viterbi: Whether a model with a CRF uses it.
            batch_tokens: Most sub-tokens that the encoder reads at a time; `None` for `default_batch_tokens`.
            advance: Called with what a batch covered beyond those before it.

        Raises:
            FloatingPointError: If a score is not a finite number.
            TokenizerPanicError: If the tokenizer gives up on a text.
        """


def chosen(name: str) -> str:
    """The name of an engine; for `auto`, `torch` where it is installed, else `onnx`.

    Raises:
        UsageError: If there is none of that name.
    """
    if name not in ENGINES:
        raise UsageError(f"the engine must be one of {', '.join(ENGINES)}; found {name!r}")
    if name != "auto":
        return name
    return "torch" if find_spec("torch") and find_spec("transformers") else "onnx"


def engine_named(name: str) -> type[Engine]:
    """The engine of a name, as `chosen` has it.

    Raises:
        UsageError: If there is none of that name, or a package is missing that it needs.
    """
    if chosen(name) == "torch":
        from cardioner.prediction.engines.torch import TorchEngine  # noqa: PLC0415 - only the engine that is used

        return TorchEngine
    from cardioner.prediction.engines.onnx import OnnxEngine  # noqa: PLC0415

    return OnnxEngine


def entity_types(engine: Engine) -> set[str]:
    """The entity types that a model can find."""
    return set(types_of(engine.tags))
