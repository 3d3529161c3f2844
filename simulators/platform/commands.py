"""The commands `metering-sim platform serve|totals|gaps|report|lock|release|keys|approve|revoke|courier|heads`."""

import json
import logging
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import click

from agent.adapters.keys import PublicKey, load_public_key, load_signer
from agent.errors import ConfigError
from agent.reporting.chain import ChainHead
from simulators.platform import report
from simulators.platform.alarms import Alarms
from simulators.platform.answers import Name
from simulators.platform.booking import Booking, Release
from simulators.platform.courier import as_lines, visit
from simulators.platform.dossier import Dossier
from simulators.platform.ingest import Platform
from simulators.platform.queries import head as head_of
from simulators.platform.registry import Registry, UnknownKey
from simulators.platform.serve import BrokerAddress, Service
from simulators.platform.store import Store

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_STORE = click.option("--store", "store_path", required=True, type=_FILE, help="The platform's SQLite file.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_DASHES = {"ignore_unknown_options": True}
"""A thumbprint is base64url: one in 64 begins with a dash, and so does a group of one short form in 14."""


class SystemClock:
    """The wall clock."""

    def wall_ms(self) -> int:
        """UTC Unix time in ms."""
        return time.time_ns() // 1_000_000


@click.group("platform")
def platform() -> None:
    """The reference carbon platform: verifies, books once, acknowledges, answers."""


@platform.command()
@click.option("--broker", required=True, help="mqtt://host:port or mqtts://user:password@host:port.")
@_STORE
@click.option(
    "--key", "key_path", required=True, type=_FILE, help="Private acknowledgement key, PKCS#8 PEM, mode 0600."
)
@click.option(
    "--audience", required=True, help="Name of this platform, as agents have it in their site file."
)
@click.option(
    "--trust", multiple=True, metavar="ORG/AGENT=FILE", help="An agent and its public key; repeatable."
)
@click.option(
    "--trust-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of public keys ORG/AGENT.pem.",
)
@click.option("--gen", type=click.IntRange(0), help="Raise at every restore of the store from a backup.")
@click.option("--client-id", default="carbon-platform", show_default=True, help="MQTT client id.")
@click.option("--ca", type=_FILE, help="CA certificates for mqtts, PEM.")
@click.option("--certificate", type=_FILE, help="Client certificate for mqtts, PEM.")
@click.option("--certificate-key", type=_FILE, help="Its key, PEM.")
def serve(
    broker: str,
    store_path: Path,
    key_path: Path,
    audience: str,
    trust: tuple[str, ...],
    trust_dir: Path | None,
    gen: int | None,
    client_id: str,
    ca: Path | None,
    certificate: Path | None,
    certificate_key: Path | None,
) -> None:
    """Subscribe, verify, store, acknowledge; until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        address = BrokerAddress.parse(
            broker, ca_file=ca, certificate=certificate, certificate_key=certificate_key
        )
        keys = _trusted(trust, trust_dir)
        signer = load_signer(key_path)
        store = Store.create(store_path)
        core = Platform(store, audience=audience, signer=signer, keys=keys, clock=SystemClock(), gen=gen)
        service = Service(core, address, client_id)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    agents = "1 agent" if len(keys) == 1 else f"{len(keys)} agents"
    click.echo(f"platform {audience}, generation {core.gen}, {agents}, store {store_path}")
    stop = threading.Event()

    def leave(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    service.run(stop)
    store.close()
    counted = ", ".join(f"{name} {count}" for name, count in sorted(core.counts.items()))
    click.echo(f"stopped; {counted or 'nothing came'}")


def _trusted(trust: Iterable[str], folder: Path | None) -> dict[Name, list[PublicKey]]:
    """The registered agents and their keys. Raises ConfigError, click.BadParameter."""
    keys: dict[Name, list[PublicKey]] = {}
    for each in trust:
        name, equals, file = each.partition("=")
        org, slash, agent = name.partition("/")
        if not (equals and slash and org and agent and file):
            raise click.BadParameter(f"{each!r} is not ORG/AGENT=FILE", param_hint="--trust")
        keys.setdefault((org, agent), []).append(load_public_key(Path(file)))
    for path in sorted(folder.glob("*/*.pem")) if folder is not None else ():
        keys.setdefault((path.parent.name, path.stem), []).append(load_public_key(path))
    return keys


def _readable(store_path: Path) -> Store:
    try:
        return Store.read(store_path)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


@platform.command()
@_STORE
@_JSON
def totals(store_path: Path, as_json: bool) -> None:
    """Energy by meter and by step, exactly; may be asked while the platform runs."""
    store = _readable(store_path)
    if as_json:
        click.echo(json.dumps(report.totals_json(store)))
    else:
        click.echo("\n".join(report.totals_lines(store)))


@platform.command()
@_STORE
@_JSON
def gaps(store_path: Path, as_json: bool) -> None:
    """What is missing, held, bridged or declared missing."""
    store = _readable(store_path)
    click.echo(json.dumps(report.gaps_json(store)) if as_json else "\n".join(report.gaps_lines(store)))


@platform.command("report")
@_STORE
@_JSON
@click.option(
    "--from", "begins", metavar="TIME", help="Footprint from here on: 2026-05-03 or 2026-05-03T08:15Z, UTC."
)
@click.option("--to", "ends", metavar="TIME", help="... up to here.")
@click.option("--org", help="Whose footprint, where the store knows several organisations.")
@click.option(
    "--activity",
    type=_FOLDER,
    help="Folder with materials.csv, fuels.csv, wastes.csv, production.csv; see config/activity.",
)
@click.option("--template", type=_FILE, help="A locked template [the shipped one].")
@click.option("--factors", type=_FILE, help="A locked factor set of electricity [the shipped one].")
@click.option("--map", "maps", type=_FILE, multiple=True, help="A locked corrected map; repeatable.")
@click.option("--hourly", type=_FILE, help="Hourly factors: CSV with start,kgco2e_per_kwh.")
@click.option("--again", type=_FILE, help="Make this report (JSON) again: read no further than it did.")
@click.option("--fresh", is_flag=True, help="Remember nothing of earlier reports: read the whole store.")
@click.option("--pact", type=_FILE, help="Also write a PACT 3.0.0 object here; needs --stated.")
@click.option(
    "--stated", type=_FILE, help="JSON: what a person states of company and product, by PACT's names."
)
def report_(store_path: Path, as_json: bool, begins: str | None, ends: str | None, **options: Any) -> None:
    """Agents, chains, totals, gaps and alarms on one page; with --from and --to, the footprint of a period.

    Exit code 1 if the books do not add up, 2 if what was asked for is wrong.
    """
    store = _readable(store_path)
    if begins is not None or ends is not None:
        from simulators.platform.reporting import print_footprint

        print_footprint(store, store_path, begins, ends, as_json=as_json, **options)
        return
    said = report.report_json(store)
    click.echo(json.dumps(said) if as_json else "\n".join(report.report_lines(store)))
    if said["broken_books"]:
        raise SystemExit(1)


@platform.command("lock")
@click.argument("file", type=_FILE)
def lock_(file: Path) -> None:
    """Put a template, factor set or map into its canonical form and lock it by its SHA-256.

    A name that is locked stays as it is: a change is a new version under a new name.
    """
    from agent.settings.locked import lock

    try:
        click.echo(f"{lock(file)}  {file.name}")
    except ConfigError as error:
        click.echo("\n".join(map(str, error.faults)), err=True)
        raise SystemExit(2) from None


@platform.command()
@_STORE
@click.argument("agent", metavar="ORG/AGENT")
@click.argument("meter")
@click.argument("epoch", type=click.IntRange(1))
@click.argument("n", type=click.IntRange(1))
def release(store_path: Path, agent: str, meter: str, epoch: int, n: int) -> None:
    """Let a held delta go, while the platform is stopped: it replaces its span of a bridge, or stays evidence."""
    store = _existing(store_path)
    org, _, name = agent.partition("/")
    row = store.first("SELECT agent_id FROM agents WHERE org = ? AND agent = ?", (org, name))
    if row is None:
        raise click.ClickException(f"{agent} is not known to this store")
    with store.transaction():
        booking = Booking(store, Alarms(store), None)
        outcome = booking.release(Dossier(store, row[0], org, name), meter, epoch, n, SystemClock().wall_ms())
    store.close()
    click.echo(outcome.value)
    if outcome is Release.UNKNOWN:
        raise SystemExit(1)


def _existing(store_path: Path) -> Store:
    """A store that was served before, to be written; a name with a slip of the pen makes no new one."""
    if not store_path.is_file():
        raise click.ClickException(f"there is no store {store_path}; name the file given to `platform serve`")
    try:
        return Store.create(store_path)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


def _name(agent: str) -> Name:
    org, slash, name = agent.partition("/")
    if not (org and slash and name):
        raise click.BadParameter(f"{agent!r} is not ORG/AGENT")
    return org, name


@contextmanager
def _registry(store_path: Path) -> Iterator[Registry]:
    """The registry of a store that no platform serves at present, in one transaction."""
    store = _existing(store_path)
    try:
        with store.transaction():
            yield Registry(store, Alarms(store))
    except UnknownKey as error:
        raise click.ClickException(str(error)) from None
    finally:
        store.close()


@platform.command()
@_STORE
@_JSON
def keys(store_path: Path, as_json: bool) -> None:
    """The keys that are registered, and those that wait for approval; may be asked while the platform runs."""
    store = _readable(store_path)
    registry = Registry(store, Alarms(store))
    registered, pending = registry.keys(), registry.pending()
    if as_json:
        waiting = [{**asdict(each), "short": each.short} for each in pending]
        click.echo(json.dumps({"registered": registered, "waiting": waiting}))
        return
    for key in registered:
        end = "" if key["ended_chain"] is None else f"  ended with {key['ended_chain']}/{key['ended_seq']}"
        how = "revoked" if key["revoked"] else "withdrawn" if key["withdrawn"] else key["origin"]
        click.echo(f"{key['org']}/{key['agent']}  {key['kid']}  {how}{end}")
    for each in pending:
        click.echo(f"{each.org}/{each.agent}  {each.kid}  waits for approval; short form {each.short}")


@platform.command(context_settings=_DASHES)
@_STORE
@click.argument("agent", metavar="ORG/AGENT")
@click.argument("thumbprint", nargs=-1, required=True)
def approve(store_path: Path, agent: str, thumbprint: tuple[str, ...]) -> None:
    """Register a key that waits, while the platform is stopped.

    THUMBPRINT is what the person at the gateway reads out to you, all of it or its short form: that it comes over
    another channel than the message is what makes the key trusted.
    """
    with _registry(store_path) as registry:
        key = registry.approve(*_name(agent), "".join(thumbprint), SystemClock().wall_ms())
    click.echo(f"{agent} may sign with key {key.kid}")


@platform.command(context_settings=_DASHES)
@_STORE
@click.argument("agent", metavar="ORG/AGENT")
@click.argument("thumbprint")
@click.option("--chain", help="The key is valid for this chain; the one that grows, if left out.")
@click.option(
    "--seq", type=click.IntRange(0), help="... up to this batch; the newest that is booked, if left out."
)
def revoke(store_path: Path, agent: str, thumbprint: str, chain: str | None, seq: int | None) -> None:
    """End a key that was stolen or lost, by sequence, while the platform is stopped.

    Batches beyond that are refused and answered. Those that were booked before stay booked and are named. The gateway
    goes on with a new key, once that is approved, in a new chain.
    """
    if (chain is None) != (seq is None):
        raise click.UsageError("give both --chain and --seq, or neither")
    place = None if chain is None or seq is None else ChainHead(chain, seq, "")
    with _registry(store_path) as registry:
        dossier = registry.dossier(*_name(agent))
        kid, end, beyond = registry.revoke(dossier, thumbprint, place, SystemClock().wall_ms())
    click.echo(f"key {kid} is valid for chain {end.chain} up to {end.seq}, and for nothing after that")
    if beyond:
        click.echo(
            f"{beyond} batches beyond that are booked; see the alarms in: metering-sim platform report"
        )
    click.echo(f"for an auditor: metering-agent verify --revoked {kid}={end.chain}/{end.seq}")


@platform.command()
@_STORE
@click.option(
    "--key", "key_path", required=True, type=_FILE, help="Private acknowledgement key, PKCS#8 PEM, mode 0600."
)
@click.option(
    "--out", required=True, type=_FILE, help="Where to write the statement; carry it to the gateway."
)
@click.argument("agent", metavar="ORG/AGENT")
def heads(store_path: Path, key_path: Path, out: Path, agent: str) -> None:
    """Say, signed, where a gateway's chain and meters stand, while the platform is stopped.

    For a gateway that lost its disk and hears no answer (broker mode): a person there confirms it with
    `metering-agent restore`.
    """
    name = _name(agent)
    try:
        signer = load_signer(key_path)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    store = _existing(store_path)
    try:
        row = store.first("SELECT audience FROM platform")
        if row is None:
            raise click.ClickException(f"{store_path} has never been served, so it knows no gateway")
        core = Platform(store, audience=row[0], signer=signer, keys={}, clock=SystemClock())
        statement, head = core.heads_for(*name), head_of(store, *name)
    except UnknownKey as error:
        raise click.ClickException(str(error)) from None
    finally:
        store.close()
    try:
        out.write_bytes(statement + b"\n")
    except OSError as error:
        raise click.ClickException(f"{out}: {error.strerror}; choose another place") from None
    where = "nothing" if head is None else f"{head.chain}/{head.seq}"
    click.echo(f"{out}: {agent} stands at {where}")
    click.echo(f"at the gateway: metering-agent restore --site site.toml {out.name}")


@platform.command("courier")
@_STORE
@_JSON
@click.option(
    "--key", "key_path", required=True, type=_FILE, help="Private acknowledgement key, PKCS#8 PEM, mode 0600."
)
@click.option("--audience", required=True, help="Name of this platform.")
@click.option("--trust", multiple=True, metavar="ORG/AGENT=FILE", help="As for serve.")
@click.option(
    "--trust-dir", type=click.Path(path_type=Path, file_okay=False, exists=True), help="As for serve."
)
@click.option("--gen", type=click.IntRange(0), help="As for serve.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False, exists=True))
def courier(
    store_path: Path,
    as_json: bool,
    key_path: Path,
    audience: str,
    trust: tuple[str, ...],
    trust_dir: Path | None,
    gen: int | None,
    folder: Path,
) -> None:
    """Take in what gateways sent on a stick and write their receipts onto it, while the platform is stopped.

    DIR is the top of the stick. The same stick twice changes nothing. Exit code 1 where something on it was not
    whole or not admitted.
    """
    try:
        keys, signer = _trusted(trust, trust_dir), load_signer(key_path)
        store = Store.create(store_path)
        core = Platform(store, audience=audience, signer=signer, keys=keys, clock=SystemClock(), gen=gen)
        visits = visit(core, folder)
        store.close()
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(
            f"{folder}: {error}; what was read is booked, take the stick again"
        ) from None
    click.echo("\n".join(as_lines(visits, as_json=as_json)))
    if not visits or any(each.problems for each in visits):
        raise SystemExit(1)
