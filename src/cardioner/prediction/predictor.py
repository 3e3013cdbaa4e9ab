"""Tag notes of any length with a saved model, or with several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from cardioner._progress import ProgressOption
from cardioner.data.documents import Document, Span
from cardioner.errors import DataError, ModelError, UsageError, listed, many
from cardioner.multiclass.encoding import TokenizerPanicError
from cardioner.multiclass.tagging import Entity
from cardioner.multiclass.windows import Coverage
from cardioner.prediction.directories import model_directories
from cardioner.prediction.emission_cache import EmissionCache
from cardioner.prediction.engines import Engine, engine_named, entity_types
from cardioner.prediction.ensemble import join
from cardioner.prediction.predictions import Advance, Predictions, as_documents, each_note, not_a_note
from cardioner.prediction.vote import MAJORITY, SCORE, Vote

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Coverage", "Predictions", "Predictor", "load"]

DECODERS = ("viterbi", "argmax")
_MIB = 1 << 20


class Predictor:
    """A model, its tokenizer, and how to decode: call it with texts or Documents, or use `predict`.

    Args:
        model: A model of `cardioner.multiclass.modeling`.
        tokenizer: Its tokenizer.
        decoder: `viterbi`, or `argmax` to ignore a CRF; the same thing for a model without one.

    Attributes:
        engines: What computes the spans: one model, or several members that vote on them.
        decoder: How tags are decoded.
        vote: How they decide.

    Raises:
        UsageError: For another decoder.
        ModelError: If a tokenizer does not tell which characters a sub-token stands for, or windows have no room.
    """

    engines: tuple[Engine, ...]
    decoder: str
    vote: Vote
    _directories: tuple[str, ...] = ()

    def __init__(self, model: Any, tokenizer: Any, *, decoder: str = "viterbi") -> None:
        from cardioner.prediction.engines.torch import TorchEngine  # noqa: PLC0415 - the light engine needs no torch

        self._set([TorchEngine(model, tokenizer)], decoder)

    def _set(self, engines: Sequence[Engine], decoder: str, vote: str | float = SCORE) -> None:
        if decoder not in DECODERS:
            raise UsageError(f"the decoder must be one of {', '.join(DECODERS)}; found {decoder!r}")
        self.engines = tuple(engines)
        self.decoder = decoder
        self.vote = Vote.of([engine.tags for engine in self.engines], vote)
        for engine in self.engines:
            _check_readable(engine)

    @classmethod
    def of_engines(cls, engines: Sequence[Engine], *, decoder: str = "viterbi", vote: str | float = SCORE) -> Self:
        """A predictor of members that vote on spans, as `vote.Vote` has it; of different types, all are kept.

        Raises:
            UsageError: For another decoder or vote.
            ModelError: If a tokenizer does not tell which characters a sub-token stands for, or windows have no room.
        """
        made = cls.__new__(cls)
        made._set(engines, decoder, vote)
        return made

    @classmethod
    def from_pretrained(  # noqa: PLR0913 - what can be chosen when a model is loaded
        cls,
        directory: str | Path | Sequence[str | Path],
        *,
        engine: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        max_length: int | None = None,
        context: int | None = None,
        decoder: str = "viterbi",
        key: str | Path | None = None,
        cache_mib: int = 0,
        vote: str | float | None = None,
    ) -> Self:
        """Load a saved directory; nothing in it is executed.

        Args:
            directory: The directory; or several; or a folder of repeated trainings, which stands for all its models.
                Models with the same tags and the same tokenizer, and all with a CRF or none, become one, which decodes
                the mean of their emissions. Others vote on spans; those of types that one model alone finds are kept.
            engine: `torch`; or `onnx`, which needs neither torch nor transformers, and a graph in the directory
                (`cardioner export onnx DIR --into`); `auto` takes torch where it is installed.
            device: `auto` takes the GPU where there is one; or a device as torch names it. `onnx` takes the CPU.
            dtype: What the encoder computes in: `float32`, `bfloat16` or `int8`; `auto` takes the fastest that the
                model allows and the device has instructions for. A graph has its own precision.
            max_length: Most sub-tokens in a window, special ones included, in place of what the model says.
            context: Sub-tokens that neighbouring windows share on either side of their border, likewise.
            decoder: `viterbi`, or `argmax` to ignore a CRF.
            key: The file of a public key: every directory must be signed with its private key (`cardioner sign`).
            cache_mib: MiB of memory for the emissions of windows that were read before, so that pasted text is computed
                once; 0 for no cache. With one, windows end where lines and sentences do, which can change spans; what
                is kept never does.
            vote: `score`, `majority`, or the least mean score of a span that not all members find, from 0 to 1; given,
                models vote even if they could be averaged. `None` averages where that can be, and votes by `score`
                otherwise.

        Raises:
            ModelError: If a directory is missing, incomplete, altered, not signed as it should be, computes something
                else than when it was saved, is not one of ours, or has no graph for `onnx`.
            UsageError: If `directory` is no path, the engine, the device, the dtype, the decoder, the key or the vote
                does not exist, one model alone is to vote, a package is missing, windows of that length do not fit, or
                `cache_mib` is less than 0.
        """
        if cache_mib < 0:
            raise UsageError(f"cache_mib must be 0 or more; found {cache_mib}")
        kind, places, loaded = engine_named(engine), model_directories(directory), []
        for place in places:
            opened = kind.load(place, device=device, dtype=dtype, key=None if key is None else Path(key))
            _set_windows(opened, max_length, context)
            loaded.append(opened)
        members = join(loaded, vote=vote is not None)
        made = cls.of_engines(members, decoder=decoder, vote=SCORE if vote is None else vote)
        made._directories = tuple(map(str, places))
        for one in made.engines if cache_mib else ():
            one.cache = EmissionCache(cache_mib * _MIB // len(made.engines))
        return made

    @property
    def model(self) -> Any:
        """The model in torch.

        Raises:
            UsageError: If another engine computes.
        """
        return self._of_torch("model")

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer, likewise."""
        return self._of_torch("tokenizer")

    def _of_torch(self, name: str) -> Any:
        if not hasattr(self.engines[0], name):
            raise UsageError(f"there is no {name} without torch: load the directory with engine='torch'")
        return getattr(self.engines[0], name)

    @property
    def windows_from_cache(self) -> int:
        """How many windows were answered from the cache so far."""
        return sum(engine.cache.hits for engine in self.engines if engine.cache is not None)

    @property
    def default_batch_tokens(self) -> int:
        """How many sub-tokens the encoder reads at a time by default: more on a GPU than on a CPU."""
        return self.engines[0].default_batch_tokens

    def __repr__(self) -> str:
        """Where the models are from, their entity types, the device and the dtype."""
        first = self.engines[0]
        models = ", ".join(self._directories) or type(getattr(first, "model", first)).__name__
        dtypes = {engine.dtype for engine in self.engines}
        how = f" ({self.combination})" if self.combination else ""
        return (
            f"Predictor({models}{how}; labels: {listed(self.labels) or 'none'}; "
            f"device: {first.device}; dtype: {listed(dtypes)})"
        )

    @property
    def combination(self) -> str:
        """How several models are used as one, in words; empty for a single model."""
        members = len(self.engines)
        if members == 1:
            return f"mean of {many(len(self._directories), 'model')}" if len(self._directories) > 1 else ""
        if max(self.vote.voters.values(), default=0) < 2:
            return f"spans of {many(members, 'model')} united"
        threshold = self.vote.threshold
        return (
            f"vote of {many(members, 'member')} by {MAJORITY if threshold is None else f'{SCORE}, from {threshold:g}'}"
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The entity types that can be found, sorted."""
        return tuple(sorted(set[str]().union(*map(entity_types, self.engines))))

    @property
    def attributes(self) -> dict[str, tuple[str | bool | None, ...]]:
        """The attributes that the models know: for each its values, sorted, `None` for its absence."""
        known: dict[str, dict[str | bool | None, None]] = {}
        for group in (group for engine in self.engines for group in engine.attributes):
            known.setdefault(group.name, {}).update(dict.fromkeys(group.values))
        return {name: tuple(known[name]) for name in sorted(known)}

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is no list of texts
        self, notes: str, *, progress: ProgressOption = None
    ) -> list[Span]: ...
    @overload
    def __call__(self, notes: Document, *, progress: ProgressOption = None) -> Document: ...
    @overload
    def __call__(self, notes: Iterable[str], *, progress: ProgressOption = None) -> list[list[Span]]: ...
    @overload
    def __call__(self, notes: Iterable[Document], *, progress: ProgressOption = None) -> list[Document]: ...
    def __call__(self, notes: Any, *, progress: ProgressOption = None) -> Any:
        """Tag one note, or several at once: texts give spans, Documents give Documents.

        For more notes than fit into memory, or to go on past a note that cannot be tagged, use `predict`.

        Args:
            notes: A text, a Document, or an iterable of either.
            progress: As for `predict`.

        Returns:
            For a text its spans; for a Document the same with the model's spans in place of its own. For several a list
            with one of these for each, in order.

        Raises:
            UsageError: If something else is given, or texts and Documents together.
            DataError: If a note cannot be tagged, or two Documents have the same id.
        """
        single = isinstance(notes, (str, Document))
        given = [notes] if single else list(each_note(notes))
        documents = list(as_documents(given))
        texts = sum(isinstance(note, str) for note in given)
        if 0 < texts < len(given):
            raise UsageError(f"expected only texts or only Documents; {texts} of {many(len(given), 'note')} are texts")
        predictions = self.predict(documents, progress=progress)
        tagged: list[Any] = [list(document.spans) if texts else document for document in predictions]
        for name, problem in predictions.problems:
            raise DataError(f"note {name!r}: {problem}; predict() leaves such notes out and names them")
        return tagged[0] if single else tagged

    def predict(
        self,
        notes: Iterable[str | Document],
        *,
        batch_tokens: int | None = None,
        advance: Advance | None = None,
        progress: ProgressOption = None,
    ) -> Predictions:
        """Tag notes in order, as they are asked for: Documents with the model's spans in place of their own.

        Args:
            notes: Documents, or texts, which become Documents with the ids `text-1`, `text-2`, ... by their place. At
                most `READ_AHEAD` of them are held at a time, and no further one is taken once they have
                `READ_AHEAD_CHARACTERS` (see `cardioner.multiclass.windows`).
            batch_tokens: Most sub-tokens that the encoder reads at a time, padding included; by default
                `default_batch_tokens`.
            advance: Called with all that is covered so far, each time a batch is done.
            progress: `True` shows a bar, or without a terminal a line every half minute, on standard error. Or a
                function, which is called with `tagging (notes)`, how many are done, and how many there are (`None` if
                `notes` has no length).

        Raises:
            UsageError: If a batch has no room for a sub-token, or `notes` is no iterable of notes; an item that is
                neither text nor Document is refused when it is reached.
            DataError: When the second of two notes with the same id is reached.
        """
        if batch_tokens is not None and batch_tokens < 1:
            raise UsageError(f"a batch needs room for 1 sub-token or more; found {batch_tokens}")

        def tag(group: list[Document], count: Advance) -> list[Document]:
            return self._tag(group, batch_tokens=batch_tokens, advance=count)

        total = len(notes) if isinstance(notes, Sized) else None
        return Predictions(as_documents(notes), tag, advance, progress=progress, total=total)

    def predict_text(self, text: str) -> tuple[Span, ...]:
        """The spans of one text.

        Raises:
            UsageError: If it is not a str.
            DataError: If it cannot be tagged.
        """
        if not isinstance(text, str):
            raise not_a_note(text, "a str")
        return tuple(self(text))

    def _tag(self, documents: list[Document], *, batch_tokens: int | None, advance: Advance) -> list[Document]:
        """Tag a group of notes together, so that their windows share batches."""
        texts = [document.text for document in documents]
        viterbi, found = self.decoder == "viterbi", []
        for engine in self.engines:
            counted = advance if engine is self.engines[-1] else _reading_only(advance)
            found.append(engine.tag(texts, viterbi=viterbi, batch_tokens=batch_tokens, advance=counted))
        return [
            document.with_spans(_as_span(entity) for entity in self.vote.elect(members))
            for document, members in zip(documents, zip(*found, strict=True), strict=True)
        ]


def load(
    directory: str | Path | Sequence[str | Path],
    *,
    engine: str = "auto",
    device: str = "auto",
    key: str | Path | None = None,
) -> Predictor:
    """Load a model directory, or several as an ensemble: short for `Predictor.from_pretrained`, which says more.

    Args:
        directory: The directory, or a list of them.
        engine: `torch`; or `onnx`, which needs no torch; `auto` takes torch where it is installed.
        device: `auto` takes the GPU where there is one; or a device as torch names it.
        key: The file of a public key: every directory must be signed with its private key.
    """
    return Predictor.from_pretrained(directory, engine=engine, device=device, key=key)


def _as_span(entity: Entity) -> Span:
    """An entity as the span of a document."""
    start, end, label, score, attributes, scores = entity
    return Span(start, end, label, score, attributes=dict(attributes), attribute_scores=dict(scores))


def _reading_only(advance: Advance) -> Advance:
    """A function that counts only windows and sub-tokens: other models have yet to read the same notes."""
    return lambda more: advance(more._replace(documents=0, characters=0))


def _set_windows(engine: Engine, max_length: int | None, context: int | None) -> None:
    """Use the caller's windows instead of those that the model was trained with.

    Raises:
        UsageError: If the encoder cannot read them, or the contexts leave no sub-token to a window.
    """
    if max_length is None and context is None:
        return
    special, limit = engine.special_count, engine.max_positions
    length = engine.windows[0] if max_length is None else max_length
    shared = engine.windows[1] if context is None else context
    if shared < 0:
        raise UsageError(f"context must be 0 or more; found {shared}")
    if limit is not None and length > limit:
        raise UsageError(f"max_length must be at most {limit}, what the encoder reads at a time; found {length}")
    if length - special <= 2 * shared:
        raise UsageError(
            f"a window of {length} sub-tokens, {special} special ones among them, has no room between two contexts of "
            f"{shared}: give a context of {max(0, (length - special - 1) // 2)} or less, or a max_length of "
            f"{special + 2 * shared + 1} or more"
        )
    engine.set_windows(length, shared)


def _check_readable(engine: Engine) -> None:
    """Refuse what would fail on every note.

    Raises:
        ModelError: If the tokenizer is a slow one, or the windows have no room.
    """
    try:
        engine.cut("")
    except (ValueError, TokenizerPanicError) as error:
        raise ModelError(f"the model cannot cut notes into windows: {error}") from error
