"""The unit and the files beside it: what systemd's own tools say of them, and whether they agree with the program."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from agent.cli import exits, main
from agent.cli.group import COMMANDS
from agent.service import supervise
from agent.service.publish import PUBACK_S
from tests.service.watched import WATCHDOG_S
from tests.support import programs
from tests.systemd.unitfile import FOLDER, UNIT, one, read_unit, seconds

SECTIONS = read_unit()
SERVICE = SECTIONS["Service"]
EXPOSURE_MAX = 1.5
STATE = f"/var/lib/{one(SERVICE, 'StateDirectory')}"
README = (FOLDER / "README.md").read_text("utf-8")
UPLINK_STOP_S = 6
"""`MqttUplink.stop`: five seconds for the goodbye, one for the supervisor."""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
    units = programs.unpacked_units()
    if units is not None:
        environment["SYSTEMD_UNIT_PATH"] = f"{units}:"
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )


def tool(name: str) -> str:
    """A tool of the same Debian package, which may be missing where only systemd-analyze was unpacked."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine")
    return path


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as it would be installed, with a program that exists here."""
    program = tmp_path / "metering-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    assert text.count("/opt/metering-agent/current/bin/metering-agent") == 1
    unit.write_text(text.replace("/opt/metering-agent/current/bin/metering-agent", str(program)))
    return unit


# --------------------------------------------------------------------------------------------------- systemd's own word


def test_systemd_finds_nothing_wrong_with_the_unit(systemd_analyze: Path, installed: Path) -> None:
    done = run(systemd_analyze, "verify", "--man=no", installed)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_verify_would_have_noticed(systemd_analyze: Path, installed: Path) -> None:
    installed.write_text(installed.read_text().replace("WatchdogSec=60", "WatchdogSec=soon\nWatchDog=1"))
    done = run(systemd_analyze, "verify", "--man=no", installed)
    assert "soon" in done.stderr and "WatchDog" in done.stderr


def test_the_unit_and_the_example_drop_in_are_understood_together(
    systemd_analyze: Path, installed: Path
) -> None:
    folder = installed.with_name(f"{installed.name}.d")
    folder.mkdir()
    shutil.copy(FOLDER / f"{UNIT.name}.d" / "network.conf.example", folder / "network.conf")
    done = run(systemd_analyze, "verify", "--man=no", installed)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def exposure(systemd_analyze: Path, unit: Path) -> float:
    done = run(systemd_analyze, "security", "--offline=yes", "--no-pager", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found[1])


def test_the_exposure_is_small(systemd_analyze: Path) -> None:
    assert exposure(systemd_analyze, UNIT) <= EXPOSURE_MAX


@pytest.mark.parametrize(
    "line", ["NoNewPrivileges=yes", "IPAddressDeny=any", "SystemCallFilter=~@privileged @resources"]
)
def test_every_line_of_it_counts(line: str, systemd_analyze: Path, tmp_path: Path) -> None:
    """The bound is tight: without one of the restrictions it is broken."""
    weaker = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    assert f"\n{line}\n" in text
    weaker.write_text(text.replace(f"\n{line}\n", "\n"))
    assert exposure(systemd_analyze, weaker) > exposure(systemd_analyze, UNIT)


def test_what_is_left_is_left_on_purpose(systemd_analyze: Path) -> None:
    """Everything that systemd would still like to see is named in the README with the reason."""
    done = run(systemd_analyze, "security", "--offline=yes", "--json=short", UNIT)
    open_points = {
        row["name"] for row in json.loads(done.stdout) if row["exposure"] and float(row["exposure"]) > 0
    }
    text = README.replace("\\|", "|")  # as it is written in a table
    named = {name for name in open_points if f"`{name}`" in text}
    assert open_points - named == set()


# ------------------------------------------------------------------------------------------ agreement with the program


def test_the_command_is_one_that_the_program_has() -> None:
    program, name, *arguments = shlex.split(one(SERVICE, "ExecStart"))
    assert Path(program).name == "metering-agent"
    command = main.get_command(click.Context(main), name)
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in arguments if word.startswith("-")} <= known
    context = command.make_context(name, list(arguments))
    assert context.params["site_file"] == Path("/etc/metering-agent/site.toml")


@pytest.mark.fault("F78")
def test_only_a_wrong_site_file_is_not_retried() -> None:
    assert one(SERVICE, "Restart") == "always"
    assert one(SECTIONS["Unit"], "StartLimitIntervalSec") == "0"
    assert [int(code) for code in one(SERVICE, "RestartPreventExitStatus").split()] == [exits.CONFIGURATION]


def test_the_watchdog_time_is_the_one_that_was_proved() -> None:
    assert seconds(one(SERVICE, "WatchdogSec")) == WATCHDOG_S
    assert one(SERVICE, "Type") == "notify"


def test_a_stop_in_good_order_has_the_time_it_needs() -> None:
    needed_s = supervise.LAST_SWEEP_S + supervise.LAST_SEND_S + PUBACK_S + UPLINK_STOP_S
    assert needed_s < seconds(one(SERVICE, "TimeoutStopSec"))


def test_names_and_paths_agree() -> None:
    sysusers = (FOLDER / "sysusers.d" / "metering-agent.conf").read_text()
    user = one(SERVICE, "User")
    assert re.search(rf'^u {user} - +"[^"]+" +{STATE} +-$', sysusers, re.MULTILINE)
    assert re.search(rf"^m {user} dialout$", sysusers, re.MULTILINE)
    name, _, credential = one(SERVICE, "LoadCredentialEncrypted").partition(":")
    tmpfiles = (FOLDER / "tmpfiles.d" / "metering-agent.conf").read_text()
    assert re.search(rf"^z {credential} +0600 +root +root +-$", tmpfiles, re.MULTILINE)
    assert f"--name={name} " in README and f'credential = "{name}"' in README
    assert f'path = "{STATE}/journal.db"' in README
    assert one(SECTIONS["Unit"], "ConditionPathExists") in one(SERVICE, "ExecStart")


def test_a_driver_that_comes_as_a_module_is_loaded_before_the_unit_names_it() -> None:
    modules = (FOLDER / "modules-load.d" / "metering-agent.conf").read_text().splitlines()
    needs = {"char-ttyUSB": "usbserial", "char-ttyACM": "cdc_acm"}
    allowed = {value.split()[0] for value in SERVICE["DeviceAllow"]}
    assert {needs[name] for name in allowed & needs.keys()} == {
        line for line in modules if line and not line.startswith("#")
    }
    assert needs.keys() <= allowed


def test_the_readme_names_only_what_there_is() -> None:
    for command in re.findall(r"metering-agent ([a-z][a-z-]+) ", README):
        assert command in COMMANDS, command
    shipped = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()} - {"README.md"}
    assert {name for name in shipped if name not in README} == set()


# ------------------------------------------------------------------------------------------------------- other files


def owners(path: Path) -> tuple[int, int, int]:
    """Mode, user and group."""
    status = path.stat()
    return status.st_mode & 0o777, status.st_uid, status.st_gid


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_user_and_folders_come_out_as_meant(tmp_path: Path) -> None:
    """systemd's own tools in an empty root: the user is in dialout, keys belong to the service, the site to root."""
    sysusers, tmpfiles = tool("systemd-sysusers"), tool("systemd-tmpfiles")
    site = tmp_path / "etc" / "metering-agent"
    site.mkdir(parents=True)
    for name in ("site.toml", "ca.pem", "gw01.key", "signing-key.cred"):
        (site / name).write_text("")
        (site / name).chmod(0o666)
    done = run(sysusers, f"--root={tmp_path}", FOLDER / "sysusers.d" / "metering-agent.conf")
    assert done.returncode == 0, done.stderr
    done = run(tmpfiles, f"--root={tmp_path}", "--create", FOLDER / "tmpfiles.d" / "metering-agent.conf")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [row.split(":") for row in (tmp_path / "etc" / "passwd").read_text().splitlines()]
    user = next(int(row[2]) for row in rows if row[0] == "metering-agent")
    assert re.search(
        "^dialout:x:\\d+:metering-agent$", (tmp_path / "etc" / "group").read_text(), re.MULTILINE
    )
    found = {
        path.name: (path.stat().st_mode & 0o777, path.stat().st_uid, path.stat().st_gid)
        for path in site.iterdir()
    }
    assert found == {
        "site.toml": (0o640, 0, user),
        "ca.pem": (0o640, 0, user),
        "gw01.key": (0o400, user, user),
        "signing-key.cred": (0o600, 0, 0),
    }
    assert owners(site) == (0o750, 0, user)


