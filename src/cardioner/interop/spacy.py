"""The component `cardioner` of spaCy: `nlp.add_pipe("cardioner", config={"model": DIR})`.

All spans go into a group of `doc.spans`, and a flat choice of them among the entities. What a span of spaCy cannot hold
are extensions, which spans of other components have too:

| extension | of ours | of other spans |
|---|---|---|
| `cardioner_start`, `cardioner_end` | The edges in characters, exactly. | The edges of the tokens. |
| `cardioner_score` | The model's probability of the span. | `None` |
| `cardioner_attributes` | The attributes of the span. | `{}` |
| `cardioner_attribute_scores` | The model's probabilities of that. | `{}` |

`doc._.cardioner_expanded` is the number of spans in groups whose tokens reach over their edges.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, Literal, get_type_hints

import srsly
from spacy.language import Language
from spacy.pipeline import Pipe
from spacy.tokens import Doc
from spacy.tokens import Span as TokenSpan

from cardioner._io import reporting_failed_writes
from cardioner.data.documents import Document
from cardioner.data.formats.files import files_below
from cardioner.data.spacy_docs import GROUP, add_entities, is_exact, mark, marked
from cardioner.errors import DataError, ModelError, UsageError
from cardioner.model_dir.entrance import existing
from cardioner.model_dir.manifest import own_files
from cardioner.prediction.directories import model_directories, models_digest
from cardioner.prediction.predictor import Predictor

Entities = Literal["add", "replace", "none"]
_DIGEST, _COPIES = "models.sha256", "models"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a component is configured.

    Attributes:
        model: The model directory, or a folder of repeated trainings.
        spans_key: The group of `doc.spans` that holds all spans.
        ents: What becomes of `doc.ents`: `add` keeps the entities that are there, and adds those of our spans that do
            not overlap them; `replace` leaves none but ours; `none` changes nothing.
        copy_model: Whether a saved pipeline holds a copy of the model; else it names the directory.
        engine: As `Predictor.from_pretrained` takes it.
        device: Likewise.
        key: Likewise: the file of a public key.
    """

    model: str
    spans_key: str = GROUP
    ents: Entities = "add"
    copy_model: bool = False
    engine: str = "auto"
    device: str = "auto"
    key: str | None = None


