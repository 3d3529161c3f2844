"""Disks and networks of the lab's own, made for a test and gone with it: all of them need root.

A disk is a mount: a small tmpfs, or an ext4 in a file on a loop device, whose power can be cut. A network is a
namespace with one cable to the rest of the machine, which can be pulled. Whoever has no right to make them gets
`Forbidden`.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.programs import find

_EXT4_IOC_SHUTDOWN = 0x8004587D  # linux/ext4.h: _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2
_LIMIT_S = 60
_PATIENCE_S = 3


class Forbidden(Exception):
    """This machine does not let us make such a place; the message says what was tried."""


class Disk:
    """A mount in a folder. Use it as a context manager; `filled` and `read_only` are for a while."""

    def __init__(self, folder: Path, *, kind: str, source: str, options: str) -> None:
        self.path = folder
        self._kind, self._source, self._options = kind, source, options
        self._is_dead = False
        self._copies = 0

    def mount(self) -> None:
        """Mount it. Raises Forbidden."""
        self.path.mkdir(parents=True, exist_ok=True)
        _system("mount", "-t", self._kind, "-o", self._options, self._source, str(self.path))

    def unmount(self) -> None:
        """Unmount it; nothing may have a file in it open."""
        device = _system("findmnt", "--noheadings", "--output", "SOURCE", str(self.path)).strip()
        _system("umount", str(self.path))
        if self._is_dead:
            self._take_another(device)
        self._is_dead = False

    def _take_another(self, device: str) -> None:
        """After a cut of the power: the file system has to be gone, or the next mount would be given the dead one.

        A mount namespace that somebody else made meanwhile (a sandbox) has a copy of the mount and keeps it alive.
        Then the image is copied: what did not reach it before the cut never will.
        """
        alive = Path("/sys/fs/ext4") / Path(device).name
        deadline = time.monotonic() + _PATIENCE_S
        while alive.exists():
            if time.monotonic() > deadline:
                self._copies += 1
                old, image = Path(self._source), self.path.with_suffix(f".{self._copies}.img")
                shutil.copy(old, image)
                self._source = str(image)
                return
            time.sleep(0.02)

    def cut_power(self) -> None:
        """From now on nothing reaches the disk, not even ext4's own log (the ioctl of xfstests' godown)."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
            self._is_dead = True
        finally:
            os.close(folder)

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Not a byte is free meanwhile; whoever deletes something finds that room taken no more."""
        filler = self.path / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (65_536, 4_096, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError:
                    continue
        try:
            yield
        finally:
            filler.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """No file in it may be open for writing when it begins."""
        _system("mount", "-o", "remount,ro", str(self.path))
        try:
            yield
        finally:
            _system("mount", "-o", "remount,rw", str(self.path))

    def __enter__(self) -> Self:
        self.mount()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unmount()


def small_disk(folder: Path, megabytes: int) -> Disk:
    """A tmpfs of this size."""
    return Disk(folder, kind="tmpfs", source="lab", options=f"size={megabytes}m")


def loop_disk(folder: Path, megabytes: int) -> Disk:
    """An ext4 in a file beside the folder. Raises Forbidden."""
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(megabytes * 2**20)
    _system("mke2fs", "-q", "-F", "-t", "ext4", str(image))
    return Disk(folder, kind="ext4", source=str(image), options="loop")


class Network:
    """A network namespace and the cable from it to this machine, whose end here is `ours`."""

    def __init__(self) -> None:
        part = f"198.18.{os.getpid() % 256}"  # RFC 2544: for tests of networks, routed nowhere
        self.ours, self.theirs = f"{part}.1", f"{part}.2"
        self.name = f"lab{os.getpid()}"
        self._cable = f"lab{os.getpid()}"

    @property
    def under(self) -> tuple[str, ...]:
        """What a command is preceded by to run in it.

        `ip netns exec` would make a mount namespace besides, and with it keep every disk of other tests mounted.
        """
        return (_program("nsenter"), f"--net=/run/netns/{self.name}")

    def pull(self) -> None:
        """The cable is out: nobody is told, packets just do not arrive."""
        _system("ip", "link", "set", self._cable, "down")

    def plug(self) -> None:
        """The cable is in again."""
        _system("ip", "link", "set", self._cable, "up")

    def __enter__(self) -> Self:
        if f"inet {self.ours}/" in _system("ip", "-4", "address", "show"):
            raise Forbidden(f"somebody else on this machine has the address {self.ours}")
        _system("ip", "netns", "add", self.name)
        try:
            inside = ("ip", "-n", self.name)
            peer = ("peer", "name", "uplink", "netns", self.name)
            _system("ip", "link", "add", self._cable, "type", "veth", *peer)
            _system("ip", "address", "add", f"{self.ours}/30", "dev", self._cable)
            _system(*inside, "address", "add", f"{self.theirs}/30", "dev", "uplink")
            _system(*inside, "link", "set", "lo", "up")
            _system(*inside, "link", "set", "uplink", "up")
            self.plug()
        except Forbidden:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        """Its end of the cable goes with the namespace, and ours with that."""
        _system("ip", "netns", "delete", self.name)


def _program(name: str) -> str:
    found = find(name)
    if found is None:
        raise Forbidden(f"{name} is neither installed nor unpacked")
    return str(found)


def _system(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [_program(name), *arguments], capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise Forbidden(f"{name} {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
