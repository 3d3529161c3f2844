"""From a site file to a `Site`: either every value in it is right, or every fault is told at once.

One file describes one gateway: who we are, to whom we report, the lines and the meters (design, section 10). The way
through it: bytes, TOML, the shape of each table (`shape`), the meaning of the tables that there is one of
(`sections`), lines and meters together (`wired`). Each stage reports and goes on with what was right, so that a person
edits once. Nothing is started with half a site file.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from agent.errors import ConfigError
from agent.metering.plant import Line, Meter, Plant
from agent.metering.profile import Profile
from agent.resources import config_path
from agent.service.boundary import patience_ms
from agent.settings import shape
from agent.settings.catalogue import Catalogue, load_catalogue
from agent.settings.faultlist import FaultList
from agent.settings.files import needed_directory, needed_file
from agent.settings.forecast import forecast, format_s
from agent.settings.profiles import ProfileShelf, load_profiles
from agent.settings.sections import (
    check_budget,
    read_interval,
    read_journal,
    read_platform,
    read_signing,
    read_web,
)
from agent.settings.shape import S, Shape, Table, read_table, shown
from agent.settings.suggest import did_you_mean
from agent.settings.tomlines import KeyPath, locate
from agent.settings.values import JournalSettings, PlatformLink, Signing, Site
from agent.settings.wired import Known, read_lines, read_meters

__all__ = ["JournalSettings", "PlatformLink", "Signing", "Site", "load_site", "parse", "site_of"]

SIZE_MAX = 4_000_000
"""Bytes of the largest file that is read at all; a gateway with 247 meters has 60 kB."""

_TABLES: Mapping[str, type[Shape]] = {
    "gateway": shape.GatewayShape,
    "platform": shape.PlatformShape,
    "signing": shape.SigningShape,
    "journal": shape.JournalShape,
    "interval": shape.IntervalShape,
    "web": shape.WebShape,
    "catalogue": shape.CatalogueShape,
    "profiles": shape.ProfilesShape,
}
_LISTS = ("lines", "meters")


def load_site(path: Path, *, any_budget: bool = False, base: Path | None = None) -> Site:
    """Read a site file.

    Args:
        path: the file.
        any_budget: take a journal budget that is too small for the days it should hold. `check` refuses it, because it
            lengthens intervals in ordinary weeks; it loses no energy, so a running factory is not stopped for it.
        base: the folder in which the files are that it names; its own, unless it is to be moved there.

    Raises:
        ConfigError: with every fault of the file, of the files it names and of the profiles beside it.
    """
    data = _read(path)
    document, lines = parse(path, data)
    sha256 = hashlib.sha256(data).hexdigest()
    return site_of(path, document, lines, sha256=sha256, any_budget=any_budget, base=base)


def site_of(
    path: Path,
    document: dict[str, object],
    lines: Mapping[KeyPath, int],
    *,
    sha256: str,
    any_budget: bool = False,
    base: Path | None = None,
) -> Site:
    """What the tables of a site file mean. `sha256` is that of its bytes, the rest as `load_site` and `parse` have it.

    Raises:
        ConfigError: with every fault of the file, of the files it names and of the profiles beside it.
    """
    faults = FaultList(str(path), lines, _names(document))
    site = _Reader(path, document, faults, any_budget=any_budget, base=base).site(sha256)
    if site is None or faults:
        raise faults.error()
    return site


def load_site_profiles(path: Path) -> Mapping[str, Profile]:
    """The profiles that meters of this site may name: the shipped ones, and over them those of the site.

    Raises:
        ConfigError: with every fault of the site's own profiles, or where the file itself cannot be read.
    """
    document, lines = parse(path, _read(path))
    faults = FaultList(str(path), lines, _names(document))
    profiles = _Reader(path, document, faults, any_budget=True).profiles()
    if profiles is None or faults:
        raise faults.error()
    return profiles


# ---------------------------------------------------------------------------------------------------- bytes and TOML


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except FileNotFoundError:
        raise ConfigError.of(path, "there is no such file", "name it with --site") from None
    except IsADirectoryError:
        raise ConfigError.of(path, "is a folder", "name the site file in it") from None
    except (OSError, ValueError) as error:
        raise ConfigError.of(path, f"cannot be read: {error}", "check who owns it") from None
    if len(data) > SIZE_MAX:
        raise ConfigError.of(path, "is larger than 4 MB, so it is no site file", "name another file")
    return data


def parse(path: Path, data: bytes) -> tuple[dict[str, object], dict[KeyPath, int]]:
    """The tables of a TOML file and the line of each key; `path` is only said.

    Raises:
        ConfigError: with one fault, where the bytes are no TOML.
    """
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError.of(path, "begins with a byte order mark", "save it as plain UTF-8", line=1)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError.of(path, "is not UTF-8 text", "save it as UTF-8", line=line) from None
    if not text.strip():
        raise ConfigError.of(
            path, "is empty", "begin with the example of the documentation, site.example.toml"
        )
    try:
        return tomllib.loads(text), locate(text)
    except RecursionError:
        raise ConfigError.of(path, "has brackets within brackets a hundred deep", "take them out") from None
    except ValueError as error:  # TOMLDecodeError, and numbers with thousands of digits
        raise _not_toml(path, text, error) from None


def _not_toml(path: Path, text: str, error: ValueError) -> ConfigError:
    """A syntax error with its place; tomllib puts line and column at the end of its message."""
    reason, _, place = str(error).partition(" (at ")
    line: int | None = None
    words = place.rstrip(")").replace(",", "").split()
    if words[:1] == ["line"]:
        line = int(words[1])
        reason = f"column {words[3]}: {reason}"
    elif place:
        line = text.count("\n") + 1
        reason = f"{reason}, and there the file ends"
    remedy = "check the quotes, brackets and commas there; text needs quotes"
    return ConfigError.of(path, f"this is not TOML: {reason}", remedy, line=line)


def _names(document: Mapping[str, object]) -> dict[KeyPath, str]:
    """The ids that a person gave to lines and meters, for the names of faults."""
    names: dict[KeyPath, str] = {}
    for key in _LISTS:
        tables = document.get(key)
        for place, table in enumerate(tables if isinstance(tables, list) else ()):
            name = table.get("id") if isinstance(table, dict) else None
            if isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable():
                names[(key, place)] = name
    return names


# ------------------------------------------------------------------------------------------------------------ meaning


L = TypeVar("L", bound=Shape)


class _Reader:
    """One walk through a document; every method adds to the same list of faults."""

    def __init__(
        self,
        path: Path,
        document: dict[str, object],
        faults: FaultList,
        *,
        any_budget: bool,
        base: Path | None = None,
    ) -> None:
        self._any_budget = any_budget
        self._path = path
        self._base = base or path.parent
        self._document = document
        self._faults = faults

    def site(self, sha256: str) -> Site | None:
        """The whole site, None where a part of it could not be made."""
        faults, base = self._faults, self._base
        self._check_table_names()
        gateway = self._table(shape.GatewayShape, "gateway")
        platform = self._table(shape.PlatformShape, "platform")
        link = read_platform(platform, base, faults)
        signing = read_signing(self._table(shape.SigningShape, "signing"), base, faults)
        journal_table = self._table(shape.JournalShape, "journal")
        journal = read_journal(journal_table, base, faults)
        interval_ms = read_interval(self._table(shape.IntervalShape, "interval"), faults)
        web_listen = read_web(self._table(shape.WebShape, "web"), faults)
        catalogue = self._catalogue()
        line_tables = self._tables(shape.LineShape, "lines")
        meter_tables = self._tables(shape.MeterShape, "meters")
        known = self._known(gateway, line_tables, catalogue)
        lines = read_lines(line_tables, base, faults)
        meters = read_meters(meter_tables, known, faults)
        if interval_ms is not None:
            mode = platform.value.acknowledgement or "platform"
            if not self._any_budget:
                check_budget(journal_table, journal, len(meter_tables), interval_ms, mode, faults)
            if not faults:
                self._check_fit(lines, meters, interval_ms)
        org, agent = gateway.value.org, gateway.value.agent
        if org is None or agent is None or link is None or signing is None:
            return None
        if interval_ms is None or catalogue is None:
            return None
        return Site(
            path=self._path,
            sha256=sha256,
            plant=Plant(org=org, agent=agent, lines=lines, meters=meters),
            platform=link,
            signing=signing,
            journal=journal,
            interval_ms=interval_ms,
            web_listen=web_listen,
            catalogue=catalogue,
        )

    def _check_fit(self, lines: tuple[Line, ...], meters: tuple[Meter, ...], interval_ms: int) -> None:
        """Refuse a line that cannot read all its meters within one interval; only asked of an otherwise right file."""
        plant = Plant(org="", agent="", lines=lines, meters=meters)
        for place, line in enumerate(forecast(plant)):
            if not line.fits(interval_ms):
                self._faults.add(
                    ("lines", place),
                    f"one reading of its {line.meters} meters takes {format_s(line.cycle_ns)} at best, longer than a "
                    f"boundary can wait for it ({format_s(patience_ms(interval_ms) * 1_000_000)} of the interval)",
                    "raise the baud rate, move meters to another line, or give a longer interval.length",
                )

    def _check_table_names(self) -> None:
        known = (*_TABLES, *_LISTS)
        for name in self._document:
            if name not in known:
                remedy = did_you_mean(name, known) or f"known are {', '.join(known)}"
                self._faults.add((name,), "there is no such table", remedy)

    def _table(self, kind: type[S], name: str) -> Table[S]:
        return read_table(kind, self._document.get(name, {}), (name,), self._faults)

    def _tables(self, kind: type[L], name: str) -> list[Table[L]]:
        """The tables of a list such as `[[meters]]`; there is at least one."""
        given = self._document.get(name, [])
        if not isinstance(given, list):
            self._faults.add(
                (name,), f"{shown(given)} is not a list of tables", f"write [[{name}]] before each of them"
            )
            return []
        if not given:
            self._faults.add((name,), "there is none", f"add one with [[{name}]]")
        return [read_table(kind, table, (name, place), self._faults) for place, table in enumerate(given)]

    def _known(
        self,
        gateway: Table[shape.GatewayShape],
        lines: list[Table[shape.LineShape]],
        catalogue: Catalogue | None,
    ) -> Known:
        return Known(
            agent=gateway.value.agent,
            lines=self._lines_by_name(lines),
            profiles=self.profiles(),
            steps=None if catalogue is None else catalogue.steps,
            materials=() if catalogue is None else catalogue.materials,
        )

    def _lines_by_name(self, lines: list[Table[shape.LineShape]]) -> dict[str, shape.LineShape]:
        """The lines by the ids in the file, also by those that are refused, so that no meter is blamed for them."""
        names = _names(self._document)
        return {names[line.path]: line.value for line in lines if line.path in names}

    def _catalogue(self) -> Catalogue | None:
        """The emission sources that the site file names, or the 58 of an electricity meter."""
        table = self._table(shape.CatalogueShape, "catalogue") if "catalogue" in self._document else None
        file: Path | None = config_path("emission_sources.csv")
        if table is not None:
            if table.value.file is None:
                return None
            file = needed_file(
                self._base, table.value.file, (*table.path, "file"), self._faults, "give its path"
            )
        try:
            return None if file is None else load_catalogue(file)
        except ConfigError as error:
            self._faults.adopt(error)
            return None

    def profiles(self) -> Mapping[str, Profile] | None:
        """The shipped profiles, and over them those of the site; None where one of the site's is faulty.

        Those of the site are all read, because a person may have just written them; the shipped ones when named.
        """
        folder = self._profile_folder()
        try:
            own = {} if folder is None else load_profiles(folder)
            return ProfileShelf(config_path("profiles"), over=own)
        except ConfigError as error:
            self._faults.adopt(error)
            return None

    def _profile_folder(self) -> Path | None:
        if "profiles" not in self._document:
            beside = self._base / "profiles"
            return beside if beside.is_dir() else None
        table = self._table(shape.ProfilesShape, "profiles")
        if table.value.directory is None:
            return None
        return needed_directory(self._base, table.value.directory, (*table.path, "directory"), self._faults)
