"""Nothing lost, nothing twice, with real processes: the short form for every run, the campaigns for `make lab`."""

import time
from pathlib import Path

import pytest

from tests.adapters.certificates import Authority
from tests.lab import brokers, campaigns
from tests.lab.conftest import Told
from tests.lab.faketime import FakedClock
from tests.lab.installation import PATIENCE_S, Installation, on_the_pair_only
from tests.lab.places import Disk, Network
from tests.lab.slowdisk import SYNC_S, WATCHDOG_S, Manager, bus_of_a_life
from tests.lab.tracing import SYNCS, strace
from tests.support.mosquitto import Mosquitto

pytestmark = [pytest.mark.timeout(3600), pytest.mark.mosquitto]

PARTS = 3
"""Into so many the longest campaigns are cut, each with its own installation, so that they can run side by side."""
in_parts = pytest.mark.parametrize("part", range(PARTS))

HALF_OPEN_S = 45
"""In which a connection that is none has to be noticed (design: 1.5 times the keep-alive, and the machine is busy)."""


@pytest.mark.fault("F63", "F75")
def test_a_few_kills(lab: Installation, mosquitto: Mosquitto, told: Told) -> None:
    """20 of the agent; in five of its ten longer lives mosquitto dies first, with what only it held or without."""

    def kill_mosquitto(number: int) -> None:
        if number % 2:
            brokers.lose(lab, mosquitto, with_batches=number % 4 == 1, after_s=0.2)

    campaigns.kill_agent(lab, 20, meanwhile=kill_mosquitto)
    told("20 x SIGKILL of the agent, 5 of mosquitto", lab.settle())


@pytest.mark.fault("F49", "F51")
@pytest.mark.mke2fs
@pytest.mark.strace
def test_a_few_failures_of_the_disk(lab_on_ext4: Installation, loop_mounted: Disk, told: Told) -> None:
    campaigns.cut_power(lab_on_ext4, loop_mounted, 5)
    campaigns.inject(lab_on_ext4, SYNCS, "error=EIO", (1, 4))
    told("5 power cuts, 2 x EIO at a sync", lab_on_ext4.settle())


@pytest.mark.lab
@pytest.mark.fault("F75")
@pytest.mark.parametrize("part", range(4))
def test_kills_of_the_agent(lab: Installation, part: int, told: Told) -> None:
    campaigns.kill_agent(lab, 50, seed=part)
    told(f"50 x SIGKILL of the agent, part {part + 1} of 4", lab.settle())


@pytest.mark.lab
@pytest.mark.fault("F78")
def test_a_storm_of_restarts(lab: Installation, told: Told) -> None:
    campaigns.storm_of_restarts(lab, 20)
    told("20 x SIGKILL right at the start", lab.settle())


@pytest.mark.lab
@pytest.mark.fault("F63")
@pytest.mark.parametrize("part", range(2))
def test_kills_of_the_broker(lab_of_weeks: Installation, mosquitto: Mosquitto, part: int, told: Told) -> None:
    brokers.kill_broker(lab_of_weeks, mosquitto, 25, seed=part)
    figures = lab_of_weeks.settle()
    forgotten = lab_of_weeks.forgotten()
    assert forgotten, "an agent that purges nothing cannot purge too much"
    told(
        f"25 x SIGKILL of mosquitto, every other time with batches that only it held, part {part + 1} of 2;"
        f" {forgotten} batches purged",
        figures,
    )


@pytest.mark.lab
@pytest.mark.fault("F65")
def test_a_queue_of_the_broker_that_runs_over(
    mosquitto: Mosquitto, lab_of_weeks: Installation, told: Told
) -> None:
    lab = lab_of_weeks
    lab.stop("platform")
    mosquitto.extra = brokers.NARROW
    mosquitto.restart()
    lab.start_platform()
    dropped = brokers.overflow(lab, mosquitto, 9)
    figures = lab.settle()
    forgotten = lab.forgotten()
    assert forgotten, "an agent that purges nothing cannot purge too much"
    told(f"9 x a full queue, {dropped} batches dropped after PUBACK, {forgotten} purged later", figures)


