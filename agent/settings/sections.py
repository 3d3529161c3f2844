"""The tables that there is one of: platform, signing, journal, interval, web.

Each function is given a table whose values have the right types, adds what is wrong with their meaning to the list of
faults and returns the frozen value, or None where a fault was found here or before.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent.settings import grammar
from agent.settings.budget import days_to_keep, needed_mb
from agent.settings.faultlist import FaultList, KeyPath
from agent.settings.files import needed_directory, needed_file, password_file, secret_file
from agent.settings.shape import (
    IntervalShape,
    JournalShape,
    PlatformShape,
    SigningShape,
    Table,
    WebShape,
)
from agent.settings.values import Account, JournalSettings, PlatformLink, Signing

T = TypeVar("T")

LookAt = Callable[[Path, str, KeyPath, FaultList, str], Path | None]
"""How a file is looked at; one of the functions of `files`."""

_OF_A_BROKER = frozenset(
    (
        *("ca_file", "client_certificate", "client_key", "username", "password_file", "password_credential"),
        *("proxy", "proxy_username", "proxy_password_file", "proxy_password_credential"),
    )
)
"""Keys that say how to come to a broker and in."""

DEFAULT_INTERVAL = "1min"
DEFAULT_BUDGET_MB = 1_024
DEFAULT_KEEP_DAYS = 90
DEFAULT_TOPIC_ROOT = "kwh/v1"


def parsed(
    parse: Callable[[str], T], text: str | None, path: KeyPath, faults: FaultList, remedy: str = ""
) -> T | None:
    """What a text means; reports and returns None where it means nothing, None also where there is no text."""
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        faults.add(path, str(error), remedy)
        return None


def read_platform(table: Table[PlatformShape], base: Path, faults: FaultList) -> PlatformLink | None:
    """`[platform]`: the broker, how to prove who we are to it, and the keys of those who acknowledge."""
    shape = table.value
    broker = _broker(table, faults)
    ca_file = _file(
        table, "ca_file", base, faults, needed_file, "ask the platform's operator for its CA certificate"
    )
    certificate = _file(
        table, "client_certificate", base, faults, needed_file, "ask the platform's operator to issue it"
    )
    key = _file(table, "client_key", base, faults, secret_file, "it was made together with the certificate")
    account = _account(table, "", base, faults)
    proxy_account = _account(table, "proxy_", base, faults)
    _pairs(table, faults)
    keys = _acknowledgement_keys(table, base, faults)
    root = parsed(
        grammar.topic_root, shape.topic_root, (*table.path, "topic_root"), faults, "the default is kwh/v1"
    )
    if broker is None or shape.audience is None or shape.broker is None:
        return None
    return PlatformLink(
        audience=shape.audience,
        broker_url=shape.broker,
        broker=broker,
        proxy=_proxy(table, broker, faults),
        ca_file=ca_file,
        client_certificate=certificate,
        client_key=key,
        account=account,
        proxy_account=proxy_account,
        acknowledgement=shape.acknowledgement or "platform",
        acknowledgement_keys=keys,
        topic_root=root or DEFAULT_TOPIC_ROOT,
    )


def _broker(table: Table[PlatformShape], faults: FaultList) -> grammar.BrokerAddress | None:
    path = (*table.path, "broker")
    remedy = "write the user name as platform.username and the password into a platform.password_file"
    has_account = "@" in (table.value.broker or "")
    broker = parsed(grammar.broker_address, table.value.broker, path, faults, remedy if has_account else "")
    if broker is None:
        return None
    if broker.is_none:
        _check_no_broker(table, faults)
        return broker
    if not broker.tls and not grammar.is_loopback(broker.host):
        plain = "ws" if broker.websocket else "mqtt"
        reason = f"{plain}:// to {broker.host} would send everything in clear text over the network"
        faults.add(path, reason, f"use {plain}s://; {plain}:// is for a broker on this machine only")
    if broker.tls and "ca_file" not in table.given:
        faults.add(
            (*table.path, "ca_file"),
            f"is missing, but {'wss' if broker.websocket else 'mqtts'}:// needs it",
            'add ca_file = "ca.pem"',
        )
    return broker


def _check_no_broker(table: Table[PlatformShape], faults: FaultList) -> None:
    """By stick there is nobody to connect to, and only the platform's signature can release anything."""
    for key in sorted(table.given & _OF_A_BROKER):
        faults.add((*table.path, key), 'is of no use with broker = "none"', "leave it out")
    if table.value.acknowledgement == "broker":
        path = (*table.path, "acknowledgement")
        faults.add(path, "names a broker, and there is none", 'leave it out: the default is "platform"')


def _proxy(table: Table[PlatformShape], broker: grammar.BrokerAddress, faults: FaultList) -> str | None:
    if broker.is_none:  # said by _check_no_broker
        return None
    path = (*table.path, "proxy")
    remedy = "write http://HOST:PORT, and a user name as platform.proxy_username"
    proxy = parsed(grammar.proxy_address, table.value.proxy, path, faults, remedy)
    if proxy is not None and not broker.tls:
        faults.add(path, "is of no use for a broker on this machine", "leave it out")
    return proxy


def _account(table: Table[PlatformShape], prefix: str, base: Path, faults: FaultList) -> Account | None:
    """The account at the broker, or with the prefix `proxy_` the one at the proxy."""
    key = f"{prefix}password_file"
    remedy = "write the password into it, nothing else"
    file = _file(table, key, base, faults, password_file, remedy)
    credential = f"{prefix}password_credential"
    if {key, credential} <= table.given:
        faults.add((*table.path, credential), f"is given together with {key}", "leave one of them out")
    username = getattr(table.value, f"{prefix}username")
    if username is None:
        return None
    return Account(username, file, getattr(table.value, credential))


