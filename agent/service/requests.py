"""Which request fetches a register of a meter, in the language that its profile names.

Comes between the plan of reads (`agent.metering.plan`) and the line; the poll stage and `metering-agent read` ask
through here, so that neither knows how a language is spoken.
"""

from agent.metering.plan import Block
from agent.metering.plant import Meter
from agent.metering.profile import Register
from agent.protocol.dlt645 import DltRequest
from agent.protocol.pair import Request
from agent.protocol.pdu import ReadRequest


def register_request(meter: Meter, register: Register) -> Request:
    """Read one register by itself."""
    if register.identifier is not None:
        return DltRequest(str(meter.address), register.identifier, register.size)
    return ReadRequest(_unit(meter), register.function, register.address, register.words)


def block_request(meter: Meter, block: Block) -> Request:
    """Read one block of a plan; a block of a DL/T 645 meter is one register."""
    if block.registers[0].identifier is not None:
        return register_request(meter, block.registers[0])
    return ReadRequest(_unit(meter), block.function, block.address, block.count)


def _unit(meter: Meter) -> int:
    if not isinstance(meter.address, int):
        raise TypeError(f"meter {meter.id} has no Modbus address")
    return meter.address
