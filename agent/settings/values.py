"""What a site file means, as frozen values; `site.load_site` makes them, wiring and the command line read them."""

from dataclasses import dataclass
from pathlib import Path

from agent.metering.plant import Plant
from agent.settings.catalogue import Catalogue
from agent.settings.grammar import BrokerAddress


@dataclass(frozen=True, slots=True)
class Account:
    """A user name, and where its password is: a file or a systemd credential. Not both are set, perhaps neither."""

    username: str
    password_file: Path | None = None
    password_credential: str | None = None


@dataclass(frozen=True, slots=True)
class PlatformLink:
    """To whom we report, over which broker, and whose acknowledgement lets us forget.

    `broker` is `broker_url` taken apart, `proxy` the address of an HTTP proxy to go through. `account` is the one at
    the broker, `proxy_account` the one at the proxy, None where there is none. `acknowledgement` is `platform` or
    `broker`; `acknowledgement_keys` are PEM files with the public keys of the platform, never empty in platform mode.
    """

    audience: str
    broker_url: str
    broker: BrokerAddress
    proxy: str | None
    ca_file: Path | None
    client_certificate: Path | None
    client_key: Path | None
    account: Account | None
    proxy_account: Account | None
    acknowledgement: str
    acknowledgement_keys: tuple[Path, ...]
    topic_root: str


@dataclass(frozen=True, slots=True)
class Signing:
    """Where the signing key is: a file, or a credential that systemd hands to the service. Exactly one is set.

    `next_key_file` or `next_credential` is the key that is to take over from it, both None where none is.
    """

    key_file: Path | None
    credential: str | None
    next_key_file: Path | None = None
    next_credential: str | None = None


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """The SQLite file, how large it may grow (megabytes of 10**6 bytes), and for how long receipts stay readable."""

    path: Path
    budget_mb: int
    keep_acknowledged_days: int


@dataclass(frozen=True, slots=True)
class Site:
    """One site file that was found to be right in every respect.

    `interval_ms` divides a day. `sha256` is the hex SHA-256 of the file's bytes: another hash is another site.
    """

    path: Path
    sha256: str
    plant: Plant
    platform: PlatformLink
    signing: Signing
    journal: JournalSettings
    interval_ms: int
    web_listen: str | None
    catalogue: Catalogue

    @property
    def control_socket(self) -> Path:
        """The Unix socket on which the running agent answers the command line; lies beside the journal."""
        return control_socket_of(self.journal.path)


def control_socket_of(journal: Path) -> Path:
    """The control socket of the agent that keeps this journal."""
    return journal.with_name(f"{journal.name}.control")
