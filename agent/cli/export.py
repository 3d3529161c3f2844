"""`metering-agent export`: the evidence of a period in one folder, with everything that is needed to check it.

Two sources give the same lines: the running agent over its control socket (its journal is never opened by anybody
else), or, where no agent runs, the journal itself. What is written with them is in `agent.cli.exportfiles`.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from agent.adapters.control import ask_for_lines
from agent.adapters.journal import open_journal
from agent.adapters.keys import PublicKey, load_public_key, load_signer
from agent.cli.exportfiles import Manifest, Parcel, write_export
from agent.cli.options import json_option, site_option
from agent.cli.times import Moment
from agent.errors import ConfigError, RetryLater
from agent.service.export import Closing, Item, Pager, Period, from_line
from agent.settings.site import Site, load_site


@click.command()
@site_option
@click.option("--from", "from_ms", type=Moment(), metavar="TIME", help="Batches sealed after this time.")
@click.option("--to", "to_ms", type=Moment(), metavar="TIME", help="Batches sealed up to this time.")
@click.option(
    "--out",
    "out",
    required=True,
    metavar="DIR_OR_FILE",
    type=click.Path(path_type=Path),
    help="A new folder, or a new file that ends in .zip.",
)
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The agent's public key, instead of the one that the site file or the journal names.",
)
@json_option
def export(
    site_file: Path, from_ms: int | None, to_ms: int | None, out: Path, key_file: Path | None, as_json: bool
) -> None:
    """Write the evidence of a period: every signed batch, descriptor and acknowledgement, and how to check them.

    The folder stands on its own: besides the messages (evidence.jws) it holds the public keys, a manifest, VERIFY.md (a
    check with openssl, jq and a shell) and verify.html (a check in any browser, without a network). Times are UTC
    unless they say otherwise; without --from and --to everything that the journal keeps is written.

    The agent may run meanwhile and goes on working.
    """
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise click.BadParameter("the end is not after the beginning", param_hint="--to")
    site = load_site(site_file)
    keys = _agent_keys(site, key_file)
    parcel = Parcel(out)
    running, items = _items(site, Period(from_ms, to_ms))
    platform_keys = [load_public_key(path) for path in site.platform.acknowledgement_keys]
    manifest = write_export(
        parcel,
        _whole(items),
        site=site,
        period=Period(from_ms, to_ms),
        agent_keys=keys,
        platform_keys=platform_keys,
        running=running,
        now=datetime.now(UTC),
    )
    click.echo(json.dumps(manifest.as_json(), indent=2) if as_json else _as_text(parcel, manifest))


def _agent_keys(site: Site, key_file: Path | None) -> list[PublicKey]:
    if key_file is not None:
        return [load_public_key(key_file)]
    if site.signing.key_file is not None:
        return [load_signer(site.signing.key_file).public_key]
    # A systemd credential is opened by the service alone; the journal keeps the public key of everything that signed.
    return []


def _items(site: Site, period: Period) -> tuple[bool, Iterator[Item]]:
    """The export's items, and whether the running agent gives them."""
    lines = ask_for_lines(site.control_socket, "export", period.to_arguments())
    try:
        first = next(lines, b'{"error": "it ended without an answer"}')
    except (FileNotFoundError, ConnectionRefusedError):
        return False, _of_journal(site.journal.path, period)
    except PermissionError as error:
        remedy = "run this as the user who runs the agent (sudo -u metering ...)"
        raise ConfigError.of(site.control_socket, "may not be used", remedy) from error
    except OSError as error:
        raise RetryLater(f"{site.control_socket}: the agent does not answer ({error}); try again") from error
    return True, _of_lines(first, lines)


def _of_lines(first: bytes, lines: Iterator[bytes]) -> Iterator[Item]:
    try:
        yield from_line(first)
        for line in lines:
            yield from_line(line)
    except ValueError as error:
        raise RetryLater(f"the running agent did not give the export: {error}") from error
    except OSError as error:
        raise RetryLater(
            f"the running agent stopped in the middle of the export ({error}); try again"
        ) from error


def _of_journal(path: Path, period: Period) -> Iterator[Item]:
    if not path.is_file():
        remedy = "name the site file of a gateway that has run"
        raise ConfigError.of(path, "there is no journal", remedy, key="journal.path")
    journal = open_journal(path)
    try:
        pager = Pager(period)
        while items := pager.page(journal):
            yield from items
    finally:
        journal.close()


def _whole(items: Iterator[Item]) -> Iterator[Item]:
    """The same, but an export that breaks off is an error and not a short export."""
    last: Item | None = None
    for last in items:
        yield last
    if not isinstance(last, Closing):
        raise RetryLater(
            "the running agent stopped in the middle of the export; nothing was written, try again"
        )


def _as_text(parcel: Parcel, manifest: Manifest) -> str:
    folder = Path(parcel.path.stem) if parcel.zipped else parcel.path
    thumbprints = [f"  {file:<14} {key.kid}" for file, _, key in manifest.keys]
    return "\n".join(
        [
            f"{parcel.path} is written.",
            *manifest.summary(),
            "",
            "Thumbprints of the keys in it; who checks it compares them with what was noted at enrolment:",
            *thumbprints,
            "",
            "To check it" + (", unpack it and type:" if parcel.zipped else ":"),
            f"  {manifest.command(folder)}",
            f"or open {folder / 'verify.html'} in a browser, or follow {folder / 'VERIFY.md'} by hand.",
        ]
    )
