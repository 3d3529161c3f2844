"""A gateway's public key, signed by itself: what asks the platform's operator to register it.

It proves that whoever sent it has the private key, and nothing else; a person compares the thumbprint over another
channel (wire format, section 7). Before this comes `keygen`, after it the platform's list of keys that wait for
approval, and the `proof` of a key rotation, which is the same message.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.reporting.utc import text_of_ms
from agent.reporting.wire import VERSION, Members, WireError

_SHORT_FORM_CHARACTERS = 20


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who asks, with which public key (as a JWK), when (UTC Unix ms) and with which version of the agent."""

    org: str
    agent: str
    jwk: Mapping[str, str]
    at_ms: int
    sw: str

    def to_payload(self) -> dict[str, object]:
        """The payload to seal with the private half of `jwk`."""
        return {
            "v": VERSION,
            "org": self.org,
            "agent": self.agent,
            "jwk": dict(self.jwk),
            "at": text_of_ms(self.at_ms),
            "sw": self.sw,
        }

    @classmethod
    def from_payload(cls, payload: object) -> "Enrolment":
        """Read a payload. Whether its key is one, and signed it, is for `adapters.keys` to say. Raises WireError."""
        members = Members(payload)
        members.version()
        return cls(
            org=members.identifier("org"),
            agent=members.identifier("agent"),
            jwk=_jwk(members.members("jwk")),
            at_ms=members.time_ms("at"),
            sw=members.text("sw"),
        )


def _jwk(members: Members) -> dict[str, str]:
    if members.has("d"):
        raise WireError(members.place("d"), "a private key has no place in a message")
    names = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y")}[members.choice("kty", ("OKP", "EC"))]
    return {name: members.text(name) for name in names}


def short_form(kid: str) -> str:
    """The first 120 bits of a thumbprint in groups of four, to be read out on the telephone.

    Twenty characters of base64url; upper and lower case count. Finding a second key with the same short form takes
    2^120 attempts, so that it is as good as the whole for a comparison by eye.
    """
    text = kid[:_SHORT_FORM_CHARACTERS]
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))
