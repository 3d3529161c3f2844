"""Signing keys: the published vectors, and every file that must not become a key."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey

from agent.adapters.keys import (
    Ed25519Signer,
    PublicKeys,
    certificate_dates,
    draw,
    generate_key,
    load_credential_signer,
    load_public_key,
    load_signer,
    public_key_of_jwk,
)
from agent.errors import ConfigError
from agent.reporting.envelope import thumbprint

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
CLEAR = serialization.NoEncryption()

# RFC 8037, appendix A.
RFC8037_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC8037_D = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
RFC8037_KID = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
RFC8037_SIGNED = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
RFC8037_SIGNATURE = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
# RFC 7515, appendix A.3.
RFC7515_JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
RFC7515_SIGNED = (
    b"eyJhbGciOiJFUzI1NiJ9"
    b".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
)
RFC7515_SIGNATURE = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"


def unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def fault(error: pytest.ExceptionInfo[ConfigError]) -> str:
    (only,) = error.value.faults
    assert only.remedy, "every fault says what to do"
    return str(only)


def ed25519_pem(encryption: serialization.KeySerializationEncryption = CLEAR) -> bytes:
    return ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, encryption)


# --------------------------------------------------------------------------------------------------------------- making


def test_a_made_key_signs_and_its_public_half_verifies(tmp_path: Path) -> None:
    public = generate_key(tmp_path / "signing-key.pem")
    signer = load_signer(tmp_path / "signing-key.pem")
    signature = signer.sign(b"header.payload")
    assert (signer.kid, signer.alg) == (public.kid, "Ed25519")
    assert len(signature) == 64
    assert public.verify(b"header.payload", signature)
    assert not public.verify(b"header.payloae", signature)
    assert signer.public_key == public


def test_no_two_keys_are_the_same() -> None:
    assert len({draw().private_bytes(PEM, PKCS8, CLEAR) for _ in range(100)}) == 100


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_a_made_key_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        generate_key(tmp_path / "key.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "key.pem", b"precious")
    with pytest.raises(ConfigError) as error:
        generate_key(path)
    assert "exists already" in fault(error)
    assert path.read_bytes() == b"precious"


def test_a_key_is_not_written_through_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "key.pem").symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(ConfigError, match="exists already"):
        generate_key(tmp_path / "key.pem")
    assert not (tmp_path / "elsewhere.pem").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        generate_key(tmp_path / "nowhere" / "key.pem")
    assert "No such file or directory" in fault(error)


def test_a_half_written_key_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ConfigError, match="No space left"):
        generate_key(tmp_path / "key.pem")
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666, 0o644])
def test_a_key_that_others_can_touch_refuses_to_load(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "key.pem", ed25519_pem(), mode)
    with pytest.raises(ConfigError) as error:
        load_signer(path)
    assert "other users" in fault(error)
    assert f"chmod 600 {path}" in fault(error)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_loads(tmp_path: Path, mode: int) -> None:
    load_signer(write(tmp_path / "key.pem", ed25519_pem(), mode))


def test_a_key_of_another_user_refuses_to_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "key.pem", ed25519_pem())
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="belongs to user"):
        load_signer(path)


def test_only_one_clear_ed25519_key_is_a_signing_key(tmp_path: Path) -> None:
    secret = serialization.BestAvailableEncryption(b"passphrase")
    p256 = ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, CLEAR)
    ed448_pem = ed448.Ed448PrivateKey.generate().private_bytes(PEM, PKCS8, CLEAR)
    public = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(PEM, SPKI)
    cases = {
        "encrypted": ed25519_pem(secret),
        "not an Ed25519 key": p256,
        "but not an Ed25519": ed448_pem,
        "not a private key": b"",
        "is not a private key in": b"\xff\x00 garbage",
        "is not a private key in PKCS": public,
        "is not a private key in PKCS#8 PEM": ed25519_pem()[:70],
    }
    for number, (expected, data) in enumerate(cases.items()):
        path = write(tmp_path / f"{number}.pem", data)
        with pytest.raises(ConfigError) as error:
            load_signer(path)
        assert expected in fault(error)
        assert str(path) in fault(error)


def test_what_is_no_file_neither_hangs_nor_fills_the_memory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    write(tmp_path / "large", b"x" * (64 * 1024 + 1))
    cases = {"pipe": "is not a file", "large": "too large", "absent": "No such file", ".": "is not a file"}
    for name, expected in cases.items():
        with pytest.raises(ConfigError) as error:
            load_signer(tmp_path / name)
        assert expected in fault(error)


def test_neither_repr_nor_errors_show_the_private_key(tmp_path: Path) -> None:
    pem = ed25519_pem()
    signer = load_signer(write(tmp_path / "key.pem", pem))
    secret_line = pem.decode().splitlines()[1]
    assert secret_line not in repr(signer)
    assert signer.kid in repr(signer)
    with pytest.raises(ConfigError) as error:
        load_public_key(tmp_path / "key.pem")
    assert "is a private key" in fault(error)
    assert secret_line not in str(error.value)


# ---------------------------------------------------------------------------------------------------------- credentials


def test_a_systemd_credential_is_read_through_its_access_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    path = write(tmp_path / "signing-key", ed25519_pem(), 0o440)
    assert load_credential_signer("signing-key").alg == "Ed25519"
    path.chmod(0o444)
    with pytest.raises(ConfigError, match="other users"):
        load_credential_signer("signing-key")


@pytest.mark.parametrize("name", ["../key", "a/b", "", ".."])
def test_a_credential_name_cannot_leave_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    write(tmp_path / "key", ed25519_pem())
    with pytest.raises(ConfigError, match="not a credential name"):
        load_credential_signer(name)


def test_without_systemd_the_remedy_names_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError) as error:
        load_credential_signer("signing-key")
    assert "LoadCredentialEncrypted=signing-key" in fault(error)
    assert "key_file" in fault(error)


# --------------------------------------------------------------------------------------------------------- public keys


def test_rfc_8037_key_thumbprint_and_signature() -> None:
    signer = Ed25519Signer(ed25519.Ed25519PrivateKey.from_private_bytes(unbase64url(RFC8037_D)))
    assert signer.kid == RFC8037_KID
    assert signer.sign(RFC8037_SIGNED) == unbase64url(RFC8037_SIGNATURE)
    key = public_key_of_jwk({"kty": "OKP", "crv": "Ed25519", "x": RFC8037_X})
    assert key == signer.public_key
    assert key.verify(RFC8037_SIGNED, unbase64url(RFC8037_SIGNATURE))


def test_rfc_7515_es256_signature() -> None:
    key = public_key_of_jwk(RFC7515_JWK)
    signature = unbase64url(RFC7515_SIGNATURE)
    assert (key.alg, key.kid) == ("ES256", thumbprint(RFC7515_JWK))
    assert key.verify(RFC7515_SIGNED, signature)
    assert not key.verify(RFC7515_SIGNED + b"x", signature)


def test_thumbprints_and_signatures_agree_with_another_implementation(tmp_path: Path) -> None:
    ours = generate_key(tmp_path / "key.pem")
    assert OKPKey.import_key(ours.pem).thumbprint() == ours.kid
    header = base64.urlsafe_b64encode(b'{"alg":"Ed25519"}').rstrip(b"=")
    text = header + b"." + base64.urlsafe_b64encode(b"{}").rstrip(b"=")
    signature = base64.urlsafe_b64encode(load_signer(tmp_path / "key.pem").sign(text)).rstrip(b"=")
    opened = jws.deserialize_compact(
        text + b"." + signature, OKPKey.import_key(ours.pem), algorithms=["Ed25519"]
    )
    assert opened.payload == b"{}"

    theirs = ECKey.generate_key("P-256")
    path = write(tmp_path / "p256.pem", theirs.as_pem(private=False), 0o644)
    key = load_public_key(path)
    assert (key.alg, key.kid) == ("ES256", theirs.thumbprint())
    signed, _, signed_by = jws.serialize_compact({"alg": "ES256"}, b"{}", theirs).rpartition(".")
    assert key.verify(signed.encode(), unbase64url(signed_by))


@pytest.mark.parametrize("alg", ["Ed25519", "ES256"])
def test_a_signature_of_another_shape_is_refused_and_not_a_crash(alg: str) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": RFC8037_X}
    if alg == "ES256":
        x, y = (
            base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode()
            for n in (numbers.x, numbers.y)
        )
        jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
    key = public_key_of_jwk(jwk)
    der = private.sign(b"data", ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(der)
    good = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert key.verify(b"data", good) is (alg == "ES256")
    for bad in (b"", b"\x00" * 64, b"\xff" * 64, good[:63], good + b"\x00", der):
        assert key.verify(b"data", bad) is False


def test_a_public_key_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    p384 = ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(PEM, SPKI)
    big = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key().public_bytes(PEM, SPKI)
    for number, data in enumerate([b"", b"garbage", p384, big, b"\xff" * 100]):
        with pytest.raises(ConfigError) as error:
            load_public_key(write(tmp_path / f"{number}.pem", data, 0o644))
        assert "is not a public key" in fault(error)


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "OKP", "crv": "Ed25519", "x": RFC8037_X, "d": RFC8037_D},
        {"kty": "OKP", "crv": "Ed25519"},
        {"kty": "OKP", "crv": "Ed25519", "x": 7},
        {"kty": "OKP", "crv": "Ed25519", "x": RFC8037_X[:-1]},
        {"kty": "OKP", "crv": "Ed25519", "x": RFC8037_X + "="},
        {"kty": "OKP", "crv": "Ed448", "x": RFC8037_X},
        {"kty": "oct", "k": "c2VjcmV0"},
        RFC7515_JWK | {"y": RFC7515_JWK["x"]},
        RFC7515_JWK | {"crv": "P-384"},
    ],
    ids=lambda jwk: json.dumps(jwk)[:60],
)
def test_a_jwk_that_is_no_public_key_is_refused(jwk: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        public_key_of_jwk(jwk)


# ------------------------------------------------------------------------------------------------------------ key ring


def test_the_registered_algorithm_decides_and_not_the_message(tmp_path: Path) -> None:
    key = generate_key(tmp_path / "key.pem")
    ring = PublicKeys([key])
    signature = load_signer(tmp_path / "key.pem").sign(b"data")
    assert ring.alg_of(key.kid) == "Ed25519"
    assert ring.verify(key.kid, "Ed25519", b"data", signature)
    for alg in ("none", "HS256", "ES256", "EdDSA", "ed25519", ""):
        assert not ring.verify(key.kid, alg, b"data", signature)


def test_an_unknown_key_is_an_error_and_not_a_bad_signature(tmp_path: Path) -> None:
    ring = PublicKeys()
    with pytest.raises(KeyError):
        ring.alg_of("unknown")
    with pytest.raises(KeyError):
        ring.verify("unknown", "Ed25519", b"", b"")
    key = generate_key(tmp_path / "key.pem")
    ring.add(key)
    ring.add(key)
    assert list(ring) == [key]
    assert ring.get(key.kid) is key


def test_the_dates_of_a_certificate(tmp_path: Path) -> None:
    from tests.adapters.certificates import self_signed

    path = write(
        tmp_path / "c.pem", self_signed("gw01", not_before_s=1_700_000_000, not_after_s=1_800_000_000)[0]
    )
    dates = certificate_dates(path)
    assert (dates.not_before_ms, dates.not_after_ms) == (1_700_000_000_000, 1_800_000_000_000)
    with pytest.raises(ConfigError, match="holds no certificate"):
        certificate_dates(write(tmp_path / "k.pem", ed25519_pem()))
