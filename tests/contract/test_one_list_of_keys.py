"""The keys that may never come from a directory stand in one module, and `modeling.py` keeps no others for itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import cardioner
from cardioner.model_dir import layout
from cardioner.multiclass import modeling

SOURCE = Path(cardioner.__file__).parent
ALLOWED = {SOURCE / name for name in ("model_dir/layout.py", "multiclass/modeling.py", "multiclass/code_files.py")}
HARMLESS_ELSEWHERE = {"tokenizer"}
"""An argument of ours, and of others."""
KEYS = {
    key
    for name, keys in vars(layout).items()
    if name.endswith(("_KEYS", "_TOKENIZER_CODE"))
    for key in keys
    if key not in HARMLESS_ELSEWHERE
}
CODE = set(layout.CODE)


def collections_in(path: Path) -> Iterator[tuple[int, set[str]]]:
    """Every list, set, tuple and dictionary of a file: its line, and the texts in it or among its keys."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        parts: list[ast.expr | None] = []
        if isinstance(node, (ast.List, ast.Set, ast.Tuple)):
            parts = [*node.elts]
        elif isinstance(node, ast.Dict):
            parts = [*node.keys]
        texts = {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
        yield getattr(node, "lineno", 0), texts


def test_the_lists_are_found_where_they_are() -> None:
    assert {"auto_map", "transformers_weights", "quantization_config", "vocab"} <= KEYS
    found = [texts & KEYS for _, texts in collections_in(SOURCE / "model_dir" / "layout.py")]
    assert sum(len(keys) > 1 for keys in found) >= 5


def test_no_other_module_lists_keys_that_may_never_come_from_a_directory() -> None:
    others = [
        f"{path.relative_to(SOURCE)}:{line}: {', '.join(sorted(texts & KEYS))}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path not in ALLOWED
        for line, texts in collections_in(path)
        if len(texts & KEYS) > 1
    ]
    assert not others, "import them from cardioner.model_dir.layout"


def test_no_other_module_lists_the_code_files_that_travel() -> None:
    others = [
        f"{path.relative_to(SOURCE)}:{line}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path not in ALLOWED
        for line, texts in collections_in(path)
        if len(texts & CODE) > 1
    ]
    assert not others, "use cardioner.model_dir.layout.CODE"


def test_what_modeling_leaves_out_of_an_encoder_is_refused_in_a_directory() -> None:
    describes_nothing = {"transformers_version"}
    kept_out = set(modeling._FOREIGN_KEYS) - describes_nothing
    assert kept_out
    assert [key for key in sorted(kept_out) if layout.refused_in_config(key) is None] == []
