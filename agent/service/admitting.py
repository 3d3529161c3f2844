"""The first gates: whose register a sample is, and whether it can be one.

Comes between what a sweep read and `judging`, which holds the reading against the ledger's position.
"""

from collections.abc import Mapping

from agent.metering.decode import NoValue, decode
from agent.metering.gates import RefusedReading, admit
from agent.metering.ledger import Basis, Head, Point
from agent.metering.memory import Memory, Order
from agent.metering.plant import Meter
from agent.metering.suspicion import is_coarse
from agent.service.decisions import Cut, Refusal, Sample, Sound


class Admission:
    """Admits the samples of one cut."""

    def __init__(
        self,
        cut: Cut,
        heads: Mapping[str, Head],
        memories: Mapping[str, Memory],
        orders: Mapping[str, Order],
        *,
        clock_is_trusted: bool,
    ) -> None:
        """`heads`, `memories` and `orders` are those of the journal before the cut, by meter."""
        self._cut = cut
        self._heads = heads
        self._memories = memories
        self._orders = orders
        self._clock_is_trusted = clock_is_trusted

    def reading(self, meter: Meter, sample: Sample) -> Sound | Refusal:
        """Take a sample through the first gates: whose register it is, and whether it can be one."""
        head, memory = self._heads.get(meter.id), self._memories.get(meter.id, Memory())
        order = self._orders.get(meter.id)
        said = memory.known_serial(meter.serial)
        if order is not None and order.kind == "exchange":
            said = order.serial or sample.serial
        if said is not None and sample.serial not in (None, said):
            return Refusal(sample, "identity", f"serial number {sample.serial} instead of {said}")
        value = decode(meter.profile.energy, sample.words)
        admitted = admit(meter, value)
        if isinstance(admitted, RefusedReading):
            return Refusal(sample, "refused", admitted.reason)
        assert not isinstance(value, str | NoValue)
        serial = sample.serial or said or (head.basis.serial if head is not None else None)
        basis = Basis(meter.per_count_milliwh, meter.modulus_milliwh, serial)
        flags = self._flags_of(sample)
        if is_coarse(meter, value):
            flags |= {"quant"}
        if not meter.is_proved:
            flags |= {"suspect"}
        point = Point(meter.id, sample.at_ms, self._cut.cut_ms, admitted, basis, flags, when=sample.when)
        return Sound(sample, value, point)

    def _flags_of(self, sample: Sample) -> frozenset[str]:
        flags = set()
        if sample.retried:
            flags.add("comm")
        if self._cut.clock_steps_ms or not self._clock_is_trusted:
            flags.add("clock")
        if self._cut.coarse_ms:
            flags.add("coarse")
        return frozenset(flags)
