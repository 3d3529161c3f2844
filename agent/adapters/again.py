"""Being started again with another site file: by the service manager where there is one, else by ourselves.

A new process is the only one that has nothing of the old site in it. Under systemd it is enough to end: the unit says
`Restart=always`, and a process that has announced its end must not go on under the same id. Where nobody would start
us again, the program replaces itself: same id, same arguments, same folder. All open files are marked to be closed.
"""

import os
import sys
from collections.abc import Mapping
from typing import NoReturn


def has_manager(environment: Mapping[str, str] = os.environ, process: int | None = None) -> bool:
    """Whether systemd started this very process, and so starts it again when it ends."""
    main_process = environment.get("SYSTEMD_EXEC_PID", "")
    return "NOTIFY_SOCKET" in environment or main_process == str(os.getpid() if process is None else process)


def start_again() -> NoReturn:
    """Replace this process by the same program, begun from its start."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
