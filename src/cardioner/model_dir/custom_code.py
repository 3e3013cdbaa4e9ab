"""A user's own model class: its file is checked before training, and made ready to travel with the model.

The file becomes part of the saved directory and is run where neither cardioner nor the user's other files are. So it
may import the standard library, torch, transformers and our `modeling`, and when it is imported it may only define. In
the copy, imports of ours name `.modeling`; every other byte stays as it is.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cardioner.errors import ModelError, OutputError, UsageError
from cardioner.model_dir.layout import FIRST_CODE
from cardioner.multiclass import modeling
from cardioner.multiclass.code_files import COMPANIONS, OwnCode
from cardioner.multiclass.modeling import TokenClassificationModel, TokenClassificationModelCRF

_OURS = {"cardioner.multiclass", "cardioner.multiclass.modeling"}
_EXPORTED = {"CardioNERConfig", "TokenClassificationModel", "TokenClassificationModelCRF"}
"""What `cardioner.multiclass` and `.modeling` both have."""
_ANYWHERE = {*sys.stdlib_module_names, "torch", "transformers"}
_RESERVED = {"modeling.py", *COMPANIONS, "__init__.py", "__main__.py"}
_ADVICE = "the file of a model class travels with the model: keep the class in a file of its own"
_ONE_LINE = "write it on one line of its own: from cardioner.multiclass.modeling import NAME"

_IMPORT = re.compile(rb"from[\s\\]+(cardioner\s*\.\s*multiclass(?:\s*\.\s*modeling)?)(?=[\s\\]+import)")
_SCANNED = re.compile(r"^[^\S\n]*(?:from\s+\.(\S+)\s+import|import\s+\.(\S+)\s*$)", re.MULTILINE)
"""Where transformers sees the relative imports of a file (`get_relative_imports`): in texts too.

It looks for white space at the start, lines included; here a line starts anew, so that empty ones cost nothing.
"""

_DEFINING = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Pass)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PURE_BUILTINS = {
    *("bool", "classmethod", "dict", "float", "frozenset", "int", "len", "list", "max", "min", "property", "range"),
    *("set", "sorted", "staticmethod", "str", "sum", "super", "tuple"),
}
_PURE_MODULES = {"collections", "dataclasses", "enum", "functools", "math", "operator", "re", "types", "typing"}
_PURE = {"logging.getLogger", "torch.device", "torch.inference_mode", "torch.no_grad", "torch.tensor"}


def adopt(model_class: type[Any]) -> None:
    """Check a user's model class and the file it stands in, and make it ready to be saved with that file.

    For our own two classes there is nothing to do.

    Raises:
        UsageError: If it is no `TokenClassificationModel`, or its file cannot travel: naming the line and what to do.
    """
    if not (isinstance(model_class, type) and issubclass(model_class, TokenClassificationModel)):
        raise UsageError(
            "model_class must be a subclass of cardioner.multiclass.modeling.TokenClassificationModel or "
            f"TokenClassificationModelCRF; found {getattr(model_class, '__name__', type(model_class).__name__)}"
        )
    if model_class.__module__ == modeling.__name__ or vars(model_class).get("own_code"):
        return
    path = source_of(model_class)
    for base in model_class.__mro__:
        if base.__module__.partition(".")[0] not in {*_ANYWHERE, "cardioner", model_class.__module__.partition(".")[0]}:
            raise UsageError(
                f"{path}: {model_class.__name__} builds on {base.__name__} of {base.__module__}; {_ADVICE}"
            )
    model_class.own_code = OwnCode(path.name, travelling_copy(path, model_class.__name__))


def source_of(model_class: type) -> Path:
    """The file of a class.

    Raises:
        UsageError: If it stands in none, inside a function or another class, or in one whose name cannot be used.
    """
    name, module = model_class.__qualname__, sys.modules.get(model_class.__module__)
    if "." in name or getattr(module, name, None) is not model_class:
        raise UsageError(f"{name.rpartition('.')[2]} is not defined at the top of a file; {_ADVICE}")
    path = Path(getattr(module, "__file__", None) or "")
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"{name} was not read from a .py file but typed in, in a notebook or a console; {_ADVICE}")
    if path.name.lower() in _RESERVED:
        raise UsageError(f"{path}: a saved model has a file {path.name} of its own: rename yours")
    if not path.stem.isidentifier() or keyword.iskeyword(path.stem):
        raise UsageError(f"{path}: expected a file name that can be imported, such as my_loss.py: rename it")
    return path


def check_place(model_class: type, directory: Path) -> None:
    """Refuse, with an `OutputError`, a directory in which saving would replace the user's own file by its copy."""
    own = vars(model_class).get("own_code")
    path = Path(getattr(sys.modules.get(model_class.__module__), "__file__", None) or "")
    if own and path.is_file() and (directory / own.name).is_file() and (directory / own.name).samefile(path):
        raise OutputError(
            f"{path} is the file of {model_class.__name__} itself: choose another directory for the model"
        )


