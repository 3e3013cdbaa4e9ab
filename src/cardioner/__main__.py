"""The program `cardioner`, and `python -m cardioner`: a process of its own, which ends with the command."""

import gc

from cardioner import cli

OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""Python's 700 means thousands of collections while torch and transformers are imported, whose objects all stay."""


def main() -> None:
    """Run the command, and end the process with its exit code."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    try:
        cli.main()
    finally:
        gc.freeze()  # what is left ends with the process: looking through it for garbage takes half a second


if __name__ == "__main__":
    main()
