"""The one module that knows both the stages and the adapters: it makes a running agent out of a site.

Nothing is decided here; every choice is in the site file, in a stage or in an adapter.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from agent import __version__
from agent.adapters import logs
from agent.adapters.again import has_manager, start_again
from agent.adapters.applied import read_applied, write_applied
from agent.adapters.clock import SystemClock, boot_id
from agent.adapters.control import ControlSocket
from agent.adapters.credentials import read_password
from agent.adapters.entropy import SystemEntropy
from agent.adapters.journal import (
    JournalThread,
    Opening,
    Place,
    SqliteJournal,
    StdlibConnection,
    inspect,
    note_damage,
    open_or_replace,
    set_aside,
)
from agent.adapters.keys import (
    Ed25519Signer,
    PublicKeys,
    load_credential_signer,
    load_public_key,
    load_signer,
)
from agent.adapters.modbus_tcp import ModbusTcpLine
from agent.adapters.notify import Notifier
from agent.adapters.nowhere import NoUplink
from agent.adapters.rtu_line import RtuLine
from agent.adapters.schedule import AlignedSchedule
from agent.adapters.sitefile import SiteFile, examine
from agent.adapters.surroundings import look_around
from agent.adapters.uplink import MqttUplink, TlsFiles
from agent.errors import ConfigError, Fault, JournalDamaged
from agent.metering import plant
from agent.metering.plant import Transport
from agent.service.assemble import Ports, Task, assemble
from agent.service.balancing import Balancer
from agent.service.correcting import Corrections
from agent.service.courier import Courier
from agent.service.exchanging import Exchanges
from agent.service.export import Period, lines_of
from agent.service.inspecting import Inspector
from agent.service.journal import Standing
from agent.service.logline import pairs
from agent.service.opening import is_open
from agent.service.overview import Overview
from agent.service.ports import Clock, Line, Uplink
from agent.service.premises import About
from agent.service.preview import Previewer
from agent.service.seal import Identity
from agent.service.signing import Signers, settle_keys
from agent.service.supervise import Stages, mark_started, run_until
from agent.service.takeover import Takeover
from agent.service.trace import Tracer
from agent.settings.budget import needed_mb
from agent.settings.grammar import web_address
from agent.settings.values import Account, PlatformLink, Site

if TYPE_CHECKING:
    from agent.adapters.endpoints import Endpoints, Page

log = logging.getLogger(__name__)


def open_line(line: plant.Line) -> Line:
    """The port of a line, by its transport; not opened yet."""
    if line.transport is Transport.MODBUS_TCP:
        return ModbusTcpLine(line)
    return RtuLine(line)


def signer_of(site: Site) -> Ed25519Signer:
    """The signing key that the site file names. Raises ConfigError."""
    if site.signing.key_file is not None:
        return load_signer(site.signing.key_file)
    assert site.signing.credential is not None
    return load_credential_signer(site.signing.credential)


def following_of(site: Site) -> Ed25519Signer | None:
    """The key that is to take over, None where the site file names none. Raises ConfigError."""
    if site.signing.next_credential is not None:
        return load_credential_signer(site.signing.next_credential)
    return None if site.signing.next_key_file is None else load_signer(site.signing.next_key_file)


def run_agent(site: Site) -> int:
    """Run until SIGTERM or SIGINT; gives the exit code.

    0 after a stop in good order. A stop that was asked for in order to take over another site file does not return
    where no service manager would start the agent again: it starts itself again.

    Raises ConfigError where a person has to edit something first, JournalHeld where another process has the journal
    open, JournalDamaged where the disk failed and only a new process can tell what the file really holds.
    """
    logs.set_up_logging()
    signers = Signers(signer_of(site), following_of(site))
    _warn_of_budget(site)
    platform_keys = PublicKeys(load_public_key(path) for path in site.platform.acknowledgement_keys)
    if asyncio.run(_run(site, signers, platform_keys)) and not has_manager():
        start_again()
    return 0


def _warn_of_budget(site: Site) -> None:
    needed = needed_mb(len(site.plant.meters), site.interval_ms, site.platform.acknowledgement)
    if site.journal.budget_mb < needed:
        log.warning(
            "the journal's budget is less than an ordinary outage needs; see: metering-agent check",
            extra=pairs("M1305", budget_mb=site.journal.budget_mb, needed_mb=needed),
        )


async def _run(site: Site, signers: Signers, platform_keys: PublicKeys) -> bool:
    """Run until told to stop; gives whether the agent is to be started again."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock, opening = SystemClock(), Opening()
    storage = JournalThread(lambda: _open_journal(site, clock, opening))
    if not await is_open(storage.open, opening, Notifier(), stop):
        await storage.close()
        return False
    try:
        return await _run_on(site, signers, platform_keys, storage, clock, stop)
    except JournalDamaged as error:
        note_damage(_journal_place(site), error)
        raise
    finally:
        await storage.close()


