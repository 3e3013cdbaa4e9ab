"""The one order in which a model directory is checked before it is trusted, whatever reads it; no torch is imported.

What lies there is looked at; the manifest and its signature are checked; then whether what an engine reads is safe;
then the engine loads it; at last the golden outputs are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from cardioner.errors import ModelError, listed
from cardioner.model_dir.golden_comparison import Computer, compare_golden_outputs
from cardioner.model_dir.json_files import in_one_line, object_under, read_object, shown, shown_path
from cardioner.model_dir.layout import CONFIG, MANIFEST, SIGNATURE
from cardioner.model_dir.manifest import Issue, Manifest, compare_files, read_manifest
from cardioner.model_dir.signing import MissingLibraryError, check_signature
from cardioner.model_dir.untrusted.files import look

WHOLE = "directory"
"""What an issue is about that concerns no single file."""
GOLDEN = "golden outputs"


@dataclass(frozen=True, slots=True)
class ModelDir:
    """A directory that was checked.

    Attributes:
        path: Where it is.
        config: Its `config.json`; empty if it cannot be read and the report goes on.
        manifest: Its manifest; `None` for a directory that never had one.
        signed_by: The fingerprint of the key that the signature was checked with; `None` if it was not checked.
        loaded: What was loaded, if it was to be loaded and nothing serious was found.
    """

    path: Path
    config: Mapping[str, Any]
    manifest: Manifest | None
    signed_by: str | None = None
    loaded: Any = None


class Report:
    """What is wrong with a directory. The first serious issue raises, unless it is kept.

    Args:
        keep_changes: Whether to keep what differs from the manifest, and a signature that does not hold.
        keep_errors: Whether to keep everything else too.
    """

    def __init__(self, *, keep_changes: bool = False, keep_errors: bool = False) -> None:
        self.issues: list[Issue] = []
        self._keep_changes = keep_changes or keep_errors
        self._keep_errors = keep_errors

    @property
    def sound(self) -> bool:
        """Whether nothing serious was found so far."""
        return not any(issue.serious for issue in self.issues)

    def add(self, issues: Iterable[Issue], before: str = "", after: str = "") -> None:
        """Keep issues, or raise a `ModelError` that names all serious ones between two texts."""
        found = list(issues)
        self.issues += found
        if not self._keep_changes and (wrong := [issue for issue in found if issue.serious]):
            raise ModelError(before + listed(f"{issue.name} ({issue.problem})" for issue in wrong) + after)

    @contextmanager
    def errors_of(self, name: str, *, change: bool = False) -> Iterator[None]:
        """Keep a `ModelError` as an issue of this name, or let it through."""
        try:
            yield
        except ModelError as error:
            if not (self._keep_errors or (change and self._keep_changes)):
                raise
            self.issues.append(Issue(name, str(error)))


class Reader(Protocol):
    """How an engine reads a directory: each step is called after those before it found nothing serious."""

    def describe(self, path: Path, files: frozenset[str]) -> Any:
        """What the headers of the weights say.

        Raises:
            ModelError: If they lie.
        """

    def check(self, entered: ModelDir, files: frozenset[str], described: Any) -> None:
        """Refuse a directory that is not whole, or not safe to load.

        Raises:
            ModelError: Saying why.
        """

    def check_loaded(self, path: Path, loaded: Any) -> None:
        """Refuse numbers that are none.

        Raises:
            ModelError: Naming them.
        """

    def computer(self, loaded: Any) -> Computer:
        """What computes the golden outputs."""


def enter(
    directory: str | Path,
    reader: Reader,
    *,
    report: Report | None = None,
    key: str | Path | None = None,
    load: Callable[[ModelDir], Any] | None = None,
) -> ModelDir:
    """Check a directory in the one order that there is, and load it where asked; `config.json` is parsed once.

    Args:
        directory: The directory.
        reader: What an engine reads of it.
        report: Where issues go; without one, the first serious issue raises.
        key: A public key: the directory must be signed with its other half.
        load: Loads the model of a directory in which nothing serious was found, or refuses to.

    Raises:
        ModelError: Naming what is missing, altered, hostile or not signed as it should be; with any report, if the
            directory cannot even be looked at without harm.
        UsageError: If there is no public key in that file.
    """
    report = Report() if report is None else report
    path = existing(directory)
    files = look(path)  # 1. what is there, nothing of it opened
    with report.errors_of(CONFIG):
        if CONFIG not in files:
            raise ModelError(f"{path} is no model directory: it has no {CONFIG}; {_hint(path)}")
    signed_by = _check_signature(path, key, report) if key is not None else None
    manifest = _check_manifest(path, report)  # 2. the manifest and its signature
    if key is None:
        _check_signature(path, None, report)
    elif not report.sound:  # nothing is read that the owner of the key does not vouch for
        return ModelDir(path, {}, manifest, signed_by)
    entered = _check_structure(path, files, reader, report, ModelDir(path, {}, manifest, signed_by))
    if load is None or not report.sound:
        return entered
    with report.errors_of(WHOLE):
        loaded = load(entered)  # 4. loading, and a pass over all numbers
        if loaded is not None:
            reader.check_loaded(path, loaded)
        entered = replace(entered, loaded=loaded)
    if entered.loaded is not None and manifest is not None:  # 5. the golden outputs
        _check_golden_outputs(path, manifest, reader.computer(entered.loaded), report)
    return entered


def existing(directory: str | Path) -> Path:
    """The path of a directory, or a `ModelError` if there is none."""
    path = Path(directory)
    if not path.is_dir():
        raise ModelError(f"{path} {'is a file' if path.exists() else 'does not exist'}; expected a model directory")
    return path


def _check_structure(path: Path, files: frozenset[str], reader: Reader, report: Report, entered: ModelDir) -> ModelDir:
    """3. A structure that is safe to build; `config` stays empty if it cannot be read."""
    config = described = None
    with report.errors_of(CONFIG):
        config = read_object(path / CONFIG) if CONFIG in files else None
    with report.errors_of(WHOLE):
        described = reader.describe(path, files)
    if config is None:
        return entered
    entered = replace(entered, config=config)
    report.add(_contradictions(path, entered.manifest, config), f"{path} is not what was saved there: ")
    with report.errors_of(WHOLE):
        reader.check(entered, files, described)
    return entered


def _hint(path: Path) -> str:
    """What else may have been meant by a folder without a configuration."""
    if (path / "summary.json").is_file():
        models = sorted(shown(place.parent.name) for place in path.glob(f"*/{CONFIG}"))
        return f"it holds the models {', '.join(models)} of a repeated training: name one of them"
    checkpoints = sorted(shown_path(place.parent) for place in path.glob(f"checkpoints/*/{CONFIG}"))
    return f"the checkpoints {', '.join(checkpoints)} are whole" if checkpoints else "name what training wrote"


def _check_manifest(path: Path, report: Report) -> Manifest | None:
    """The manifest, its files compared; `None` for a directory that has none."""
    manifest = None
    with report.errors_of(MANIFEST):
        manifest = read_manifest(path)
        if manifest is None and (path / SIGNATURE).exists():
            raise ModelError(f"{path / MANIFEST} is missing, which {SIGNATURE} signs: copy the whole directory again")
    if manifest is not None:
        report.add(
            compare_files(path, manifest),
            f"{path} is not what was saved there: ",
            ". Copy it again from whoever made it; see cardioner verify",
        )
    return manifest


def _contradictions(path: Path, manifest: Manifest | None, config: Mapping[str, Any]) -> Iterator[Issue]:
    """What a configuration says otherwise than the manifest."""
    if manifest is None:
        if config.get("manifest") is not None and not (path / MANIFEST).exists():
            yield Issue(MANIFEST, f"it is missing, which {CONFIG} names: copy the whole directory again")
        return
    tags = object_under(config, "id2label")
    if [tags.get(str(index)) for index in range(len(tags))] != manifest.labels:
        yield Issue(MANIFEST, f"the labels that it lists are not those of {CONFIG}")


def _check_signature(path: Path, key: str | Path | None, report: Report) -> str | None:
    """The fingerprint of the key that signed it, where a key was given to check it with."""
    if key is None and not (path / SIGNATURE).exists():
        return None
    try:
        with report.errors_of(SIGNATURE, change=True):
            found = check_signature(path, key)
            return None if key is None else found
    except MissingLibraryError as error:
        if key is not None:
            raise
        report.add([Issue(SIGNATURE, f"not checked: {error}", serious=False)])
    return None


def _check_golden_outputs(path: Path, manifest: Manifest, computer: Computer, report: Report) -> None:
    """Compare what a loaded model computes with what its manifest says."""
    known = manifest.versions
    versions = ", ".join(f"{name} {known[name]}" for name in ("torch", "transformers", "tokenizers") if name in known)
    found: list[Issue] = []
    with report.errors_of(GOLDEN), in_one_line(f"{path} cannot be run", "(copy the whole directory again)"):
        found = [Issue(GOLDEN, one) for one in compare_golden_outputs(manifest.golden_outputs, computer)]
    report.add(
        found,
        f"{path} does not compute here what it did when it was saved: ",
        f". It was saved with {versions}: install these, or see cardioner verify",
    )
