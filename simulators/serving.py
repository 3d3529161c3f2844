"""Every meter of a plant, served where the agent will look for it.

An RS485 line becomes a pty behind a link at the line's own device path, a TCP line a listener on its own address, as
far as this machine allows. What cannot be where the site file says is served elsewhere, and `write_rehearsal` makes a
copy of the site file that says where. Used by `metering-sim meters`, the demonstration and the tests.
"""

import ipaddress
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import tomlkit

from agent.metering.plant import Line, Plant, SerialSettings, Transport
from simulators.line.pump import PtyLine, TcpLine
from simulators.line.rs485 import Hear
from simulators.line.station import on_one_pair
from simulators.meters import faults
from simulators.meters.meter import EnergySource, SimulatedMeter, join_circuits
from simulators.meters.tcp_server import TcpGateway

OPENING_MAX_MILLIWH = 5_000_000_000
"""Meters come with up to 5 MWh on them: more would leave float registers too coarse to watch for a minute."""
LOOPBACK = "127.0.0.1"


@dataclass(slots=True)
class ServedLine:
    """Where one line is served; `moved` if that is not where the site file says."""

    line: Line
    at: PtyLine | TcpLine | TcpGateway
    device: str | None = None
    host: str | None = None
    port: int | None = None
    moved: bool = False
    link: Path | None = None

    def address(self) -> str:
        """For people."""
        return self.device if self.device is not None else f"{self.host}:{self.port}"


@dataclass(slots=True)
class Served:
    """A plant that answers. Close it with `aclose`."""

    plant: Plant
    meters: dict[str, SimulatedMeter]
    lines: dict[str, ServedLine] = field(default_factory=dict)

    @property
    def moved(self) -> bool:
        """Whether any line is served elsewhere than the site file says."""
        return any(served.moved for served in self.lines.values())

    def plant_as_served(self) -> Plant:
        """The plant with devices, hosts and ports as they are served."""
        lines = tuple(
            replace(served.line, device=served.device, host=served.host, port=served.port)
            for served in self.lines.values()
        )
        return replace(self.plant, lines=lines)

    def truth(self) -> dict[str, dict[str, object]]:
        """What every energy register shows: raw counts (a float's as an exact fraction) and 0.001 Wh."""
        return {
            name: {"raw": _exact(meter.counts()), "register_milliwh": meter.register_milliwh()}
            for name, meter in self.meters.items()
        }

    def heal(self) -> None:
        """Switch every fault of every meter off."""
        faults.heal(list(self.meters.values()))

    async def aclose(self) -> None:
        """Take everything down and remove the links."""
        for served in self.lines.values():
            if served.link is not None and served.link.is_symlink():
                served.link.unlink()
            if isinstance(served.at, PtyLine):
                served.at.close()
            else:
                await served.at.aclose()


async def serve_plant(
    plant: Plant,
    sources: Mapping[str, EnergySource],
    *,
    device_links: bool = True,
    openings: bool = True,
    seed: int = 0,
    turnaround_ms: int = 10,
    answers_holes: bool = False,
) -> Served:
    """Serve every meter of a plant.

    Args:
        plant: lines and meters.
        sources: the energy behind each meter, by meter id.
        device_links: make a link at an RS485 line's device path where there is nothing; False leaves it at the pty.
        openings: begin with some energy on the registers, by seed and meter; False begins at zero.
        seed: of the openings.
        turnaround_ms: how long RS485 meters think before they answer.
        answers_holes: meters answer zero between their registers instead of exception 2.

    Raises:
        ValueError: two meters share an address.
        OSError: no pty or no free port.
    """
    meters = {
        meter.id: SimulatedMeter(
            meter,
            sources[meter.id],
            opening_milliwh=_opening_milliwh(meter.id, seed) if openings else 0,
            turnaround_ms=turnaround_ms,
            answers_holes=answers_holes,
        )
        for meter in plant.meters
    }
    served = Served(plant, meters)
    try:
        for line in plant.lines:
            on_line = [meters[meter.id] for meter in plant.meters_on(line.id)]
            _check_addresses(line, on_line)
            devices = join_circuits(on_line)
            served.lines[line.id] = await _serve_line(line, devices, device_links=device_links)
    except BaseException:
        await served.aclose()
        raise
    return served