async def _run_on(
    site: Site,
    signers: Signers,
    platform_keys: PublicKeys,
    storage: JournalThread,
    clock: Clock,
    stop: asyncio.Event,
) -> bool:
    """The same on an open journal."""
    await _mark_started(site, storage)
    await _settle_keys(site, signers, storage)
    stages = _wire(site, signers, platform_keys, storage, clock)
    stages = replace(stages, inspector=Inspector(storage, inspect, clock))
    web = _web(site)
    overview = _overview(site, signers, stages, lambda: web.problem if web is not None else None)
    tracer = Tracer(site.plant.meters, storage, stages.publisher.pubacks)
    courier = _courier(site, signers, stages)
    takeover = _takeover(site, stages, stop)
    control = ControlSocket(
        site.control_socket,
        {
            "status": lambda _: overview.now(),
            "trace": tracer.answer,
            "preview": Previewer(storage).answer,
            "balance": Balancer(storage).answer,
            "exchange": Exchanges(site.plant.meters, stages.workers, storage, clock).answer,
            "state": Corrections(site.plant.meters, storage, clock).answer,
        },
        {
            "export": lambda arguments: lines_of(storage, Period.from_arguments(arguments)),
            "courier": courier.export,
            "courier-ingest": courier.ingest,
            "restore": stages.confirming.lines,
            "read-line": takeover.read,
            "examine": takeover.examine,
            "take-over": takeover.take_over,
        },
    )
    await control.open()
    try:
        if web is not None:
            await web.open(_pages(overview))
        log.info(
            "started",
            extra=pairs(
                "M1001",
                version=__version__,
                gateway=f"{site.plant.org}/{site.plant.agent}",
                lines=len(site.plant.lines),
                meters=len(site.plant.meters),
                site=site.path,
            ),
        )
        await run_until(stages, stop)
        return takeover.asked
    finally:
        if web is not None:
            await web.close()
        await control.close()


def _open_journal(site: Site, clock: Clock, opening: Opening) -> SqliteJournal:
    path = site.journal.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "give the service a folder it may write to"
        raise ConfigError(
            [Fault(str(path.parent), None, "journal.path", f"cannot be made: {error}", remedy)]
        ) from None
    place = replace(_journal_place(site), connect=partial(StdlibConnection, goes_on=opening.goes_on))
    answers = site.platform.acknowledgement == "platform"
    opened = open_or_replace(place, clock.wall_ms(), platform_answers=answers)
    journal = opened.journal
    if opened.aside is not None:
        saved = opened.salvaged
        assert saved is not None
        log.critical(
            "the journal was damaged; it was moved aside and a new one was begun",
            extra=pairs(
                "M1303",
                moved_to=opened.aside,
                batches_saved=saved.batches,
                batches_lost=saved.lost,
                corrections_in_doubt=saved.in_doubt,
            ),
        )
    if opened.cleared is not None:
        log.error(
            "the journal was said to be damaged; all of it was judged and it is sound, so it is kept",
            extra=pairs("M1310", said=opened.cleared),
        )
    former = journal.state().owner
    if former in (None, _owner(site)):
        return journal
    journal.close()
    moved_to = set_aside(path, f"former-{clock.wall_ms()}")
    log.warning(
        "the journal belongs to another agent or platform; it was archived and a new one was begun",
        extra=pairs("M1307", owner=former, moved_to=moved_to),
    )
    return open_or_replace(place, clock.wall_ms(), platform_answers=answers).journal


def _journal_place(site: Site) -> Place:
    return Place(site.journal.path, budget_bytes=site.journal.budget_mb * 1_000_000)


def _owner(site: Site) -> str:
    """Who speaks to whom: another audience, organisation or agent has a journal of its own."""
    return f"{site.plant.org}/{site.plant.agent} to {site.platform.audience}"


async def _mark_started(site: Site, storage: JournalThread) -> None:
    applied = read_applied(site.journal.path)
    answers = site.platform.acknowledgement == "platform"
    standing = await storage.run(
        lambda journal: mark_started(
            journal,
            site.sha256,
            owner=_owner(site),
            applied_sha256=applied,
            platform_answers=answers,
        )
    )
    write_applied(site.journal.path, site.sha256)
    if standing is Standing.CONFIRMING:
        log.warning(
            "the site file changed and the journal was not left in good order: nothing is sealed until the platform "
            "has confirmed where it stands",
            extra=pairs("M1306"),
        )


