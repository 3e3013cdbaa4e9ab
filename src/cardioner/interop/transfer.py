"""A model directory to the Hugging Face hub, or to another server with its interface, and back.

`HF_ENDPOINT` names another server than huggingface.co; the token is `HF_TOKEN`, or the one that `hf auth login` saved.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from cardioner import __version__
from cardioner._io import check_no_file, publish, silenced, staging
from cardioner.errors import CardioNERError, ModelError, OutputError, UsageError, first_line, listed, many
from cardioner.model_dir.document_traces import document_traces
from cardioner.model_dir.entrance import existing
from cardioner.model_dir.layout import MANIFEST, SIGNATURE, read_by_loaders
from cardioner.model_dir.manifest import own_files, read_manifest
from cardioner.model_dir.verify import verify

_TRANSPORT: type[Exception] = HfHubHTTPError.__bases__[0]
"""The base of all errors of the HTTP client; which client it is depends on the release of huggingface_hub."""
_ANSWERS = {
    401: "the token is missing or not accepted: set HF_TOKEN, or run hf auth login",
    403: "the token may not do this: use one that may write to this repository",
    404: "there is no such repository, revision or file, or the token may not see it",
    409: "the repository was changed at the same time: try again",
    412: "the repository was changed at the same time: try again",
    413: "a file is too large for this server",
    429: "too many requests: try again later",
}


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was uploaded.

    Attributes:
        url: Of the commit.
        revision: Its id, for `pull`.
        public: Whether everyone can see the repository.
        removed: Files of an earlier model that are not in the repository any more.
    """

    url: str
    revision: str
    public: bool
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was downloaded.

    Attributes:
        directory: The model directory.
        revision: The id of the commit that it is from.
        signed_by: The fingerprint of the key that the signature was checked with; `None` if none was given.
        claimed: The fingerprint that the signature itself names.
    """

    directory: Path
    revision: str
    signed_by: str | None
    claimed: str | None


def endpoint() -> str:
    """The address of the hub."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def outgoing(directory: str | Path) -> dict[str, int]:
    """What a push would upload: the files of a model directory and their sizes in bytes; nothing is sent.

    Raises:
        ModelError: If it is no directory with a manifest.
    """
    directory = existing(directory)
    if not (directory / MANIFEST).is_file():
        raise ModelError(f"{directory} has no {MANIFEST}, which lists what to push: save the model again")
    return {name: (directory / name).stat().st_size for name in own_files(directory)}


def check_outgoing(directory: str | Path) -> None:
    """Refuse a directory that is not sound, or that tells which notes the model was made of; nothing is sent.

    Raises:
        ModelError: Saying what is wrong with it.
    """
    directory = existing(directory)
    if traces := document_traces(directory):
        raise ModelError(
            f"{directory} is not pushed: it has ids or digests of the notes that the model was made of "
            f"({listed(traces)}): remove them with --forget-documents"
        )
    if wrong := [one for one in verify(directory).issues if one.serious]:
        raise ModelError(
            f"{directory} is not pushed: {wrong[0].name}: {wrong[0].problem}; see cardioner verify {directory}"
        )


def push(directory: str | Path, repository: str, *, public: bool = False) -> Pushed:
    """Upload a model directory as one commit: its own files, and no others.

    What is there already is not sent again, so a push can be repeated after an interruption.

    Args:
        directory: The directory; see `check_outgoing`.
        repository: `OWNER/NAME`. It is made if it is missing.
        public: Whether everyone may see it.

    Raises:
        ModelError: If the directory cannot be pushed.
        OutputError: If the hub cannot be reached or refuses, if the repository holds something else than a model, or if
            everyone can see it and `public` is off.
        UsageError: If the name has another form, or there is no token.
    """
    _check_name(repository)
    if get_token() is None:
        raise UsageError("there is no token for the hub: set HF_TOKEN, or run hf auth login")
    directory, files = existing(directory), outgoing(directory)
    check_outgoing(directory)
    hub = HfApi(endpoint=endpoint(), library_name="cardioner", library_version=__version__)
    with _in_one_line(f"{repository} cannot be pushed to {endpoint()}", OutputError):
        hub.create_repo(repository, private=not public, exist_ok=True)
        found = hub.model_info(repository)
        there = [one.rfilename for one in found.siblings or ()]
        _check_repository(repository, there, public=public, private=bool(found.private))
        stale = [name for name in read_by_loaders(there) if name not in files]
        operations: list[Any] = [CommitOperationAdd(name, directory / name) for name in files]
        done = hub.create_commit(
            repository,
            [*operations, *map(CommitOperationDelete, stale)],
            commit_message=f"Model directory, pushed with cardioner {__version__}",
            parent_commit=found.sha,
        )
    return Pushed(done.commit_url, done.oid, not found.private, tuple(stale))


