"""Where each message goes: `kwh/v1/{org}/{agent}/up/...` and `.../down/...`.

Two levels per direction make two access-control lines per gateway: it publishes `up/#` and subscribes `down/#`. There
is no command topic (wire format, section 4; promise I12). The root is configuration, so that a grid company's own tree
fits without touching a payload.
"""

from agent.reporting.wire import ID

ROOT = "kwh/v1"

_DIRECTIONS = {"batch": "up", "desc": "up", "status": "up", "enrol": "up", "ack": "down"}
KINDS = frozenset(_DIRECTIONS)
"""The last level of a topic."""

INGEST_FILTERS = (
    f"$share/ingest/{ROOT}/+/+/up/batch",
    # Not shared: a broker sends no retained message to a new shared subscription, and these two are retained.
    f"{ROOT}/+/+/up/desc",
    f"{ROOT}/+/+/up/status",
    f"{ROOT}/+/+/up/enrol",
)
"""What a platform subscribes to; batches are shared among its consumers and staged by `seq`."""


def batch(org: str, agent: str, root: str = ROOT) -> str:
    """QoS 1, not retained."""
    return _topic(root, org, agent, "batch")


def descriptor(org: str, agent: str, root: str = ROOT) -> str:
    """QoS 1, retained."""
    return _topic(root, org, agent, "desc")


def status(org: str, agent: str, root: str = ROOT) -> str:
    """QoS 1, retained, and the will."""
    return _topic(root, org, agent, "status")


def enrolment(org: str, agent: str, root: str = ROOT) -> str:
    """QoS 1, not retained."""
    return _topic(root, org, agent, "enrol")


def acknowledgement(org: str, agent: str, root: str = ROOT) -> str:
    """QoS 1, retained, from the platform."""
    return _topic(root, org, agent, "ack")


def parse(topic: str, root: str = ROOT) -> tuple[str, str, str]:
    """Read a topic back as (org, agent, kind), kind one of KINDS. Raises ValueError for any other topic."""
    prefix, levels = f"{root}/", topic.removeprefix(f"{root}/").split("/")
    if topic.startswith(prefix) and len(levels) == 4 and _DIRECTIONS.get(levels[3]) == levels[2]:
        org, agent = _checked(levels[0]), _checked(levels[1])
        return org, agent, levels[3]
    raise ValueError(f"{topic[:120]!r} is no topic of ours below {root}")


def _topic(root: str, org: str, agent: str, kind: str) -> str:
    return f"{root}/{_checked(org)}/{_checked(agent)}/{_DIRECTIONS[kind]}/{kind}"


def _checked(id_: str) -> str:
    """An id can hold no slash and no wildcard, so that nobody reaches another gateway's levels by his name."""
    if ID.fullmatch(id_) is None:
        raise ValueError(f"{id_[:60]!r} is not an id of 1 to 32 characters A-Z a-z 0-9 . _ -")
    return id_
