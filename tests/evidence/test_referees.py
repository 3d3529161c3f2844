"""The same export before referees that are not ours: joserfc, jwcrypto and node's jose verify every line of it.

joserfc limits a payload to 128,000 bytes unless it is told otherwise; the others take what comes.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwcrypto.jwk
import jwcrypto.jws
import pytest
from joserfc import jws
from joserfc.jwk import OKPKey

from agent.reporting import strictjson
from agent.reporting.envelope import base64url_decode
from tests.evidence.conftest import Installation
from tests.support import node_packages, programs

KEYS = {"agent": "agent.pem", "platform": "platform.pem"}
Opened = tuple[str, bytes]


def lines(folder: Path) -> list[bytes]:
    """The evidence."""
    return (folder / "evidence.jws").read_bytes().splitlines()


def ours(folder: Path) -> list[Opened]:
    """Kind and payload of each line, taken apart by hand."""
    found = []
    for line in lines(folder):
        header, payload, _ = line.decode().split(".")
        found.append((json.loads(base64url_decode(header))["typ"], base64url_decode(payload)))
    return found


def by_joserfc(folder: Path, messages: list[bytes]) -> Iterator[Opened]:
    """Raises BadSignatureError for a line that does not verify."""
    keys = {}
    for file in KEYS.values():
        key = OKPKey.import_key((folder / file).read_bytes())
        keys[key.thumbprint()] = key
    registry = jws.JWSRegistry(algorithms=["Ed25519"])
    registry.max_payload_length = 256 * 1024
    for message in messages:
        kid = json.loads(base64url_decode(message.decode().split(".")[0]))["kid"]
        opened = jws.deserialize_compact(message, keys[kid], registry=registry)
        yield opened.headers()["typ"], opened.payload


def by_jwcrypto(folder: Path, messages: list[bytes]) -> Iterator[Opened]:
    """Raises InvalidJWSSignature for a line that does not verify."""
    keys = {}
    for file in KEYS.values():
        key = jwcrypto.jwk.JWK.from_pem((folder / file).read_bytes())
        keys[key.thumbprint()] = key
    for message in messages:
        token = jwcrypto.jws.JWS()
        token.allowed_algs = ["Ed25519", "EdDSA"]
        token.deserialize(message.decode())
        token.verify(keys[json.loads(token.objects["protected"])["kid"]])
        yield token.jose_header["typ"], token.payload


def by_jose(folder: Path, messages: list[bytes], work: Path) -> Iterator[Opened]:
    """Raises CalledProcessError for a file with a line that does not verify."""
    node, packages = programs.find("node"), node_packages.find("jose")
    assert node is not None
    assert packages is not None
    (work / "node_modules").symlink_to(packages / "node_modules")
    script = shutil.copy(Path(__file__).with_name("referee.mjs"), work)
    (work / "evidence").write_bytes(b"".join(message + b"\n" for message in messages))
    command = [
        str(node),
        str(script),
        str(work / "evidence"),
        *(str(folder / file) for file in KEYS.values()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for said in map(json.loads, done.stdout.splitlines()):
        yield said["typ"], said["payload"].encode()


def test_joserfc_verifies_every_line(installation: Installation) -> None:
    messages = lines(installation.stopped)
    assert list(by_joserfc(installation.stopped, messages)) == ours(installation.stopped)


def test_jwcrypto_verifies_every_line(installation: Installation) -> None:
    messages = lines(installation.stopped)
    assert list(by_jwcrypto(installation.stopped, messages)) == ours(installation.stopped)


@pytest.mark.jose
@pytest.mark.node
def test_jose_verifies_every_line(installation: Installation, tmp_path: Path) -> None:
    messages = lines(installation.stopped)
    assert list(by_jose(installation.stopped, messages, tmp_path)) == ours(installation.stopped)


@pytest.mark.jose
@pytest.mark.node
def test_none_of_them_verifies_an_edited_line(installation: Installation, tmp_path: Path) -> None:
    folder = installation.stopped
    header, payload, signature = lines(folder)[1].decode().split(".")
    members: dict[str, Any] = strictjson.loads(base64url_decode(payload), size_max=1 << 20)
    text = base64.urlsafe_b64encode(json.dumps({**members, "seq": 2}).encode()).decode().rstrip("=")
    edited = f"{header}.{text}.{signature}".encode()
    with pytest.raises(Exception, match=r"(?i)signature"):
        list(by_joserfc(folder, [edited]))
    with pytest.raises(jwcrypto.jws.InvalidJWSSignature):
        list(by_jwcrypto(folder, [edited]))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        list(by_jose(folder, [edited], tmp_path))
    assert "JWSSignatureVerificationFailed" in refused.value.stderr
