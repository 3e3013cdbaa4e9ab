"""`cardioner push` and `cardioner pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cardioner.cli.console import notices, output, print_json, quieten, table, tell
from cardioner.cli.inputs import JsonAloneOption
from cardioner.cli.models import ModelArgument
from cardioner.errors import UsageError, many

NameArgument = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the hub.")]


def push(
    model: ModelArgument,
    repository: NameArgument,
    public: Annotated[
        bool, typer.Option("--public", help="Let everyone see the repository. Default: it is private.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List every file that would be uploaded, with its size, and send nothing.")
    ] = False,
    forget_documents: Annotated[
        bool,
        typer.Option("--forget-documents", help="First remove ids and digests of training notes from DIR."),
    ] = False,
    json: JsonAloneOption = False,
) -> None:
    """Upload a model directory to the Hugging Face hub: only its own files, in one commit.

    The directory is verified first. One that holds ids or digests of its training notes is refused.
    HF_ENDPOINT names another server; the token is HF_TOKEN, or what hf auth login saved.

    Example: cardioner push model hospital/entities --dry-run
    """
    if dry_run and forget_documents:
        raise UsageError("--dry-run changes nothing: give it without --forget-documents")
    with notices.status("checking the directory"):
        quieten()
        from cardioner.interop import transfer  # noqa: PLC0415 - imports torch
        from cardioner.model_dir.document_traces import forget_documents as forget  # noqa: PLC0415

        if forget_documents:
            forget(model)
        files = transfer.outgoing(model)
        if dry_run:
            transfer.check_outgoing(model)
    if dry_run and json:
        print_json(transfer.as_json(files, repository, public=public))
        return
    if dry_run:
        rows = [(name, f"{size:,}") for name, size in {**files, "together": sum(files.values())}.items()]
        output.print(table(f"{model} to {repository} at {transfer.endpoint()}", ("file", "bytes"), rows, totals=1))
        tell("Nothing was sent.")
        return
    with notices.status(f"uploading {many(len(files), 'file')}, {sum(files.values()):,} bytes"):
        done = transfer.push(model, repository, public=public)
    for name in done.removed:
        tell(f"Removed from the repository, as it is no part of this model: {name}")
    if json:
        print_json({**transfer.as_json(files, repository, public=done.public), "revision": done.revision})
    tell(f"{'Public' if done.public else 'Private'}: {done.url}")
    tell(f"To get it: cardioner pull {repository} DIR --revision {done.revision}")


def pull(
    repository: NameArgument,
    target: Annotated[Path, typer.Argument(metavar="DIR", help="The model directory to write.")],
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="A branch, a tag or a commit. Default: the newest one.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A public key (.pub): the model must be signed with its other half."),
    ] = None,
) -> None:
    """Download a model directory from the Hugging Face hub: whole and verified, or not at all.

    Only the files that the manifest lists are downloaded, and nothing of them is run. HF_ENDPOINT names another server.

    Example: cardioner pull hospital/entities model --key hospital.key.pub
    """
    with notices.status("downloading and checking the model"):
        quieten()
        from cardioner.interop.transfer import pull as run  # noqa: PLC0415 - imports torch

        done = run(repository, target, revision=revision, key=key)
    if done.signed_by:
        tell(f"signed with the key {done.signed_by}")
    elif done.claimed:
        tell(f"there is a signature by the key {done.claimed}: check it with --key FILE.pub")
    else:
        tell("not signed: whoever can write the repository could have changed it and its manifest alike")
    tell(f"Model: {done.directory}, of the revision {done.revision}")
