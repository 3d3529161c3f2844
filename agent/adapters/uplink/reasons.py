"""What brokers and networks say when something fails, in sentences for the person who has to mend it.

Every MQTT 5 reason code that can end a connection or refuse a message has its sentence here, and so has every exception
that can come out of a socket. A test compares the tables with the codes that the MQTT library knows. Used by
`agent.adapters.uplink`.
"""

import errno
import socket
import ssl
from dataclasses import dataclass
from enum import Enum

from paho.mqtt.client import WebsocketConnectionError

from agent.adapters.uplink.tunnel import ProxyFailed


class BrokerMisbehaves(ConnectionAbortedError):
    """The broker sends what it was told not to send."""


class Pace(Enum):
    """When to connect again."""

    KNOCK = "nobody is there, and asking costs nobody anything"
    SOON = "back-off with full jitter"
    SLOWLY = "a person has to act first"
    TAKEN_OVER = "another client uses our name"


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection ended or was not made, in a sentence for a person, and when to try again."""

    reason: str
    pace: Pace = Pace.SOON


CLOSED_WITHOUT_A_WORD = Ending("the broker closed the connection without a word")

# Codes with which a broker refuses a connection (CONNACK) or ends it (DISCONNECT).
CONNECTION_CODES: dict[int, Ending] = {
    0x00: Ending("the broker closed the connection without giving a reason"),
    0x80: Ending("the broker ended the connection for an unspecified reason; its log may say more"),
    0x81: Ending("the broker could not read our packet; is it an MQTT 5 broker?", Pace.SLOWLY),
    0x82: Ending("the broker says that we broke the protocol; its log may say more", Pace.SLOWLY),
    0x83: Ending("the broker refused for a reason of its own; its log may say more", Pace.SLOWLY),
    0x84: Ending("the broker does not speak MQTT 5; enable it there or name another broker", Pace.SLOWLY),
    0x85: Ending(
        "the broker does not accept our client id; check gateway.org and gateway.agent", Pace.SLOWLY
    ),
    0x86: Ending(
        "the broker does not know this user name or password; check them in the site file", Pace.SLOWLY
    ),
    0x87: Ending(
        "the broker does not authorise this gateway; check user name, password and client certificate, "
        "or ask the platform's operator to admit it",
        Pace.SLOWLY,
    ),
    0x88: Ending("the broker is there, but not available"),
    0x89: Ending("the broker is busy"),
    0x8A: Ending("the broker has banned this gateway; ask the platform's operator why", Pace.SLOWLY),
    0x8B: Ending("the broker is shutting down"),
    0x8C: Ending("the broker wants another way of authentication; ask the platform's operator", Pace.SLOWLY),
    0x8D: Ending("the broker did not hear from us within the keep-alive time"),
    0x8E: Ending(
        "another client connected with our client id; look for a second agent or a copied gateway",
        Pace.TAKEN_OVER,
    ),
    0x8F: Ending(
        "the broker does not accept the topics we subscribe to; ask the platform's operator", Pace.SLOWLY
    ),
    0x90: Ending("the broker does not accept our status topic; ask the platform's operator", Pace.SLOWLY),
    0x93: Ending("the broker says that too many of our messages were unacknowledged"),
    0x94: Ending("the broker says that we used a topic alias, which we never do", Pace.SLOWLY),
    0x95: Ending("a message was too large for the broker, which must accept 320 KiB", Pace.SLOWLY),
    0x96: Ending("the broker says that we send too fast"),
    0x97: Ending("a quota at the broker is used up; ask the platform's operator to raise it", Pace.SLOWLY),
    0x98: Ending("an administrator of the broker ended the connection", Pace.SLOWLY),
    0x99: Ending("the broker found the payload not to be what it is called", Pace.SLOWLY),
    0x9A: Ending(
        "the broker does not support retained messages, which status and descriptor need", Pace.SLOWLY
    ),
    0x9B: Ending("the broker does not support QoS 1, which every message needs", Pace.SLOWLY),
    0x9C: Ending(
        "the broker sends us to another server; name it as platform.broker if that is right", Pace.SLOWLY
    ),
    0x9D: Ending("the broker has moved; name its new place as platform.broker if that is right", Pace.SLOWLY),
    0x9E: Ending("the broker does not support shared subscriptions, which we never use", Pace.SLOWLY),
    0x9F: Ending("the broker gets too many connections", Pace.SLOWLY),
    0xA0: Ending("the broker allows no longer connection"),
    0xA1: Ending("the broker does not support subscription identifiers, which we never use", Pace.SLOWLY),
    0xA2: Ending("the broker does not support wildcard subscriptions", Pace.SLOWLY),
}

# Codes of a PUBACK that mean "not delivered".
PUBLISH_CODES: dict[int, str] = {
    0x10: "nobody is subscribed to it; it is kept and sent again when the platform is connected to this broker",
    0x80: "the broker refused it for an unspecified reason; its log may say more",
    0x83: "the broker refused it for a reason of its own; its log may say more",
    0x87: "the broker does not authorise it; ask the platform's operator for the right to publish there",
    0x90: "the broker does not accept the topic; ask the platform's operator",
    0x91: "the broker says that its packet identifier is in use",
    0x95: "it is larger than this broker accepts; brokers must accept 320 KiB",
    0x97: "a quota at the broker is used up; ask the platform's operator to raise it",
    0x99: "the broker found the payload not to be what it is called; ask the platform's operator",
    0x9A: "the broker does not support retained messages; ask the platform's operator",
}

_ASK = "ask the platform's operator for the right to subscribe"
# Codes of a SUBACK; 0x01, QoS 1 as we asked, is the only one that we can live with.
SUBSCRIBE_CODES: dict[int, str] = {
    0x00: f"it would send with QoS 0, which may lose an acknowledgement; {_ASK} with QoS 1",
    0x02: "it would send with QoS 2, which we did not ask for; its log may say more",
    0x80: "for an unspecified reason; its log may say more",
    0x83: "for a reason of its own; its log may say more",
    0x87: f"we are not authorised; {_ASK}",
    0x8F: f"it does not accept the topic; {_ASK}",
    0x91: "it says that the packet identifier is in use",
    0x97: "a quota at the broker is used up; ask the platform's operator to raise it",
    0x9E: "it does not support shared subscriptions, which we never use",
    0xA1: "it does not support subscription identifiers, which we never use",
    0xA2: "it does not support wildcard subscriptions, which we never use",
}

# OpenSSL's verification errors that an installer can put right (X509_V_ERR_*).
_CERTIFICATE_REMEDIES = {
    9: "it is not valid yet; check the time of this gateway before anything else",
    10: "it has expired; check the time of this gateway, then ask the platform's operator for a new one",
    18: "it is self-signed and not the one in ca_file; check platform.ca_file",
    19: "its authority is not the one in ca_file; check platform.ca_file",
    20: "its authority is not the one in ca_file; check platform.ca_file",
    62: "it is for another host name; check platform.broker",
    64: "it is for another address; check platform.broker",
}


_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL)


def describe_failure(error: BaseException) -> Ending:
    """Say what an exception on the way to the broker means to the person who has to mend it."""
    match error:
        case ssl.SSLCertVerificationError():
            remedy = _CERTIFICATE_REMEDIES.get(
                error.verify_code, error.verify_message or "check platform.ca_file"
            )
            return Ending(f"the broker's certificate was refused: {remedy}", Pace.SLOWLY)
        case ssl.SSLError():
            what = getattr(error, "reason", None) or str(error)
            return Ending(
                f"TLS with the broker failed ({what}); is it the TLS port, and is our certificate admitted?"
            )
        case socket.gaierror():
            return Ending(
                f"the broker's name was not found ({error.strerror}); check platform.broker and the DNS",
                Pace.KNOCK,
            )
        case ProxyFailed():
            return Ending(str(error), Pace.SLOWLY if error.by_rule else Pace.SOON)
        case WebsocketConnectionError():
            remedy = "check the path in platform.broker and whether a proxy in between allows WebSocket"
            return Ending(f"what answers there does not speak MQTT over WebSocket; {remedy}", Pace.SLOWLY)
        case BrokerMisbehaves():
            return Ending(str(error), Pace.SLOWLY)
        case ConnectionRefusedError():
            reason = "nobody listens there; check platform.broker and whether the broker runs"
            return Ending(reason, Pace.KNOCK)
        case TimeoutError():
            return Ending("the broker's host did not answer; check the network and the firewall", Pace.KNOCK)
        case OSError():
            pace = Pace.KNOCK if error.errno in _NO_WAY else Pace.SOON
            return Ending(f"the network failed: {error.strerror or error}", pace)
    return Ending(f"the MQTT library failed: {type(error).__name__}: {error}")
