"""Whether the files with keys and certificates hold what they should; `check` asks before `run` would find out.

In TLS 1.3 a refused client certificate shows only as a connection that breaks off, so what can be known beforehand is
said beforehand: dates, and whether certificate and key belong together.
"""

import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from agent.adapters.keys import certificate_dates, load_public_key, load_signer
from agent.errors import ConfigError, Fault
from agent.settings.site import Site


def check_keys(site: Site) -> None:
    """Open every key and certificate of a site.

    A signing key that is a systemd credential is not looked at: only the service is given it.

    Raises:
        ConfigError: with the fault of every file.
    """
    faults: list[Fault] = []
    if site.signing.key_file is not None:
        _try(load_signer, site.signing.key_file, faults)
    _check_next(site, faults)
    for file in site.platform.acknowledgement_keys:
        _try(load_public_key, file, faults)
    for certificate in (site.platform.ca_file, site.platform.client_certificate):
        if certificate is not None:
            _try(_check_dates, certificate, faults)
    if not faults:
        _check_pair(site.platform.client_certificate, site.platform.client_key, faults)
    if faults:
        raise ConfigError(faults)


def _check_next(site: Site, faults: list[Fault]) -> None:
    """The key that is to take over has to be one, and another one."""
    following, present = site.signing.next_key_file, site.signing.key_file
    if following is None:
        return
    _try(load_signer, following, faults)
    if not faults and present is not None and load_signer(following).kid == load_signer(present).kid:
        remedy = "make another one with `metering-agent keygen --out FILE`, or leave next_key_file out"
        faults.append(Fault(str(following), None, "", "holds the same key as key_file", remedy))


def _try(check: Callable[[Path], object], file: Path, faults: list[Fault]) -> None:
    try:
        check(file)
    except ConfigError as error:
        faults.extend(error.faults)


def _check_dates(file: Path) -> None:
    dates, now_ms = certificate_dates(file), time.time_ns() // 1_000_000
    if now_ms > dates.not_after_ms:
        reason = f"the certificate expired on {_day(dates.not_after_ms)}"
        raise ConfigError.of(file, reason, "ask for a new one, or set the clock of this machine")
    if now_ms < dates.not_before_ms:
        reason = f"the certificate is not valid before {_day(dates.not_before_ms)}"
        raise ConfigError.of(file, reason, "set the clock of this machine")


def _check_pair(certificate: Path | None, key: Path | None, faults: list[Fault]) -> None:
    if certificate is None or key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError):
        reason = f"does not belong to {certificate}, or is no unencrypted private key in PEM"
        faults.append(
            Fault(str(key), None, "", reason, "use the key with which the certificate was requested")
        )


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1_000, UTC).date().isoformat()