def pull(repository: str, out: str | Path, *, revision: str | None = None, key: str | Path | None = None) -> Pulled:
    """Download a model directory, which appears only once it is whole and everything in it was checked.

    Only the files that its manifest lists are downloaded, and nothing of them is run.

    Args:
        repository: `OWNER/NAME`.
        out: Where to write; nothing may be there, or an empty folder.
        revision: A branch, a tag or the id of a commit; by default the newest one.
        key: A public key: the model must be signed with its other half.

    Raises:
        ModelError: If the hub cannot be reached or has no such model, or the model is not sound.
        OutputError: If something is at `out`, or it cannot be written.
        UsageError: If the name has another form, or there is no key in that file.
    """
    out = Path(out)
    _check_name(repository)
    check_no_file(out)
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty: choose another place")
    hub = HfApi(endpoint=endpoint(), library_name="cardioner", library_version=__version__)
    with staging(out) as stage:
        with _in_one_line(f"{repository} cannot be pulled from {endpoint()}", ModelError):
            commit = _download(hub, repository, stage, revision)
        found = verify(stage, key=key)
        if wrong := [one for one in found.issues if one.serious]:
            raise ModelError(f"{repository} is not what was saved: {wrong[0].name}: {wrong[0].problem}")
        publish(stage, out, sorted(path.name for path in stage.iterdir()))
    return Pulled(out, commit, found.signed_by, found.claimed)


def _download(hub: HfApi, repository: str, stage: Path, revision: str | None) -> str:
    """Get the files that the manifest of a commit lists, and the id of the commit."""
    found = hub.model_info(repository, revision=revision)
    there, commit = {one.rfilename for one in found.siblings or ()}, str(found.sha)
    if MANIFEST not in there:
        raise ModelError(f"{repository} is no model directory of cardioner: it has no {MANIFEST}")

    def get(name: str) -> None:
        hub.hf_hub_download(repository, name, revision=commit, local_dir=stage)

    get(MANIFEST)
    manifest = read_manifest(stage)
    for name in sorted(({*manifest.files, SIGNATURE} if manifest else set()) & there):
        get(name)
    shutil.rmtree(stage / ".cache", ignore_errors=True)  # what huggingface_hub notes there
    return commit


def _check_name(repository: str) -> None:
    with suppress(HFValidationError):
        validate_repo_id(repository)
        if repository.count("/") == 1:
            return
    raise UsageError(f"expected the name of a repository as OWNER/NAME; found {repository!r}")


def _check_repository(repository: str, there: list[str], *, public: bool, private: bool) -> None:
    """Refuse a repository that others can see against the user's will, or that holds another kind of thing."""
    if not private and not public:
        raise OutputError(
            f"{repository} is there already, and everyone can see it: nothing was pushed; push with --public, or make "
            "it private on the hub first"
        )
    others = [name for name in there if name not in (".gitattributes", "README.md", "LICENSE")]
    if others and MANIFEST not in there:
        raise OutputError(
            f"{repository} holds {many(len(others), 'file')} of something else, such as {sorted(others)[0]}: nothing "
            "was pushed; choose another name"
        )


@contextmanager
def _in_one_line(what: str, kind: type[CardioNERError]) -> Iterator[None]:
    """Turn what the client of the hub raises into one line; it repeats requests itself where that may help."""
    try:
        with silenced("huggingface_hub"):
            yield
    except OfflineModeIsEnabled:
        raise kind(f"{what}: HF_HUB_OFFLINE forbids it: unset it") from None
    except (_TRANSPORT, LocalEntryNotFoundError, ConnectionError) as error:
        raise kind(f"{what}: {_reason(error)}") from None
    except ValueError as error:
        raise kind(f"{what}: {first_line(error)}") from None


def _reason(error: Exception) -> str:
    """Why a request failed, in words; a download that fails has the server's answer as its cause."""
    answer = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
    if not isinstance(answer, HfHubHTTPError):
        return f"the connection failed ({type(answer or error).__name__}): try again"
    status = answer.response.status_code
    by_default = "the server failed: try again later" if status >= 500 else "it was refused"
    return f"{_ANSWERS.get(status, by_default)} (HTTP status {status})"


def as_json(files: Mapping[str, int], repository: str, *, public: bool) -> dict[str, Any]:
    """What a push would upload, ready for JSON."""
    return {
        "endpoint": endpoint(),
        "repository": repository,
        "public": public,
        "files": dict(files),
        "bytes": sum(files.values()),
    }