def write_rehearsal(site: Path, served: Served, out: Path) -> None:
    """Write a copy of the site file in which every moved line is where it is served; comments are kept.

    It also gets a journal of its own, so that energy that never flowed cannot enter the real one.

    Raises:
        ValueError: `out` is in another folder, where the relative names in the file would mean something else.
    """
    if out.resolve().parent != site.resolve().parent:
        raise ValueError(
            f"{out}: the rehearsal copy has to lie beside {site}, because names in it are relative"
        )
    document = tomlkit.parse(site.read_text(encoding="utf-8"))
    for table in document["lines"]:
        moved = served.lines[table["id"]]
        for key in ("device", "host", "port"):
            value = getattr(moved, key)
            if moved.moved and value is not None:
                table[key] = value
    document.setdefault("journal", tomlkit.table())["path"] = f"{out.stem}.db"
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(tomlkit.dumps(document), encoding="utf-8")
    partial.replace(out)


def write_truth(path: Path, served: Served) -> None:
    """Write what every register shows, as JSON, all or nothing."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(served.truth(), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


# ----------------------------------------------------------------------------------------------------------- one line


async def _serve_line(line: Line, meters: list[SimulatedMeter], *, device_links: bool) -> ServedLine:
    if line.transport is Transport.RS485:
        return _serve_pty(line, meters, device_links=device_links)
    if line.transport is Transport.RS485_OVER_TCP:
        pair = TcpLine(line.serial, on_one_pair(meters))
        return await _listen(line, pair)
    for meter in meters:
        meter.turnaround_ms = min(meter.turnaround_ms, 2)
    return await _listen(line, TcpGateway(meters))


def _serve_pty(line: Line, meters: list[SimulatedMeter], *, device_links: bool) -> ServedLine:
    def hear_at(baud: int) -> Hear:
        return on_one_pair(meter for meter in meters if _settings(line, meter).baud == baud)

    framing = {settings.baud: settings for settings in (_settings(line, meter) for meter in meters)}
    pty = PtyLine(line.serial, hear_at, framing)
    link = _link(Path(line.device or ""), pty.path) if device_links and line.device else None
    device = str(link) if link is not None else pty.path
    return ServedLine(line, pty, device=device, moved=link is None, link=link)


def _settings(line: Line, meter: SimulatedMeter) -> SerialSettings:
    return meter.meter.serial_settings or line.serial


def _link(path: Path, target: str) -> Path | None:
    """A link to the pty at the site's device path; None where that is not ours to make.

    Nothing is ever made under /dev, and nothing but a pty's dead link is replaced.
    """
    if path.is_relative_to("/dev") or (path.exists() and not path.is_symlink()):
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            if not re.fullmatch(r"/dev/pts/\d+", os.readlink(path)):
                return None
            path.unlink()
        path.symlink_to(target)
    except OSError:
        return None
    return path


async def _listen(line: Line, at: TcpLine | TcpGateway) -> ServedLine:
    """Listen on the line's own address if it is this machine's, else on a free port of the loopback address."""
    host, wanted = line.host or LOOPBACK, line.port or 0
    if _is_loopback(host):
        try:
            _, port = await at.listen(host, wanted)
        except OSError:
            pass  # taken, or a port that needs privileges: any free one does
        else:
            return ServedLine(line, at, host=host, port=port, moved=port != wanted)
    host, port = await at.listen(LOOPBACK, 0)
    return ServedLine(line, at, host=host, port=port, moved=True)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_addresses(line: Line, meters: list[SimulatedMeter]) -> None:
    taken: dict[int | str, str] = {}
    for meter in meters:
        address = meter.meter.address
        if address in taken and meter.meter.profile.circuits is None:
            raise ValueError(
                f"line {line.id}: {taken[address]} and {meter.meter.id} share address {address}, "
                f"but profile {meter.meter.profile.id} knows only one circuit"
            )
        taken[address] = meter.meter.id


def _opening_milliwh(meter: str, seed: int) -> int:
    return zlib.crc32(f"{seed}/{meter}".encode()) * OPENING_MAX_MILLIWH >> 32


def _exact(counts: int | Fraction) -> int | str:
    return counts if isinstance(counts, int) else str(counts)
