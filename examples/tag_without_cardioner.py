"""Tag a folder of notes with a saved model directory and nothing of cardioner installed.

What a site needs to use a model is the directory, torch and transformers. To prove it, this script makes the import
of cardioner fail before it begins.

    python -I examples/tag_without_cardioner.py MODEL NOTES OUT
"""

from __future__ import annotations

import sys

sys.modules["cardioner"] = None  # type: ignore[assignment] - from here on `import cardioner` fails

from pathlib import Path  # noqa: E402

from rich.progress import track  # noqa: E402
from transformers import pipeline  # noqa: E402
from transformers.utils import logging  # noqa: E402


def to_brat(entities: list[dict[str, object]]) -> str:
    """The entities of a note as brat lines."""
    lines, said = [], 0
    for number, entity in enumerate(entities, 1):
        quote = str(entity["word"]).replace("\r", " ").replace("\n", " ")
        lines.append(f"T{number}\t{entity['entity_group']} {entity['start']} {entity['end']}\t{quote}\n")
        for name, value in dict(entity.get("attributes", {})).items():
            said += 1
            lines.append(f"A{said}\t{name} T{number}{'' if value is True else f' {value}'}\n")
        lines.append(f"#{number}\tAnnotatorNotes T{number}\tscore {entity['score']!r}\n")
    return "".join(lines)


def main(model: str, notes: str, out: str) -> None:
    """Tag every `.txt` file of a folder and write it, with its `.ann` file, to another."""
    try:
        import cardioner  # noqa: F401, PLC0415
    except ImportError:
        print("cardioner cannot be imported here; loading the directory with transformers alone")
    logging.disable_progress_bar()
    tagger = pipeline("token-classification", model=model, trust_remote_code=True)
    Path(out).mkdir(parents=True, exist_ok=True)
    for note in track(sorted(Path(notes).glob("*.txt")), description="tagging"):
        text = note.read_bytes().decode("utf-8")  # as it is: no newline is translated
        (Path(out) / note.name).write_bytes(text.encode("utf-8"))
        (Path(out) / f"{note.stem}.ann").write_bytes(to_brat(tagger(text)).encode("utf-8"))


if __name__ == "__main__":
    main(*sys.argv[1:])