async def _settle_keys(site: Site, signers: Signers, storage: JournalThread) -> None:
    answers = site.platform.acknowledgement == "platform"
    replaced = await storage.run(
        lambda journal: settle_keys(journal, signers, site=str(site.path), platform_answers=answers)
    )
    if replaced:
        log.warning(
            "the signing key was replaced without a rotation; a new chain begins once the platform knows the new key",
            extra=pairs("M1308", kid=signers.first.kid),
        )


def _wire(
    site: Site, signers: Signers, platform_keys: PublicKeys, storage: JournalThread, clock: Clock
) -> Stages:
    task = Task(
        identity=_identity(site),
        lines=site.plant.lines,
        meters=site.plant.meters,
        interval_ms=site.interval_ms,
        keep_days=site.journal.keep_acknowledged_days,
        mode=site.platform.acknowledgement,
        boot=boot_id() or "unknown",
    )
    ports = Ports(
        lines={line.id: open_line(line) for line in site.plant.lines},
        storage=storage,
        uplink=_uplink(site),
        clock=clock,
        entropy=SystemEntropy(),
        signer=signers.first,
        following=signers.following,
        platform_keys=platform_keys,
        schedule=lambda on_step: AlignedSchedule(clock, on_step=on_step),
        notifier=Notifier(),
    )
    return assemble(task, ports)


def _identity(site: Site) -> Identity:
    link = site.platform
    return Identity(site.plant.org, site.plant.agent, link.audience, __version__, link.topic_root)


def _courier(site: Site, signers: Signers, stages: Stages) -> Courier:
    entropy = SystemEntropy()
    return Courier(_identity(site), signers, stages.storage, stages.dialogue, stages.clock, entropy)


def _takeover(site: Site, stages: Stages, stop: asyncio.Event) -> Takeover:
    file = SiteFile(site.path)
    return Takeover(stages.workers, examine=lambda: examine(file.staged), sha256=file.sha256, stop=stop.set)


def _web(site: Site) -> "Endpoints | None":
    """Metrics and health, where the site file says so; the libraries for them are loaded only then."""
    if site.web_listen is None:
        return None
    from agent.adapters.endpoints import Endpoints

    return Endpoints(*web_address(site.web_listen))


def _pages(overview: Overview) -> "Mapping[str, Page]":
    from agent.adapters.health import pages_of

    return pages_of(overview.now)


def _overview(
    site: Site, signers: Signers, stages: Stages, web_problem: Callable[[], str | None]
) -> Overview:
    clock, link = stages.clock, site.platform
    about = About(
        org=site.plant.org,
        agent=site.plant.agent,
        audience=link.audience,
        sw=__version__,
        broker_url=link.broker_url,
        by_stick=link.broker.is_none,
        mode=link.acknowledgement,
        site_path=str(site.path),
        site_sha256=site.sha256,
        journal_path=str(site.journal.path),
        budget_bytes=site.journal.budget_mb * 1_000_000,
        interval_ms=site.interval_ms,
        web_listen=site.web_listen,
        kid=signers.first.kid,
        alg=signers.first.alg,
        next_kid=signers.following.kid if signers.following is not None else None,
        started_ms=clock.wall_ms(),
        started_ns=clock.monotonic_ns(),
    )
    certificates = {
        role: path for role, path in (("client", link.client_certificate), ("CA", link.ca_file)) if path
    }
    return Overview(
        about,
        partial(look_around, site.journal.path, certificates, web_problem),
        stages.workers,
        stages.boundary,
        stages.dialogue,
        stages.publisher,
        stages.storage,
        clock,
        stages.inspector,
    )


def _uplink(site: Site) -> Uplink:
    link = site.platform
    if link.broker.is_none:
        return NoUplink()
    return mqtt_uplink(link, f"{site.plant.org}/{site.plant.agent}")


def mqtt_uplink(link: PlatformLink, client_id: str) -> MqttUplink:
    """The way to the broker of a site, under this name. Raises ConfigError where a password cannot be read."""
    tls = None
    if link.broker.tls:
        assert link.ca_file is not None
        tls = TlsFiles(link.ca_file, link.client_certificate, link.client_key)
    account, proxy_account = link.account, link.proxy_account
    return MqttUplink(
        link.broker_url,
        client_id=client_id,
        tls=tls,
        proxy=link.proxy,
        proxy_login=None
        if proxy_account is None
        else (proxy_account.username, _password(proxy_account, "proxy_password_file") or ""),
        username=None if account is None else account.username,
        password=None if account is None else _password(account, "password_file"),
    )


def _password(account: Account, instead: str) -> str | None:
    return read_password(account.password_file, account.password_credential, f"platform.{instead}")
