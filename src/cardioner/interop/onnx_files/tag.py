"""Tag notes with the model in this folder: `python tag.py NOTE.txt FOLDER ... > spans.jsonl`.

It needs onnxruntime, numpy, tokenizers and the files beside it, and no network. A note may have any length: it is
tokenised whole and read in overlapping windows, and one decoding runs over all of it. Each line of the output is
`{"id": ..., "spans": [{"start", "end", "label", "score"}, ...]}`: code points, half-open, into the untouched text.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cardioner.multiclass.tagging import Entity
from cardioner.multiclass.windows import apart, in_groups, reason_of
from cardioner.prediction.engines.tagger import Tagger


def read_texts(paths: Iterable[Path], problems: list[str]) -> Iterator[tuple[str, str]]:
    """Ids and texts of `.txt` files and of folders of them, in sorted order; no character is changed.

    Args:
        paths: The files and folders.
        problems: Gets a line about each that cannot be read as a note in UTF-8.
    """
    for path in paths:
        files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        if not files:
            problems.append(f"{path}: expected .txt files, found none")
        for file in files:
            name = (file.relative_to(path) if path.is_dir() else Path(file.name)).with_suffix("")
            try:
                yield name.as_posix(), file.read_bytes().decode("utf-8")
            except UnicodeDecodeError as error:
                problems.append(f"{file}: the byte at offset {error.start} is not valid UTF-8")
            except OSError as error:
                problems.append(f"{file}: cannot be read ({error.strerror})")


def as_json(entity: Entity) -> dict[str, Any]:
    """A span as JSON has it, with its attributes by name, if the model knows any."""
    said = {"attributes": dict(entity.attributes), "attribute_scores": dict(entity.attribute_scores)}
    plain = {name: value for name, value in entity._asdict().items() if name not in said}
    return {**plain, **(said if entity.attribute_scores else {})}


def main() -> None:
    """Tag the notes that the command line names; one that cannot be read or tagged is named, and the exit code is 3."""
    parser = argparse.ArgumentParser(description="Tag notes; writes one line of JSON per note to standard output.")
    parser.add_argument("notes", nargs="+", type=Path, help=".txt files in UTF-8, or folders of them")
    parser.add_argument("--text", action="store_true", help="put the text of each note into its line too")
    parser.add_argument("--threads", type=int, default=0, help="how many processors to use (default: all)")
    given = parser.parse_args()
    tagger = Tagger.from_folder(Path(__file__).parent, threads=given.threads)
    problems: list[str] = []
    for group in in_groups(read_texts(given.notes, problems), lambda note: len(note[1])):
        tagged = apart(group, lambda notes: tagger.tag([text for _, text in notes]))
        for (name, text), found in zip(group, tagged, strict=True):
            if isinstance(found, Exception):
                problems.append(f"{name}: its {len(text)} characters could not be tagged ({reason_of(found)})")
                continue
            line: dict[str, Any] = {"id": name, **({"text": text} if given.text else {})}
            line["spans"] = [as_json(entity) for entity in found]
            print(json.dumps(line))  # noqa: T201 - what it is for
    if problems:
        print(*problems, sep="\n", file=sys.stderr)  # noqa: T201
        sys.exit(3)


if __name__ == "__main__":
    main()
