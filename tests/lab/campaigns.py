"""The campaigns: one kind of disaster each, so many rounds, against an installation that is up.

A round is as short as it can be. How it ends is the business of `Installation.settle`; here only what has to hold at
every moment is looked at: the platform's books add up, and nothing that it booked is lost at the agent.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence

from agent.cli.exits import CONFIGURATION
from tests.lab.installation import PATIENCE_S, Installation
from tests.lab.places import Disk
from tests.lab.tracing import SYNCS, calls, injected, strace


def kill_agent(
    lab: Installation, rounds: int, *, seed: int = 0, meanwhile: Callable[[int], None] = lambda _: None
) -> None:
    """SIGKILL 50 to 1500 ms after the start, every other time counted from when it is up and seals.

    `meanwhile` does something more to a life that is up; it is given the number of that life.
    """
    chance = random.Random(seed)
    for number in range(rounds):
        began = time.monotonic()
        lab.start_agent()
        if number % 2:
            lab.await_answer()
            lab.note_recovery(began)
            meanwhile(number // 2)
        time.sleep(chance.uniform(0.05, 1.5))
        lab.kill("agent")
        if number % 10 == 9:
            lab.check_books()


def storm_of_restarts(lab: Installation, rounds: int) -> None:
    """SIGKILL right at the start, again and again: it adds nothing and loses nothing."""
    lab.recover()
    lab.kill("agent")
    chance = random.Random(rounds)
    for _ in range(rounds):
        lab.start_agent()
        time.sleep(chance.uniform(0, 0.4))
        lab.kill("agent")
    lab.recover()
    lab.kill("agent")


def cut_power(lab: Installation, disk: Disk, rounds: int, *, seed: int = 0) -> None:
    """The disk takes nothing any more at a random moment of the agent's life, and the agent does nothing any more.

    It is stopped first; what it had asked of the kernel goes on, and the cut falls into that. Were it to go on itself,
    it could act on a sync that the kernel calls done although the cut ended ext4's log (once in 45 such rounds it
    published a batch after the cut that was not on the disk); no processor outlives its power.
    """
    lab.recover()
    lab.wait_until(lambda: lab.account() is not None, PATIENCE_S, "the platform has booked a first batch")
    chance = random.Random(seed)
    for _ in range(rounds):
        time.sleep(chance.uniform(0, 1.2))
        lab.freeze("agent")
        disk.cut_power()
        lab.kill("agent")
        disk.unmount()
        disk.mount()
        chain, seq = lab.booked_head()
        lab.recover()
        held = lab.head()
        assert held is not None and held[0] == chain and held[1] >= seq, f"booked {chain} {seq}, held {held}"
        lab.check_books()
    lab.kill("agent")


def calls_of_a_life(lab: Installation) -> Counter[str]:
    """How often the journal's thread writes and syncs from a start after a kill until two batches are sealed."""
    lab.start_agent(under=strace(lab.folder, f"trace=pwrite64,{SYNCS}"))
    lab.await_cuts(2)
    lab.kill("agent")
    return calls(lab.folder)


def inject(lab: Installation, call: str, what: str, numbers: Sequence[int]) -> tuple[int, int]:
    """At the call of each of these numbers, counted from a start and each in a life of its own, `what` happens.

    Gives how often it did, and how often the agent ended by itself. After a failed write or sync it has to: only a new
    process can know what the file holds.
    """
    hits = ends = 0
    for number in numbers:
        lab.start_agent(
            under=strace(lab.folder, f"trace={call}", f"inject={call}:{what}:when={number}"),
        )
        code = lab.await_end(cuts=3)
        hit = code == -signal.SIGKILL if "KILL" in what else injected(lab.folder) > 0
        hits += hit
        ends += code is not None
        if hit and "EIO" in what:
            assert code not in (None, 0, CONFIGURATION), (
                f"{call} {number}: {what}, and the agent ended with {code}"
            )
        if code == CONFIGURATION:
            raise AssertionError(lab.log_of("agent").read_text(errors="replace")[-3000:])
        if "EIO" in what and hit:  # several failures in a row would mean a bad disk, and a journal made anew
            lab.recover()
            lab.kill("agent")
        lab.check_books()
    return hits, ends


def fill_disk(lab: Installation, disk: Disk, rounds: int) -> None:
    """Not a byte is free for a while; every other time the agent dies in it and has to start on a full disk."""
    lab.recover()
    for number in range(rounds):
        with disk.filled():
            time.sleep(3)
            if number % 2:
                lab.kill("agent")
                lab.start_agent()
                time.sleep(4)
        began = time.monotonic()
        if lab.processes["agent"].poll() is not None:
            del lab.processes["agent"]
            lab.recover()
        lab.await_cuts(2)
        lab.note_recovery(began)
        lab.check_books()
    lab.kill("agent")


def make_read_only(lab: Installation, disk: Disk, rounds: int) -> None:
    """The agent comes up on a disk that takes nothing; systemd starts it again until it does."""
    lab.recover()
    for _ in range(rounds):
        lab.kill("agent")
        with disk.read_only():
            for _ in range(2):
                lab.start_agent()
                code = lab.await_end(cuts=1)
                assert code not in (None, 0), "nothing can be sealed on a disk that takes nothing"
        lab.recover()
        lab.check_books()
    lab.kill("agent")


def stand_still(
    lab: Installation, names: Sequence[str], rounds: int, *, longest_s: float, seed: int = 0
) -> None:
    """SIGSTOP for up to so long at random moments, to one or several of these processes at once.

    A machine that is short of processors does that to its programs, between any two instructions. One that goes on then
    finds answers that are long there, timers that are long due, and a clock that has moved while it looked at it.
    """
    lab.recover()
    chance = random.Random(seed)
    for number in range(rounds):
        stopped = chance.sample(names, chance.randint(1, len(names)))
        for name in stopped:
            lab.freeze(name)
            time.sleep(chance.choice((0, 0, chance.uniform(0, longest_s / 4))))
        time.sleep(chance.uniform(0, longest_s))
        for name in chance.sample(stopped, len(stopped)):
            lab.thaw(name)
            time.sleep(chance.choice((0, chance.uniform(0, longest_s / 4))))
        time.sleep(chance.uniform(0, 0.8))
        if number % 20 == 19:
            lab.check_alive()
            lab.check_books()
