"""Batches and descriptors as they are stored, judged where they are read.

SQLite checks the shape of its pages, not what stands in them: a flipped bit inside a value passes `quick_check`. So a
batch or a descriptor that is not what its hash says is never sent and never believed (fault F53). Their signatures were
made here and are not checked again.
"""

import zlib
from functools import lru_cache

from agent.adapters.journal.connection import Row
from agent.adapters.journal.rows import blob, integer, integer_or_none, text
from agent.errors import JournalDamaged
from agent.reporting import envelope, strictjson
from agent.reporting.batch import Batch
from agent.reporting.chain import ChainHead
from agent.reporting.descriptor import Descriptor
from agent.reporting.wire import WireError
from agent.service.journal import KeptBatch, KeptDescriptor

BATCH = (
    "SELECT b.ordinal, b.chain, b.seq, b.hash, b.prev, b.prev_chain, b.prev_seq, b.prev_hash, b.sealed_ms,"
    " CASE b.superseded WHEN 0 THEN (SELECT s.stored_ms FROM stored s WHERE s.up_to >= b.ordinal ORDER BY s.up_to"
    " LIMIT 1) END, b.superseded"
)
"""The columns of `batch_in`, but for the last: the text, or NULL where it is not wanted."""
WITH_TEXT = f"{BATCH}, t.jws FROM batches b LEFT JOIN texts t ON t.ordinal = b.ordinal"
WITHOUT_TEXT = f"{BATCH}, NULL FROM batches b"
_IN_PARTS = 0x02
"""The first byte of a text that is kept in its parts; a deflated stream begins with 0x78."""


def chain_head(row: Row) -> ChainHead | None:
    """The columns chain, seq and hash; None where the chain is. Raises JournalDamaged, like everything in here."""
    return None if row[0] is None else ChainHead(text(row[0]), integer(row[1]), text(row[2]))


def descriptor_in(rows: list[Row]) -> KeptDescriptor | None:
    """The one descriptor that was found by its columns hash, rev and jws, None if there is none."""
    if not rows:
        return None
    return _descriptor(rows[0])


@lru_cache(maxsize=2)
def _descriptor(row: Row) -> KeptDescriptor:
    """The map in force is read for every status and at every boundary."""
    hash, rev, jws = row
    kept = KeptDescriptor(text(hash), integer(rev), blob(jws))
    if not _is_whole(kept.jws, kept.hash):
        raise JournalDamaged(f"descriptor {kept.rev} in the journal is not what its hash says")
    return kept


def batch_in(row: Row) -> KeptBatch:
    """A batch; its text, where it is given, is what was sealed."""
    head = ChainHead(text(row[1]), integer(row[2]), text(row[3]))
    jws = None if row[11] is None else _inflate(row[11])
    if jws is not None and not _is_whole(jws, head.hash):
        raise JournalDamaged(f"batch {head.chain}/{head.seq} in the journal is not what its hash says")
    return KeptBatch(
        ordinal=integer(row[0]),
        head=head,
        prev=text(row[4]),
        prev_chain=chain_head(row[5:8]),
        sealed_ms=integer(row[8]),
        stored_ms=integer_or_none(row[9]),
        superseded=bool(row[10]),
        jws=jws,
    )


def batch_of(kept: KeptBatch) -> Batch:
    """What a batch says whose text is kept."""
    assert kept.jws is not None
    try:
        return Batch.from_payload(_payload(kept.jws, envelope.BATCH))
    except WireError as error:
        raise JournalDamaged(f"a stored batch cannot be read: {error}") from error


def check_place(kept: KeptBatch) -> None:
    """Judge what the row of a batch says of it by its text, which its hash covers. Raises JournalDamaged."""
    head, batch = kept.head, batch_of(kept)
    told = (batch.chain, batch.seq, batch.prev, batch.prev_chain, batch.iat_ms)
    if told != (head.chain, head.seq, kept.prev, kept.prev_chain, kept.sealed_ms):
        raise JournalDamaged(f"batch {head.chain}/{head.seq} in the journal is not where it belongs")


@lru_cache(maxsize=2)
def placed_batch(row: Row) -> KeptBatch:
    """A batch that was read with its text, and judged by it. The oldest one is named in every status."""
    kept = batch_in(row)
    check_place(kept)
    return kept


def descriptor_of(kept: KeptDescriptor) -> Descriptor:
    """What a meter map says."""
    try:
        return Descriptor.from_payload(_payload(kept.jws, envelope.DESCRIPTOR))
    except WireError as error:
        raise JournalDamaged(f"a stored descriptor cannot be read: {error}") from error


def _payload(jws: bytes, typ: str) -> object:
    try:
        data = envelope.base64url_decode(jws.split(b".")[1].decode("ascii"))
        return strictjson.loads(data, size_max=envelope.SIZE_MAX[typ])
    except (ValueError, IndexError) as error:
        raise JournalDamaged(f"a stored message cannot be read: {error}") from error


def _is_whole(jws: bytes, hash: str) -> bool:
    try:
        return envelope.signing_input_hash(jws) == hash
    except envelope.EnvelopeError:
        return False


def deflated(jws: bytes) -> bytes:
    """A token as it is kept: header and payload decoded from base64, which hides from deflate what repeats.

    Two thirds of what deflating the token takes. One that would not come back byte for byte is deflated as it is.
    """
    try:
        header, payload, signature = (
            envelope.base64url_decode(part.decode("ascii")) for part in jws.split(b".")
        )
        sizes = bytes((_IN_PARTS, len(signature), len(header)))
    except ValueError:
        return zlib.compress(jws, 6)
    return sizes + signature + zlib.compress(header + payload, 6)


def _inflate(value: object) -> bytes:
    data = blob(value)
    try:
        if data[:1] != bytes((_IN_PARTS,)):
            return zlib.decompress(data)
        signature, content = data[3 : 3 + data[1]], zlib.decompress(data[3 + data[1] :])
        parts = (content[: data[2]], content[data[2] :], signature)
    except (zlib.error, IndexError) as error:
        raise JournalDamaged(f"a stored batch cannot be inflated: {error}") from error
    return b".".join(envelope.base64url(part).encode("ascii") for part in parts)