@pytest.mark.lab
@pytest.mark.fault("F51")
@pytest.mark.mke2fs
@pytest.mark.parametrize("part", range(2))
def test_power_cuts(lab_on_ext4: Installation, loop_mounted: Disk, part: int, told: Told) -> None:
    campaigns.cut_power(lab_on_ext4, loop_mounted, 25, seed=part)
    told(f"25 power cuts under an ext4, part {part + 1} of 2", lab_on_ext4.settle())


@pytest.mark.lab
@pytest.mark.fault("F51", "F75")
@pytest.mark.strace
@pytest.mark.parametrize("call", ["pwrite64", SYNCS])
@in_parts
def test_a_kill_at_every_call(lab: Installation, call: str, part: int, told: Told) -> None:
    numbers = _numbers(lab, call, part)
    hits, _ = campaigns.inject(lab, call, "signal=KILL", numbers)
    assert hits >= len(numbers) * 3 // 4, (
        "a life has a few calls more or less than another, no more than that"
    )
    told(
        f"killed at every {call} of a start and two seals, part {part + 1} of {PARTS}: {hits} of {len(numbers)}",
        lab.settle(),
    )


@pytest.mark.lab
@pytest.mark.fault("F46", "F48", "F49")
@pytest.mark.strace
@pytest.mark.parametrize(("call", "error"), [("pwrite64", "ENOSPC"), ("pwrite64", "EIO"), (SYNCS, "EIO")])
@in_parts
def test_an_error_at_every_call(lab: Installation, call: str, error: str, part: int, told: Told) -> None:
    numbers = _numbers(lab, call, part)
    hits, ends = campaigns.inject(lab, call, f"error={error}", numbers)
    assert hits >= len(numbers) * 3 // 4
    told(
        f"{error} at every {call}, part {part + 1} of {PARTS}: {hits} of {len(numbers)};"
        f" the agent ended by itself in {ends}",
        lab.settle(),
    )


def _numbers(lab: Installation, call: str, part: int) -> range:
    """Every third of the calls that a life makes, after one that has laid down the journal."""
    lab.recover()
    lab.kill("agent")
    counted = campaigns.calls_of_a_life(lab)
    return range(1 + part, 1 + sum(counted[name] for name in call.split(",")), PARTS)


@pytest.mark.lab
@pytest.mark.fault("F50")
@pytest.mark.strace
def test_syncs_that_take_ten_seconds_slow_no_line(
    lab_of_ten_seconds: Installation, manager: Manager, told: Told
) -> None:
    lab = lab_of_ten_seconds
    lab.recover()
    lab.kill("agent")
    quick = bus_of_a_life(lab, manager, sync_s=0, seconds=20)
    slow = bus_of_a_life(lab, manager, sync_s=SYNC_S, seconds=60)
    assert not any(text == "WATCHDOG=trigger" for _, text in manager.heard), "a slow disk is no hang"
    assert manager.longest_silence_s() < WATCHDOG_S / 2
    for line, bus in slow.items():
        assert bus.per_second > 0.9 * quick[line].per_second > 1, (line, quick[line], bus)
        assert bus.longest_pause_s < SYNC_S / 3, (line, quick[line], bus)
    rates = ", ".join(
        f"{line} {bus.per_second:.2f} reads/s against {quick[line].per_second:.2f}, longest pause"
        f" {bus.longest_pause_s:.1f} s"
        for line, bus in slow.items()
    )
    told(f"each sync takes {SYNC_S} s for a minute: {rates}", lab.settle())


@pytest.mark.lab
@pytest.mark.fault("F46")
def test_a_full_disk(lab_on_tmpfs: Installation, tiny_mounted: Disk, told: Told) -> None:
    campaigns.fill_disk(lab_on_tmpfs, tiny_mounted, 10)
    told("10 x a full disk", lab_on_tmpfs.settle())


@pytest.mark.lab
@pytest.mark.fault("F47")
def test_a_read_only_disk(lab_on_tmpfs: Installation, tiny_mounted: Disk, told: Told) -> None:
    campaigns.make_read_only(lab_on_tmpfs, tiny_mounted, 10)
    told("10 x a disk that became read-only", lab_on_tmpfs.settle())


