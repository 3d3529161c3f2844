"""Asking the running agent: where its control socket is, and what it means when it does not answer.

The socket is found with nothing but `journal.path`, so that a site file with a fault in it does not keep a person from
seeing how the agent is that still runs with the file of yesterday.
"""

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.errors import ConfigError, RetryLater
from agent.settings.values import control_socket_of


class NotRunning(RetryLater):
    """Nobody answers on the control socket, because no agent runs."""


def journal_of(site_file: Path) -> Path:
    """Where the journal of a site file is. Raises ConfigError where that cannot be found out."""
    try:
        document = tomllib.loads(site_file.read_text("utf-8"))
        name = document.get("journal", {}).get("path", "journal.db")
        return site_file.parent / str(name)
    except (OSError, ValueError, AttributeError, TypeError):
        from agent.settings.site import load_site  # it says better what is wrong

        return load_site(site_file).journal.path


def ask_agent(
    site_file: Path, question: str, arguments: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The running agent's answer.

    Raises NotRunning, RetryLater where it runs and does not answer, ConfigError where this user may not ask.
    """
    from agent.adapters.control import ask

    return _asked(site_file, lambda socket: ask(socket, question, arguments))


def ask_agent_once(
    site_file: Path, question: str, arguments: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The same for a question whose answer may take a while: the first line of a stream."""
    from agent.adapters.control import ask_for_lines

    return _asked(site_file, lambda socket: json.loads(next(ask_for_lines(socket, question, arguments), b"")))


def _asked(site_file: Path, ask: Callable[[Path], object]) -> dict[str, object]:
    socket = control_socket_of(journal_of(site_file))
    try:
        answer = ask(socket)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(
            f"no agent runs on {site_file} (nobody answers on {socket});"
            " start it with: systemctl start metering-agent, or metering-agent run --site"
            f" {site_file}"
        ) from None
    except PermissionError:
        remedy = "ask as the user who runs the agent, or as root: sudo metering-agent ..."
        raise ConfigError.of(socket, "this user may not ask the agent", remedy) from None
    except (OSError, ValueError) as error:
        raise RetryLater(
            f"the agent on {site_file} runs and does not answer ({str(error) or 'time is up'}); "
            "it may be busy with its disk; try again, and look into its log if it stays"
        ) from None
    if not isinstance(answer, dict) or "error" in answer:
        said = answer.get("error") if isinstance(answer, dict) else answer
        if not str(said).startswith("unknown question"):
            raise RetryLater(f"the running agent could not do this: {said}")
        raise RetryLater(f"the running agent does not know this question ({said}); is it an older version?")
    return answer
