"""An auditor's desk: an export read with the keys of these tests, and what its verdicts say."""

from collections.abc import Iterable

from agent.reporting import envelope
from agent.reporting.batch import Batch
from agent.reporting.verdict import Report
from agent.reporting.verify import Verifier
from tests.reporting.gateway import (
    Gateway,
)
from tests.reporting.keys import Key, Ring, ring_of_jwk

KEY, PLATFORM, NEW_KEY, STRANGER = Key(1), Key(2), Key(3), Key(4)


def verified(lines: Iterable[bytes], **options: object) -> Report:
    """Read an export with the keys of these tests."""
    options = {"keys": Ring(KEY), "ack_keys": Ring(PLATFORM), "admit": ring_of_jwk, **options}
    verifier = Verifier(**options)  # type: ignore[arg-type]
    for number, line in enumerate(lines, 1):
        verifier.feed(number, line + b"\n")
    return verifier.report()


def failed(report: Report) -> set[str]:
    """The verdicts that do not hold, quality left out."""
    return {name for name, verdict in report.verdicts.items() if not verdict.ok} - {"quality"}


def texts(report: Report, name: str) -> str:
    """What a verdict says, as one text."""
    return "\n".join(map(str, report.verdicts[name].findings))


def minutes(gateway: Gateway, count: int, rise: int = 1_000) -> Gateway:
    """Let the gateway seal some ordinary minutes."""
    for _ in range(count):
        gateway.minute({meter.meter: rise for meter in gateway.meters})
    return gateway


def opened(gateway: Gateway) -> list[Batch]:
    """The batches of an export, to be edited."""
    ring = Ring(gateway.key)
    return [
        Batch.from_payload(envelope.open_sealed(jws, envelope.BATCH, ring).payload) for jws in gateway.jws
    ]
