"""The house rules that imports can break: layers, self-contained code files, no torch for data, no print."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

import cardioner
from cardioner.cli import app

SOURCE = Path(cardioner.__file__).parent
README = SOURCE.parents[1] / "README.md"
TRAVELLING = ("modeling", "windows", "tagging", "inference", "pipeline")
EXAMPLE = "cardioner.multiclass.load_custom_model_example"
MAY_PRINT = ("cardioner.cli", EXAMPLE, "cardioner.exporting.onnx_files.tag")

LAYERS = (
    ("errors", "documents", "similar"),
    ("labels", "splits", "stratify"),
    ("formats", "evaluation", "pages", "notes", "journal", "training_report"),
    ("multiclass.modeling", "multiclass.windows", "multiclass.tagging", "multiclass.inference", "multiclass.pipeline"),
    ("multiclass.features", "multiclass.encoder"),
    (
        "multiclass",
        "predictor",
        "ensemble",
        "bulk",
        "model_dir",
        "model_files",
        "safety",
        "trust",
        "upgrading",
        "description",
        "card",
        "checking",
        "ablation",
        "exporting",
    ),
    ("cli", "__main__"),
)
"""Each may import its own layer and those before it; the longest name that fits a module decides."""


class Import(NamedTuple):
    """An import statement: the module it is in, the module it names, its leading dots, the names it takes."""

    source: str
    target: str
    dots: int
    names: tuple[str, ...]


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its full name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(("cardioner", *(parts[:-1] if parts[-1] == "__init__" else parts)))
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports_of(source: str, tree: ast.AST) -> Iterator[Import]:
    """Every import of a module, those inside functions and for type checkers too."""
    package = source if source_is_package(source) else source.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(source, alias.name, 0, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = package.rsplit(".", node.level - 1)[0] if node.level else ""
            target = ".".join(part for part in (home, node.module) if part)
            yield Import(source, target, node.level, tuple(alias.name for alias in node.names))


def source_is_package(name: str) -> bool:
    return (SOURCE.joinpath(*name.split(".")[1:]) / "__init__.py").is_file()


def own_targets(statement: Import) -> set[str]:
    """The modules of ours that a statement imports: `from package import module` names the module."""
    if statement.target.partition(".")[0] != "cardioner":
        return set()
    submodules = {f"{statement.target}.{name}" for name in statement.names} & modules().keys()
    rest = {name for name in statement.names if f"{statement.target}.{name}" not in submodules}
    return submodules | ({statement.target} if rest or not statement.names else set())


@cache
def own_imports() -> dict[str, set[str]]:
    """Modules of ours to the modules of ours they import; the lazy top of the package left out."""
    return {
        name: {target for statement in imports_of(name, tree) for target in own_targets(statement)} - {"cardioner"}
        for name, tree in modules().items()
        if name != "cardioner"
    }


def layer_of(module: str) -> int:
    """The layer of the longest name in `LAYERS` that is the module or a package around it."""
    inner = module.removeprefix("cardioner.")
    fits = [
        (len(name), layer)
        for layer, names in enumerate(LAYERS)
        for name in names
        if inner == name or inner.startswith(f"{name}.")
    ]
    assert fits, f"{module} has no layer: give it one in LAYERS and in DESIGN"
    return max(fits)[1]


def test_every_module_imports_only_its_own_layer_and_lower_ones() -> None:
    upwards = [
        f"{source} imports {target}"
        for source, targets in own_imports().items()
        for target in targets
        if layer_of(target) > layer_of(source)
    ]
    assert len(own_imports()) > 20, "the modules were found"
    assert not upwards


def test_modules_import_one_another_in_no_circle() -> None:
    order = list(TopologicalSorter(own_imports()).static_order())
    assert order.index("cardioner.errors") < order.index("cardioner.cli")


@pytest.mark.parametrize("name", TRAVELLING)
def test_travelling_file_imports_only_what_travels_with_it(name: str) -> None:
    module = f"cardioner.multiclass.{name}"
    allowed = (
        {f"cardioner.multiclass.{other}" for other in TRAVELLING if other != name} if name == "pipeline" else set()
    )
    assert own_imports()[module] <= allowed
    foreign = {
        statement.target.partition(".")[0]
        for statement in imports_of(module, modules()[module])
        if not own_targets(statement)
    }
    beyond = {"torch", "transformers"} if name in {"modeling", "inference", "pipeline"} else set()
    assert foreign - sys.stdlib_module_names <= beyond


@pytest.mark.parametrize("name", TRAVELLING)
def test_travelling_file_imports_its_neighbours_in_the_form_that_the_scanner_sees(name: str) -> None:
    module = f"cardioner.multiclass.{name}"
    relative = [statement for statement in imports_of(module, modules()[module]) if statement.dots]
    assert [statement for statement in relative if statement.dots != 1] == []
    assert [statement for statement in relative if statement.target == "cardioner.multiclass"] == []
    assert {statement.target.rpartition(".")[2] for statement in relative} <= set(TRAVELLING)
    absolute = [statement for statement in imports_of(module, modules()[module]) if not statement.dots]
    assert [statement for statement in absolute if own_targets(statement)] == []
    assert bool(relative) == (name == "pipeline")


def test_data_code_names_no_torch_anywhere() -> None:
    heavy = {"torch", "transformers", "tokenizers", "safetensors", "accelerate"}
    offenders = [
        f"{name} imports {statement.target}"
        for name, tree in modules().items()
        if name != "cardioner" and layer_of(name) < 3
        for statement in imports_of(name, tree)
        if statement.target.partition(".")[0] in heavy
    ]
    assert not offenders


def test_reading_and_scoring_load_no_torch() -> None:
    script = """
import json, sys
import cardioner, cardioner.formats, cardioner.evaluation, cardioner.splits, cardioner.labels
cardioner.Document, cardioner.Span
print(json.dumps(sorted(sys.modules)))
"""
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(outcome.stdout))
    assert "cardioner.formats" in loaded
    assert not loaded & {"torch", "transformers", "tokenizers", "safetensors", "cardioner.multiclass"}


def test_only_the_command_line_and_the_example_print() -> None:
    printing = {
        name
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "sys.stdout.write", "sys.stderr.write"}
    }
    assert EXAMPLE in printing, "the search finds a print"
    assert {name for name in printing if not name.startswith(MAY_PRINT)} == set()


def test_top_level_names_are_the_documented_ones() -> None:
    assert sorted(cardioner.__all__) == ["Document", "Predictor", "Span", "__version__", "load"]
    assert sorted(dir(cardioner)) == sorted(cardioner.__all__)
    assert all(getattr(cardioner, name) is not None for name in cardioner.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Model'"):
        _ = cardioner.Model  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", ["multiclass", "formats", "evaluation"])
def test_exported_names_exist(module: str) -> None:
    imported = __import__(f"cardioner.{module}", fromlist=["__all__"])
    assert imported.__all__
    assert [name for name in imported.__all__ if not hasattr(imported, name)] == []


def test_every_command_is_in_the_readme() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = README.read_text(encoding="utf-8")
    assert "train" in commands
    assert [name for name in commands if not re.search(rf"\bcardioner {name}\b", text)] == []
