"""Start a program in the sandbox that a unit file describes, without systemd: as far as this machine lets us.

    python -m tests.systemd.sandbox PLAN.json

The plan (see `Plan`) names the unit, the user, and which folders of a test stand for those of the gateway. As root it
takes mount, user, UTS and IPC namespaces; the system call filters are put together with libseccomp from the same sets
that systemd uses, and loaded the way systemd loads them. `HOW` and `NOT_HERE` say for each directive of the unit what
is done, or why it cannot be done here; what was really applied is written down as JSON before the program takes over.

The process becomes the program (same process id), so it can be watched, signalled and asked to notify like a service.
"""

import ctypes
import ctypes.util
import errno
import json
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.systemd.unitfile import Section, one, read_unit

# sched.h, mount.h, prctl.h, syscall.h (x86-64 and aarch64 agree on mount_setattr)
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x20000, 0x4000000, 0x8000000, 0x10000000
NAMESPACES = (CLONE_NEWNS, 0x2000000, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, 0x20000000, 0x40000000)
MS_REC, MS_PRIVATE, MS_BIND, MS_NOSUID_NODEV = 0x4000, 0x40000, 0x1000, 0x6
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EQ, GT, GE, NE, MASKED_EQ = 4, 6, 5, 1, 7
PROT_WRITE, PROT_EXEC = 2, 4

_libc = ctypes.CDLL(None, use_errno=True)

NOT_HERE = {
    "IPAddressDeny": "a BPF program in the service's cgroup; there is no cgroup of our own here",
    "IPAddressAllow": "as IPAddressDeny=",
    "DevicePolicy": "the devices cgroup",
    "DeviceAllow": "the devices cgroup",
    "MemoryMax": "the memory cgroup; the test measures the peak instead",
    "TasksMax": "the pids cgroup; the test counts the threads instead",
    "KeyringMode": "session keyrings are made by the service manager",
    "LoadCredentialEncrypted": "decrypted by the service manager; the test lays the plain credential where it would be",
    "RemoveIPC": "done by the service manager after the last process of the user",
    "Group": "the user's own group is taken",
    "AmbientCapabilities": "there are none to begin with",
    "PrivateMounts": "as ProtectSystem=, which has mounts of its own",
}
SERVICE_MANAGER = {
    *("Type", "NotifyAccess", "ExecStart", "TimeoutStartSec", "TimeoutStopSec", "WatchdogSec", "Restart"),
    *("RestartSec", "RestartPreventExitStatus", "SyslogIdentifier", "LogRateLimitIntervalSec"),
    "LogRateLimitBurst",
}
"""What says how the service is run and does not restrict it."""


@dataclass
class Plan:
    """What the test decides.

    `binds` says which folder of the test stands for which of the gateway, the writable one first; empty where this
    machine gives us no namespaces (`can_unshare`), which leaves what a process can do to itself.
    """

    unit: str
    command: list[str]
    report: str
    uid: int
    binds: dict[str, str]
    sets: dict[str, list[str]]
    libseccomp: str
    environment: dict[str, str] = field(default_factory=dict)

    def save(self, file: Path) -> Path:
        file.write_text(json.dumps(asdict(self)))
        return file


