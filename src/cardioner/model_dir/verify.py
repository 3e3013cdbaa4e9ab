"""All that is wrong with a model directory, named in one pass."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cardioner.errors import ModelError
from cardioner.model_dir.custom_code import tags_in_its_own_way
from cardioner.model_dir.entrance import GOLDEN, WHOLE, ModelDir, Report, existing
from cardioner.model_dir.findings import never_found
from cardioner.model_dir.json_files import shown_path
from cardioner.model_dir.layout import CONFIG, MANIFEST, SIGNATURE
from cardioner.model_dir.load import Loaded, enter, load_unchecked
from cardioner.model_dir.manifest import Issue, Manifest
from cardioner.model_dir.signing import signer

SCORES = "scores"
"""What an issue is about that makes no directory unsound: the model is as it was, and was of little use."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found out about a directory.

    Attributes:
        directory: The directory.
        manifest: What it is said to hold; `None` if there is none that can be read.
        issues: What is otherwise than it should be.
        signed_by: The fingerprint of the key that the signature was proven to be of; `None` if no key was given, or it
            does not hold.
        claimed: The fingerprint that the signature itself names.
        golden_outputs: Whether the model was run, and computed what it should.
    """

    directory: Path
    manifest: Manifest | None
    issues: tuple[Issue, ...]
    signed_by: str | None = None
    claimed: str | None = None
    golden_outputs: bool = False

    @property
    def sound(self) -> bool:
        """Whether nothing serious was found."""
        return not any(issue.serious for issue in self.issues)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the model although it is what was saved."""
        return tuple(issue.problem for issue in self.issues if issue.name == SCORES)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "directory": shown_path(self.directory),
            "sound": self.sound,
            "issues": [issue._asdict() for issue in self.issues],
            "files": 0 if self.manifest is None else len(self.manifest.files),
            "golden_outputs": self.golden_outputs,
            "signed_by": self.signed_by,
            "signature_names": self.claimed,
        }


def verify(directory: str | Path, *, key: str | Path | None = None) -> Verification:
    """Check a directory against its manifest and its signature, and run the model on the manifest's made-up input.

    Nothing in the directory is executed.

    Args:
        directory: The model directory.
        key: The file of the public key that it should be signed with.

    Raises:
        ModelError: If there is no directory, or nothing in it says that it holds a model.
        UsageError: If there is no public key in that file.
    """
    path, report = existing(directory), Report(keep_errors=True)
    if not any(map(os.path.lexists, (path / CONFIG, path / MANIFEST, path / SIGNATURE))):
        raise ModelError(
            f"{path} is no model directory: it has neither {CONFIG} nor {MANIFEST}; name what training wrote"
        )

    def load(entered: ModelDir) -> Loaded | None:
        if entered.manifest is None:
            return None
        if tags_in_its_own_way(entered.config):
            problem = "not compared: the model has a class of its own, and no code of a directory is run"
            report.add([Issue(GOLDEN, problem, serious=False)])
            return None
        return load_unchecked(path, entered.config, "cpu")

    try:
        found = enter(path, report=report, key=key, load=load)
    except ModelError as error:  # nothing of it is read any further
        return Verification(path, None, (*report.issues, Issue(WHOLE, str(error))))
    if found.manifest is None and not any(issue.name == MANIFEST for issue in report.issues):
        problem = "there is none: an earlier version or another program saved this model, and nothing says what it was"
        report.add([Issue(MANIFEST, problem)])
    if found.manifest is not None and (unfound := never_found(found.manifest.record)):
        report.add([Issue(SCORES, unfound, serious=False)])
    compared = found.loaded is not None and report.sound
    return Verification(path, found.manifest, tuple(report.issues), found.signed_by, signer(path), compared)
