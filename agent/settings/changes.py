"""What another site file would change, said meter by meter; and what of it has to be tried on the bus first.

Two right sites in, a list of changes out; no sentence yet (the command `apply` has them, in two languages) and no I/O.
A meter is *renamed* where another id takes over its serial number, or its place and profile, from one that leaves. It
is to be read again where its words come another way, or mean another amount, or another number is expected of it; the
step that gets its energy changes nothing on the bus.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import ConfigError, Fault
from agent.metering.plant import Line, Meter, SerialSettings
from agent.settings.values import Site


@dataclass(frozen=True, slots=True)
class Change:
    """One change: a stable code, of what (a meter, a line, a table), and the values of its sentence."""

    code: str
    subject: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """All that changes.

    `to_read` are the meters to be read before anything is replaced. `former` gives, for each meter that is there
    before and after, the id before. `moved` are those with another place, so that their identity starts anew.
    """

    changes: tuple[Change, ...]
    to_read: tuple[Meter, ...]
    former: Mapping[str, str]
    moved: frozenset[str]
    new_link: bool


def refuse_another_agent(old: Site, new: Site) -> None:
    """Refuse what is no change of this agent's site but another agent, or another journal.

    Raises:
        ConfigError: with a fault for each. A roll back could not undo them: the journal would be another one.
    """
    remedy = "stop the agent, move or archive the journal, then start it with the new file"
    given = (
        ("gateway.org", old.plant.org, new.plant.org),
        ("gateway.agent", old.plant.agent, new.plant.agent),
        ("platform.audience", old.platform.audience, new.platform.audience),
        ("journal.path", str(old.journal.path), str(new.journal.path)),
    )
    faults = [
        Fault(str(new.path), None, key, f"is {was} and cannot become {is_now} while the agent runs", remedy)
        for key, was, is_now in given
        if was != is_now
    ]
    if faults:
        raise ConfigError(faults)


def difference(old: Site, new: Site, serials: Mapping[str, str | None] | None = None) -> Difference:
    """What changes from one site to the other.

    Args:
        old: the site as it is.
        new: as it is to be.
        serials: serial numbers of the old meters as they were read from the wire.
    """
    before = {meter.id: meter for meter in old.plant.meters}
    lines = ({line.id: line for line in old.plant.lines}, {line.id: line for line in new.plant.lines})
    former = _former(old, new, serials or {})
    changes: list[Change] = []
    to_read: list[Meter] = []
    moved: set[str] = set()
    for meter in new.plant.meters:
        was = before.get(former.get(meter.id, ""))
        if was is None:
            place = f"{meter.line}, address {meter.address}"
            steps = _steps(meter)
            changes.append(
                Change("meter-added", meter.id, {"place": place, "profile": meter.profile.id, "steps": steps})
            )
            to_read.append(meter)
            continue
        found = list(_of_meter(was, meter, lines[0][was.line], lines[1][meter.line]))
        changes += found
        codes = {change.code for change in found}
        if codes & _ON_THE_BUS:
            to_read.append(meter)
        if codes & {"meter-moved", "meter-renamed"}:
            moved.add(meter.id)
    gone = before.keys() - former.values()
    changes += [Change("meter-removed", id, {}) for id in before if id in gone]
    changes += _of_lines(*lines)
    changes += _of_tables(old, new)
    if not changes and old.sha256 != new.sha256:
        changes.append(Change("remarks", "", {}))
    return Difference(tuple(changes), tuple(to_read), former, frozenset(moved), _link(old) != _link(new))


_ON_THE_BUS = frozenset(
    {"meter-moved", "meter-profile", "meter-ratio", "meter-serial", "meter-line", "meter-renamed"}
)


def _former(old: Site, new: Site, serials: Mapping[str, str | None]) -> dict[str, str]:
    """The id before of each new meter that was there under some id."""
    before = {meter.id: meter for meter in old.plant.meters}
    former = {meter.id: meter.id for meter in new.plant.meters if meter.id in before}
    left = [meter for meter in old.plant.meters if meter.id not in former]
    for meter in new.plant.meters:
        if meter.id in former:
            continue
        for was in left:
            known = {was.serial, serials.get(was.id)} - {None}
            by_number = meter.serial in known
            by_place = _place(meter) == _place(was) and (meter.serial is None or not known)
            if by_number or by_place:
                former[meter.id] = was.id
                left.remove(was)
                break
    return former


def _place(meter: Meter) -> tuple[object, ...]:
    return meter.line, meter.address, meter.circuit, meter.profile.id


def _of_meter(was: Meter, now: Meter, old_line: Line, new_line: Line) -> list[Change]:
    found: list[Change] = []

    def add(code: str, before: object, after: object) -> None:
        found.append(Change(code, now.id, {"before": str(before), "after": str(after)}))

    if was.id != now.id:
        found.append(Change("meter-renamed", now.id, {"before": was.id, "serial": now.serial or ""}))
    if (was.line, was.address, was.circuit) != (now.line, now.address, now.circuit):
        add("meter-moved", _where(was), _where(now))
    elif _settings(was, old_line) != _settings(now, new_line) or path_of(old_line) != path_of(new_line):
        add("meter-line", _spoken(was, old_line), _spoken(now, new_line))
    if was.profile.id != now.profile.id or was.profile.hash != now.profile.hash:
        add("meter-profile", was.profile.id, now.profile.id)
    elif was.per_count_milliwh != now.per_count_milliwh or _ratio(was) != _ratio(now):
        add("meter-ratio", _ratio(was), _ratio(now))
    if was.serial != now.serial:
        add("meter-serial", was.serial or "-", now.serial or "-")
    if _steps(was) != _steps(now):
        add("meter-steps", _steps(was), _steps(now))
    others = [name for name in _OTHERS if getattr(was, name) != getattr(now, name)]
    if others:
        names = ", ".join(_KEYS.get(name, name) for name in others)
        found.append(Change("meter-other", now.id, {"keys": names}))
    return found


_OTHERS = (
    "rated_w",
    "parent",
    "production_line",
    "powered_by_circuit",
    "accuracy_class",
    "ct_class",
    "display_checked",
)
_KEYS = {"rated_w": "rated_kw", "powered_by_circuit": "powered_by"}


def _where(meter: Meter) -> str:
    circuit = "" if meter.circuit is None else f", circuit {meter.circuit}"
    return f"{meter.line}, address {meter.address}{circuit}"


def _ratio(meter: Meter) -> str:
    return f"CT {meter.ct_ratio}, PT {meter.pt_ratio}"


def _steps(meter: Meter) -> str:
    shares = [f"{share.step} {share.part}" if share.part != 1 else share.step for share in meter.shares]
    return ", ".join(shares) or meter.role.value


def _settings(meter: Meter, line: Line) -> SerialSettings:
    return meter.serial_settings or line.serial


def _spoken(meter: Meter, line: Line) -> str:
    settings = _settings(meter, line)
    return f"{path_of(line)} at {settings.baud} baud, parity {settings.parity}, {settings.stop_bits} stop"


def path_of(line: Line) -> str:
    """Device or host of a line; a link to a device is followed, so that one adapter has one name."""
    if line.device is not None:
        return str(Path(line.device).resolve())
    return f"{line.host}:{line.port}"


def _of_lines(before: Mapping[str, Line], after: Mapping[str, Line]) -> list[Change]:
    found = [
        Change("line-added", id, {"place": path_of(line)}) for id, line in after.items() if id not in before
    ]
    found += [Change("line-removed", id, {}) for id in before if id not in after]
    for id, line in after.items():
        was = before.get(id)
        if was is None or was == line:
            continue
        keys = [
            name for name in ("transport", "device", "host", "port", "poll_ms") if _differs(was, line, name)
        ]
        keys = [name.removesuffix("_ms") for name in keys]
        keys += [name for name in ("baud", "parity", "stop_bits") if _differs(was.serial, line.serial, name)]
        found.append(Change("line-changed", id, {"keys": ", ".join(keys)}))
    return found


def _differs(one: object, other: object, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


def _of_tables(old: Site, new: Site) -> list[Change]:
    found = []
    if old.interval_ms != new.interval_ms:
        lengths = {"before": f"{old.interval_ms // 1000} s", "after": f"{new.interval_ms // 1000} s"}
        found.append(Change("interval", "interval", lengths))
    for code, is_other in (
        ("platform", old.platform != new.platform),
        ("signing", old.signing != new.signing),
        ("journal", old.journal != new.journal),
        ("web", old.web_listen != new.web_listen),
        ("catalogue", old.catalogue != new.catalogue),
    ):
        if is_other:
            found.append(Change(code, code, {}))
    return found


def _link(site: Site) -> object:
    """All on which it depends whether the broker is reached."""
    return replace(site.platform, acknowledgement="", acknowledgement_keys=())