def syscall_sets(systemd_analyze: Path) -> dict[str, list[str]]:
    """The groups of system calls that systemd knows, by name (`@system-service`), as they are written."""
    command = [str(systemd_analyze), "syscall-filter", "--no-pager"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    sets: dict[str, list[str]] = {}
    for line in text.splitlines():
        word = line.strip()
        if line.startswith("@"):
            sets[word] = []
        elif word and not word.startswith("#") and sets:
            sets[list(sets)[-1]].append(word)
    return sets


def can_unshare() -> bool:
    """Whether this process may make namespaces (root, and a container that lets it)."""
    question = (
        f"import ctypes; raise SystemExit(ctypes.CDLL(None).unshare({CLONE_NEWNS | CLONE_NEWUSER}) != 0)"
    )
    return os.geteuid() == 0 and subprocess.run([sys.executable, "-c", question], check=False).returncode == 0


def find_libseccomp() -> str | None:
    """The library's name, None where this machine does not have it."""
    return ctypes.util.find_library("seccomp")


# ------------------------------------------------------------------------------------------------------ system calls


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


Condition = tuple[int, int, int] | tuple[int, int, int, int]


class Filter:
    """One seccomp filter; several of them are all asked, and the strictest answer counts."""

    def __init__(self, library: str, default: int) -> None:
        self._seccomp = ctypes.CDLL(library, use_errno=True)
        self._seccomp.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._seccomp.seccomp_init(default))

    def rule(self, name: str, action: int, condition: Condition | None = None) -> None:
        """What happens at this system call; one that this machine does not have is left out."""
        number = self._seccomp.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return
        comparison = _Comparison(*condition) if condition else None
        failed = self._seccomp.seccomp_rule_add_array(
            self._context,
            action,
            number,
            1 if condition else 0,
            ctypes.byref(comparison) if comparison is not None else None,
        )
        if failed and failed != -errno.EACCES:  # EACCES: the same as the default
            raise OSError(-failed, f"seccomp rule for {name}: {os.strerror(-failed)}")

    def load(self) -> None:
        """From now on."""
        failed = self._seccomp.seccomp_load(self._context)
        if failed:
            raise OSError(-failed, f"seccomp_load: {os.strerror(-failed)}")


def allowed_calls(values: Iterable[str], sets: dict[str, list[str]]) -> set[str]:
    """What a list of `SystemCallFilter=` lines allows, as systemd reads them: the first line says that it is a list of
    what is allowed, `~` takes away, and `@default` is always in it."""

    def expand(word: str) -> set[str]:
        if not word.startswith("@"):
            return {word}
        return set().union(*(expand(inner) for inner in sets[word]))

    allowed = expand("@default")
    for value in values:
        calls = set().union(*(expand(word) for word in value.removeprefix("~").split()))
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def _denied(library: str, *rules: tuple[str, Condition | None], number: int = errno.EPERM) -> None:
    """Load a filter that forbids only these."""
    made = Filter(library, ALLOW)
    for name, condition in rules:
        made.rule(name, ERRNO | number, condition)
    made.load()


def _system_call_filter(service: Section, plan: Plan) -> None:
    number = errno.errorcode  # EPERM -> 1
    code = next(value for value, name in number.items() if name == one(service, "SystemCallErrorNumber"))
    made = Filter(plan.libseccomp, ERRNO | code)
    for name in sorted(allowed_calls(service["SystemCallFilter"], plan.sets)):
        made.rule(name, ALLOW)
    made.load()


def _memory_deny_write_execute(_: Section, plan: Plan) -> None:
    both = PROT_WRITE | PROT_EXEC
    _denied(
        plan.libseccomp,
        ("mmap", (2, MASKED_EQ, both, both)),
        ("mprotect", (2, MASKED_EQ, PROT_EXEC, PROT_EXEC)),
        ("pkey_mprotect", (2, MASKED_EQ, PROT_EXEC, PROT_EXEC)),
        ("shmat", (2, MASKED_EQ, 0o100000, 0o100000)),
    )


def _restrict_address_families(service: Section, plan: Plan) -> None:
    numbers = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
    allowed = {numbers[name] for name in one(service, "RestrictAddressFamilies").split()}
    rules: list[tuple[str, Condition | None]] = [
        ("socket", (0, EQ, family)) for family in range(64) if family not in allowed
    ]
    _denied(plan.libseccomp, *rules, ("socket", (0, GT, 63)), number=errno.EAFNOSUPPORT)


def _restrict_namespaces(_: Section, plan: Plan) -> None:
    rules = [(name, (0, MASKED_EQ, flag, flag)) for name in ("clone", "unshare") for flag in NAMESPACES]
    _denied(plan.libseccomp, *rules, ("setns", None))
    _denied(plan.libseccomp, ("clone3", None), number=errno.ENOSYS)


def _restrict_realtime(_: Section, plan: Plan) -> None:
    rules: list[tuple[str, Condition | None]] = [
        ("sched_setscheduler", (1, EQ, policy)) for policy in (1, 2, 6)
    ]
    _denied(plan.libseccomp, *rules, ("sched_setscheduler", (1, GT, 6)))


