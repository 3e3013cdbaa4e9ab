"""`cardioner sign`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import notices, quieten, tell
from cardioner.errors import ModelError, UsageError

PASSWORD = "CARDIONER_KEY_PASSWORD"  # noqa: S105 - the name of a variable


def sign(
    model: Annotated[Path | None, typer.Argument(metavar="DIR", help="The model directory.")] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The private key to sign with.")] = None,
    make_key: Annotated[
        Path | None,
        typer.Option("--make-key", metavar="FILE", help="Make a key pair instead: FILE and FILE.pub."),
    ] = None,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="With --make-key: ask for a password for the key.")
    ] = False,
) -> None:
    """Sign a model directory, so that others can tell who vouches for it; or make the keys for that.

    The directory is verified first, and one that is not sound is not signed. Give FILE.pub to whoever receives models,
    on another way than the models; keep FILE to yourself. The password of an encrypted key is asked for, or taken from
    CARDIONER_KEY_PASSWORD.

    Example: cardioner sign --make-key hospital.key; cardioner sign model --key hospital.key
    """
    from cardioner.model_dir.signing import make_signing_key, needs_password, write_signature  # noqa: PLC0415 - starts fast

    if make_key is not None:
        if model is not None or key is not None:
            raise UsageError("--make-key makes keys and signs nothing: leave DIR and --key out")
        public = make_signing_key(make_key, _password(again=True) if encrypt else None)
        tell(f"private key: {make_key} (keep it to yourself); public key: {public}")
        return
    if model is None or key is None:
        raise UsageError("expected a model directory and --key FILE, or --make-key FILE alone")
    password = _password() if needs_password(key) else None
    with notices.status("checking the directory"):
        quieten()
        from cardioner.model_dir.layout import SIGNATURE  # noqa: PLC0415
        from cardioner.model_dir.verify import verify  # noqa: PLC0415 - imports torch

        found = verify(model)
    if wrong := [one for one in found.issues if one.serious and one.name != SIGNATURE]:
        raise ModelError(f"{model} is not signed: {wrong[0].name}: {wrong[0].problem}; see cardioner verify {model}")
    tell(f"{model} is signed with the key {write_signature(model, key, password)}")


def _password(*, again: bool = False) -> str:
    """The password, from the environment or from whoever types."""
    known = os.environ.get(PASSWORD)
    if known:
        return known
    asked: str = typer.prompt("Password of the key", hide_input=True, confirmation_prompt=again, err=True)
    return asked
