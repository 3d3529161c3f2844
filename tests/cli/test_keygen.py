"""`keygen`: a key that nobody but its owner can read, and what a person needs to hand its public half over."""

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from agent.adapters.keys import load_public_key, load_signer
from agent.cli import main


def test_it_writes_a_key_that_only_its_owner_may_read(tmp_path: Path) -> None:
    done = _keygen("--out", str(tmp_path / "key.pem"))
    assert done.exit_code == 0
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    signer = load_signer(tmp_path / "key.pem")
    assert f"Thumbprint   {signer.kid}\n" in done.stdout
    assert signer.public_key.pem in done.stdout
    assert "Next: name this file as key_file" in done.stdout
    assert "PRIVATE KEY" not in done.stdout


def test_the_public_key_may_go_to_a_file(tmp_path: Path) -> None:
    done = _keygen("--out", str(tmp_path / "key.pem"), "--public-out", str(tmp_path / "key.pub"))
    assert done.exit_code == 0
    assert load_public_key(tmp_path / "key.pub").kid == load_signer(tmp_path / "key.pem").kid


def test_json(tmp_path: Path) -> None:
    facts = json.loads(_keygen("--out", str(tmp_path / "key.pem"), "--json").stdout)
    signer = load_signer(tmp_path / "key.pem")
    assert (facts["kid"], facts["alg"], facts["pem"]) == (signer.kid, "Ed25519", signer.public_key.pem)
    assert set(facts["jwk"]) == {"crv", "kty", "x"}


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    _keygen("--out", str(tmp_path / "key.pem"))
    before = (tmp_path / "key.pem").read_bytes()
    done = _keygen("--out", str(tmp_path / "key.pem"))
    assert done.exit_code == 2
    assert "exists already; keep it, or choose another name" in done.stderr
    assert (tmp_path / "key.pem").read_bytes() == before


def test_an_existing_public_key_stops_it_before_a_key_is_made(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text("old")
    done = _keygen("--out", str(tmp_path / "key.pem"), "--public-out", str(tmp_path / "key.pub"))
    assert done.exit_code == 2
    assert "exists already; choose another name; no key was made" in done.stderr
    assert not (tmp_path / "key.pem").exists()


def test_one_file_cannot_hold_both_keys(tmp_path: Path) -> None:
    done = _keygen("--out", str(tmp_path / "key.pem"), "--public-out", str(tmp_path / "key.pem"))
    assert done.exit_code == 2
    assert "cannot hold both keys; give --public-out another name" in done.stderr
    assert not (tmp_path / "key.pem").exists()


def test_a_public_key_that_cannot_be_written_is_said_and_where_to_get_it(tmp_path: Path) -> None:
    done = _keygen("--out", str(tmp_path / "key.pem"), "--public-out", str(tmp_path / "no" / "key.pub"))
    assert done.exit_code == 2
    assert "the private key was made; copy the public key from `openssl pkey -pubout`" in done.stderr
    assert (tmp_path / "key.pem").exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = _keygen("--out", str(tmp_path / "no" / "key.pem"))
    assert done.exit_code == 2
    assert "cannot be written: No such file or directory" in done.stderr


def test_as_a_process(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from agent.cli import main; main()",
        "keygen",
        "--out",
        str(tmp_path / "k"),
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (first.returncode, second.returncode) == (0, 2)
    assert "Traceback" not in second.stderr


def _keygen(*words: str) -> Result:
    return CliRunner().invoke(main, ["keygen", *words], catch_exceptions=False)
