"""The light engine: a model directory's graph in ONNX Runtime, with neither torch nor transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cardioner.errors import ModelError, UsageError, missing_packages
from cardioner.model_dir.entrance import ModelDir, enter
from cardioner.model_dir.golden_comparison import Floats, Integers
from cardioner.model_dir.graph_settings import GraphSettings, read_graph_settings
from cardioner.model_dir.json_files import in_one_line, object_under
from cardioner.model_dir.layout import CONFIG, GRAPH, GRAPH_FILES, GRAPH_SETTINGS, TOKENIZER
from cardioner.model_dir.positions import max_positions
from cardioner.model_dir.untrusted.graph import check_graph
from cardioner.model_dir.untrusted.settings import check_settings
from cardioner.model_dir.untrusted.tokenizer import check_content
from cardioner.multiclass.attributes import AttributeGroup
from cardioner.multiclass.encoding import EncodedNote
from cardioner.multiclass.tagging import Entity
from cardioner.multiclass.windows import Coverage, Window
from cardioner.prediction.emission_cache import EmissionCache

if missing := [name for name in ("onnxruntime", "tokenizers") if find_spec(name) is None]:
    raise UsageError(missing_packages("tagging without torch and transformers", missing))

from cardioner.prediction.engines.tagger import BATCH_TOKENS, Tagger, mean_of

if TYPE_CHECKING:
    from typing_extensions import Self


class OnnxEngine:
    """A graph and its tokenizer.

    Args:
        tagger: What runs it.
        precision: What the graph computes in.
        positions: Most positions that the encoder reads at a time; `None` if nothing limits it.
    """

    name = "onnx"
    device = "cpu"
    default_batch_tokens = BATCH_TOKENS

    def __init__(self, tagger: Tagger, *, precision: str, positions: int | None) -> None:
        self.tagger = tagger
        self.dtype = precision
        self.max_positions = positions

    @classmethod
    def load(cls, directory: Path, *, device: str, dtype: str, key: Path | None) -> Self:
        """The graph of a directory, on the CPU, in the precision that it was written in."""
        if device not in ("auto", "cpu"):
            raise UsageError(f"the onnx engine computes on the CPU: expected the device cpu or auto, found {device!r}")
        reader = _Reader()
        entered = enter(directory, reader, key=key, load=reader.load)
        settings = reader.settings
        if dtype not in ("auto", settings.precision):
            raise UsageError(
                f"{directory / GRAPH} computes in {settings.precision}, and {dtype} was asked for: leave the dtype out"
            )
        positions = max_positions(object_under(entered.config, "encoder_config"))
        return cls(entered.loaded, precision=settings.precision, positions=positions)

    @classmethod
    def averaged(cls, engines: Sequence[Self]) -> Self:
        """One tagger that decodes the mean of all emissions with the mean CRF."""
        taggers = [engine.tagger for engine in engines]
        shortest = min(engines, key=lambda engine: engine.windows[0])
        precisions = {engine.dtype for engine in engines}
        precision = "float32" if len(precisions) > 1 else engines[0].dtype
        return cls(mean_of(taggers, shortest.tagger.plan), precision=precision, positions=shortest.max_positions)

    @property
    def tags(self) -> Sequence[str]:
        """The tags by id."""
        return self.tagger.tags

    @property
    def attributes(self) -> tuple[AttributeGroup, ...]:
        """As the settings have them."""
        return self.tagger.attributes

    @property
    def uses_crf(self) -> bool:
        """Whether the model has a CRF."""
        return self.tagger.crf is not None

    @property
    def windows(self) -> tuple[int, int]:
        """With special positions."""
        return self.tagger.plan.length + self.tagger.plan.extra, self.tagger.plan.context

    @property
    def special_count(self) -> int:
        """As the settings have them."""
        return self.tagger.plan.extra

    @property
    def identity(self) -> tuple[Any, ...]:
        """The tokenizer, what it puts around a window, and the id of padding."""
        return json.loads(self.tagger.tokenizer.to_str()), self.tagger.plan.special, self.tagger.padding

    @property
    def cache(self) -> EmissionCache | None:
        """A part of the plan."""
        return self.tagger.plan.cache  # type: ignore[return-value]  # an export could use another function

    @cache.setter
    def cache(self, cache: EmissionCache | None) -> None:
        self.tagger.plan = self.tagger.plan._replace(cache=cache)

    def set_windows(self, length: int, context: int) -> None:
        """Change the plan."""
        self.tagger.plan = self.tagger.plan._replace(length=length - self.tagger.plan.extra, context=context)

    def cut(self, text: str) -> list[Window]:
        """The windows of a text."""
        (note,) = self.tagger.encode([text])
        return self.tagger.plan.cut(note)

    def tag(
        self,
        texts: Sequence[str],
        *,
        viterbi: bool,
        batch_tokens: int | None,
        advance: Callable[[Coverage], None] | None,
    ) -> list[list[Entity]]:
        """The spans of each text."""
        size = BATCH_TOKENS if batch_tokens is None else batch_tokens
        return self.tagger.tag(texts, viterbi=viterbi, batch_tokens=size, advance=advance)


class _Reader:
    """Reads the graph, its settings and the tokenizer; the weights are left alone.

    Attributes:
        settings: Of the graph, once they are checked.
    """

    settings: GraphSettings

    def describe(self, path: Path, files: frozenset[str]) -> None:
        """Weights are not read."""

    def check(self, entered: ModelDir, files: frozenset[str], described: None) -> None:  # noqa: ARG002 - a protocol's
        """Refuse a directory whose manifest lists no graph, and files that are not safe to read."""
        path = entered.path
        if entered.manifest is None:
            raise ModelError(f"{path} has no manifest, which the onnx engine needs: save the model again")
        if not {*GRAPH_FILES} <= entered.manifest.files.keys():
            raise ModelError(
                f"{path} has no graph for the onnx engine: run `cardioner export onnx {path} --into` where torch is "
                "installed"
            )
        check_settings(path / CONFIG, entered.config)
        self.settings = read_graph_settings(path / GRAPH_SETTINGS)
        if self.settings.tags != entered.manifest.labels:
            raise ModelError(f"{path / GRAPH_SETTINGS}: its tags are not those of the model: copy the directory again")
        if TOKENIZER not in files:
            raise ModelError(f"{path} lacks {TOKENIZER}: copy the whole directory again")
        window = self.settings.windows.length
        check_content(path / TOKENIZER, rows=self.settings.vocabulary, window=window)
        check_graph(path / GRAPH)

    def load(self, entered: ModelDir) -> Tagger:
        """The tagger of the files that were checked."""
        with in_one_line(f"{entered.path} cannot be loaded", "(copy the whole directory again)"):
            return Tagger.from_folder(entered.path)

    def check_loaded(self, path: Path, loaded: Tagger) -> None:
        """The golden outputs show numbers that are none, and so does each note."""

    def computer(self, loaded: Tagger) -> _Computer:
        """What computes the golden outputs."""
        return _Computer(loaded, self.settings)


class _Computer:
    """A graph as `golden_comparison` sees it."""

    def __init__(self, tagger: Tagger, settings: GraphSettings) -> None:
        self._tagger = tagger
        self.tags, self.columns = len(settings.tags), tagger.columns
        self.sequences = len(tagger.groups)
        self.window_length = settings.windows.length + tagger.plan.extra
        self.vocabulary = settings.vocabulary
        self.tolerance = settings.tolerance

    def read(self, texts: Sequence[str]) -> list[EncodedNote]:
        return self._tagger.encode(texts)

    def emissions(self, ids: Integers, mask: Integers) -> Floats:
        found = self._tagger.compute(ids, mask)
        if found.shape != (*ids.shape, self.columns):
            expected = f"expected {self.columns} for each position"
            raise ModelError(f"the graph gives {self._shown(found)} emissions, {expected}")
        return np.where(mask[:, :, None] > 0, found, np.float32(0))

    def decode(self, emissions: Floats, mask: Integers) -> list[list[int]]:
        rows = self._tagger.decode([rows[kept > 0] for rows, kept in zip(emissions, mask, strict=True)])
        return [[tag for tags in row for tag in tags] for row in rows]

    def score(self, emissions: Floats, tags: Sequence[int]) -> float:
        places = np.arange(len(tags)) % len(emissions)
        own = float(emissions.astype(np.float64)[places, tags].sum())
        crf = self._tagger.crf
        return own if crf is None else own + crf.score(tags)

    @staticmethod
    def _shown(found: Floats) -> str:
        return " x ".join(map(str, found.shape))
