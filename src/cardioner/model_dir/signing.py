"""Signatures: who vouches for a model directory. Ed25519 (RFC 8032) over the manifest, which lists every other file.

Keys are PEM files as OpenSSL writes and reads them, the private one PKCS #8, the public one SubjectPublicKeyInfo.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cardioner.errors import ModelError, OutputError, UsageError, missing_packages
from cardioner.model_dir.layout import CONFIG, MANIFEST, SIGNATURE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_CONTEXT = b"cardioner manifest 1\n"
"""Put before what is signed, so that no signature of something else with the same key passes for one of a manifest."""
_LARGEST = 1 << 16
_PRIME = 2**255 - 19
_ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER = {0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8}
"""The y coordinates of the eight points of small order on the curve: under such a key anyone signs anything."""


class MissingLibraryError(UsageError):
    """The package `cryptography` is not installed."""


def make_signing_key(path: str | Path, password: str | None = None) -> Path:
    """Make a key pair: the private key in `path`, for its owner's eyes alone, the public one beside it.

    Returns:
        The file of the public key: `path` with `.pub` behind it.

    Raises:
        OutputError: If one of the files exists, or cannot be written.
        UsageError: If the package `cryptography` is not installed.
    """
    path = Path(path)
    if (path.parent / CONFIG).is_file():
        raise OutputError(
            f"{path.parent} is a model directory, and a key in it would be given away: choose another place"
        )
    ed25519, serialization = _library()
    private = ed25519.Ed25519PrivateKey.generate()
    lock: Any = serialization.NoEncryption()
    if password:
        lock = serialization.BestAvailableEncryption(password.encode())
    pem, info = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    public = path.with_name(f"{path.name}.pub")
    for place in (path, public):
        if place.exists():
            raise OutputError(f"{place} exists, and a key is never replaced: choose another name")
    _write_new(path, private.private_bytes(pem, serialization.PrivateFormat.PKCS8, lock), mode=0o600)
    _write_new(public, private.public_key().public_bytes(pem, info), mode=0o644)
    return public


def write_signature(directory: str | Path, key: str | Path, password: str | None = None) -> str:
    """Sign the manifest of a directory with a private key; what it lists should have been checked before.

    Returns:
        The fingerprint of the public key.

    Raises:
        OutputError: If the signature cannot be written.
        UsageError: If there is no such key in that file, or the password is wrong.
    """
    directory, private = Path(directory), _read_private(Path(key), password)
    public, made = private.public_key().public_bytes_raw(), private.sign(_signed(directory))
    partial = directory / f".{SIGNATURE}"
    try:
        partial.write_bytes(_file(public, made))
        partial.replace(directory / SIGNATURE)
    except OSError as error:
        raise OutputError(f"{directory / SIGNATURE} cannot be written: {error.strerror}") from error
    return _fingerprint(public)


def check_signature(directory: str | Path, key: str | Path | None = None) -> str:
    """Check that a directory's manifest was signed with the private half of a key, and give the key's fingerprint.

    Without a file of a public key it is the one that the signature brings along: it is whole, but whose it is, is open.

    Raises:
        ModelError: If there is no signature, or it is another key's, or of another manifest.
        UsageError: If there is no public key in that file.
    """
    directory, expected = Path(directory), None if key is None else _read_public(Path(key))
    if not (directory / MANIFEST).is_file():
        raise ModelError(f"{directory} has no {MANIFEST}, and nothing to sign: save the model again with this version")
    if not (directory / SIGNATURE).is_file():
        raise ModelError(f"{directory} is not signed: it has no {SIGNATURE}; have whoever made it run cardioner sign")
    found, signature = _read_signature(directory / SIGNATURE)
    if expected not in (None, found):
        why = f"it was made with another key, {_fingerprint(found)}, and not with {_fingerprint(expected or b'')}"
    elif _is_weak(found):
        why = "its key is one under which anyone can sign anything"
    elif not _verifies(found, signature, _signed(directory)):
        why = "the manifest is not the one that was signed, or the signature was altered"
    else:
        return _fingerprint(found)
    raise ModelError(f"{directory / SIGNATURE}: the signature does not hold: {why}")


def needs_password(key: str | Path) -> bool:
    """Whether a private key is encrypted; a `UsageError` if its file cannot be read."""
    return b"BEGIN ENCRYPTED" in _read_key(Path(key))


def signer(directory: str | Path) -> str | None:
    """The fingerprint that a signature claims to be of; unproven. `None` if there is no signature."""
    try:
        return _fingerprint(_read_signature(Path(directory) / SIGNATURE)[0])
    except ModelError:
        return None


def _signed(directory: Path) -> bytes:
    return _CONTEXT + (directory / MANIFEST).read_bytes()


def _is_weak(public: bytes) -> bool:
    """Whether a public key is a point of small order; its last bit is the sign of the other coordinate."""
    return int.from_bytes(public, "little") % (1 << 255) % _PRIME in _SMALL_ORDER


def _verifies(public: bytes, signature: bytes, content: bytes) -> bool:
    ed25519, _ = _library()
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def _read_signature(path: Path) -> tuple[bytes, bytes]:
    """The public key and the signature in a file, or a `ModelError` if it holds something else."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            raise ValueError
        data = path.read_bytes()
        content = json.loads(data)
        public, signature = (base64.b64decode(content[name], validate=True) for name in ("key", "signature"))
        if _file(public, signature) != data:
            raise ValueError
        return public, signature
    except (OSError, ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        raise ModelError(f"{path}: expected a signature, found something else: sign the directory again") from None


def _read_private(path: Path, password: str | None) -> Ed25519PrivateKey:
    ed25519, serialization = _library()
    data = _read_key(path)
    try:
        key = serialization.load_pem_private_key(data, password.encode() if password else None)
    except TypeError:
        needs = "is encrypted: give its password" if password is None else "is not encrypted: give no password"
        raise UsageError(f"{path}: the key {needs}") from None
    except ValueError:
        problem = "another password" if password and b"ENCRYPTED" in data else "a private key in PEM form"
        raise UsageError(f"{path}: expected {problem}; cardioner sign --make-key FILE makes a key") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{path}: expected an Ed25519 key; cardioner sign --make-key FILE makes one")
    return key  # type: ignore[no-any-return]


def _read_public(path: Path) -> bytes:
    """The public key in a file, as it is in a signature."""
    ed25519, serialization = _library()
    data = _read_key(path)
    try:
        key = serialization.load_pem_public_key(data)
    except ValueError:
        key = None
    if isinstance(key, ed25519.Ed25519PublicKey) and _is_weak(key.public_bytes_raw()):
        raise UsageError(f"{path}: expected an Ed25519 public key, found one under which anyone can sign anything")
    if not isinstance(key, ed25519.Ed25519PublicKey):
        private = ", found a private one: verify with the file that ends in .pub" if b"PRIVATE" in data else ""
        raise UsageError(f"{path}: expected an Ed25519 public key in PEM form{private}")
    return bytes(key.public_bytes_raw())


def _read_key(path: Path) -> bytes:
    try:
        if path.is_file() and path.stat().st_size <= _LARGEST:
            return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: the key cannot be read ({error.strerror})") from None
    raise UsageError(f"{path} {'is no key' if path.exists() else 'does not exist'}; expected the file of a key")


def _fingerprint(public: bytes) -> str:
    return "sha256:" + hashlib.sha256(public).hexdigest()


def _file(public: bytes, signature: bytes) -> bytes:
    """The one form of a signature's file."""
    content = {"algorithm": "ed25519", "key": base64.b64encode(public), "signature": base64.b64encode(signature)}
    return (json.dumps(content, indent=1, default=bytes.decode) + "\n").encode()


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except FileExistsError:
        raise OutputError(f"{path} exists, and a key is never replaced: choose another name") from None
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _library() -> tuple[Any, Any]:
    """The parts of `cryptography` that are used, or a `MissingLibraryError` if it is not installed."""
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError:
        raise MissingLibraryError(missing_packages("a signature", ["cryptography"])) from None
    return ed25519, serialization
