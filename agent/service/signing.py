"""Which key signs: the two that a site file can name, and how one takes over from the other.

A rotation is an event inside the chain (wire format, section 7). A person names the next key beside the old one; the
next interval that is closed ends with a batch, still signed by the old key, that carries the new public key and its
proof. Who signs is written in that transaction, so that there is no moment at which two keys or none would do. What the
site file calls the first and the following key matters no more from then on.

A journal that is an old copy may name a key that has ended, and a platform that is one may not know the new key. Only
the platform can say; so while the agent asks where it stands it asks with each key it has (`Question`), and the key
that was answered goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from agent.errors import ConfigError, Fault
from agent.reporting.chain import ChainHead
from agent.service.journal import Journal, KeyUse, Standing
from agent.service.ports import Signer


@dataclass(frozen=True, slots=True)
class Signers:
    """The keys at hand: `first` is the site file's key, `following` the one that is to take over, None without."""

    first: Signer
    following: Signer | None = None

    def __iter__(self) -> Iterator[Signer]:
        yield self.first
        if self.following is not None:
            yield self.following

    def by_kid(self, kid: str | None) -> Signer | None:
        """The key with this thumbprint, None if it is not at hand."""
        return next((each for each in self if each.kid == kid), None)

    def in_force(self, journal: Journal) -> Signer:
        """The key that signs batches and descriptors now."""
        return self.by_kid(journal.signing_kid()) or self.first


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """What a person has to know of the keys.

    `kid` signs; `former` signed before it, None if none did; `rotated` is the batch that ended that one, None where no
    rotation brought the present key; `acknowledged` says whether the platform has that batch.
    """

    kid: str | None = None
    former: str | None = None
    rotated: ChainHead | None = None
    acknowledged: bool = True


def key_standing(journal: Journal) -> KeyStanding:
    """Read it."""
    uses = journal.key_uses()
    if not uses:
        return KeyStanding()
    former = next((use.kid for use in reversed(uses) if use.kid != uses[-1].kid), None)
    rotated = uses[-1].since
    kept = None if rotated is None else journal.batch(rotated)
    return KeyStanding(uses[-1].kid, former, rotated, kept is None or kept.stored_ms is not None)


def known_kids(journal: Journal) -> frozenset[str]:
    """The keys that whoever knows the one in force knows too: those from which it took over inside the chain.

    A rotation that never reached the platform has left descriptors behind that nobody there could verify.
    """
    found: set[str] = set()
    for use in reversed(journal.key_uses()):
        found.add(use.kid)
        if use.since is None:
            break
    return frozenset(found)


def kid_known_at(journal: Journal, head: ChainHead | None) -> str | None:
    """The newest of our keys that a platform which stands at `head` knows; None where no key has signed yet."""
    uses = journal.key_uses()
    for use in reversed(uses):
        if use.since is None or _is_booked(journal, use.since, head):
            return use.kid
    return uses[0].kid if uses else None


def _is_booked(journal: Journal, told: ChainHead, head: ChainHead | None) -> bool:
    """Whether a platform that stands at `head` has this batch.

    It has what is not later than `head`; where that is no batch of ours, what was handed over.
    """
    if head is None:
        return False
    if told.chain == head.chain:
        return told.seq <= head.seq
    place, kept = journal.ordinal_of(head), journal.batch(told)
    if kept is None:
        return True
    return kept.stored_ms is not None if place is None else kept.ordinal <= place


def use_key(journal: Journal, signer: Signer, since: ChainHead | None = None) -> None:
    """From now on this key signs, in the caller's transaction; `since` is the batch that says so, if one does."""
    if journal.signing_kid() != signer.kid or since is not None:
        journal.add_key_use(KeyUse(signer.kid, dict(signer.public_jwk), since))


def is_rotation_due(journal: Journal, signers: Signers) -> bool:
    """Whether the following key is to take over with the next batch.

    Not before the platform has acknowledged something of the present chain, or the broker where only that does: a
    journal that cannot be followed learns where it stands first.
    """
    following, state = signers.following, journal.state()
    if following is None or signers.in_force(journal) is following:
        return False
    if following.kid in _ended_by(journal.key_uses()):
        return False  # the two stand in the site file the other way round
    if state.standing is not Standing.NORMAL or state.hash is None:
        return False
    if state.acked is None or state.acked.chain == state.chain:
        return True
    return journal.backlog().batches < state.seq


def settle_keys(journal: Journal, signers: Signers, *, site: str, platform_answers: bool) -> bool:
    """Note at the start which key signs; True if a person replaced the key without a rotation.

    Then the old key was lost or given up. What it signed and the platform does not have yet cannot be sent any more; a
    new chain behind the platform's head tells that energy again, from the registers, under the new key.

    Raises ConfigError where the site file names a key that has ended and not the one that followed it.
    """
    with journal.transaction():
        uses = journal.key_uses()
        if not uses:
            use_key(journal, signers.first)
            return False
        if signers.by_kid(uses[-1].kid) is not None:
            return False
        _refuse_ended(uses, signers.first, site)
        use_key(journal, signers.first)
        state = journal.state()
        if platform_answers and state.chain is not None:
            journal.refuse_chain(state.chain)
            if state.standing is Standing.NORMAL:
                journal.save_state(replace(state, standing=Standing.ASKING))
        return True


def _ended_by(uses: list[KeyUse]) -> dict[str, ChainHead]:
    """The keys that a rotation has ended, and with which batch."""
    return {use.kid: after.since for use, after in pairwise(uses) if after.since is not None}


def _refuse_ended(uses: list[KeyUse], first: Signer, site: str) -> None:
    end = _ended_by(uses).get(first.kid)
    if end is not None:
        reason = f"this key ended with batch {end.seq} of chain {end.chain}"
        remedy = f"name the key that followed it, with thumbprint {uses[-1].kid}, as key_file"
        raise ConfigError([Fault(site, None, "signing.key_file", reason, remedy)])


@dataclass(slots=True)
class Question:
    """Asks with one key after the other: each has a session name of its own, so that an answer says whose it is."""

    signers: Signers
    _turn: int = 0

    def next(self, in_force: Signer) -> Signer:
        """The key for the next status that asks; begins with the one in force."""
        keys = [in_force, *(each for each in self.signers if each is not in_force)]
        chosen = keys[self._turn % len(keys)]
        self._turn += 1
        return chosen


def session_of(session: str, signer: Signer) -> str:
    """The session's name in a status that asks with this key."""
    return f"{session}.{signer.kid[:8]}"
