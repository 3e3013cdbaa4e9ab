"""The `cardioner` command: the only place that prints."""

from __future__ import annotations

import difflib
import os
import sys
from typing import Any

import typer
from pydantic import ValidationError

from cardioner import __version__
from cardioner.cli.ablate import ablate
from cardioner.cli.adapt import adapt
from cardioner.cli.check import check
from cardioner.cli.console import INTERRUPTED, TRACEBACK, close_log, complain, unexpected
from cardioner.cli.convert import convert
from cardioner.cli.distill import distill
from cardioner.cli.evaluate import compare, evaluate
from cardioner.cli.merge import merge
from cardioner.cli.models import export, inspect, sign, upgrade, verify
from cardioner.cli.option_groups import add_commands
from cardioner.cli.predict import predict
from cardioner.cli.select import select
from cardioner.cli.serve import serve
from cardioner.cli.split import split
from cardioner.cli.train import train
from cardioner.cli.transfer import pull, push
from cardioner.errors import CardioNERError, UsageError, missing_extra
from cardioner.training.options import expected

app = typer.Typer(
    name="cardioner",
    help="Train, check, share and run entity taggers on clinical notes.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
add_commands(
    app,
    check,
    split,
    adapt,
    train,
    distill,
    merge,
    ablate,
    predict,
    select,
    serve,
    evaluate,
    compare,
    convert,
    inspect,
    verify,
    sign,
    upgrade,
    push,
    pull,
)
app.add_typer(export)


_USAGE_MISTAKE: Any = typer.BadParameter.__mro__[1]
"""The base of the parser's errors; no name of it is the same in all releases of typer."""


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    """Train, check, share and run entity taggers on clinical notes."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _mistake(error: Any) -> str:
    """What is wrong with the command line; of an unknown option, which one was meant or which commands have it."""
    if isinstance(error, typer.BadParameter) and error.param and error.message:  # a missing one has no message
        flag = error.param.opts[-1]
        return f"{flag}: {_problem(error)}" + ("; a cluster is chosen by --cluster" if flag == "--engine" else "")
    name = getattr(error, "option_name", None)
    if name is None or error.ctx is None:
        return str(error.format_message())
    own = [flag for one in error.ctx.command.params if not getattr(one, "hidden", False) for flag in one.opts]
    if like := difflib.get_close_matches(name, own, n=1, cutoff=0.75):
        return f"there is no option {name}; the nearest is {like[0]}"
    others = getattr(typer.main.get_command(app), "commands", {}).items()
    having = [other for other, command in others if any(name in one.opts for one in command.params)]
    return f"there is no option {name}" + (f" here, only with {', '.join(having)}" if having else "")


def _problem(error: typer.BadParameter) -> str:
    """What is wrong with a value, in the same words whether typer or a field of ours checked it."""
    if not isinstance(error.__cause__, ValidationError):
        return error.message
    found = error.__cause__.errors()[0]
    problem = expected(found)
    return problem if found["type"] == "value_error" else f"expected {problem}; found {found['input']!r}"


def _command(arguments: list[str]) -> list[str]:
    """The command that is named first, where one is."""
    return [one for one in arguments[1:2] if one in getattr(typer.main.get_command(app), "commands", {})]


def _what(arguments: list[str]) -> str:
    """The program, and the command that is named."""
    return " ".join([str(app.info.name), *_command(arguments)])


def main() -> None:
    """Run the command; an error of the user's becomes one line on standard error and the exit code of its class."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        code = app(standalone_mode=False)
    except CardioNERError as error:
        complain(str(error))
        code = error.exit_code
    except _USAGE_MISTAKE as error:
        where = error.ctx.command_path if error.ctx else _what(sys.argv)
        complain(f"{_mistake(error)} (see {where} --help)")
        code = UsageError.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader is gone, as `head` is after ten lines: end quietly, as rich does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = CardioNERError.exit_code
    except Exception as error:
        lacking = isinstance(error, ModuleNotFoundError) and missing_extra(_what(sys.argv), error)
        if lacking:
            complain(lacking)
            sys.exit(UsageError.exit_code)
        if os.environ.get(TRACEBACK) == "1":
            raise
        complain(unexpected(error))
        code = CardioNERError.exit_code
    finally:
        close_log()
    sys.exit(code)
