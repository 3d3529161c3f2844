"""strace as the hand of fate: what happens at the n-th write or sync of a life, and how many there are."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.programs import find

SYNCS = "fdatasync,fsync"


def strace(folder: Path, *expressions: str, more: Sequence[str] = ()) -> tuple[str, ...]:
    """strace as a bystander (-D: the agent stays our child), which stops only at the calls that are named.

    At all calls, which is slow, where a signal is injected: with --seccomp-bpf strace 6.1 sends none after the first
    call (measured: when=3 never came, an injected error did).
    """
    options = [option for expression in expressions for option in ("-e", expression)]
    fast = () if any("signal=" in expression for expression in expressions) else ("--seccomp-bpf",)
    return (str(find("strace")), "-D", "-f", *fast, "-qq", "-o", str(_notes(folder)), *more, *options)


def calls(folder: Path) -> Counter[str]:
    """How often each call that was traced was made by the thread that made the most of them: the journal's."""
    found = re.findall(r"^(\d+) +(\w+)\(", _text(folder), re.MULTILINE)
    threads = Counter(thread for thread, _ in found)
    if not threads:
        return Counter()
    journal = threads.most_common(1)[0][0]
    return Counter(call for thread, call in found if thread == journal)


def injected(folder: Path) -> int:
    """How often a call was made to fail, or to wait."""
    return len(re.findall(r"\((?:INJECTED|DELAYED)", _text(folder)))


def moments_of(folder: Path, pattern: str) -> list[float]:
    """When (Unix seconds, with -ttt) each call was made whose line begins so."""
    found = re.finditer(rf"^\d+ +(\d+\.\d+) {pattern}", _text(folder), re.MULTILINE)
    return [float(match[1]) for match in found]


def _notes(folder: Path) -> Path:
    return folder / "strace"


def _text(folder: Path) -> str:
    file = _notes(folder)
    return file.read_text(errors="replace") if file.exists() else ""
