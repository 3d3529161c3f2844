"""Where no platform answers, a person confirms where it stands, and the journal goes on from there.

A gateway whose disk was lost begins a chain that follows nothing. A platform that can be asked answers with its heads;
where it cannot (broker mode, or no network at all) somebody carries a file: a statement of the platform, the own last
status, or an export. This looks at what the file says beside what the journal knows, and, confirmed with a name,
opens a chain behind it exactly as an answer of the platform would have (`agent.service.restore`), in one transaction.

A word of the platform is believed for its signature. Own words are believed because a person vouches that nothing
later was booked; so they count only where the platform cannot speak for itself. Asked over the control socket, by
`metering-agent restore`. Source: wire format, section 6, "Broker mode" and "When the edge restores".
"""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from agent.metering.ledger import Head
from agent.metering.quantity import format_kwh
from agent.reporting import envelope
from agent.reporting.acknowledgement import Acknowledgement, MeterHead, heads_from_payload
from agent.reporting.chain import ChainHead
from agent.reporting.utc import text_of_ms
from agent.reporting.wire import Members, WireError
from agent.service.acknowledge import can_follow
from agent.service.dialogue import Dialogue
from agent.service.journal import Journal, Standing, Storage
from agent.service.ports import Clock
from agent.service.restore import Restorer
from agent.service.seal import Identity
from agent.service.signing import kid_known_at
from agent.service.statements import Objection

REASON = "a person confirmed where the platform stands"
NAME_MAX = 200


@dataclass(frozen=True, slots=True)
class Said:
    """Where chain and meters stand, by a file. `order` and `jws` only where the platform signed it."""

    head: ChainHead | None
    heads: Mapping[str, MeterHead]
    rev: int | None
    at_ms: int
    order: tuple[int, int] | None = None
    jws: bytes = b""
    refused: tuple[str, ...] = ()


