"""What an agent can say of itself beyond its stages: who it is, and what it finds around it.

`About` never changes while the agent runs. `Surroundings` are looked up when somebody asks (files, disk, certificates)
by `agent.adapters.surroundings`. Both are values; `overview` puts them beside what the stages know.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class About:
    """Who this agent is, from its site file, and since when it runs (UTC Unix ms, and monotonic).

    `mode` is `platform` or `broker`: who acknowledges. `kid` is the thumbprint of the key that the site file names,
    `next_kid` that of its `next_key_file`, None without; which of them signs the journal knows. Paths are text, as
    they are shown. `by_stick` says that there is no broker. `web_listen` is where metrics and health are served, None
    if nowhere.
    """

    org: str
    agent: str
    audience: str
    sw: str
    broker_url: str
    mode: str
    site_path: str
    site_sha256: str
    journal_path: str
    budget_bytes: int
    interval_ms: int
    web_listen: str | None
    kid: str
    alg: str
    started_ms: int
    started_ns: int
    next_kid: str | None = None
    by_stick: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of the connection to the broker; `problem` says why its dates are not known, None if they are."""

    role: str
    path: str
    not_before_ms: int | None
    not_after_ms: int | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Size of the journal with its write-ahead log, free bytes of its file system (None if unknown), certificates.

    `web_problem` says why metrics and health cannot be served; None if they are, or nobody asked for them.
    """

    journal_bytes: int
    free_bytes: int | None
    certificates: tuple[Certificate, ...] = ()
    web_problem: str | None = None
