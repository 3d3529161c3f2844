"""What a report of a period is to be of: the period, the rules, the factors, and how far the store may be read."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.carbon.electricity import Series
from agent.carbon.factors import Factor
from agent.carbon.template import Locked, Template
from agent.errors import ConfigError, Fault
from agent.reporting.chain import ChainHead
from simulators.footprint.activity import Folder
from simulators.platform.maps import Correction


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is to be of. The period is [from_ms, to_ms), UTC Unix ms, both on the grid of quarters."""

    org: str
    from_ms: int
    to_ms: int
    template: Template
    factors: Mapping[str, Factor]
    factor_set: Locked
    corrections: tuple[Correction, ...] = ()
    series: Series | None = None
    series_sha256: str | None = None
    folder: Folder | None = None
    up_to: Mapping[str, ChainHead] | None = None


def fault(key: str, reason: str, remedy: str = "") -> ConfigError:
    """What is wrong with the question, as an error to raise."""
    return ConfigError([Fault("report", None, key, reason, remedy)])
