"""`metering-agent enrol`: show the key of this gateway to a person, and ask the platform to register it.

The thumbprint goes two ways: with the message over the broker, and by eye or telephone from one person to another. Only
both together make a registered key, because whoever sits on the network could send a message of his own.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.adapters.keys import Ed25519Signer
from agent.cli.exits import NO, TRY_AGAIN
from agent.cli.options import json_option, site_option
from agent.errors import ConfigError, Fault
from agent.settings.values import Site

if TYPE_CHECKING:
    from agent.adapters.uplink import MqttUplink

ATTEMPT_S = 15
"""Longest wait for the broker, in seconds."""
_NOBODY_SUBSCRIBED = 0x10


@dataclass(frozen=True, slots=True)
class Sent:
    """How it went with the broker. `code` is the exit code of the command, `text` a sentence."""

    ok: bool
    text: str
    code: int = 0


@click.command()
@site_option
@click.option(
    "--out",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also write the enrolment message to a new file, for a platform that is not reached over the broker.",
)
@click.option("--offline", is_flag=True, help="Do not send it; print it, to be carried there.")
@json_option
@click.pass_context
def enrol(ctx: click.Context, site_file: Path, file: Path | None, offline: bool, as_json: bool) -> None:
    """Show this gateway's thumbprint, as text and as a QR code, and send its enrolment message.

    The platform's operator compares the thumbprint with you over another channel than the network before the key
    counts. May be repeated. Exit code 0: sent, or written where --offline was said. 1: the broker refused it. 75: the
    broker was not reached; the message is printed, and may be carried there.
    """
    from agent.reporting.enrolment import short_form
    from agent.settings.site import load_site

    site = load_site(site_file, any_budget=True)
    signer = _signer(site)
    message = _message(site, signer)
    if file is not None:
        _write(file, message)
    sent = None if offline else asyncio.run(_publish(site, message))
    if as_json:
        facts = {
            "org": site.plant.org,
            "agent": site.plant.agent,
            "kid": signer.kid,
            "short": short_form(signer.kid),
            "jws": message.decode("ascii"),
            "file": None if file is None else str(file),
            "sent": sent is not None and sent.ok,
            "reason": None if sent is None else sent.text,
        }
        click.echo(json.dumps(facts))
    else:
        _show(site, signer, message, sent, file)
    ctx.exit(0 if sent is None else sent.code)


def _signer(site: Site) -> Ed25519Signer:
    from agent.adapters.keys import load_credential_signer, load_signer

    if site.signing.key_file is not None:
        return load_signer(site.signing.key_file)
    assert site.signing.credential is not None
    return load_credential_signer(site.signing.credential)


def _message(site: Site, signer: Ed25519Signer) -> bytes:
    """The sealed message; the moment in it is this gateway's clock and proves nothing."""
    from agent import __version__
    from agent.reporting.enrolment import Enrolment
    from agent.reporting.envelope import ENROLMENT, seal

    now_ms = time.time_ns() // 1_000_000
    who = site.plant
    enrolment = Enrolment(who.org, who.agent, signer.public_key.jwk, now_ms, __version__)
    return seal(ENROLMENT, enrolment.to_payload(), signer)


def _write(file: Path, message: bytes) -> None:
    try:
        with file.open("xb") as out:
            out.write(message + b"\n")
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise ConfigError(
            [Fault(str(file), None, "", reason, "choose another name; nothing was sent")]
        ) from error


async def _publish(site: Site, message: bytes) -> Sent:
    """Hand the message to the broker, under a client id of its own, so that a running agent keeps its connection."""
    from agent.errors import UplinkDown, UplinkRefused
    from agent.reporting import topics
    from agent.wiring import mqtt_uplink

    link, who = site.platform, site.plant
    if link.broker.is_none:
        return Sent(True, "there is no broker: the next stick carries it (metering-agent courier export)")
    try:
        uplink = mqtt_uplink(link, f"{who.org}/{who.agent}/enrol")
    except ConfigError as error:
        # A password that is a credential opens for the service alone; a person at the terminal carries the message.
        return Sent(False, "; ".join(map(str, error.faults)), TRY_AGAIN)
    topic = topics.enrolment(who.org, who.agent, link.topic_root)
    try:
        answers = topics.acknowledgement(who.org, who.agent, link.topic_root)
        reason = await _connected(uplink, answers, topic, message)
        if reason is not None:
            return Sent(False, reason, TRY_AGAIN)
        await uplink.publish(topic, message)
    except UplinkRefused as error:
        if error.code == _NOBODY_SUBSCRIBED:
            return Sent(False, f"{link.broker_url} has it and nobody listens: {error}", TRY_AGAIN)
        return Sent(False, str(error), NO)
    except UplinkDown as error:
        return Sent(False, str(error), TRY_AGAIN)
    finally:
        await uplink.stop()
    return Sent(True, f"sent to {link.broker_url} on {topic}")


async def _connected(uplink: "MqttUplink", subscribe: str, will_topic: str, message: bytes) -> str | None:
    """Wait for the connection; None where it is there, else what keeps it from being made.

    The uplink wants a will. Ours is the message itself: should this process die, the broker sends what was to be sent.
    It is not retained: an enrolment lies on its topic for nobody (wire format, section 2).
    """
    from agent.service.ports import Connected, Disconnected, Will

    await uplink.start(subscribe=(subscribe,), will=lambda _session: Will(will_topic, message, retain=False))
    reason = f"the broker did not answer within {ATTEMPT_S} s"
    try:
        async with asyncio.timeout(ATTEMPT_S):
            async for event in uplink.events():
                if isinstance(event, Connected):
                    return None
                if isinstance(event, Disconnected):
                    return event.reason
    except TimeoutError:
        pass  # the reason is already said
    return reason


def _show(site: Site, signer: Ed25519Signer, message: bytes, sent: Sent | None, file: Path | None) -> None:
    """What a person needs in front of the gateway."""
    from agent.reporting.enrolment import short_form

    click.echo(f"Gateway      {site.plant.org}/{site.plant.agent}")
    click.echo(f"Thumbprint   {signer.kid}")
    click.echo(f"Short form   {short_form(signer.kid)}  (upper and lower case count)")
    click.echo()
    click.echo(qr_code(signer.kid), nl=False)
    click.echo()
    if sent is not None:
        click.echo(f"{'Sent' if sent.ok else 'Not sent'}: {sent.text}", err=not sent.ok)
    if file is not None:
        click.echo(f"Written to {file}")
    elif sent is None or not sent.ok:
        click.echo("Enrolment message, to be carried to the platform's operator:")
        click.echo(message.decode("ascii"))
    click.echo(
        "Next: the platform's operator compares the short form or the QR code with you, by telephone or on the spot, "
        "before approving the key."
    )


def qr_code(text: str) -> str:
    """The text as a QR code of half blocks, two modules to a character, with the quiet zone that cameras need."""
    import segno

    rows = [bytes(row) for row in segno.make_qr(text, error="m").matrix_iter(border=4)]
    rows += [bytes(len(rows[0]))] * (len(rows) % 2)
    # Light modules are drawn, because terminals are dark; a camera takes either, an inverted code not all of them.
    shapes = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
    lines = (
        "".join(shapes[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    )
    return "".join(f"\x1b[97;40m{line}\x1b[0m\n" for line in lines)
