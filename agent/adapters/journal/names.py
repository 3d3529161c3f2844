"""What rows point to instead of spelling it out: meters, bases, descriptors and starts of the machine, by their ids.

Those tables only ever grow, so what was committed of them stays true. What a transaction added that failed does not:
the journal throws its names away then, because a failed commit is unknown, not undone.
"""

from functools import cached_property
from typing import TypeVar

from agent.adapters.journal.connection import Asked
from agent.adapters.journal.rows import basis_of, integer, text
from agent.adapters.journal.sums import judge, sum_of
from agent.errors import JournalDamaged
from agent.metering.ledger import Basis

T = TypeVar("T")
_Key = tuple[int, int, int | None, str | None]


class Names:
    """The ids as they are in the file."""

    def __init__(self, db: Asked) -> None:
        self._db = db

    # -- from what it is to its id

    def known_meter(self, name: str) -> int:
        """The row of a meter, 0 if it was never read."""
        return self._meter_ids.get(name, 0)

    def meter_id(self, name: str) -> int:
        """The row of a meter, made where it is new."""
        id = self._meter_ids.get(name)
        if id is None:
            id = self._add("meters", "INSERT INTO meters (name) VALUES (?) RETURNING id", name)
            self._meter_ids[name] = id
            self._meter_names[id] = name
        return id

    def basis_id(self, basis: Basis) -> int:
        """The row of a basis, made where it is new."""
        id = self._basis_ids.get(_key(basis))
        if id is None:
            exact = basis.per_count_milliwh
            id = self._add(
                "bases",
                "INSERT INTO bases (per_count, modulus_milliwh, serial) VALUES (?, ?, ?) RETURNING id",
                f"{exact.numerator}/{exact.denominator}",
                basis.modulus_milliwh,
                basis.serial,
            )
            self._basis_ids[_key(basis)] = id
            self._bases[id] = basis
        return id

    def boot_id(self, name: str) -> int:
        """The row of a start of the machine, made where it is new."""
        id = self._boot_ids.get(name)
        if id is None:
            id = self._add("boots", "INSERT INTO boots (name) VALUES (?) RETURNING id", name)
            self._boot_ids[name] = id
            self._boots[id] = name
        return id

    def descriptor_id(self, hash: str) -> int | None:
        """The row of a descriptor; None where there is none."""
        if hash not in self._descriptor_ids:
            for row in self._db.execute("SELECT id FROM descriptors WHERE hash = ?", (hash,)):
                self._descriptor_ids[hash] = integer(row[0])
        return self._descriptor_ids.get(hash)

    # -- from its id to what it is

    def meter(self, id: int) -> str:
        """The name of a meter. Raises JournalDamaged, like all that follow."""
        return self._found("_meter_names", self._meter_names, id)

    def basis(self, id: int) -> Basis:
        """What makes registers comparable."""
        return self._found("_bases", self._bases, id)

    def descriptor(self, id: int) -> str:
        """The hash of a descriptor."""
        return self._found("_descriptor_hashes", self._descriptor_hashes, id)

    def boot(self, id: int) -> str:
        """The name of a start of the machine."""
        return self._found("_boots", self._boots, id)

    def _found(self, name: str, table: dict[int, T], id: int) -> T:
        if id not in table:  # written since, through another door
            del self.__dict__[name]
            table = getattr(self, name)
        try:
            return table[id]
        except KeyError as error:
            raise JournalDamaged(
                f"a row of the journal names {id} of {name[1:]}, which is not there"
            ) from error

    def _add(self, table: str, sql: str, *values: str | int | None) -> int:
        id = integer(self._db.execute(sql, values)[0][0])
        self._db.execute(f"UPDATE {table} SET sum = ? WHERE id = ?", (sum_of((id, *values)), id))
        return id

    @cached_property
    def _meter_ids(self) -> dict[str, int]:
        return {name: id for id, name in self._meter_names.items()}

    @cached_property
    def _meter_names(self) -> dict[int, str]:
        return {integer(row[0]): text(row[1]) for row in judge(self._db, "meters")}

    @cached_property
    def _bases(self) -> dict[int, Basis]:
        rows = judge(self._db, "bases")
        return {integer(row[0]): basis_of(row[1:]) for row in rows}

    @cached_property
    def _basis_ids(self) -> dict[_Key, int]:
        return {_key(basis): id for id, basis in self._bases.items()}

    @cached_property
    def _descriptor_ids(self) -> dict[str, int]:
        return {}

    @cached_property
    def _descriptor_hashes(self) -> dict[int, str]:
        return {integer(row[0]): text(row[1]) for row in self._db.execute("SELECT id, hash FROM descriptors")}

    @cached_property
    def _boots(self) -> dict[int, str]:
        return {integer(row[0]): text(row[1]) for row in judge(self._db, "boots")}

    @cached_property
    def _boot_ids(self) -> dict[str, int]:
        return {name: id for id, name in self._boots.items()}


def _key(basis: Basis) -> _Key:
    exact = basis.per_count_milliwh
    return exact.numerator, exact.denominator, basis.modulus_milliwh, basis.serial
