"""Which line a command works on: one of the site file, or one named on the command line before there is a site file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import click

from agent.errors import ConfigError, LineDown
from agent.metering.plant import Line, SerialSettings, Transport
from agent.metering.profile import Profile

C = TypeVar("C", bound=Callable[..., object])
_PARITY = {"N": "none", "E": "even", "O": "odd"}
_POLL_MS = 5_000
_PORT = 502


@dataclass(frozen=True, slots=True)
class Place:
    """What the command line said about the line."""

    site_file: Path | None
    device: str | None
    host: str | None
    transport: str | None


def line_options(command: C) -> C:
    """`--site FILE`, or `--device DEVICE`, or `--host HOST[:PORT]`."""
    for option in (
        click.option(
            "--transport",
            type=click.Choice(["modbus-tcp", "rs485-over-tcp"]),
            default=None,
            help="What is at the host: a Modbus TCP gateway [the default] or a terminal server.",
        ),
        click.option(
            "--host", metavar="HOST[:PORT]", help="A gateway or terminal server, without a site file."
        ),
        click.option("--device", metavar="DEVICE", help="A serial adapter, without a site file."),
        click.option(
            "--site", "site_file", metavar="FILE", type=click.Path(path_type=Path), help="The site file."
        ),
    ):
        command = option(command)
    return command


def profiles_option(command: C) -> C:
    """`--profiles FOLDER`, for meters that the agent does not bring and that no site file names yet."""
    return click.option(
        "--profiles",
        "folder",
        metavar="FOLDER",
        type=click.Path(path_type=Path),
        help="A folder with profiles of your own, as well as the shipped ones [that of the site].",
    )(command)


def known_profiles(place: Place, folder: Path | None) -> Mapping[str, Profile]:
    """The shipped profiles, and over them those of the folder, or else of the site, as `run` and `check` take them.

    Raises:
        ConfigError: with every fault of those profiles.
    """
    from agent.resources import config_path
    from agent.settings.profiles import ProfileShelf, load_profiles
    from agent.settings.site import load_site_profiles

    if folder is None and place.site_file is not None:
        return load_site_profiles(place.site_file)
    own = {} if folder is None else load_profiles(folder)
    return ProfileShelf(config_path("profiles"), over=own)


def find_line(place: Place, line_id: str | None) -> Line:
    """The line that is meant. Raises ConfigError, or a usage error where it is not said which."""
    given = [name for name in ("site_file", "device", "host") if getattr(place, name) is not None]
    if len(given) != 1:
        raise click.UsageError("say which line: LINE --site site.toml, or --device DEVICE, or --host HOST")
    if place.site_file is not None:
        return _of_site(place.site_file, line_id)
    if place.device is not None:
        return _unnamed(Transport.RS485, device=place.device)
    host, _, port = (place.host or "").partition(":")
    if not host or (port and not (port.isdecimal() and 0 < int(port) < 65_536)):
        raise click.UsageError(f"{place.host} is not a host and port, such as 10.0.8.20:502")
    transport = Transport(place.transport or "modbus-tcp")
    return replace(_unnamed(transport), host=host, port=int(port) if port else _PORT)


def _of_site(site_file: Path, line_id: str | None) -> Line:
    from agent.settings.site import load_site
    from agent.settings.suggest import did_you_mean

    lines = {line.id: line for line in load_site(site_file).plant.lines}
    if line_id is None and len(lines) == 1:
        return next(iter(lines.values()))
    if line_id in lines:
        return lines[line_id]
    reason = f'there is no line "{line_id}"' if line_id else "there are several lines"
    remedy = did_you_mean(line_id or "", lines) or f"name one of {', '.join(lines)}"
    raise ConfigError.of(site_file, reason, remedy, key="lines")


def _unnamed(transport: Transport, device: str | None = None) -> Line:
    return Line("bus", transport, device, None, None, SerialSettings(9600, "none", 1), _POLL_MS)


def settings_of(text: str) -> SerialSettings:
    """Read line settings as people write them: `9600-8N1`. Raises a usage error."""
    baud, _, framing = text.upper().partition("-")
    if (
        baud.isdecimal()
        and len(framing) == 3
        and framing[0] == "8"
        and framing[1] in _PARITY
        and framing[2] in "12"
    ):
        return SerialSettings(int(baud), _PARITY[framing[1]], int(framing[2]))
    raise click.UsageError(f'"{text}" are no line settings; write them like 9600-8N1 or 2400-8E1')


def spoken(settings: SerialSettings | None) -> str:
    """Line settings for people: `9600 8N1`."""
    if settings is None:
        return "as the gateway is set"
    return f"{settings.baud} 8{settings.parity[0].upper()}{settings.stop_bits}"


def explained(error: LineDown) -> LineDown:
    """The same error, and what to do where the service itself has the port."""
    busy = " in use" in str(error)
    return LineDown(f"{error}{'; if the agent itself runs, stop it first' if busy else ''}")
