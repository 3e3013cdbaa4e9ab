"""The `cardioner` command: the only place that prints."""

from __future__ import annotations

import os
import sys

import typer

from cardioner import __version__
from cardioner.cli.console import complain
from cardioner.cli.evaluate import evaluate
from cardioner.cli.inspect import inspect
from cardioner.cli.predict import predict
from cardioner.cli.train import train
from cardioner.errors import CardioNERError

app = typer.Typer(
    name="cardioner",
    help="Train, check, share and run entity taggers on clinical notes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, predict, evaluate, inspect):
    app.command()(command)


@app.callback(invoke_without_command=True)
def options(
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
) -> None:
    """Train, check, share and run entity taggers on clinical notes."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command; a user's error becomes one line on standard error and the exit code of its class."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except CardioNERError as error:
        complain(str(error))
        sys.exit(error.exit_code)
