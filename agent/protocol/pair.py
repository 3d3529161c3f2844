"""One RS485 pair with meters of both languages: Modbus RTU and DL/T 645 side by side.

Each language keeps its own state machine (`rtu.RtuMaster`, `dlt_master.DltMaster`), because what an answer is and what
a late one could be taken for differs; what is the same for both, one speed, one silence and whose turn it is, is one
`silence.Silence` that they share. Bytes reach both, so that each hears what it is owed. A line that is only asked in
Modbus never makes the second machine.
"""

from agent.metering.plant import SerialSettings
from agent.protocol.dlt645 import DltRequest
from agent.protocol.dlt_master import DltMaster
from agent.protocol.events import Event
from agent.protocol.pdu import ReadRequest
from agent.protocol.rtu import LATE_FACTOR, RtuMaster
from agent.protocol.silence import Silence

Request = ReadRequest | DltRequest
"""What a line can be asked."""


class PairMaster:
    """The machine of one pair; used like `RtuMaster`, with requests of either language."""

    def __init__(self, settings: SerialSettings, *, late_factor: int = LATE_FACTOR) -> None:
        self._late_factor = late_factor
        self._silence = Silence(settings)
        self._rtu = RtuMaster(self._silence, late_factor=late_factor)
        self._dlt: DltMaster | None = None
        self._speaking: RtuMaster | DltMaster = self._rtu

    @property
    def settings(self) -> SerialSettings:
        """Speed and framing the port is tuned to."""
        return self._silence.settings

    def connected(self, now_ns: int, settings: SerialSettings, *, listen_ns: int = 0) -> None:
        """The port was opened with these settings: listen so long before the first request."""
        self._silence.connected(now_ns, settings, listen_ns=listen_ns)
        for machine in self._machines():
            machine.connected()

    def begin(
        self,
        now_ns: int,
        request: Request,
        *,
        timeout_ns: int,
        quiet_ns: int = 0,
        settings: SerialSettings | None = None,
    ) -> list[Event]:
        """Make a request as soon as the line allows it; see `RtuMaster.begin`."""
        if isinstance(request, DltRequest):
            self._dlt = self._dlt or DltMaster(self._silence, late_factor=self._late_factor)
            self._hand_over(self._dlt)
            return self._dlt.begin(
                now_ns, request, timeout_ns=timeout_ns, quiet_ns=quiet_ns, settings=settings
            )
        self._hand_over(self._rtu)
        return self._rtu.begin(now_ns, request, timeout_ns=timeout_ns, quiet_ns=quiet_ns, settings=settings)

    def receive(self, now_ns: int, data: bytes) -> list[Event]:
        """Take bytes that have just arrived, also while nothing is outstanding."""
        for machine in self._machines():
            if machine is not self._speaking:
                machine.receive(now_ns, data)
        return self._speaking.receive(now_ns, data)

    def tick(self, now_ns: int) -> list[Event]:
        """The time of the last WaitUntil has come."""
        return self._speaking.tick(now_ns)

    def abandon(self) -> None:
        """The caller went away or the port is gone."""
        self._speaking.abandon()

    def strays(self) -> list[int | str]:
        """Who was heard without being asked since this was last called: Modbus units and DL/T 645 addresses."""
        return [*self._rtu.strays(), *(self._dlt.strays() if self._dlt is not None else ())]

    def garbage(self) -> int:
        """How many bytes came since this was last called that are part of no sound frame."""
        return self._speaking.garbage()

    def foreign(self) -> int:
        """How many Modbus requests of somebody else were heard since this was last called."""
        return self._rtu.foreign()

    def echoes(self) -> int:
        """How many of our own Modbus requests came back since this was last called."""
        return self._rtu.echoes()

    def floods(self) -> int:
        """How many requests were given up since this was last called because the line was never silent."""
        found, self._silence.floods = self._silence.floods, 0
        return found

    def _hand_over(self, machine: RtuMaster | DltMaster) -> None:
        if machine is not self._speaking:
            if self._speaking.is_busy:
                raise RuntimeError("one request at a time: the line is still waiting for an answer")
            self._speaking = machine

    def _machines(self) -> tuple[RtuMaster | DltMaster, ...]:
        return (self._rtu,) if self._dlt is None else (self._rtu, self._dlt)
