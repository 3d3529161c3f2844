"""Nothing lost, nothing twice, with real processes: the short form for every run, the campaigns for `make lab`."""

import time
from pathlib import Path

import pytest

from tests.adapters.certificates import Authority
from tests.lab import campaigns
from tests.lab.conftest import Told
from tests.lab.installation import PATIENCE_S, Installation, behind_the_gateway_only, on_the_pair_only
from tests.lab.places import Disk, Network
from tests.support.mosquitto import Mosquitto
from tests.support.programs import library

pytestmark = [pytest.mark.timeout(3600), pytest.mark.mosquitto]

HALF_OPEN_S = 45
"""In which a connection that is none has to be noticed (design: 1.5 times the keep-alive, and the machine is busy)."""


@pytest.mark.fault("F63", "F75")
def test_a_few_kills(lab: Installation, mosquitto: Mosquitto, told: Told) -> None:
    campaigns.kill_agent(lab, 20)
    campaigns.kill_broker(lab, mosquitto, 5)
    told("20 x SIGKILL of the agent, 5 of mosquitto", lab.settle())


@pytest.mark.fault("F49", "F51")
@pytest.mark.mke2fs
@pytest.mark.strace
def test_a_few_failures_of_the_disk(lab_on_ext4: Installation, loop_mounted: Disk, told: Told) -> None:
    campaigns.cut_power(lab_on_ext4, loop_mounted, 5)
    campaigns.inject(lab_on_ext4, campaigns.SYNCS, "error=EIO", 4, every=3)
    told("5 power cuts, 2 x EIO at a sync", lab_on_ext4.settle())


@pytest.mark.lab
@pytest.mark.fault("F75")
def test_kills_of_the_agent(lab: Installation, told: Told) -> None:
    campaigns.kill_agent(lab, 200)
    told("200 x SIGKILL of the agent", lab.settle())


@pytest.mark.lab
@pytest.mark.fault("F78")
def test_a_storm_of_restarts(lab: Installation, told: Told) -> None:
    campaigns.storm_of_restarts(lab, 20)
    told("20 x SIGKILL right at the start", lab.settle())


@pytest.mark.lab
@pytest.mark.fault("F63")
def test_kills_of_the_broker(lab: Installation, mosquitto: Mosquitto, told: Told) -> None:
    campaigns.kill_broker(lab, mosquitto, 50)
    told("50 x SIGKILL of mosquitto, 25 with batches that only it held", lab.settle())


@pytest.mark.lab
@pytest.mark.fault("F51")
@pytest.mark.mke2fs
def test_power_cuts(lab_on_ext4: Installation, loop_mounted: Disk, told: Told) -> None:
    campaigns.cut_power(lab_on_ext4, loop_mounted, 50)
    told("50 power cuts under an ext4", lab_on_ext4.settle())


@pytest.mark.lab
@pytest.mark.fault("F51", "F75")
@pytest.mark.strace
@pytest.mark.parametrize("call", ["pwrite64", campaigns.SYNCS])
def test_a_kill_at_every_call(lab: Installation, call: str, told: Told) -> None:
    count = _calls(lab, call)
    hits, _ = campaigns.inject(lab, call, "signal=KILL", count)
    assert hits >= count * 3 // 4, "a life has a few calls more or less than another, no more than that"
    told(f"killed at every {call} of a start and two seals, {hits} of {count}", lab.settle())


@pytest.mark.lab
@pytest.mark.fault("F46", "F48", "F49")
@pytest.mark.strace
@pytest.mark.parametrize(
    ("call", "error"), [("pwrite64", "ENOSPC"), ("pwrite64", "EIO"), (campaigns.SYNCS, "EIO")]
)
def test_an_error_at_every_call(lab: Installation, call: str, error: str, told: Told) -> None:
    count = _calls(lab, call)
    hits, ends = campaigns.inject(lab, call, f"error={error}", count)
    assert hits >= count * 3 // 4
    told(f"{error} at every {call}, {hits} of {count}; the agent ended in {ends}", lab.settle())


def _calls(lab: Installation, call: str) -> int:
    """How many such calls a life makes, after one that has laid down the journal."""
    lab.recover()
    lab.kill("agent")
    counted = campaigns.calls_of_a_life(lab)
    return sum(counted[name] for name in call.split(","))


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
def test_a_clock_that_starts_in_1970_and_steps(mosquitto: Mosquitto, tmp_path: Path, told: Told) -> None:
    with Installation(tmp_path / "rig", mosquitto.url, meters=behind_the_gateway_only()) as lab:
        lab.start_surroundings()
        _step_the_clock(lab, lab.folder / "clock")
        told("a start in 1970 and 5 steps of the clock", lab.settle())


def _step_the_clock(lab: Installation, faked: Path) -> None:
    """libfaketime reads the offset of the wall clock from the file; the monotonic clock goes on as it is."""
    steps = (f"-{int(time.time()) - 100}", "+0", "-3600", "+259200", "-600", "+0")
    faked.write_text(steps[0])
    lab.recover(
        environment={
            "LD_PRELOAD": str(library("faketime", "libfaketime.so.1")),
            "FAKETIME_TIMESTAMP_FILE": str(faked),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
    )
    for step in steps[1:]:
        lab.await_cuts(3)
        faked.write_text(step)
        lab.check_books()
    lab.await_cuts(3)


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