class SpacyTagger(Pipe):
    """Tags docs with a model directory.

    The model is loaded at once. With `copy_model` it is loaded when it is needed first, as a saved pipeline brings its
    own; so it is in a worker that gets the component pickled.

    Args:
        name: Of the component in its pipeline.
        settings: How it is configured.
        places: The model directories that a pickled component found.

    Raises:
        ModelError: If the model cannot be loaded.
        UsageError: If the engine, the device or the key does not exist.
    """

    def __init__(self, name: str, settings: Settings, *, places: list[Path] | None = None) -> None:
        self.name = name
        self.settings = settings
        self._places = places or [place.absolute() for place in model_directories(settings.model)]
        self._predictor: Predictor | None = None if settings.copy_model or places else self._load()
        self._process = os.getpid()

    @property
    def predictor(self) -> Predictor:
        """What tags."""
        if self._predictor is None:
            self._predictor, self._process = self._load(), os.getpid()
        elif self._process != os.getpid():
            _adopt(self._predictor)
            self._process = os.getpid()
        return self._predictor

    @property
    def labels(self) -> tuple[str, ...]:
        """The entity types that can be found, sorted; none before the model is loaded, as spaCy asks while it loads."""
        return () if self._predictor is None else self._predictor.labels

    def __repr__(self) -> str:
        return f"SpacyTagger({self._predictor or self.settings.model!r})"

    def __reduce__(self) -> Any:
        return partial(SpacyTagger, places=self._places), (self.name, self.settings)

    def __call__(self, doc: Doc) -> Doc:
        """Tag one doc.

        Raises:
            DataError: If it cannot be tagged.
        """
        ((_, problem),) = self._tag([doc], count(1))
        if problem is not None:
            raise problem
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Tag docs, a batch with one call of the model; those that cannot be tagged go to the error handler."""
        numbers, rest = count(1), iter(stream)
        while docs := list(islice(rest, batch_size)):
            for doc, problem in self._tag(docs, numbers):
                if problem is None:
                    yield doc
                else:
                    self.get_error_handler()(self.name, self, [doc], problem)

    def _tag(self, docs: list[Doc], numbers: Iterator[int]) -> Iterator[tuple[Doc, DataError | None]]:
        """Put the spans into docs; each with why it has none, where it cannot be tagged."""
        notes = [Document(f"doc-{next(numbers)}", doc.text) for doc in docs]
        tagged = chain.from_iterable(self.predictor.predict(notes).groups())
        for doc, (document, problem) in zip(docs, tagged, strict=True):
            if not problem:
                self._mark(doc, document)
            yield doc, DataError(f"{document.id}: {problem}") if problem else None

    def _mark(self, doc: Doc, document: Document) -> None:
        mark(doc, document.spans, self.settings.spans_key)
        if self.settings.ents != "none":
            add_entities(doc, doc.spans[self.settings.spans_key], keep=self.settings.ents == "add")

    def _load(self) -> Predictor:
        """The model, after all checks that directories get."""
        chosen = self.settings
        return Predictor.from_pretrained(self._places, engine=chosen.engine, device=chosen.device, key=chosen.key)

    # Saving ----------------------------------------------------------------------------------------------------------

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> dict[str, Any]:  # noqa: ARG002 - of spaCy
        """Write a digest of the model, and with `copy_model` the model itself.

        Returns:
            What the saved configuration of the component is to have otherwise, which edsnlp asks for: nothing.

        Raises:
            ModelError: If the directory is not there.
            OutputError: If it cannot be written.
        """
        folder, sources = Path(path), [existing(place) for place in self._places]
        with reporting_failed_writes(folder), tempfile.TemporaryDirectory(dir=_made(folder.parent)) as stage:
            Path(stage, _DIGEST).write_text(models_digest(sources) + "\n", encoding="ascii")
            for number, source in enumerate(sources if self.settings.copy_model else (), start=1):
                copy = _made(Path(stage, _COPIES, str(number)))
                for name in own_files(source):
                    shutil.copyfile(source / name, copy / name)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(stage, folder)
        return {}

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> SpacyTagger:  # noqa: ARG002
        """Load the model that was saved.

        Raises:
            ModelError: If it is not the one that was saved, or cannot be loaded.
        """
        folder = Path(path).absolute()  # edsnlp changes the working directory meanwhile
        places = sorted(existing(folder / _COPIES).iterdir()) if self.settings.copy_model else self._places
        try:
            saved = (folder / _DIGEST).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            raise ModelError(f"{folder / _DIGEST} cannot be read: save the pipeline again") from None
        if models_digest([existing(place) for place in places]) != saved:
            raise ModelError(
                f"{places[0]} is not the model that the pipeline was saved with: put that one back, or add the "
                "component anew and save the pipeline again"
            )
        if self._predictor is None or places != self._places:
            self._places = places
            self._predictor, self._process = self._load(), os.getpid()
        return self

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """As `to_disk`."""
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made, "component")
            self.to_disk(folder, exclude=exclude)
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files_below(folder)}
        return bytes(srsly.msgpack_dumps(files))

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> SpacyTagger:
        """As `from_disk`; copies lie in a temporary folder as long as the component lives."""
        folder = Path(tempfile.mkdtemp()).resolve()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        for name, content in srsly.msgpack_loads(data).items():
            place = (folder / name).resolve()
            if not place.is_relative_to(folder):
                raise ModelError("expected files of a model, found one that would lie elsewhere")
            _made(place.parent)
            place.write_bytes(content)
        return self.from_disk(folder, exclude=exclude)


def _adopt(loaded: Predictor) -> None:
    """Make what another process loaded usable in this one, a forked worker of `nlp.pipe`: it has none of its threads.

    Raises:
        UsageError: If ONNX Runtime is to compute, which would wait for ever for its threads.
    """
    if any(engine.name == "onnx" for engine in loaded.engines):
        raise UsageError(
            'the engine onnx cannot compute in a forked process: use n_process=1, engine="torch", or '
            'multiprocessing.set_start_method("spawn")'
        )
    sys.modules["torch"].set_num_threads(1)


def _made(folder: Path) -> Path:
    """A folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# Extensions ----------------------------------------------------------------------------------------------------------


def _start(span: TokenSpan) -> int:
    return marked(span).start


def _end(span: TokenSpan) -> int:
    return marked(span).end


def _score(span: TokenSpan) -> float | None:
    return marked(span).score


def _attributes(span: TokenSpan) -> dict[str, str | bool]:
    return dict(marked(span).attributes)


def _attribute_scores(span: TokenSpan) -> dict[str, float]:
    return dict(marked(span).attribute_scores)


def _expanded(doc: Doc) -> int:
    return sum(not is_exact(span) for group in doc.spans.values() for span in group)


TokenSpan.set_extension("cardioner_start", getter=_start, force=True)
TokenSpan.set_extension("cardioner_end", getter=_end, force=True)
TokenSpan.set_extension("cardioner_score", getter=_score, force=True)
TokenSpan.set_extension("cardioner_attributes", getter=_attributes, force=True)
TokenSpan.set_extension("cardioner_attribute_scores", getter=_attribute_scores, force=True)
Doc.set_extension("cardioner_expanded", getter=_expanded, force=True)


# The factory ---------------------------------------------------------------------------------------------------------


def make_tagger(  # noqa: PLR0913 - what can be configured
    nlp: Language,  # noqa: ARG001 - of spaCy
    name: str,
    model: str,
    spans_key: str = GROUP,
    ents: Entities = "add",
    copy_model: bool = False,
    engine: str = "auto",
    device: str = "auto",
    key: str | None = None,
) -> SpacyTagger:
    """Make a component; the arguments are those of `Settings`."""
    return SpacyTagger(name, Settings(model, spans_key, ents, copy_model, engine, device, key))


make_tagger.__annotations__ = get_type_hints(make_tagger)  # edsnlp takes no strings for types
Language.factory("cardioner", assigns=["doc.spans", "doc.ents"], func=make_tagger)
