"""The way through a factory's HTTP proxy: CONNECT, and then the connection is ours, with TLS inside as without a proxy.

A few lines of our own and no library: paho's own way needs one for SOCKS, which no factory asked for. The proxy sees
the broker's name and port, its own password where it wants one (RFC 7617, Basic, the one way that every proxy knows),
and nothing else; its word is bounded in size and time. Used by `client`, in the thread that connects.
"""

import base64
import socket
from dataclasses import dataclass, field

ANSWER_BYTES_MAX = 16 * 1024


class ProxyFailed(ConnectionError):
    """The proxy did not open the way; the text is a sentence for a person. `by_rule`: a person has to change a rule."""

    def __init__(self, sentence: str, *, by_rule: bool = False) -> None:
        super().__init__(sentence)
        self.by_rule = by_rule


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that lets us through with CONNECT; `login` is a user name without a colon and a password."""

    host: str
    port: int
    login: tuple[str, str] | None = field(default=None, repr=False)

    def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A connection to the host behind the proxy, which also looks up its name. Raises ProxyFailed."""
        try:
            connection = socket.create_connection((self.host, self.port), timeout_s)
        except socket.gaierror as error:
            reason = f"the proxy's name was not found ({error.strerror}); check platform.proxy and the DNS"
            raise ProxyFailed(reason) from error
        except TimeoutError as error:
            raise ProxyFailed("the proxy's host did not answer; check platform.proxy") from error
        except OSError as error:
            reason = f"the proxy cannot be reached ({error.strerror or error}); check platform.proxy"
            raise ProxyFailed(reason) from error
        try:
            self._ask(connection, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _ask(self, connection: socket.socket, place: str) -> None:
        try:
            connection.sendall(self._request(place))
            head = _head(connection)
            status = _status_of(head)
        except TimeoutError as error:
            raise ProxyFailed("the proxy took our request and did not answer; ask who runs it") from error
        except ProxyFailed:
            raise
        except OSError as error:
            raise ProxyFailed(f"the proxy broke the connection ({error.strerror or error})") from error
        if status == 407:
            raise _locked(_schemes_of(head), with_login=self.login is not None)
        if not 200 <= status <= 299:
            raise _refusal(status, place)

    def _request(self, place: str) -> bytes:
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if self.login is not None:
            token = base64.b64encode(":".join(self.login).encode()).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {token}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")


def _head(connection: socket.socket) -> bytes:
    """The answer up to its empty line; byte by byte, because what follows belongs to the broker."""
    head = bytearray()
    while not head.endswith((b"\r\n\r\n", b"\n\n")):
        byte = connection.recv(1)
        if not byte:
            raise ProxyFailed("the proxy closed the connection without an answer; is it an HTTP proxy?")
        head += byte
        if len(head) > ANSWER_BYTES_MAX:
            raise ProxyFailed("the proxy's answer is too long; is it an HTTP proxy?", by_rule=True)
    return bytes(head)


def _status_of(head: bytes) -> int:
    words = head.split(b"\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit() or len(words[1]) != 3:
        raise ProxyFailed("what answers at platform.proxy is no HTTP proxy", by_rule=True)
    return int(words[1])


def _schemes_of(head: bytes) -> set[str]:
    """The first words of its `Proxy-Authenticate` lines, in small letters: what it wants to be proved how."""
    schemes = set()
    for line in head.split(b"\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"proxy-authenticate" and value.split():
            schemes.add(value.split()[0].decode("ascii", "replace").lower())
    return schemes


def _locked(schemes: set[str], *, with_login: bool) -> ProxyFailed:
    """What to do about a 407."""
    instead = "or ask who runs it to let this gateway through without one"
    if schemes and "basic" not in schemes:
        kinds = ", ".join(repr(scheme[:40]) for scheme in sorted(schemes)[:4])
        reason = f"the proxy wants a proof that we do not know (407: {kinds}); ask who runs it for Basic, {instead}"
    elif with_login:
        reason = (
            "the proxy does not know this user name or password (407); check platform.proxy_username and its "
            f"password, {instead}"
        )
    else:
        reason = (
            "the proxy wants a password (407), and none is given; add platform.proxy_username with "
            f"proxy_password_file or proxy_password_credential, {instead}"
        )
    return ProxyFailed(reason, by_rule=True)


def _refusal(status: int, place: str) -> ProxyFailed:
    match status:
        case 400 | 403 | 405 | 501:
            remedy = f"ask who runs it to allow CONNECT to {place}"
            return ProxyFailed(f"the proxy does not let us through ({status}); {remedy}", by_rule=True)
        case 502 | 503 | 504:
            remedy = "check platform.broker, and whether the proxy's network reaches it"
            return ProxyFailed(f"the proxy did not reach {place} ({status}); {remedy}")
    return ProxyFailed(f"the proxy answered {status}; ask who runs it", by_rule=True)