class Confirming:
    """Answers the question `restore` of the control socket."""

    def __init__(
        self,
        identity: Identity,
        restorer: Restorer,
        platform_keys: envelope.KeyRing,
        storage: Storage,
        dialogue: Dialogue,
        clock: Clock,
        *,
        mode: str,
    ) -> None:
        """`mode` is `platform` or `broker`: who acknowledges."""
        self._identity = identity
        self._restorer = restorer
        self._platform_keys = platform_keys
        self._storage = storage
        self._dialogue = dialogue
        self._clock = clock
        self._mode = mode

    async def answer(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """Look at what a file says (`do: look`) or go on from there (`do: confirm`).

        The file's word is `jws`, an acknowledgement with heads, or `position` with `head`, `heads`, `rev` and `at`,
        which the caller has verified. `by` is who confirms, `evidence` the SHA-256 of the file.

        Returns:
            plain values: `objections`, `done`, and what the file and the journal say of chain and meters.

        Raises:
            ValueError: arguments of another kind.
        """
        do = arguments.get("do")
        if do not in ("look", "confirm"):
            raise ValueError("restore wants one of look, confirm")
        by, evidence = arguments.get("by"), arguments.get("evidence")
        if not isinstance(evidence, str) or not (by is None or isinstance(by, str)):
            raise ValueError("restore wants the SHA-256 of the file, and names as texts")
        try:
            said = self._read(arguments)
        except ValueError as error:
            return _answer([Objection("not-genuine", {"reason": str(error)})])
        objections = self._objections_to_source(said)
        if do == "confirm" and not (by or "").strip():
            objections.append(Objection("nobody", {}))
        if objections:
            return _answer(objections)
        now_ms, confirm = self._clock.wall_ms(), do == "confirm"
        name = (by or "")[:NAME_MAX]
        found = await self._storage.run(
            lambda journal: self._work(journal, said, name, evidence, now_ms, confirm=confirm)
        )
        if found["done"]:
            await self._dialogue.went_on(said.head)
        return found

    async def lines(self, arguments: Mapping[str, object]) -> AsyncIterator[bytes]:
        """The same as a stream of one line: to tell everything anew may take longer than a short question waits."""
        yield json.dumps(await self.answer(arguments), ensure_ascii=False).encode()

    def _read(self, arguments: Mapping[str, object]) -> Said:
        """What the file says. Raises ValueError where it is not genuine or not for this gateway."""
        jws, position = arguments.get("jws"), arguments.get("position")
        if isinstance(jws, str):
            return self._of_platform(jws.encode())
        members = Members(position)
        head, heads = members.members_or_none("head"), heads_from_payload(members)
        if heads is None:
            raise WireError("position.heads", "is missing")
        place = (
            None if head is None else ChainHead(head.ulid("chain"), head.integer("seq", 1), head.hash("hash"))
        )
        return Said(place, heads, members.integer_or_none("rev", 1), members.time_ms("at"))

    def _of_platform(self, jws: bytes) -> Said:
        opened = envelope.open_sealed(jws, envelope.ACKNOWLEDGEMENT, self._platform_keys)
        said = Acknowledgement.from_payload(opened.payload)
        who = self._identity
        if (said.org, said.agent) != (who.org, who.agent):
            raise ValueError(f"it speaks to {said.org}/{said.agent}, this is {who.org}/{who.agent}")
        if said.heads is None:
            raise ValueError("it says nothing of the meters (it has no heads)")
        return Said(said.head, said.heads, said.rev, said.stored_at_ms, said.order, jws, said.refused)

    def _objections_to_source(self, said: Said) -> list[Objection]:
        if said.order is None and self._mode == "platform":
            return [Objection("platform-answers", {})]
        return []

    def _work(
        self, journal: Journal, said: Said, by: str, evidence: str, now_ms: int, *, confirm: bool
    ) -> dict[str, object]:
        """One piece of work on the journal: look, decide, go on; all or nothing."""
        with journal.transaction():
            state, own = journal.state(), journal.heads()
            objections = _objections(journal, said)
            body = _answer(objections) | {
                "head": None if said.head is None else said.head.to_payload(),
                "said_at": text_of_ms(said.at_ms),
                "own": None if state.chain is None else {"chain": state.chain, "seq": state.seq},
                "mode": self._mode,
                "meters": [
                    _compared(id, own.get(id), said.heads.get(id)) for id in sorted({*own, *said.heads})
                ],
            }
            if confirm and not objections:
                self._go_on(journal, said, by, evidence, now_ms)
                body["done"] = True
        return body

    def _go_on(self, journal: Journal, said: Said, by: str, evidence: str, now_ms: int) -> None:
        state, left = journal.state(), journal.state().chain
        kid = kid_known_at(journal, said.head)
        for chain in said.refused:
            journal.refuse_chain(chain)
        if said.order is not None:
            journal.save_state(replace(state, gen=said.order[0], ack_no=said.order[1]))
            journal.keep_acknowledgement(said.jws, *said.order, said.at_ms)
        if self._mode == "broker" or (said.order is not None and said.order[0] > state.gen):
            # What a broker took nobody has booked for certain, and a platform put back has less than it acknowledged:
            # only what the file covers is settled.
            journal.forget_stored()
        if said.head is not None:
            journal.mark_stored(said.head, said.at_ms)
        if kid is not None:
            self._restorer.go_on_with(journal, kid)
        more = {"by": by, "evidence": evidence} | ({} if left is None else {"instead_of": left})
        self._restorer.open_chain(
            journal, said.head, said.heads, REASON, now_ms, said.at_ms, said.rev, details=more
        )
        journal.save_state(
            replace(journal.state(), standing=Standing.NORMAL, acked=said.head, acked_at_ms=said.at_ms)
        )


def _objections(journal: Journal, said: Said) -> list[Objection]:
    state = journal.state()
    if said.order is not None and said.order <= (state.gen, state.ack_no):
        return [Objection("stale", {})]
    if state.standing is Standing.NORMAL and can_follow(journal, said.head):
        place = "-" if said.head is None else f"{said.head.chain}/{said.head.seq}"
        return [Objection("follows", {"head": place})]
    return []


def _answer(objections: list[Objection]) -> dict[str, object]:
    return {"done": False, "objections": [each.as_json() for each in objections]}


def _compared(meter: str, own: Head | None, said: MeterHead | None) -> dict[str, object]:
    """One meter by the file and by the journal; `remark` is what becomes of it."""
    row: dict[str, object] = {"meter": meter, "remark": _remark(own, said)}
    if said is not None:
        row["file"] = {
            "epoch": said.epoch,
            "n": said.n,
            "kwh": format_kwh(said.register),
            "at": text_of_ms(said.end_ms),
            "serial": said.serial,
        }
    if own is not None:
        row["journal"] = {
            "epoch": own.epoch,
            "n": own.n,
            "kwh": format_kwh(own.register_milliwh),
            "at": text_of_ms(own.at_ms),
            "serial": own.basis.serial,
        }
    if own is not None and said is not None:
        row["rise_kwh"] = format_kwh(own.register_milliwh - said.register)
    return row


def _remark(own: Head | None, said: MeterHead | None) -> str:
    if said is None:
        return "unknown-there"
    if own is None:
        return "not-read-here"
    ratio, basis = own.basis.per_count_milliwh, own.basis
    same = (said.num, said.den, said.modulus) == (ratio.numerator, ratio.denominator, basis.modulus_milliwh)
    if not same or said.serial is None or said.serial != basis.serial:
        return "new-epoch"
    return "goes-on" if own.register_milliwh >= said.register else "below"
