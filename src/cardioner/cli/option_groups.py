"""Commands with many options: each is a field of a dataclass, and the command takes the dataclasses."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import TypeAdapter, ValidationError
from typer.models import OptionInfo

from cardioner.cli.console import tell
from cardioner.training.options import RENAMED, deprecation, expected

Adjust = Callable[[typer.Context, dict[str, Any]], None]
"""Changes the values of the options, by field name, before the command gets them."""

_ANNOTATED: Any = Annotated
_CONTEXT = "context"
_NONE = inspect.Parameter.empty
_OFF = "no_"
_EARLIER = "earlier_"
_METAVARS = {int: "N", float: "X", Path: "PATH", str: "TEXT"}
_WIDEST = 16
"""Characters of choices that the help has room for."""


class Earlier(NamedTuple):
    """Beside an option that typer describes: an earlier name, which goes on working and is not shown."""

    flag: str


class Option(NamedTuple):
    """A field as an option of the command line.

    Attributes:
        name: Of the field.
        flag: On the command line: `--epochs`.
        info: The field, as pydantic knows it.
        help: The field's documentation.
    """

    name: str
    flag: str
    info: Any
    help: str

    @property
    def types(self) -> tuple[Any, ...]:
        """The types that its values may have."""
        kind = self.info.annotation
        kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        return tuple(one for one in kinds if one is not type(None))

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return self.types == (bool,)

    def check(self, value: Any, *, strict: bool = False) -> Any:
        """The value as the field has it.

        Raises:
            BadParameter: Saying what was expected, without the value.
        """
        kind = self.info.annotation
        parts = (kind, *self.info.metadata)
        checked = TypeAdapter(_ANNOTATED[parts] if self.info.metadata else kind)
        try:
            return checked.validate_python(value, strict=strict)
        except ValidationError as error:
            problem = expected(error.errors()[0])
        raise typer.BadParameter(f"expected {problem}")

    def annotation(self) -> Any:
        """The type of the option, with what typer shows of it."""
        shown = self.info.json_schema_extra or {}
        for own in self.info.metadata:
            if isinstance(own, OptionInfo):
                own = copy(own)  # noqa: PLW2901 - commands share it
                own.rich_help_panel = own.rich_help_panel or shown.get("panel") or "Data"
                earlier = tuple(one for one in self.info.metadata if isinstance(one, Earlier))
                parts = (self.info.annotation, own, *earlier)
                return _ANNOTATED[parts]
        panel = shown.get("panel")
        if self.is_switch:
            return Annotated[bool, typer.Option(self.flag, help=self.help, rich_help_panel=panel)]
        made = typer.Option(
            self.flag, parser=self._parse, metavar=self._metavar(shown), help=self.help, rich_help_panel=panel
        )
        return Annotated[str | None, made]

    def _parse(self, value: Any) -> Any:
        try:
            return self.check(value)
        except typer.BadParameter as error:
            raise typer.BadParameter(f"{error.message}; found {value!r}") from None

    def _metavar(self, shown: dict[str, Any]) -> str:
        kind = self.types[0]
        choices = "|".join(map(str, get_args(kind))) if get_origin(kind) is Literal else ""
        if choices:
            return choices if len(choices) <= _WIDEST else "NAME"
        return shown.get("metavar") or _METAVARS[kind]


def add_commands(app: typer.Typer, *commands: Callable[..., None]) -> None:
    """Add commands whose help is their docstring; typer would break its lines where the docstring does."""
    for command in commands:
        app.command(help=re.sub(r"(?<=\S)\n(?=\S)", " ", inspect.getdoc(command) or ""))(command)


def options_of(group: Any) -> dict[str, Option]:
    """The options that the fields of a dataclass stand for, by field name; fields that are excluded are none."""
    found = {}
    for name, info in group.__pydantic_fields__.items():
        if not info.exclude:
            shown = info.json_schema_extra or {}
            flag = shown.get("option") or f"--{name.replace('_', '-')}"
            inherited = (getattr(base, "__pydantic_fields__", {}).get(name) for base in group.__mro__)
            texts = [field.description for field in inherited if field is not None and field.description]
            found[name] = Option(name, flag, info, texts[0] if texts else "")
    return found


def grouped(adjust: Adjust | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Have typer see the fields of a command's dataclasses as options of the command.

    A plain dataclass has its fields annotated as typer wants them. A checked one is shared with Python and with config
    files: every switch in it, such as `--crf`, has a hidden `--no-crf` that turns it off where a config file turns it
    on, and earlier names of its options are hidden options too.

    Args:
        adjust: Called with all values once they are parsed.
    """

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        groups = get_type_hints(command, include_extras=True)
        groups.pop("return", None)

        @functools.wraps(command)
        def run(**values: Any) -> None:
            context = values.pop(_CONTEXT)
            _apply_hidden(values)
            if adjust is not None:
                adjust(context, values)
            command(**{name: _build(name, group, values) for name, group in groups.items()})

        seen = inspect.signature(command).parameters
        listed = [one for name, group in groups.items() for one in _parameters(name, group, seen[name].default)]
        listed.append(_parameter(_CONTEXT, _NONE, typer.Context))
        run.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
        run.__annotations__ = {option.name: option.annotation for option in listed}
        del run.__wrapped__
        return run

    return wrap


