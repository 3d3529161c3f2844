"""How figures are printed: what was measured, what it has to be, and whether it is."""

import os
import platform
from pathlib import Path

_missed: list[str] = []


def machine() -> str:
    """On what it was measured."""
    load = os.getloadavg()[0]
    return (
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {load:.2f} at the beginning{_model()}"
    )


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f", {line.split(':', 1)[1].strip()}"
    return ""


def heading(name: str) -> None:
    """A section begins."""
    print(f"\n== {name}", flush=True)


def say(text: str) -> None:
    """A figure without a bar."""
    print(f"   {text}", flush=True)


def judge(what: str, figure: str, bar: str, good: bool) -> None:
    """A figure with its bar."""
    print(f"{'ok ' if good else 'NOT'} {what}: {figure} ({bar})", flush=True)
    if not good:
        _missed.append(f"{what}: {figure} ({bar})")


def verdict() -> int:
    """The end: what was missed."""
    if _missed:
        print(f"\n{len(_missed)} figures missed:")
        for line in _missed:
            print(f"  {line}")
    else:
        print("\nall figures reached")
    return 1 if _missed else 0