def check_class(directory: Path, config: Mapping[str, Any], model_class: type | None = None) -> None:
    """Refuse a directory that was saved by a class which tags in a way of its own, unless that class is given."""
    wanted = config.get("custom_model_type")
    given = () if model_class is None else model_class.__mro__
    if not tags_in_its_own_way(config) or wanted in {kind.__name__ for kind in given}:
        return
    raise ModelError(
        f"{directory} was saved by {wanted}, a class in {own_file(config) or 'a file of its own'} that tags in a way "
        "of its own, and nothing in a directory is run here. Load it with that class, "
        f"Predictor({wanted}.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)); or let "
        'transformers run its code, pipeline("token-classification", model=directory, trust_remote_code=True)'
    )


def tags_in_its_own_way(config: Mapping[str, Any]) -> bool:
    """Whether the `config.json` of a directory names a class that none of ours tags like."""
    wanted = config.get("custom_model_type")
    return wanted is not None and wanted not in {kind.__name__ for kind in TokenClassificationModelCRF.__mro__}


def own_file(config: Mapping[str, Any]) -> str | None:
    """The name of the code file that a directory has beside ours, as its `config.json` says."""
    places = config.get("auto_map")
    named = places.get("AutoModelForTokenClassification") if isinstance(places, dict) else None
    found = re.fullmatch(r"(\w+)\.\w+", named) if isinstance(named, str) else None
    return None if found is None or found[1] == "modeling" else f"{found[1]}.py"


def needed_code(directory: Path, config: Mapping[str, Any]) -> list[str]:
    """The code files that a directory needs: those that every one has, and what these import from beside them.

    An older release wrote fewer files, which need no others; a user's class has a file of its own.
    """
    needed = [*FIRST_CODE, *filter(None, [own_file(config)])]
    for name in needed:  # grows on the way
        if (directory / name).is_file():
            text = (directory / name).read_text(encoding="utf-8", errors="replace")
            found = dict.fromkeys(f"{one or other}.py" for one, other in _SCANNED.findall(text))
            needed += [other for other in found if other not in needed]
    return needed


def travelling_copy(path: Path, name: str) -> bytes:
    """What a file with a model class of this name holds in a saved directory.

    Raises:
        UsageError: If it cannot travel: naming the first line that stands in the way, and what to do.
    """
    source = path.read_bytes()
    tree = _parsed(path, source)
    if not any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body):
        raise UsageError(f"{path}: expected {name} at the top of the file, found it nowhere there; {_ADVICE}")
    if problems := sorted([*_imports(tree), *_actions(tree.body), *_calls(tree)]):
        line, problem = problems[0]
        more = f" ({len(problems) - 1} more such lines)" if len(problems) > 1 else ""
        raise UsageError(f"{path}:{line}: {problem}{more}")
    return _rewritten(path, source, tree)