def _restrict_suid_sgid(_: Section, plan: Plan) -> None:
    places = {
        "chmod": 1,
        "fchmod": 1,
        "fchmodat": 2,
        "mkdirat": 2,
        "mkdir": 1,
        "openat": 3,
        "open": 2,
        "creat": 1,
    }
    rules = [
        (name, (place, MASKED_EQ, bit, bit)) for name, place in places.items() for bit in (0o4000, 0o2000)
    ]
    _denied(plan.libseccomp, *rules)


def _lock_personality(_: Section, plan: Plan) -> None:
    _denied(plan.libseccomp, ("personality", (0, NE, 0)))


def _protect_hostname(_: Section, plan: Plan) -> None:
    _denied(plan.libseccomp, ("sethostname", None), ("setdomainname", None))


def _protect_kernel_logs(_: Section, plan: Plan) -> None:
    _denied(plan.libseccomp, ("syslog", None))


def _protect_kernel_modules(_: Section, plan: Plan) -> None:
    _denied(plan.libseccomp, ("init_module", None), ("finit_module", None), ("delete_module", None))


# ---------------------------------------------------------------------------------------------- the process and files


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode())
    _check(result, f"mount {kind or 'bind'} on {target}")


def _private_mounts(plan: Plan) -> None:
    """Private copies of the folders above to make mount points in, then the folders of the test in their places."""
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC), "unshare")
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    held = {target: os.open(source, os.O_PATH) for target, source in plan.binds.items()}
    _mount("sandbox", "/mnt", "tmpfs", MS_NOSUID_NODEV)
    for top in ("/etc", "/opt", "/run", "/var/lib"):
        upper, work = (f"/mnt/{kind}{top.replace('/', '-')}" for kind in ("upper", "work"))
        os.mkdir(upper, 0o755)
        os.mkdir(work)
        _mount("sandbox", top, "overlay", 0, f"lowerdir={top},upperdir={upper},workdir={work}")
    for target, handle in held.items():
        os.makedirs(target, mode=0o755, exist_ok=True)
        _mount(f"/proc/self/fd/{handle}", target, "", MS_BIND | MS_REC)
        os.close(handle)


def _read_only(path: str, on: bool) -> None:
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY if on else 0, 0 if on else MOUNT_ATTR_RDONLY, 0, 0)
    result = _libc.syscall(MOUNT_SETATTR, AT_FDCWD, path.encode(), AT_RECURSIVE, ctypes.byref(attributes), 32)
    _check(result, f"mount_setattr on {path}")


def _protect_system(_: Section, plan: Plan) -> None:
    """Everything read-only but the state directory, the private /tmp, and the API file systems."""
    _read_only("/", on=True)
    for writable in (next(iter(plan.binds)), "/tmp", "/var/tmp", "/proc", "/sys", "/dev"):
        _read_only(writable, on=False)


def _protect_kernel_tunables(_: Section, __: Plan) -> None:
    for path in ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/sys"):
        if Path(path).is_dir():
            _mount(path, path, "", MS_BIND | MS_REC)
            _read_only(path, on=True)


def _hide(folder: str, mode: str) -> None:
    """An empty folder in place of this one; what we run ourselves, if it is in there, is put back in its place."""
    needed = {sys.base_prefix, sys.prefix, str(Path(__file__).resolve().parents[2])}
    inside = {path: os.open(path, os.O_PATH) for path in needed if Path(path).is_relative_to(folder)}
    _mount("sandbox", folder, "tmpfs", MS_NOSUID_NODEV, f"mode={mode}")
    for path, handle in sorted(inside.items()):
        os.makedirs(path, exist_ok=True)
        _mount(f"/proc/self/fd/{handle}", path, "", MS_BIND | MS_REC)
        os.close(handle)


def _private_tmp(_: Section, __: Plan) -> None:
    for folder in ("/tmp", "/var/tmp"):
        _hide(folder, "1777")


def _protect_home(_: Section, __: Plan) -> None:
    for home in ("/home", "/root", "/run/user"):
        if Path(home).is_dir():
            _hide(home, "711")


def _protect_proc(_: Section, __: Plan) -> None:
    _mount("proc", "/proc", "proc", 0, "hidepid=invisible")


