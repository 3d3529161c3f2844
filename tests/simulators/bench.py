"""A platform on the table: its clock in our hand, its answers opened and kept."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.adapters.keys import PublicKeys
from agent.reporting.acknowledgement import Acknowledgement
from agent.reporting.envelope import ACKNOWLEDGEMENT, open_sealed
from simulators.platform import Outgoing, Platform, Store, queries
from tests.simulators.chains import AUDIENCE, START_MS, Gateway, Sealed, signer

PLATFORM_KEY = signer(99)


@dataclass
class HandClock:
    """Stands still until it is moved."""

    now_ms: int = START_MS

    def wall_ms(self) -> int:
        """The hand's position."""
        return self.now_ms


@dataclass
class Bench:
    """A platform that trusts the given gateways. `answers` are all acknowledgements so far."""

    gateways: tuple[Gateway, ...]
    path: Path | str = ":memory:"
    clock: HandClock = field(default_factory=HandClock)
    options: dict[str, Any] = field(default_factory=dict)
    answers: list[Acknowledgement] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store.create(self.path)
        self.start()

    def start(self) -> None:
        """A platform over the store as it stands; what was in memory only is gone."""
        keys = {gateway.name: [gateway.key.public_key] for gateway in self.gateways}
        self.platform = Platform(
            self.store, audience=AUDIENCE, signer=PLATFORM_KEY, keys=keys, clock=self.clock, **self.options
        )

    def crash(self) -> None:
        """The process is killed and starts again on the same file."""
        if str(self.path) != ":memory:":
            self.store.close()
            self.store = Store.create(self.path)
        self.start()

    def send(self, *messages: Sealed) -> list[Acknowledgement]:
        """Hand messages over one by one; returns what was answered to them at once."""
        return self._opened(out for each in messages for out in self.platform.receive(each.topic, each.jws))

    def wait(self, ms: int = 2_000) -> list[Acknowledgement]:
        """Let time pass; returns what was answered."""
        self.clock.now_ms += ms
        return self._opened(self.platform.tick(self.clock.now_ms))

    def ask(self, gateway: Gateway) -> Acknowledgement:
        """The gateway asks for heads."""
        (answer,) = self.send(gateway.status(need_heads=True))
        return answer

    def _opened(self, outgoing: Iterable[Outgoing]) -> list[Acknowledgement]:
        ring = PublicKeys([PLATFORM_KEY.public_key])
        made = []
        for each in outgoing:
            assert each.retain
            made.append(
                Acknowledgement.from_payload(open_sealed(each.payload, ACKNOWLEDGEMENT, ring).payload)
            )
        orders = [answer.order for answer in (*self.answers[-1:], *made)]
        assert orders == sorted(set(orders)), "acknowledgements must rise"
        self.answers += made
        return made

    # -------------------------------------------------------------------------------------------- questions

    def energy(self, gateway: Gateway) -> dict[str, int]:
        """Booked energy by meter, after the books were checked."""
        assert queries.broken_books(self.store) == []
        total = queries.totals(self.store)["/".join(gateway.name)]
        return {meter: each.energy_milliwh for meter, each in total.meters.items()}

    def alarms(self) -> dict[str, int]:
        """How many alarms of each kind there are."""
        kinds = [alarm.kind for alarm in queries.alarms(self.store)]
        return {kind: kinds.count(kind) for kind in kinds}

    def booked(self, meter: str) -> list[tuple[str, int, int, int, int]]:
        """Booked rows of a meter in order: kind, epoch, n_first, n_last, energy."""
        return self.store.rows(
            "SELECT kind, epoch, n_first, n_last, energy FROM booked WHERE meter = ? ORDER BY epoch, position, n_first",
            (meter,),
        )

    def evidence(self) -> list[str]:
        """Why messages were kept and not booked."""
        return [row[0] for row in self.store.rows("SELECT reason FROM evidence ORDER BY evidence_id")]
