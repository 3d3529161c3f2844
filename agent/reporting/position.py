"""Where a chain and its meters stood at the end of a file of evidence.

An export says by registers what a platform has booked of it. Where no platform can answer, a person restores a gateway
from that (`metering-agent restore`). Comes after `verify`, which has to have found the same lines sound: nothing is
checked again here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.reporting.acknowledgement import MeterHead
from agent.reporting.batch import CLOCK, UNKNOWN, Batch, Delta
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import Assembly, Descriptor, MeterDescription
from agent.reporting.envelope import (
    BATCH,
    DESCRIPTOR,
    SIZE_MAX,
    base64url_decode,
    signing_input_hash,
    typ_of,
)
from agent.reporting.event import Event
from agent.reporting.strictjson import loads
from agent.reporting.utc import ms_of_text


@dataclass(slots=True)
class Positions:
    """The last batch, where every meter stood behind it, the newest descriptor's revision, and when it was sealed."""

    head: ChainHead | None = None
    heads: dict[str, MeterHead] = field(default_factory=dict)
    rev: int | None = None
    sealed_ms: int = 0
    org: str = ""
    agent: str = ""
    _maps: dict[str, dict[str, MeterDescription]] = field(default_factory=dict)
    _assembly: Assembly = field(default_factory=Assembly)

    def take(self, jws: bytes) -> None:
        """Read one verified message; what is neither batch nor descriptor says nothing."""
        typ = typ_of(jws)
        if typ == DESCRIPTOR:
            self._descriptor(jws)
        elif typ == BATCH:
            self._batch(Batch.from_payload(_payload(jws, BATCH)), signing_input_hash(jws))

    def _descriptor(self, jws: bytes) -> None:
        descriptor = Descriptor.from_payload(_payload(jws, DESCRIPTOR))
        self._maps[signing_input_hash(jws)] = descriptor.by_meter()
        self.rev = max(self.rev or 0, descriptor.rev)

    def _batch(self, batch: Batch, hash_: str) -> None:
        for event in batch.events:
            if event.type == "descriptor" and (jws := self._assembly.add(event)) is not None:
                self._descriptor(jws)
        meters = self._maps.get(batch.cfg, {})
        for item in batch.in_effect_order():
            if isinstance(item, Delta):
                if item.meter in meters:
                    place = (item.epoch, item.n, item.reg_end, item.end_ms)
                    self._stand(meters[item.meter], place, item.q)
            elif item.type == "epoch" and item.text("meter") in meters:
                q = (CLOCK,) if batch.clock.sync == UNKNOWN else ()
                self._open(meters[item.text("meter")], item, q)
        self.head = ChainHead(batch.chain, batch.seq, hash_)
        self.org, self.agent, self.sealed_ms = batch.org, batch.agent, batch.iat_ms

    def _open(self, meter: MeterDescription, event: Event, q: tuple[str, ...]) -> None:
        place = (event.integer("epoch_to"), 0, event.integer("first"), ms_of_text(event.text("unmetered_to")))
        serial = event.body["serial_to"]
        self._stand(meter, place, q, serial if isinstance(serial, str) else None)

    def _stand(
        self,
        meter: MeterDescription,
        place: tuple[int, int, int, int],
        q: tuple[str, ...],
        serial: str | None = None,
    ) -> None:
        self.heads[meter.meter] = MeterHead(
            *place, meter.num, meter.den, meter.modulus, meter.serial or serial, q
        )


def positions_of(lines: Iterable[bytes]) -> Positions:
    """Where chain and meters stand behind these verified messages, one a line."""
    found = Positions()
    for line in lines:
        if jws := line.strip():
            found.take(jws)
    return found


def _payload(jws: bytes, typ: str) -> dict[str, object]:
    return loads(base64url_decode(jws.split(b".")[1].decode("ascii")), size_max=SIZE_MAX[typ])