def _private_users(_: Section, plan: Plan) -> None:
    """Root and the service's user, nobody else. The map has to be written from outside."""
    ready = os.pipe()
    owner = os.getpid()
    if os.fork() == 0:
        try:
            os.read(ready[0], 1)
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{owner}/{name}").write_text(f"0 0 1\n{plan.uid} {plan.uid} 1\n")
        finally:
            os._exit(0)
    _check(_libc.unshare(CLONE_NEWUSER), "unshare user")
    os.write(ready[1], b".")
    os.wait()
    for handle in ready:
        os.close(handle)
    if os.getuid() != 0:
        raise OSError(errno.EPERM, "the user map could not be written")


def _capability_bounding_set(_: Section, __: Plan) -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        _check(_libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), f"capability {capability}")


def _user(_: Section, plan: Plan) -> None:
    os.setgroups([])
    os.setresgid(plan.uid, plan.uid, plan.uid)
    os.setresuid(plan.uid, plan.uid, plan.uid)


def _no_new_privileges(_: Section, __: Plan) -> None:
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def _state_directory(service: Section, plan: Plan) -> None:
    state = next(iter(plan.binds))
    assert state == f"/var/lib/{one(service, 'StateDirectory')}"
    os.chown(state, plan.uid, plan.uid)
    os.chmod(state, int(one(service, "StateDirectoryMode"), 8))


def _limit_core(service: Section, _: Plan) -> None:
    limit = int(one(service, "LimitCORE"))
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def _umask(service: Section, _: Plan) -> None:
    os.umask(int(one(service, "UMask"), 8))


def _environment(service: Section, plan: Plan) -> None:
    os.environ.clear()
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
    for value in service["Environment"]:
        for word in shlex.split(value):
            name, _, content = word.partition("=")
            os.environ[name] = content
    os.environ.update(plan.environment)


HOW: dict[str, Callable[[Section, Plan], None]] = {
    "StateDirectory": _state_directory,
    "PrivateTmp": _private_tmp,
    "ProtectHome": _protect_home,
    "ProtectProc": _protect_proc,
    "ProtectSystem": _protect_system,
    "ProtectKernelTunables": _protect_kernel_tunables,
    "LimitCORE": _limit_core,
    "UMask": _umask,
    "Environment": _environment,
    "PrivateUsers": _private_users,
    "CapabilityBoundingSet": _capability_bounding_set,
    "User": _user,
    "NoNewPrivileges": _no_new_privileges,
    "ProtectHostname": _protect_hostname,
    "ProtectKernelLogs": _protect_kernel_logs,
    "ProtectKernelModules": _protect_kernel_modules,
    "RestrictAddressFamilies": _restrict_address_families,
    "RestrictNamespaces": _restrict_namespaces,
    "RestrictRealtime": _restrict_realtime,
    "RestrictSUIDSGID": _restrict_suid_sgid,
    "LockPersonality": _lock_personality,
    "MemoryDenyWriteExecute": _memory_deny_write_execute,
    "SystemCallFilter": _system_call_filter,
}
"""In the order in which they can be done."""
TOGETHER = {
    "StateDirectoryMode": "StateDirectory",
    "ProtectControlGroups": "ProtectKernelTunables",  # /sys/fs/cgroup is below /sys
    "SystemCallErrorNumber": "SystemCallFilter",
    "SystemCallArchitectures": "SystemCallFilter",  # libseccomp kills calls of other architectures
}
NEEDS_NAMESPACES = {
    *("StateDirectory", "PrivateTmp", "ProtectHome", "ProtectProc", "ProtectSystem", "PrivateUsers"),
    *("CapabilityBoundingSet", "User", "ProtectKernelTunables"),
}


def main(plan_file: str) -> None:
    """Take every restriction there is and become the program."""
    plan = Plan(**json.loads(Path(plan_file).read_text()))
    service = read_unit(Path(plan.unit))["Service"]
    report = os.open(plan.report, os.O_WRONLY | os.O_CREAT, 0o600)
    applied, refused = [], {}
    if plan.binds:
        _private_mounts(plan)
    for name, apply in HOW.items():
        if name not in service:
            continue
        if name in NEEDS_NAMESPACES and not plan.binds:
            refused[name] = "this machine gives us no namespaces"
            continue
        try:
            apply(service, plan)
        except OSError as error:
            refused[name] = str(error)
        else:
            applied.append(name)
    os.write(report, json.dumps({"applied": applied, "refused": refused}).encode())
    os.close(report)
    os.execv(plan.command[0], plan.command)


if __name__ == "__main__":
    main(sys.argv[1])
