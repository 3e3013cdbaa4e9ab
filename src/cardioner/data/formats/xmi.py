"""UIMA CAS XMI, which INCEpTION, WebAnno and DKPro write: a file for each note, and one with the types that they use.

Offsets in the files count UTF-16 units, as Java does; dkpro-cassis converts them. The type system is the file
`TypeSystem.xml` beside the notes or above them (UIMA References, chapters 4 and 8,
https://uima.apache.org/d/uimaj-current/references.html).
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from contextlib import suppress
from io import BytesIO
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardioner.data.attributes import Attributes, value_of, value_text
from cardioner.data.corpus import IssueCounter
from cardioner.data.documents import Document, Span
from cardioner.data.formats.files import looking_at, visible_below, writing_files
from cardioner.data.formats.recognition import count_others
from cardioner.data.formats.xml_text import holds_attribute, text_for_xml
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
_LETTERS = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff"
_LETTERS = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff"
_NAME = re.compile(f"[{_LETTERS}][{_LETTERS}0-9_]*")
"""What the name of a feature can be, of those that XML can have too."""
_OWN = {*_LABELS, _SCORE, *_BOUNDS, "id", "self", "identifier"}
"""The names of features that hold no attribute: an `identifier` is that of a concept."""
_SCORED = "_score"
"""The end of the name of a feature that holds the score of the one whose name comes before it, as in INCEpTION."""
_STRING, _BOOLEAN, _DOUBLE = "uima.cas.String", "uima.cas.Boolean", "uima.cas.Double"
_NUMBERS = (_DOUBLE, "uima.cas.Float")


def read_xmi(path: Path, reading: Reading) -> Iterator[Document]:
    """Read an `.xmi` file, or those of a folder and its sub-folders, sorted by id.

    Spans are the annotations of the layer of named entities and of a project's own layers. Their label is the feature
    `value` or `label`, or else the only one that is a string; a layer without any gives its name. Their other features
    are attributes if they are strings or truth values, with the number `NAME_score` beside `NAME` as the score. The id
    of a note is the path of its file in the folder, without the suffix.

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
    names = [name for name in features.keys() - {*_OWN, named} if features[name] in (_STRING, _BOOLEAN)]
    scored = {f"{name}{_SCORED}" for name in names if features.get(f"{name}{_SCORED}") in _NUMBERS}
    issues["other features of annotations"] += sum(
        annotation.get(name) is not None for name in features.keys() - {*_BOUNDS, named, _SCORE, *names, *scored}
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
    said = Attributes({name: _value(annotation.get(name)) for name in names})
    scores = {name.removesuffix(_SCORED): _score(annotation, features, name) for name in scored}
    sure = {name: score for name, score in scores.items() if score is not None}
    return Span(begin, end, label, _score(annotation, features), attributes=said, attribute_scores=sure)


def _value(held: object) -> str | bool | None:
    """What a feature says; an empty string is nothing."""
    return (value_of(held) or None) if isinstance(held, str) else held is True


def _features(layer: Type) -> Mapping[str, str]:
    """The types of the features of a layer by their names."""
    return {feature.name: feature.rangeType.name for feature in layer.all_features}


def _label_feature(features: Mapping[str, str]) -> str | None:
    strings = [name for name, kind in features.items() if kind == _STRING]
    chosen = next((name for name in _LABELS if name in strings), None)
    return strings[0] if chosen is None and len(strings) == 1 else chosen


def _score(annotation: FeatureStructure, features: Mapping[str, str], name: str = _SCORE) -> float | None:
    score = annotation.get(name) if features.get(name) in _NUMBERS else None
    if score is not None and not 0 <= score <= 1:
        raise DataError("expected scores from 0 to 1, found another")
    return score


# Writing -------------------------------------------------------------------------------------------------------------


def write_xmi(documents: Iterable[Document], path: Path, *, overwrite: bool = False) -> tuple[Issue, ...]:
    """Write a folder with an `.xmi` file for each note and their `TypeSystem.xml`; a `/` in an id makes a sub-folder.

    Spans become named entities, with their scores and, as features, attributes; those whose names cannot be that of a
    feature are counted. Characters that XML cannot hold become spaces and are counted.

    Raises:
        OutputError: If the folder already holds `.xmi` files, if an id cannot be a file name in this folder, XML cannot
            hold a label, or the disk is full.
        UsageError: If dkpro-cassis is not installed.
    """
    check_installed()
    counter, names, types = IssueCounter(), frozenset[str](), _own_types(())
    with writing_files(path, [".xmi"], overwrite=overwrite) as (stage, place_of):
        for document in documents:
            spans = [counter.with_attributes(document, span, _is_feature) for span in counter.contiguous(document)]
            known = names.union(*(span.attributes for span in spans), *(span.attribute_scores for span in spans))
            if known != names:
                names, types = known, _own_types(known)
            place_of(document).write_text(_xmi(document, spans, types, counter), encoding="utf-8")
        (stage / TYPES).write_text(types.to_xml(), encoding="utf-8")
    return counter.issues


def _is_feature(name: str, value: str | bool) -> bool:
    """Whether an attribute can be a feature, which dkpro-cassis makes one of a Python object too."""
    from cassis.typesystem import FeatureStructure  # noqa: PLC0415 - of an extra

    free = not (name in _OWN or name.endswith(_SCORED) or iskeyword(name) or hasattr(FeatureStructure, name))
    return free and _NAME.fullmatch(name) is not None and holds_attribute(name, value)


def _own_types(attributes: Iterable[str]) -> TypeSystem:
    from cassis import TypeSystem  # noqa: PLC0415 - of an extra

    types = TypeSystem()
    entity = types.create_type(ENTITY)
    types.create_feature(entity, _LABELS[0], _STRING)
    types.create_feature(entity, _SCORE, _DOUBLE)
    for name in sorted(attributes):
        types.create_feature(entity, name, _STRING)
        types.create_feature(entity, f"{name}{_SCORED}", _DOUBLE)
    return types


def _xmi(document: Document, spans: Iterable[Span], types: TypeSystem, counter: IssueCounter) -> str:
    from cassis import Cas  # noqa: PLC0415 - of an extra

    counter.add_metadata(document)
    cas: Any = Cas(types)
    cas.sofa_string = text_for_xml(document, counter)
    cas.sofa_mime = "text/plain"
    entity = types.get_type(ENTITY)
    for span in spans:
        said: dict[str, Any] = {name: value_text(value) for name, value in span.attributes.items()}
        said |= {f"{name}{_SCORED}": score for name, score in span.attribute_scores.items()}
        cas.add(entity(begin=span.start, end=span.end, value=span.label, score=span.score, **said))
    return str(cas.to_xmi())
