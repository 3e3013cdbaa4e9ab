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
OF_THE_MODEL = (
    *("modeling", "attributes", "checks", "code_files", "crf", "crf_cuda", "crf_recursions", "crf_scan"),
    *("heads", "tagging"),
)
TRAVELLING = (*OF_THE_MODEL, "windows", "encoding", "int8", "precision", "inference", "pipeline")
WITHOUT_TORCH = ("attributes", "code_files", "windows", "tagging", "encoding")
EXAMPLE = "cardioner.multiclass.load_custom_model_example"
MAY_PRINT = ("cardioner.cli", EXAMPLE, "cardioner.interop.onnx_files.tag")
TRAINER = "cardioner.multiclass.trainer"

LAYERS = (
    "errors",
    "_io",
    "_progress",
    "multiclass",
    "data",
    "evaluation",
    "model_dir",
    "prediction",
    "tables",
    "distributed",
    "training",
    "reports",
    "interop",
    "server",
    "cli",
    "__main__",
)
"""One room a layer, the lowest first: each imports itself and those before it. `multiclass` imports nothing of ours,
as its files travel with saved models, so it stands below the rooms that share its windows and tags."""


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


def room_of(module: str) -> str:
    """The folder or file at the top of the package that a module belongs to."""
    return module.split(".")[1]


@cache
def rooms() -> dict[str, set[str]]:
    """Each room to the rooms it imports; the specification's import path of the trainer is the one exception."""
    found: dict[str, set[str]] = {room_of(name): set() for name in own_imports()}
    for source, targets in own_imports().items():
        if source != TRAINER:
            found[room_of(source)] |= {room_of(target) for target in targets} - {room_of(source)}
    return found


def test_every_room_has_a_layer_of_its_own_and_imports_only_lower_ones() -> None:
    assert set(rooms()) == set(LAYERS)
    upwards = [
        f"{room} imports {other}"
        for room, others in rooms().items()
        for other in others
        if LAYERS.index(other) > LAYERS.index(room)
    ]
    assert not upwards


def test_rooms_import_one_another_in_no_circle() -> None:
    order = list(TopologicalSorter(rooms()).static_order())
    assert order.index("errors") < order.index("cli")


def test_modules_import_one_another_in_no_circle() -> None:
    order = list(TopologicalSorter(own_imports()).static_order())
    assert order.index("cardioner.errors") < order.index("cardioner.cli")


def test_the_trainers_import_path_holds_the_trainer_alone() -> None:
    assert own_imports()[TRAINER] == {"cardioner.training.trainer"}


def test_files_that_travel_import_nothing_else_of_ours() -> None:
    assert rooms()["multiclass"] == set()


@pytest.mark.parametrize("name", TRAVELLING)
def test_travelling_file_imports_only_what_travels_with_it(name: str) -> None:
    module = f"cardioner.multiclass.{name}"
    assert own_imports()[module] <= {f"cardioner.multiclass.{other}" for other in TRAVELLING}
    foreign = {
        statement.target.partition(".")[0]
        for statement in imports_of(module, modules()[module])
        if not own_targets(statement)
    }
    beyond = set() if name in WITHOUT_TORCH else {"torch", "transformers"}
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


@pytest.mark.parametrize("name", ["modeling", "pipeline"])
def test_files_that_a_configuration_names_import_all_that_they_need_themselves(name: str) -> None:
    """Transformers 4.57 and 5.3 copy what these files import, but not what the imported files import in turn."""
    named = own_imports()[f"cardioner.multiclass.{name}"]
    assert named
    assert {target for each in named for target in own_imports()[each]} <= named


def _counted_nouns(tree: ast.Module) -> Iterator[ast.FormattedValue]:
    """The lengths in f-strings that a noun in the plural follows."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            for value, follows in zip(node.values, node.values[1:], strict=False):
                is_count = isinstance(value, ast.FormattedValue) and ast.unparse(value.value).startswith("len(")
                if is_count and isinstance(follows, ast.Constant) and re.match(r" [a-z-]{2,}s\b", str(follows.value)):
                    yield value  # type: ignore[misc]


def test_counts_and_their_nouns_go_through_many() -> None:
    """Else there are `1 notes`."""
    offenders = [
        f"{name}:{value.lineno}: {{{ast.unparse(value.value)}}}"
        for name, tree in modules().items()
        if not name.startswith("cardioner.interop.onnx_files")  # these run without the package
        for value in _counted_nouns(tree)
    ]
    assert not offenders


def test_data_code_names_no_torch_anywhere() -> None:
    heavy = {"torch", "transformers", "tokenizers", "safetensors", "accelerate"}
    offenders = [
        f"{name} imports {statement.target}"
        for name, tree in modules().items()
        if name != "cardioner" and room_of(name) in {"errors", "_io", "data", "evaluation"}
        for statement in imports_of(name, tree)
        if statement.target.partition(".")[0] in heavy
    ]
    assert not offenders


def test_reading_and_scoring_load_no_torch() -> None:
    script = """
import json, sys
import cardioner, cardioner.data.formats, cardioner.evaluation, cardioner.data.splits, cardioner.data.labels
import cardioner.data.quality, cardioner.multiclass.encoding, cardioner.multiclass.tagging, cardioner.multiclass.windows
light = set(cardioner.__all__) - {"ModelTrainer", "Predictor", "load"}
assert len([getattr(cardioner, name) for name in light]) == 11
print(json.dumps(sorted(sys.modules)))
"""
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(outcome.stdout))
    assert "cardioner.data.formats" in loaded
    assert not loaded & {"torch", "transformers", "tokenizers", "safetensors", "cardioner.multiclass.modeling"}


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
    documented = [
        "Corpus",
        "Distillation",
        "Document",
        "LabelSet",
        "ModelTrainer",
        "Predictor",
        "Span",
        "TrainingOptions",
    ]
    documented += ["__version__", "compare", "evaluate", "load", "read_corpus", "write_corpus"]
    assert sorted(cardioner.__all__) == sorted(dir(cardioner)) == documented
    assert all(getattr(cardioner, name) is not None for name in cardioner.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Model'"):
        _ = cardioner.Model  # type: ignore[attr-defined]


def test_type_checkers_see_every_top_level_name() -> None:
    for_checkers = {name for statement in imports_of("cardioner", modules()["cardioner"]) for name in statement.names}
    assert set(cardioner.__all__) - {"__version__"} <= for_checkers
    assert (SOURCE / "py.typed").is_file()


@pytest.mark.parametrize("module", ["multiclass", "data.formats", "evaluation"])
def test_exported_names_exist(module: str) -> None:
    imported = __import__(f"cardioner.{module}", fromlist=["__all__"])
    assert imported.__all__
    assert [name for name in imported.__all__ if not hasattr(imported, name)] == []


def test_every_command_is_in_the_readme() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = README.read_text(encoding="utf-8")
    assert "train" in commands
    assert [name for name in commands if not re.search(rf"\bcardioner {name}\b", text)] == []
