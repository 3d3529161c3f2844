"""A small agent without a bus and without a network: real journal, real signatures, a clock that is set by hand."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from agent.adapters.journal import SqliteJournal, open_journal
from agent.adapters.keys import PublicKeys, generate_key, load_signer
from agent.metering.decode import encode
from agent.metering.plant import Meter
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement, MeterHead
from agent.reporting.batch import Batch
from agent.reporting.chain import ChainHead
from agent.service.acknowledge import Acknowledger, Outcome
from agent.service.clocking import moment_of
from agent.service.close import Closed, Closer, Cut, Sample
from agent.service.journal import KeptBatch
from agent.service.ports import ClockQuality, Signer, Uptime
from agent.service.restore import PIECE_READINGS, Restorer
from agent.service.seal import Identity, Sealer
from agent.service.signing import Signers
from tests.metering.examples import meter, register

NOON_MS = 1_763_812_800_000
MINUTE_MS = 60_000
KWH_REGISTER = register(modulus_counts=10**6)
"""0.01 kWh a count, rolls over at 10 000 kWh."""


@dataclass(slots=True)
class HandClock:
    """A clock that stands still until it is set. Its machine has a name for each start only where a test gives one."""

    now_ms: int = NOON_MS
    sync: str = "S"
    boot: str | None = None
    up_ms: int = 0

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ns(self) -> int:
        return self.now_ms * 1_000_000

    def uptime(self) -> Uptime | None:
        return None if self.boot is None else Uptime(self.boot, self.up_ms)

    def quality(self) -> ClockQuality:
        return ClockQuality(self.sync, 10)

    async def sleep(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)


@dataclass(slots=True)
class Dice:
    """Entropy that counts, so that every chain of a test has a name of its own."""

    thrown: int = 0

    def token(self, size: int) -> bytes:
        self.thrown += 1
        return self.thrown.to_bytes(size, "big")


def two_meters() -> tuple[Meter, Meter]:
    """A reflow oven and a wave soldering machine, both with known serial numbers."""
    reflow = meter(KWH_REGISTER, id="reflow-1", serial="100", rated_w=40_000)
    wave = meter(KWH_REGISTER, id="wave-1", address=2, serial="200", rated_w=40_000)
    return reflow, wave


@dataclass
class Bench:
    """The closing half of an agent."""

    path: Path
    meters: tuple[Meter, ...] = field(default_factory=two_meters)
    clock: HandClock = field(default_factory=HandClock)
    dice: Dice = field(default_factory=Dice)
    name: str = "journal.db"
    following: Signer | None = None
    piece_readings: int = PIECE_READINGS

    def __post_init__(self) -> None:
        key = self.path / "key.pem"
        if not key.exists():
            generate_key(key)
        self.signer = load_signer(key)
        self.keys = PublicKeys([self.signer.public_key])
        self.journal: SqliteJournal = open_journal(self.path / self.name)
        self.wire(self.meters)

    @property
    def signers(self) -> Signers:
        """The keys that the site file names."""
        return Signers(self.signer, self.following)

    def wire(self, meters: tuple[Meter, ...]) -> None:
        """Apply another site: the same journal, other meters."""
        self.meters = meters
        sealer = Sealer(
            Identity("org", "gw01", "carbon.example", "0.1.0"), self.signers, self.dice, self.clock
        )
        self.closer = Closer(meters, sealer, MINUTE_MS)
        self.restorer = Restorer(meters, sealer, MINUTE_MS, piece_readings=self.piece_readings)
        self.acknowledger = Acknowledger(self.restorer, keep_days=90)

    def read(
        self, counts: dict[str, int], *, serials: dict[str, str] | None = None, times: int = 1
    ) -> Closed:
        """One boundary later: read these raw counts, so many times over, and close the interval."""
        return self.closer.close(self.journal, self.cut_of(counts, serials=serials, times=times))

    def cut_of(self, counts: dict[str, int], *, serials: dict[str, str] | None = None, times: int = 1) -> Cut:
        """The readings of the next boundary."""
        self.clock.now_ms += MINUTE_MS
        self.clock.up_ms += MINUTE_MS
        by_id = {each.id: each for each in self.meters}
        samples = tuple(
            Sample(
                id,
                encode(by_id[id].profile.energy, count),
                self.clock.now_ms + 40 * (turn + 1),
                (serials or {}).get(id),
                False,
                when=None if self.clock.boot is None else moment_of(self.clock),
            )
            for turn in range(times)
            for id, count in counts.items()
        )
        return Cut(self.clock.now_ms, samples)

    def batches(self) -> list[tuple[ChainHead, Batch]]:
        """All batches that would be sent, oldest first, opened and verified."""
        return self.opened(self.journal.queue(after_ordinal=0, limit=10_000))

    def opened(self, queue: list[KeptBatch]) -> list[tuple[ChainHead, Batch]]:
        """These batches, opened and verified."""
        found = []
        for kept in queue:
            assert kept.jws is not None
            opened = envelope.open_sealed(kept.jws, envelope.BATCH, self.keys)
            assert opened.hash == kept.head.hash
            found.append((kept.head, Batch.from_payload(opened.payload)))
        return found

    def deltas(self, meter_id: str) -> list[int]:
        """The deltas of one meter in all batches that would be sent, 0.001 Wh."""
        return [
            delta.delta for _, batch in self.batches() for delta in batch.deltas if delta.meter == meter_id
        ]

    def acknowledge(
        self,
        head: ChainHead | None,
        *,
        number: int,
        gen: int = 0,
        heads: dict[str, MeterHead] | None = None,
        refused: tuple[str, ...] = (),
        session: str | None = None,
        stored_ms: int | None = None,
        kid: str | None = None,
    ) -> Outcome:
        """Take an acknowledgement; with `session="s"` it answers the present connection, with `kid` that key's own."""
        said = Acknowledgement(
            "org",
            "gw01",
            gen,
            number,
            head,
            self.clock.now_ms if stored_ms is None else stored_ms,
            refused=refused,
            session=session,
            heads=heads,
            rev=None if heads is None else 1,
        )
        return self.acknowledger.take(
            self.journal,
            said,
            b"receipt %d" % number,
            session="s" if kid is None else session,
            now_ms=self.clock.now_ms,
            kid=kid,
        )

    def meter_head(self, meter_id: str, **changes: object) -> MeterHead:
        """What a platform that has everything says of a meter."""
        own = self.journal.heads()[meter_id]
        basis = own.basis
        exact = basis.per_count_milliwh
        said = MeterHead(
            own.epoch,
            own.n,
            own.register_milliwh,
            own.at_ms,
            exact.numerator,
            exact.denominator,
            basis.modulus_milliwh,
            basis.serial,
        )
        return replace(said, **changes)  # type: ignore[arg-type]

    def restart(self) -> None:
        """Close the file and open it again, as a new process would."""
        self.journal.close()
        self.journal = open_journal(self.path / self.name)


def with_ratio(each: Meter, ct: str) -> Meter:
    """The same meter behind other current transformers."""
    return replace(
        each, ct_ratio=Fraction(ct), profile=replace(each.profile, registers={"energy_import": SECONDARY})
    )


SECONDARY = register(modulus_counts=10**6, secondary=True)
