"""`metering-agent keygen`: the key that makes a batch evidence is made on the gateway and never leaves it."""

import json
import os
from pathlib import Path

import click

from agent.cli.options import json_option
from agent.errors import ConfigError


@click.command()
@click.option(
    "--out",
    "file",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where the private key goes.",
)
@click.option(
    "--public-out",
    "public_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also write the public key, to hand to the platform.",
)
@json_option
def keygen(file: Path, public_file: Path | None, as_json: bool) -> None:
    """Make an Ed25519 signing key and print its thumbprint and public half.

    The private key is written as PKCS#8 PEM with mode 0600. A file that exists is never overwritten: who loses a
    signing key cannot continue what it signed.
    """
    from agent.adapters.keys import generate_key

    if public_file is not None and os.path.lexists(public_file):
        raise ConfigError.of(public_file, "exists already", "choose another name; no key was made")
    if public_file is not None and public_file.absolute() == file.absolute():
        raise ConfigError.of(file, "cannot hold both keys", "give --public-out another name")
    key = generate_key(file)
    if public_file is not None:
        _write_public(public_file, key.pem)
    if as_json:
        click.echo(
            json.dumps(
                {"file": str(file), "alg": key.alg, "kid": key.kid, "jwk": dict(key.jwk), "pem": key.pem}
            )
        )
        return
    click.echo(
        f"Private key  {file} (mode 0600; it stays on this gateway, and belongs into no backup that leaves it)"
    )
    click.echo(f"Thumbprint   {key.kid}")
    click.echo("Public key, for the platform's operator, who compares the thumbprint with you by telephone:")
    click.echo(key.pem, nl=False)
    click.echo(
        "Next: name this file as key_file under [signing] in site.toml, then run metering-agent check."
    )


def _write_public(file: Path, pem: str) -> None:
    try:
        with file.open("x", encoding="ascii") as out:
            out.write(pem)
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        remedy = "the private key was made; copy the public key from `openssl pkey -pubout`"
        raise ConfigError.of(file, reason, remedy) from error
