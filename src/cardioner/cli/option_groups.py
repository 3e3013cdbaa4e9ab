"""Commands with many options: each is one field of a dataclass, and the command takes the dataclasses."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer

Adjust = Callable[[typer.Context, dict[str, Any]], None]
"""Changes the values of the options, by their fields' names, before the command gets them."""

_CONTEXT = "context"
_OFF = "no_"


def grouped(adjust: Adjust) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Have the parser see the fields of a command's dataclasses as options of the command.

    Every switch, such as `--crf`, has a hidden `--no-crf` that turns it off where a file of options turns it on.

    Args:
        adjust: Called with all values, once they are parsed.
    """

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        groups = get_type_hints(command, include_extras=True)
        groups.pop("return", None)

        @functools.wraps(command)
        def run(**values: Any) -> None:
            for name in [name for name in values if name.startswith(_OFF)]:
                if values.pop(name):
                    values[name.removeprefix(_OFF)] = False
            adjust(values.pop(_CONTEXT), values)
            command(**{name: _made(name, group, values) for name, group in groups.items()})

        seen = inspect.signature(command).parameters
        listed = [option for name, group in groups.items() for option in _options(name, group, seen[name].default)]
        listed.append(_parameter(_CONTEXT, inspect.Parameter.empty, typer.Context))
        run.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
        run.__annotations__ = {option.name: option.annotation for option in listed}
        del run.__wrapped__
        return run

    return wrap


def types_of(group: type) -> dict[str, Any]:
    """The type of each field, with what the parser is told of it: its panel of the help is the class's by default."""
    hints = get_type_hints(group, include_extras=True)
    return {option.name: _placed(hints[option.name], group.panel) for option in fields(group)}  # type: ignore[attr-defined]


def _placed(hint: Any, panel: str) -> Any:
    """A type whose option has a panel."""
    told = copy(hint.__metadata__[0])
    told.rich_help_panel = told.rich_help_panel or panel
    return Annotated[hint.__origin__, told]


def _made(name: str, group: Any, values: dict[str, Any]) -> Any:
    """What the command takes under a name."""
    if not is_dataclass(group):
        return values[name]
    return group(**{option.name: values[option.name] for option in fields(group)})  # type: ignore[operator]


def _options(name: str, group: Any, default: Any) -> list[inspect.Parameter]:
    """The options that one parameter of the command stands for."""
    if not isinstance(group, type) or not is_dataclass(group):
        return [_parameter(name, default, group)]
    listed = []
    for option in fields(group):
        hint = types_of(group)[option.name]
        listed.append(_parameter(option.name, _default(option), hint))
        if hint.__origin__ is bool:
            off = typer.Option(_name_of(hint).replace("--", "--no-", 1), hidden=True)
            listed.append(_parameter(_OFF + option.name, False, Annotated[bool, off]))
    return listed


def _name_of(hint: Any) -> str:
    """The name of an option on the command line."""
    told = hint.__metadata__[0]
    return next(str(name) for name in (told.default, *(told.param_decls or ())) if name is not ...)


def _default(option: Field[Any]) -> Any:
    return inspect.Parameter.empty if option.default is MISSING else option.default


def _parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