@pytest.mark.lab
@pytest.mark.fault("F38", "F39", "F40")
@pytest.mark.faketime
@pytest.mark.strace
def test_a_clock_that_starts_in_1970_and_steps(lab: Installation, told: Told) -> None:
    """On both lines. libfaketime takes the kernel's monotonic timer of the pair for one of the wall clock, which no
    kernel would: there is none for this agent (strace), and its line takes the timers of the event loop."""
    clock = FakedClock(lab.folder / "clock", 100 - int(time.time()))
    no_timer = strace(lab.folder, "trace=timerfd_create", "inject=timerfd_create:error=ENOSYS")
    lab.recover(under=no_timer, environment=clock.environment)
    for offset_s in (0, -3600, 259_200, -600, 0):
        lab.await_cuts(3)
        clock.step(offset_s)
        lab.check_books()
    lab.await_cuts(3)
    told("a start in 1970 and 5 steps of the clock", lab.settle())


@pytest.mark.lab
def test_an_agent_that_stood_still(lab: Installation, told: Told) -> None:
    lab.recover()
    for _ in range(3):
        lab.freeze("agent")
        time.sleep(20)
        lab.thaw("agent")
        began = time.monotonic()
        lab.await_cuts(2)
        lab.note_recovery(began)
        lab.check_books()
    told("3 x SIGSTOP of the agent for 20 s", lab.settle())


@pytest.mark.lab
@pytest.mark.parametrize(
    ("names", "longest_s"), [(("agent", "meters"), 1.5), (("agent", "meters", "platform"), 3)]
)
def test_programs_that_stand_still_at_any_moment(
    lab_of_ten_seconds: Installation, names: tuple[str, ...], longest_s: float, told: Told
) -> None:
    """Polled each second, so that registers of energy and of voltage are asked for in turn."""
    rounds = 150
    campaigns.stand_still(lab_of_ten_seconds, names, rounds, longest_s=longest_s)
    told(f"{rounds} x SIGSTOP of {' and '.join(names)}, up to {longest_s} s", lab_of_ten_seconds.settle())


@pytest.mark.lab
@pytest.mark.fault("F60")
@pytest.mark.ip
def test_a_pulled_cable(network: Network, mosquitto: Mosquitto, tmp_path: Path, told: Told) -> None:
    port = _listen_with_tls(mosquitto, network.ours, tmp_path)
    noticed_s = 0.0
    with Installation(tmp_path / "rig", mosquitto.url, meters=on_the_pair_only()) as lab:
        (lab.folder / "ca.pem").write_bytes((tmp_path / "ca.pem").read_bytes())
        lab.edit_site(
            f'broker = "{mosquitto.url}"', f'broker = "mqtts://{network.ours}:{port}"\nca_file = "ca.pem"'
        )
        lab.start_surroundings()
        lab.recover(under=network.under)
        for _ in range(3):
            acknowledged = lab.acknowledged()
            lab.wait_until(lambda: lab.acknowledged() > acknowledged, PATIENCE_S, "acknowledged")  # noqa: B023
            network.pull()
            began = time.monotonic()
            lab.wait_until(lambda: not lab.connected(), HALF_OPEN_S, "the half-open connection is noticed")
            noticed_s = max(noticed_s, time.monotonic() - began)
            network.plug()
            began, acknowledged = time.monotonic(), lab.acknowledged()
            lab.wait_until(lambda: lab.acknowledged() > acknowledged, PATIENCE_S, "acknowledged again")  # noqa: B023
            lab.note_recovery(began)
            lab.check_books()
        told(f"3 x the cable pulled, noticed within {noticed_s:.0f} s", lab.settle())


def _listen_with_tls(mosquitto: Mosquitto, address: str, folder: Path) -> int:
    """Let mosquitto listen there too, with a certificate that `ca.pem` vouches for; gives the port."""
    authority = Authority("the lab")
    certificate, key = authority.issue(address)
    for name, content in (("ca", authority.certificate), ("server", certificate), ("server-key", key)):
        (folder / f"{name}.pem").write_bytes(content)
    port = mosquitto.port  # free there as well: nobody else has an address in this network
    mosquitto.extra = (
        f"listener {port} {address}",
        f"certfile {folder / 'server.pem'}",
        f"keyfile {folder / 'server-key.pem'}",
    )
    mosquitto.restart()
    return port
