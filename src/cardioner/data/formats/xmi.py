"""UIMA CAS XMI, which INCEpTION, WebAnno and DKPro write: a file for each note, and one with the types that they use.

Offsets in the files count UTF-16 units, as Java does; dkpro-cassis converts them. The type system is the file
`TypeSystem.xml` beside the notes or above them (UIMA References, chapters 4 and 8,
https://uima.apache.org/d/uimaj-current/references.html).
"""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardioner.data.corpus import IssueCounter
from cardioner.data.documents import Document, Span
from cardioner.data.formats.files import looking_at, visible_below, writing_files
from cardioner.data.formats.recognition import count_others
from cardioner.data.formats.xml_text import text_for_xml
from cardioner.errors import DataError, needing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from cassis import Cas, TypeSystem
    from cassis.typesystem import FeatureStructure, Type

    from cardioner.data.corpus import Issue
    from cardioner.data.formats.reading import Reading

ENTITY = "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity"
"""The layer of named entities that every project of INCEpTION has; `value` is the label."""
ANNOTATION = "uima.tcas.Annotation"
TYPES = "TypeSystem.xml"

_EXPECTED = f"expected an .xmi file, or a folder of them, with a {TYPES} beside them"
_OTHER_LAYERS = ("uima.", "de.tudarmstadt.ukp.dkpro.core.", "org.dkpro.core.")
"""How the names of layers begin that mark no entities, such as sentences, except `ENTITY`."""
_LABELS = ("value", "label")
_BOUNDS = {"begin", "end", "sofa"}
_SCORE = "score"


def read_xmi(path: Path, reading: Reading) -> Iterator[Document]:
    """Read an `.xmi` file, or those of a folder and its sub-folders, sorted by id.

    Spans are the annotations of the layer of named entities and of a project's own layers. Their label is the feature
    `value` or `label`, or else the only one that is a string; a layer without any gives its name. The id of a note is
    the path of its file in the folder, without the suffix.

    Raises:
        UsageError: If dkpro-cassis is not installed.
    """
    check_installed()
    with looking_at(path, _EXPECTED):
        files = visible_below(path, ".xmi") if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path} holds none; {_EXPECTED}")
        top = path if path.is_dir() else path.parent
        found = {file: _types_for(file, top) for file in files}
        if path.is_dir():
            count_others(path, {*files, *filter(None, found.values())}, reading)
    types: dict[Path, TypeSystem] = {}
    for file, place in found.items():
        with reading.guarded(file):
            if place is None:
                raise DataError(f"{file}: found no {TYPES} beside it or above it; {_EXPECTED}")
            if place not in types:
                types[place] = load_types(_bytes(place), str(place))
            name = file.relative_to(top).with_suffix("").as_posix()
            yield _read_document(name, file, types[place], reading)


def check_installed() -> None:
    """Refuse to go on without dkpro-cassis.

    Raises:
        UsageError: Saying what to install.
    """
    with needing("UIMA CAS XMI", {"cassis": "dkpro-cassis"}):
        import cassis  # noqa: F401, PLC0415 - of an extra


def _types_for(file: Path, top: Path) -> Path | None:
    """The nearest type system, not above the folder that was given."""
    folders = [folder for folder in file.parents if folder.is_relative_to(top)]
    return next((folder / TYPES for folder in folders if (folder / TYPES).is_file()), None)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def load_types(content: bytes, where: str) -> TypeSystem:
    """The type system in a file or a request.

    Raises:
        DataError: If there is none; the message quotes nothing of the content.
    """
    from cassis import load_typesystem  # noqa: PLC0415 - of an extra

    with suppress(Exception):  # whatever it is: the library checks little, and may quote the content
        return load_typesystem(BytesIO(content))
    raise DataError(f"{where}: expected a type system of UIMA in XML, found something else")


def load_cas(content: bytes, types: TypeSystem, where: str) -> Cas:
    """The note in an XMI file or in a request, with the offsets of annotations in code points.

    Raises:
        DataError: If there is none, it has types that the type system lacks, or it has no text.
    """
    from cassis import load_cas_from_xmi  # noqa: PLC0415 - of an extra
    from cassis.typesystem import TypeNotFoundError  # noqa: PLC0415

    problem = "found something else"
    with suppress(Exception):  # likewise
        try:
            cas = load_cas_from_xmi(BytesIO(content), typesystem=types)
        except TypeNotFoundError:
            problem = "found an annotation of a type that the type system lacks"
        else:
            if isinstance(cas.sofa_string, str):
                return cas
            problem = "found one without a text"
    raise DataError(f"{where}: expected a note in UIMA CAS XMI, {problem}")


