"""`python -m cardioner`."""

from cardioner.cli import main

if __name__ == "__main__":
    main()
