"""`make fuzz RUNS=200000`: every parser so many times, guided by coverage; exit code 1 where one escapes.

    python -m tests.fuzz.campaign --runs 200000 [TARGET ...]

Each target runs in a process of its own (libFuzzer ends the process at a finding). The input of a finding is kept in
the folder named at the end; it belongs into `tests/fuzz/crashers/TARGET/` with the correction, and `make test` tries it
for ever after. Where atheris is not installed (it has wheels for Linux on x86-64 only) the seeded mutations of
`targets` take its place, and the output says so.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("rtu", "mbap", "dlt645", "decode", "json", "envelope", "payload", "packets", "toml", "site")

BYTES_MAX = {"rtu": 160, "mbap": 300, "dlt645": 300, "decode": 64, "packets": 600, "toml": 600, "site": 64}
"""The longest input of a parser: some frames, a paragraph of a site file, eight edits; more costs time only."""
BYTES_MAX_OF_OTHERS = 4_096
"""A message of the wire format; those above the limits of length are vectors (`tests/vectors`)."""


def main() -> int:
    """Run the targets one after the other. Returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200_000)
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", default=[])
    options = parser.parse_args()
    if options.one:
        _run_one(options.one, options.runs, options.folder)
        return 0
    wanted = options.targets or list(NAMES)
    if not set(wanted) <= set(NAMES):
        parser.error(f"there are {', '.join(NAMES)}")
    guided = importlib.util.find_spec("atheris") is not None
    print(
        f"{options.runs} runs of each parser, {'guided by coverage' if guided else 'seeded mutations'}",
        flush=True,
    )
    return 1 if [name for name in wanted if not _passes(name, options.runs)] else 0


def _passes(name: str, runs: int) -> bool:
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    command = [sys.executable, "-m", "tests.fuzz.campaign", "--one", name, "--runs", str(runs)]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--folder", str(folder)], capture_output=True, text=True, errors="replace", check=False
    )
    seconds = time.monotonic() - started
    if done.returncode == 0:
        print(f"{name:9} {seconds:6.1f} s  nothing escaped", flush=True)
        return True
    print(f"{name:9} {seconds:6.1f} s  ESCAPE, see {folder}", flush=True)
    print("\n".join((done.stdout + done.stderr).splitlines()[-40:]), flush=True)
    return False


def _run_one(name: str, runs: int, folder: Path) -> None:
    try:
        import atheris  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        _run_seeded(name, runs, folder)
        return
    with atheris.instrument_imports(
        include=["agent.reporting", "agent.protocol", "agent.metering", "agent.settings", "simulators.broker"]
    ):
        from tests.fuzz import corpus as start
        from tests.fuzz import targets
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(start.seeds(name)):
        (corpus / f"{number:05}").write_bytes(seed)
    # The seeds alone take a run each; they are not counted against what was asked for.
    arguments = [
        f"-runs={runs + len(list(corpus.iterdir()))}",
        "-seed=1",
        f"-max_len={BYTES_MAX.get(name, BYTES_MAX_OF_OTHERS)}",
        "-timeout=30",
        f"-artifact_prefix={folder}{os.sep}",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *arguments], targets.TARGETS[name])
    atheris.Fuzz()


def _run_seeded(name: str, runs: int, folder: Path) -> None:
    from tests.fuzz.targets import TARGETS, mutants

    for data in mutants(name, runs):
        (folder / "last").write_bytes(data)
        TARGETS[name](data)


if __name__ == "__main__":
    sys.exit(main())
