"""What a play is: one kind of fault, begun, waited for and put right again."""

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulators.world.world import World

Play = Callable[["World", random.Random, int], Awaitable[None]]
"""Gets the world, its own source of chance, and for how many seconds it lasts."""