RULE = re.compile(r'([A-Z_]+)(?:\{([A-Za-z_.]+)\})?(==|!=|\+=|:=|=)"([^"]*)"')
MATCHES = {"ACTION", "SUBSYSTEM", "SUBSYSTEMS", "KERNEL", "DRIVERS", "ENV"}
CHANGES = {"ATTR", "GROUP", "MODE", "ENV", "SYMLINK", "GOTO", "LABEL"}


def udev_rules() -> list[list[tuple[str, str, str, str]]]:
    text = (FOLDER / "udev" / "70-metering-agent.rules").read_text().replace("\\\n", " ")
    rules = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pairs = [part.strip() for part in line.split(", ")]
        matches = [RULE.fullmatch(part) for part in pairs]
        assert all(matches), line
        rules.append([(m[1], m[2] or "", m[3], m[4]) for m in matches if m is not None])
    return rules


def test_the_udev_rules_are_well_formed() -> None:
    labels, jumps = [], []
    for rule in udev_rules():
        for key, name, operator, value in rule:
            assert key in (MATCHES if operator in ("==", "!=") else CHANGES), (key, operator)
            assert (key in ("ENV", "ATTR")) == bool(name)
            labels += [value] if key == "LABEL" else []
            jumps += [value] if key == "GOTO" else []
    assert set(jumps) == set(labels) and len(labels) == 1


def test_a_udev_link_never_replaces_the_device_of_somebody_else() -> None:
    links = [value for rule in udev_rules() for key, _, operator, value in rule if key == "SYMLINK"]
    assert links and all(link.startswith("metering/") for link in links)
    assert ("GROUP", "", "=", "dialout") in [part for rule in udev_rules() for part in rule]


def test_udev_finds_nothing_wrong_with_the_rules() -> None:
    """Only newer ones (254 and later) can be asked without a device."""
    done = run(tool("udevadm"), "verify", "--no-summary", FOLDER / "udev" / "70-metering-agent.rules")
    if "Unknown command verb" in done.stderr:
        pytest.skip("this udevadm cannot verify rules")
    assert (done.returncode, done.stderr) == (0, "")
