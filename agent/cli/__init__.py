"""`metering-agent`: the installer's and the operator's command line.

Each command is a module of its own that is imported when it is asked for, so that `--help` is quick and a library that
one command needs cannot stop the others. Every command ends in the same few ways; see `agent.cli.exits`.
"""

from agent.cli.group import main

__all__ = ["main"]
