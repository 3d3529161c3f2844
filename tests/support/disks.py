"""A journal on the simulated world's disk, for tests of what a disk may do to it."""

from agent.adapters.journal import Place
from simulators.world.disk import Disk, DiskVfs
from simulators.world.storage import JOURNAL, WorldConnection, WorldFiles


def place_on(disk: Disk) -> Place:
    """Where a journal lies on a disk, and how it is opened."""
    vfs = DiskVfs(disk)
    return Place(JOURNAL, lambda path: WorldConnection(vfs, path), WorldFiles(disk))