def _parsed(path: Path, source: bytes) -> ast.Module:
    """A file's syntax tree; transformers reads it as UTF-8, whatever it says of itself."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        source.decode("utf-8")
        if encoding == "utf-8":
            return ast.parse(source)
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno or 1}: {error.msg}: a file that can be parsed is expected") from None
    except UnicodeDecodeError:
        pass
    raise UsageError(f"{path}:1: expected UTF-8 without a byte order mark: save the file as that")


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Imports, wherever they stand, that fail where the directory is loaded; transformers checks all of them there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, problem) for alias in node.names if (problem := _problem_of(alias.name)))
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, f"a relative import cannot travel: {_ADVICE}"
        elif isinstance(node, ast.ImportFrom) and node.module in _OURS:
            home = _EXPORTED if node.module == "cardioner.multiclass" else {"*", *dir(modeling)}
            if unknown := [alias.name for alias in node.names if alias.name not in home]:
                yield node.lineno, f"{', '.join(unknown)} of {node.module} cannot travel: {_ONE_LINE}"
        elif isinstance(node, ast.ImportFrom) and (problem := _problem_of(node.module or "")):
            yield node.lineno, problem


def _problem_of(module: str) -> str | None:
    """What is wrong with an import of a module by its full name."""
    top = module.partition(".")[0]
    if module in _OURS:
        return f"import {module} cannot be rewritten: {_ONE_LINE}"
    if top == "cardioner":
        return f"{module} does not travel with a model, only cardioner.multiclass.modeling does: {_ADVICE}"
    if top in _ANYWHERE:
        return None
    return f"{module} may be missing where the model is loaded, which needs torch and transformers alone: {_ADVICE}"


def _actions(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Statements, at the top and in classes, that do more than define."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _actions(node.body)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(part, (ast.Attribute, ast.Subscript)) for target in targets for part in ast.walk(target)):
                yield node.lineno, f"it would change something else when a model is loaded: {_ADVICE}"
        elif not (isinstance(node, _DEFINING) or _is_text(node) or _is_guard(node)):
            yield node.lineno, f"it would be run when a model is loaded: {_ADVICE}, or put this into a function"


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring or an ellipsis."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_guard(node: ast.AST) -> bool:
    """Whether a statement's body is for scripts or type checkers alone, and not run when a model is loaded."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    condition = ast.unparse(node.test)
    return condition in {"__name__ == '__main__'", "'__main__' == __name__", "TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Calls made while the file is imported, but for those that only make a value or a class."""
    homes = dict(_imported_names(tree))
    for node in _run_on_import(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            first, dot, rest = called.partition(".")
            full = f"{homes[first]}{dot}{rest}" if first in homes else ""
            if not (called in _PURE_BUILTINS or full in _PURE or full.partition(".")[0] in _PURE_MODULES):
                name = called if re.fullmatch(r"[\w.]+", called) else "a function"
                yield node.lineno, f"{name} would be called when a model is loaded: call it in a function, or {_ADVICE}"


def _imported_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The names that a file imports, and the full names of what they stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (top, top)


def _run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """What is evaluated when a file is imported: everything but bodies of functions and guarded blocks."""
    yield node
    if isinstance(node, ast.Lambda) or _is_guard(node):
        return
    parts: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, _FUNCTIONS):
        parts = [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
    for part in parts:
        yield from _run_on_import(part)


def _rewritten(path: Path, source: bytes, tree: ast.Module) -> bytes:
    """The file with `.modeling` in place of our modules' names, and every other byte as it was."""
    starts = [0]
    for row in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    ours = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module in _OURS]
    copy = source
    for node in sorted(ours, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        found = _IMPORT.match(copy, starts[node.lineno - 1] + node.col_offset)
        if found is None:
            raise UsageError(f"{path}:{node.lineno}: this import cannot be rewritten: {_ONE_LINE}")
        copy = copy[: found.start(1)] + b".modeling" + copy[found.end(1) :]
        node.module, node.level = "modeling", 1
    if ast.dump(ast.parse(copy)) != ast.dump(tree):
        raise UsageError(f"{path}: its imports of cardioner cannot be rewritten: {_ONE_LINE}")
    text = copy.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    seen = {
        (found[1] or found[2]): text.count("\n", 0, found.start(found.lastindex or 0)) + 1
        for found in _SCANNED.finditer(text)
    }
    for module, line in seen.items():
        if module != "modeling":
            raise UsageError(f"{path}:{line}: transformers would take this text for an import: word it differently")
    if "modeling" not in seen:
        raise UsageError(f"{path}: expected its import of cardioner, found none that transformers sees: {_ONE_LINE}")
    return copy
