"""The exception tree and its exit codes."""

from __future__ import annotations

from pathlib import Path

from cardioner import errors


def test_every_class_has_the_exit_code_of_the_drawing() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    drawing = {words[-2]: int(words[-1]) for words in _drawn_lines()}
    assert {name.__name__: name.exit_code for name in classes} == drawing


def _drawn_lines() -> list[list[str]]:
    cells = [
        line.replace("├──", "").replace("└──", "").replace("│", "").split() for line in errors.__doc__.splitlines()
    ]
    return [words[:2] for words in cells if len(words) > 1 and words[0].endswith("Error") and words[1].isdigit()]


def test_all_errors_are_caught_as_one() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert all(issubclass(name, errors.CardioNERError) for name in classes)


def test_a_format_error_names_file_and_line_and_is_a_data_error() -> None:
    error = errors.FormatError(Path("notes/a.ann"), 7, "expected a tab")
    assert isinstance(error, errors.DataError)
    assert (str(error), error.path, error.line) == ("notes/a.ann:7: expected a tab", Path("notes/a.ann"), 7)