def _file(
    table: Table[PlatformShape], key: str, base: Path, faults: FaultList, look: LookAt, remedy: str
) -> Path | None:
    name = getattr(table.value, key)
    return None if name is None else look(base, name, (*table.path, key), faults, remedy)


def _pairs(table: Table[PlatformShape], faults: FaultList) -> None:
    """Keys that are of no use one without the other."""
    for key, other in (
        ("client_certificate", "client_key"),
        ("client_key", "client_certificate"),
        ("password_file", "username"),
        ("password_credential", "username"),
        ("proxy_username", "proxy"),
        ("proxy_password_file", "proxy_username"),
        ("proxy_password_credential", "proxy_username"),
    ):
        if key in table.given and other not in table.given:
            faults.add((*table.path, key), f"is of no use without {other}", f"add {other} or leave out {key}")


def _acknowledgement_keys(table: Table[PlatformShape], base: Path, faults: FaultList) -> tuple[Path, ...]:
    path = (*table.path, "acknowledgement_keys")
    broker_mode = table.value.acknowledgement == "broker"
    wrong_mode = "acknowledgement" in table.given and table.value.acknowledgement is None
    if "acknowledgement_keys" not in table.given and not broker_mode and not wrong_mode:
        remedy = 'add acknowledgement_keys = ["platform.pem"] with the public key of the platform'
        faults.add(path, "is missing, so that no acknowledgement could be believed", remedy)
    remedy = "ask the platform's operator for its public acknowledgement key"
    files = (
        needed_file(base, name, (*path, place), faults, remedy)
        for place, name in enumerate(table.value.acknowledgement_keys or ())
    )
    return tuple(file for file in files if file is not None)


def read_signing(table: Table[SigningShape], base: Path, faults: FaultList) -> Signing | None:
    """`[signing]`: exactly one place of the key."""
    shape = table.value
    choices = table.given & {"key_file", "credential"}
    if not choices:
        faults.add(
            table.path, "names no key", 'add key_file = "signing-key.pem" (or credential = "signing-key")'
        )
    if len(choices) == 2:
        faults.add((*table.path, "credential"), "is given together with key_file", "leave one of them out")
    key_file = None
    if shape.key_file is not None:
        remedy = f"run: metering-agent keygen --out {base / shape.key_file}"
        key_file = secret_file(base, shape.key_file, (*table.path, "key_file"), faults, remedy)
    next_key_file = None
    if shape.next_key_file is not None:
        remedy = f"run: metering-agent keygen --out {base / shape.next_key_file}, or leave the key out"
        path = (*table.path, "next_key_file")
        next_key_file = secret_file(base, shape.next_key_file, path, faults, remedy)
        if next_key_file is not None and key_file is not None and next_key_file.samefile(key_file):
            faults.add(path, "is the same file as key_file", "leave it out, or name the key that follows")
    path = (*table.path, "next_credential")
    if {"next_key_file", "next_credential"} <= table.given:
        faults.add(path, "is given together with next_key_file", "leave one of them out")
    if shape.next_credential is not None and shape.next_credential == shape.credential:
        faults.add(path, "is the same as credential", "leave it out, or name the credential that follows")
    if key_file is None and shape.credential is None:
        return None
    return Signing(
        key_file=key_file,
        credential=shape.credential,
        next_key_file=next_key_file,
        next_credential=shape.next_credential,
    )


def read_journal(table: Table[JournalShape], base: Path, faults: FaultList) -> JournalSettings:
    """`[journal]`: the file need not exist, its folder must."""
    shape = table.value
    file = base / (shape.path or "journal.db")
    path = (*table.path, "path")
    needed_directory(base, str(file.parent), path, faults)
    if file.is_dir():
        faults.add(path, f"{file} is a folder", "name a file")
    return JournalSettings(
        path=file,
        budget_mb=shape.budget_mb or DEFAULT_BUDGET_MB,
        keep_acknowledged_days=shape.keep_acknowledged_days or DEFAULT_KEEP_DAYS,
    )


def read_interval(table: Table[IntervalShape], faults: FaultList) -> int | None:
    """`[interval]`: the length in ms."""
    if "length" in table.given and table.value.length is None:  # reported with its shape
        return None
    remedy = "take one such as 1s, 10s, 1min, 5min, 15min or 1h"
    text = table.value.length or DEFAULT_INTERVAL
    return parsed(grammar.interval_ms, text, (*table.path, "length"), faults, remedy)


def read_web(table: Table[WebShape], faults: FaultList) -> str | None:
    """`[web]`: where metrics and status are served, None where they are not."""
    listen = table.value.listen
    address = parsed(grammar.web_address, listen, (*table.path, "listen"), faults)
    return None if address is None else listen


def check_budget(
    table: Table[JournalShape],
    journal: JournalSettings,
    meters: int,
    interval_ms: int,
    acknowledgement: str,
    faults: FaultList,
) -> None:
    """Refuse a budget that cannot hold twice the days that must be kept."""
    if "budget_mb" in table.given and table.value.budget_mb is None:
        return
    needed = needed_mb(meters, interval_ms, acknowledgement)
    if journal.budget_mb < needed:
        days = 2 * days_to_keep(acknowledgement)
        faults.add(
            (*table.path, "budget_mb"),
            f"{journal.budget_mb} MB do not hold {days} days of {meters} meters at this interval length",
            f"give {needed} or more, or a longer interval.length",
        )
