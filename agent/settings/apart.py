"""Reading a site file in a process of its own.

The library that checks the shape of the file takes 17 MB that a daemon would carry for years after it was needed for
a third of a second. So the service lets a child read the file and takes over the values, which are plain.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from agent.settings.values import Site


def load_site_apart(path: Path, *, any_budget: bool = False) -> Site:
    """`load_site` in a child process; raises the same ConfigError."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as child:
        return child.submit(_load, path, any_budget).result()


def _load(path: Path, any_budget: bool) -> Site:
    from agent.settings.site import load_site

    return load_site(path, any_budget=any_budget)
