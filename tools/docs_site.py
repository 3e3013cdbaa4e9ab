"""What the documentation site has beside the pages under docs/: the files at the root, and the commands' help.

`mkdocs.yml` names this file as a hook. Pages link to each other by the place where they lie in the repository, so that
the links work there too; here they are turned into links of the site.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import typer
from mkdocs.structure.files import File

from cardioner.cli import app

ROOT = Path(__file__).parents[1]
PLACES = {
    "README.md": "index.md",
    "GLOSSARY.md": "reference/glossary.md",
    "CHANGELOG.md": "reference/changelog.md",
    "SECURITY.md": "explanation/security.md",
    "benchmarks/RESULTS.md": "explanation/results.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Pages outside docs/: where they lie in the repository, and on the site."""

COMMANDS = "reference/command-line.md"
_LINK = re.compile(r"(?<=\]\()[^)#\s:]+(?=[)#])")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that do not lie under docs/."""
    for source, place in PLACES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, COMMANDS, content=command_line()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between places in the repository into links between places on the site."""
    place = page.file.src_uri
    source = next((source for source, other in PLACES.items() if other == place), f"docs/{place}")
    return _LINK.sub(lambda found: site_link(found[0], source, place), markdown)


def site_link(target: str, source: str, place: str) -> str:
    """A link as the site needs it.

    Args:
        target: The link, relative to the page in the repository.
        source: Where the page lies in the repository.
        place: Where the page is on the site.
    """
    path = os.path.normpath(PurePosixPath(source).parent / target)
    return os.path.relpath(PLACES.get(path, path.removeprefix("docs/")), PurePosixPath(place).parent)


def command_line() -> str:
    """The reference of the command line: each command's help, its arguments and its options."""
    root = typer.main.get_command(app)
    parts = ["# Commands\n", "`cardioner COMMAND --help` shows the same in a terminal.\n"]
    for name, command in _commands(root, "cardioner"):
        parts += [f"## {name}\n", _help(command), _table(command)]
    return "\n".join(parts)


def _commands(group: Any, path: str) -> Any:
    """Every command below a group, with what is typed to run it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _help(command: Any) -> str:
    """The help of a command, its examples as code."""
    return re.sub(r"(?m)^\s*Example: (.*)$", r"```bash\n\1\n```\n", command.help or "") + "\n"


def _table(command: Any) -> str:
    """Arguments and options, a row each."""
    rows = ["| | default | |", "|---|---|---|"]
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        is_option = parameter.param_type_name == "option"
        name = _option(parameter) if is_option else parameter.metavar or parameter.name.upper()
        rows.append(f"| `{name}` | {_default(parameter)} | {_cell(parameter.help)} |")
    return "\n".join(rows) + "\n"


def _option(parameter: Any) -> str:
    """An option, with what it takes if it is no switch."""
    names = ", ".join(parameter.opts)
    return names if parameter.is_flag else f"{names} {parameter.metavar or 'VALUE'}"


def _default(parameter: Any) -> str:
    """The default value, if there is one to show."""
    if parameter.required:
        return "required"
    default = getattr(parameter.default, "value", parameter.default)
    return "" if default is None or default is False or callable(default) else f"`{default}`"


def _cell(text: str | None) -> str:
    """Text for a cell of a table."""
    return " ".join((text or "").split()).replace("|", "\\|")
