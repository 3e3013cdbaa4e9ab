"""Everything that can be told of a model directory before it is trusted: one pass that names all that is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cardioner.errors import ModelError
from cardioner.model_dir.custom_code import tags_in_its_own_way
from cardioner.model_dir.directory import load_unchecked
from cardioner.model_dir.file_check import Finding, compare_files, promised_manifest
from cardioner.model_dir.golden_outputs import check_canary
from cardioner.model_dir.layout import CONFIG, check_whole, read_config, read_json
from cardioner.model_dir.manifest import MANIFEST, SIGNATURE, Manifest
from cardioner.model_dir.signing import MissingLibraryError, check_signature, signer
from cardioner.model_dir.untrusted.files import check_bounded, check_entries

CANARY = "canary"
WHOLE = "directory"


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found out about a directory.

    Attributes:
        directory: The directory.
        manifest: What it is said to hold; `None` if there is none that can be read.
        findings: What is otherwise than it should be.
        signed_by: The fingerprint of the key that the signature was proven to be of; `None` if no key was given, or it
            does not hold.
        claimed: The fingerprint that the signature itself names.
        canary: Whether the model was run, and computed what it should.
    """

    directory: Path
    manifest: Manifest | None
    findings: tuple[Finding, ...]
    signed_by: str | None = None
    claimed: str | None = None
    canary: bool = False

    @property
    def sound(self) -> bool:
        """Whether nothing serious was found."""
        return not any(finding.serious for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "directory": str(self.directory),
            "sound": self.sound,
            "findings": [finding._asdict() for finding in self.findings],
            "files": 0 if self.manifest is None else len(self.manifest.files),
            "canary": self.canary,
            "signed_by": self.signed_by,
            "signature_names": self.claimed,
        }


def examine(directory: Path, *, key: Path | None = None) -> Examination:
    """Check a directory against its manifest, run its canary, and check its signature; nothing in it is executed.

    Args:
        directory: The model directory.
        key: The file of the public key that it should be signed with.

    Raises:
        ModelError: If there is no directory.
        UsageError: If there is no public key in that file.
    """
    if not directory.is_dir():
        check_whole(directory)
    try:
        for name in check_entries(directory) & {CONFIG, MANIFEST}:
            check_bounded(directory / name)
    except ModelError as error:  # nothing of it is read any further
        return Examination(directory, None, (Finding(WHOLE, str(error)),))
    findings: list[Finding] = []
    signed_by = _check_signature(directory, key, findings)
    manifest = _manifest(directory, findings)
    if manifest is not None:
        findings += compare_files(directory, manifest)
    sound = not any(finding.serious for finding in findings)
    try:
        check_whole(directory)
    except ModelError as error:
        # What is missing or altered is named above; this says what of it cannot even be read.
        findings.append(Finding(WHOLE, str(error)))
        sound = False
    if sound and manifest is not None:
        findings += _run_canary(directory, manifest)
    ran = sound and manifest is not None and not any(finding.name == CANARY for finding in findings)
    return Examination(directory, manifest, tuple(findings), signed_by, signer(directory), ran)


def _check_signature(directory: Path, key: Path | None, findings: list[Finding]) -> str | None:
    """The fingerprint of the key that signed it, where one was given; or a finding."""
    if key is None and not (directory / SIGNATURE).exists():
        return None
    try:
        found = check_signature(directory, key)
    except ModelError as error:
        findings.append(Finding(SIGNATURE, str(error)))
        return None
    except MissingLibraryError as error:
        if key is not None:
            raise
        findings.append(Finding(SIGNATURE, f"not checked: {error}", serious=False))
        return None
    return found if key is not None else None


def _manifest(directory: Path, findings: list[Finding]) -> Manifest | None:
    """The manifest, or a finding."""
    try:
        manifest = promised_manifest(directory, read_json(directory / CONFIG))
    except ModelError as error:
        findings.append(Finding(MANIFEST, str(error)))
        return None
    if manifest is None:
        problem = "there is none: an earlier version or another program saved this model, and nothing tells what it was"
        findings.append(Finding(MANIFEST, problem))
    return manifest


def _run_canary(directory: Path, manifest: Manifest) -> Iterable[Finding]:
    """What the model computes otherwise than it should."""
    if tags_in_its_own_way(read_config(directory)):
        yield Finding(
            CANARY, "not run: the model has a class of its own, and nothing of a directory is run", serious=False
        )
        return
    try:
        model, tokenizer, _ = load_unchecked(directory, "cpu")
    except ModelError as error:
        yield Finding(CANARY, str(error))
        return
    yield from (Finding(CANARY, problem) for problem in check_canary(manifest.canary, model, tokenizer))
