"""Signatures hold for exactly one manifest and one key; OpenSSL's own files are read."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from cardioner.errors import ModelError, OutputError, UsageError
from cardioner.model_dir import signing
from cardioner.model_dir.layout import MANIFEST, SIGNATURE
from cardioner.model_dir.signing import check_signature, make_signing_key, needs_password, signer, write_signature


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A directory with a signed manifest, and the key pair beside it."""
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / MANIFEST).write_bytes(b'{"format": 1}\n')
    make_signing_key(tmp_path / "key")
    write_signature(directory, tmp_path / "key")
    return directory


def test_a_signature_holds_for_its_key(signed: Path, tmp_path: Path) -> None:
    fingerprint = check_signature(signed, tmp_path / "key.pub")
    assert fingerprint == signer(signed)
    assert fingerprint.startswith("sha256:")


def test_it_is_plain_ed25519_that_other_programs_can_check(signed: Path, tmp_path: Path) -> None:
    public = load_pem_public_key((tmp_path / "key.pub").read_bytes())
    content = json.loads((signed / SIGNATURE).read_text())
    signature = base64.b64decode(content["signature"])
    public.verify(signature, b"cardioner manifest 1\n" + (signed / MANIFEST).read_bytes())  # type: ignore[union-attr, call-arg, arg-type]


def test_another_manifest_is_not_signed(signed: Path, tmp_path: Path) -> None:
    (signed / MANIFEST).write_bytes(b'{"format": 1} \n')
    with pytest.raises(ModelError, match="not the one that was signed"):
        check_signature(signed, tmp_path / "key.pub")


def test_another_key_is_named(signed: Path, tmp_path: Path) -> None:
    other = make_signing_key(tmp_path / "other")
    with pytest.raises(ModelError, match=f"another key, {signer(signed)}"):
        check_signature(signed, other)


def test_a_claimed_key_proves_nothing(signed: Path, tmp_path: Path) -> None:
    other = make_signing_key(tmp_path / "other")
    made = json.loads((signed / SIGNATURE).read_text())["signature"]
    claimed = write_signature(signed, tmp_path / "other")
    content = (signed / SIGNATURE).read_text()
    (signed / SIGNATURE).write_text(content.replace(json.loads(content)["signature"], made))
    assert signer(signed) == claimed
    for key in (other, None):
        with pytest.raises(ModelError, match="does not hold"):
            check_signature(signed, key)


def test_every_altered_byte_of_a_signature_is_noticed_without_a_key(signed: Path) -> None:
    data = (signed / SIGNATURE).read_bytes()
    assert check_signature(signed) == signer(signed)
    for place in range(len(data)):
        (signed / SIGNATURE).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ModelError):
            check_signature(signed)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"algorithm": "none", "key": "", "signature": ""}', "[" * 70000, "é"]
)
def test_something_else_is_no_signature(content: str, signed: Path, tmp_path: Path) -> None:
    (signed / SIGNATURE).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match="expected a signature"):
        check_signature(signed, tmp_path / "key.pub")
    assert signer(signed) is None


def test_what_is_missing_is_named(signed: Path, tmp_path: Path) -> None:
    (signed / SIGNATURE).unlink()
    with pytest.raises(ModelError, match="is not signed"):
        check_signature(signed, tmp_path / "key.pub")
    (signed / MANIFEST).unlink()
    with pytest.raises(ModelError, match=r"no cardioner\.json"):
        check_signature(signed, tmp_path / "key.pub")


def test_private_keys_are_for_their_owner_and_never_replaced(tmp_path: Path) -> None:
    make_signing_key(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(OutputError, match="never replaced"):
        make_signing_key(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


def test_a_password_is_needed_where_one_was_given(signed: Path, tmp_path: Path) -> None:
    public = make_signing_key(tmp_path / "locked", "open sesame")
    assert needs_password(tmp_path / "locked")
    assert not needs_password(tmp_path / "key")
    for password, problem in ((None, "is encrypted"), ("other", "another password")):
        with pytest.raises(UsageError, match=problem):
            write_signature(signed, tmp_path / "locked", password)
    write_signature(signed, tmp_path / "locked", "open sesame")
    assert check_signature(signed, public)


def test_keys_of_the_wrong_kind_are_told_apart(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.pub"):
        check_signature(signed, tmp_path / "key")
    with pytest.raises(UsageError, match="private key"):
        write_signature(signed, tmp_path / "key.pub")
    with pytest.raises(UsageError, match="does not exist; expected the file of a key"):
        check_signature(signed, tmp_path / "none")
    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ec").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(UsageError, match="Ed25519"):
        write_signature(signed, tmp_path / "ec")


PRIME = 2**255 - 19
CURVE = -121665 * pow(121666, -1, PRIME) % PRIME
NEUTRAL = (0, 1)
"""The curve of Ed25519 (RFC 8032, section 5.1), and the point that changes no other."""


def added(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """The sum of two points (RFC 8032, section 5.1.4)."""
    (x, y), (u, v) = one, other
    crossed = CURVE * x * u * y * v
    return (
        (x * v + u * y) * pow(1 + crossed, -1, PRIME) % PRIME,
        (y * v + x * u) * pow(1 - crossed, -1, PRIME) % PRIME,
    )


def points_at(y: int) -> list[tuple[int, int]]:
    """The points of the curve with that second coordinate."""
    square = (y * y - 1) * pow(CURVE * y * y + 1, -1, PRIME) % PRIME
    root = pow(square, (PRIME + 3) // 8, PRIME)
    roots = {root, root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME}
    return [(x, y) for found in roots for x in {found, -found % PRIME} if x * x % PRIME == square]


def test_the_keys_refused_are_the_eight_points_of_small_order() -> None:
    points = {point for y in signing._SMALL_ORDER for point in points_at(y)}
    assert len(points) == 8
    for point in points:
        doubled = added(point, point)
        assert added(added(doubled, doubled), added(doubled, doubled)) == NEUTRAL


@pytest.mark.parametrize("key", [1, PRIME + 1, 1 | 1 << 255])
def test_a_signature_under_a_key_with_which_anyone_signs_is_refused(key: int, signed: Path, tmp_path: Path) -> None:
    weak = key.to_bytes(32, "little")
    forged = (1).to_bytes(32, "little") + bytes(32)  # holds for every text, as far as a library lets such a key pass
    (signed / SIGNATURE).write_bytes(signing._file(weak, forged))
    with pytest.raises(ModelError, match="anyone can sign anything"):
        check_signature(signed)
    (tmp_path / "weak.pub").write_bytes(
        Ed25519PublicKey.from_public_bytes(weak).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(UsageError, match="anyone can sign anything"):
        check_signature(signed, tmp_path / "weak.pub")


def test_making_a_key_makes_no_folder_and_no_half_of_a_pair(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        make_signing_key(tmp_path / "nowhere" / "a.key")
    (tmp_path / "b.key.pub").write_text("another key")
    with pytest.raises(OutputError, match=r"b\.key\.pub exists"):
        make_signing_key(tmp_path / "b.key")
    assert [place.name for place in tmp_path.iterdir()] == ["b.key.pub"]