# Reading -------------------------------------------------------------------------------------------------------------


def _read_document(name: str, file: Path, types: TypeSystem, reading: Reading) -> Document:
    issues = Counter[str]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cas = load_cas(_bytes(file), types, str(file))
        annotations = list(cas.select(ANNOTATION))
    if caught:  # the library warns of nothing else here, and keeps such offsets as they are
        raise DataError(f"{file}: expected offsets in UTF-16 units, found some in a character or behind the text")
    issues["views beside the first"] += len(cas.views) - 1
    try:
        found = [_span(annotation, issues) for annotation in annotations]
        document = Document(name, str(cas.sofa_string), tuple(sorted(span for span in found if span is not None)))
    except DataError as error:
        problem = str(error)
    else:
        for kind, count in (+issues).items():
            reading.add_issue(kind, file, count=count)
        return document
    raise DataError(f"{file}: {problem}")


def _span(annotation: FeatureStructure, issues: Counter[str]) -> Span | None:
    """The span that an annotation is, if it is one of an entity."""
    layer, features = annotation.type, _features(annotation.type)
    if layer.name.startswith(_OTHER_LAYERS) and layer.name != ENTITY:
        issues[f"annotations of the layer {layer.short_name}"] += 1
        return None
    if {"Dependent", "Governor"} <= features.keys() or "next" in features:
        issues["relations"] += 1
        return None
    named = _label_feature(features)
    label = layer.short_name if named is None else annotation.get(named)
    issues["other features of annotations"] += sum(
        annotation.get(name) is not None for name in features.keys() - {*_BOUNDS, named, _SCORE}
    )
    if not isinstance(label, str) or not label:
        issues["annotations without a label"] += 1
        return None
    begin, end = annotation.get("begin"), annotation.get("end")
    if not isinstance(begin, int) or not isinstance(end, int):
        raise DataError("expected annotations with begin and end, found one without")
    if begin == end:
        issues["annotations without length"] += 1
        return None
    return Span(begin, end, label, _score(annotation, features))


def _features(layer: Type) -> Mapping[str, str]:
    """The types of the features of a layer by their names."""
    return {feature.name: feature.rangeType.name for feature in layer.all_features}


def _label_feature(features: Mapping[str, str]) -> str | None:
    strings = [name for name, kind in features.items() if kind == "uima.cas.String"]
    chosen = next((name for name in _LABELS if name in strings), None)
    return strings[0] if chosen is None and len(strings) == 1 else chosen


def _score(annotation: FeatureStructure, features: Mapping[str, str]) -> float | None:
    score = annotation.get(_SCORE) if features.get(_SCORE) in ("uima.cas.Double", "uima.cas.Float") else None
    if score is not None and not 0 <= score <= 1:
        raise DataError("expected scores from 0 to 1, found another")
    return score


# Writing -------------------------------------------------------------------------------------------------------------


def write_xmi(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write a folder with an `.xmi` file for each note and their `TypeSystem.xml`; a `/` in an id makes a sub-folder.

    Spans become named entities, with their scores. Characters that XML cannot hold become spaces and are counted.

    Raises:
        OutputError: If the folder already holds `.xmi` files, if an id cannot be a file name in this folder, XML cannot
            hold a label, or the disk is full.
        UsageError: If dkpro-cassis is not installed.
    """
    check_installed()
    counter, types = IssueCounter(), _own_types()
    with writing_files(path, [".xmi"], overwrite=overwrite) as (stage, place_of):
        (stage / TYPES).write_text(types.to_xml(), encoding="utf-8")
        for document in documents:
            place_of(document).write_text(_xmi(document, types, counter), encoding="utf-8")
    return counter.issues


def _own_types() -> TypeSystem:
    from cassis import TypeSystem  # noqa: PLC0415 - of an extra

    types = TypeSystem()
    entity = types.create_type(ENTITY)
    types.create_feature(entity, _LABELS[0], "uima.cas.String")
    types.create_feature(entity, _SCORE, "uima.cas.Double")
    return types


def _xmi(document: Document, types: TypeSystem, counter: IssueCounter) -> str:
    from cassis import Cas  # noqa: PLC0415 - of an extra

    counter.add_metadata(document)
    cas: Any = Cas(types)
    cas.sofa_string = text_for_xml(document, counter)
    cas.sofa_mime = "text/plain"
    entity = types.get_type(ENTITY)
    for span in counter.contiguous(document):
        cas.add(entity(begin=span.start, end=span.end, value=span.label, score=span.score))
    return str(cas.to_xmi())