def _apply_hidden(values: dict[str, Any]) -> None:
    """Replace the values of hidden options by those of the options that they stand for."""
    for name in [name for name in values if name.startswith(_OFF)]:
        if values.pop(name):
            values[name.removeprefix(_OFF)] = False
    for name in [name for name in values if name.startswith(_EARLIER)]:
        if (value := values.pop(name)) is not None:
            values[name.removeprefix(_EARLIER)] = value
    for old, name in RENAMED.items():
        if (value := values.pop(old, None)) is not None:
            tell(f"warning: {deprecation(old)}")
            values[name] = value


def _build(name: str, group: Any, values: dict[str, Any]) -> Any:
    """What the command takes under a name."""
    if not is_dataclass(group):
        return values[name]
    make: Any = group
    return make(**{field.name: values[field.name] for field in fields(group) if field.name in values})


def _parameters(name: str, group: Any, default: Any) -> Iterator[inspect.Parameter]:
    """The options that one parameter of the command stands for."""
    if not is_dataclass(group):
        yield from _described(name, default, group)
    elif not hasattr(group, "__pydantic_fields__"):
        hints = get_type_hints(group, include_extras=True)
        for field in fields(group):
            default = _NONE if field.default is MISSING else field.default
            yield from _described(field.name, default, hints[field.name])
    else:
        for option in options_of(group).values():
            yield from _checked_parameters(option)


def _described(name: str, default: Any, annotation: Any) -> Iterator[inspect.Parameter]:
    """An option that typer describes, and the hidden one that its earlier name is."""
    yield _parameter(name, default, annotation)
    kind, *described = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    for earlier in described:
        if isinstance(earlier, Earlier):
            yield _parameter(_EARLIER + name, None, Annotated[kind, typer.Option(earlier.flag, hidden=True)])


def _checked_parameters(option: Option) -> Iterator[inspect.Parameter]:
    """An option and the hidden ones that stand for it."""
    default = _NONE if option.info.is_required() else option.info.default
    yield from _described(option.name, default, option.annotation())
    if option.is_switch:
        off = typer.Option(option.flag.replace("--", "--no-", 1), hidden=True)
        yield _parameter(_OFF + option.name, False, Annotated[bool, off])
    for old in (old for old, new in RENAMED.items() if new == option.name):
        hidden = typer.Option(f"--{old.replace('_', '-')}", parser=option._parse, hidden=True)
        yield _parameter(old, None, Annotated[str | None, hidden])


def _parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
