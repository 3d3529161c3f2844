"""What every key of a site file and of a profile is for, and what counts where it is left out.

Beside the shapes (`shape`, `profileshape`), which say what a right value is: together they make the reference pages
`config/REFERENCE.md` and `config/profiles/README.md` (`make docs`). A test fails when a key has no meaning here, or a
meaning no key. Nothing of this is loaded by the running agent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.settings import profileshape as profile
from agent.settings import sections, shape
from agent.settings.shape import Shape


@dataclass(frozen=True, slots=True)
class Meaning:
    """A sentence or two for a person, and what counts where the key is left out; "" for nothing."""

    text: str
    default: str = ""


@dataclass(frozen=True, slots=True)
class TableMeaning:
    """A table of a file: how it begins, what it is for, and its keys."""

    header: str
    text: str
    kind: type[Shape]
    keys: Mapping[str, Meaning]


_LIKE_THE_LINE = "as its line"

SITE: tuple[TableMeaning, ...] = (
    TableMeaning(
        "[gateway]",
        "Who this gateway is. The two ids are in every signed message and in the MQTT topics; choose them once.",
        shape.GatewayShape,
        {
            "org": Meaning("The organisation that runs the meters."),
            "agent": Meaning("This gateway; two gateways of one organisation have different ids."),
        },
    ),
    TableMeaning(
        "[platform]",
        "To whom the energy is reported, and over which broker.",
        shape.PlatformShape,
        {
            "audience": Meaning("The platform a batch is meant for; another platform must not book it."),
            "broker": Meaning(
                "The MQTT 5 broker. `mqtts://` with TLS, or `wss://host/path` over WebSocket where nothing else is "
                "let out; `mqtt://` and `ws://` to this machine only. `none`: there is no network, "
                "everything goes by stick (`metering-agent courier`)."
            ),
            "proxy": Meaning(
                "The factory's HTTP proxy, `http://host:port`, where the way out leads through one."
            ),
            "proxy_username": Meaning(
                "Account at the proxy, where it asks for one (407). Only Basic authentication is spoken: the proxy "
                "reads the password, and so does whoever listens between here and there. Take one that opens "
                "nothing else."
            ),
            "proxy_password_file": Meaning(
                "File that holds the password of `proxy_username` and nothing else, mode 0600."
            ),
            "proxy_password_credential": Meaning(
                "The systemd credential that holds it, in place of the file (`LoadCredentialEncrypted=`)."
            ),
            "ca_file": Meaning(
                "The certificate authority of the broker, PEM. Needed with `mqtts://` and `wss://`."
            ),
            "client_certificate": Meaning(
                "The certificate with which this gateway logs in, PEM. With `client_key`."
            ),
            "client_key": Meaning("Its private key, PEM, mode 0600."),
            "username": Meaning(
                "Account at the broker, where it wants one beside or instead of a certificate."
            ),
            "password_file": Meaning("File that holds the account's password and nothing else, mode 0600."),
            "password_credential": Meaning(
                "The systemd credential that holds it, in place of the file (`LoadCredentialEncrypted=`)."
            ),
            "acknowledgement": Meaning(
                "Whose receipt releases what is kept: the platform's signature, or, weaker, the broker's PUBACK.",
                '"platform"',
            ),
            "acknowledgement_keys": Meaning(
                "Public keys of the platform, PEM; an acknowledgement signed by another key is not believed. "
                'Needed where `acknowledgement = "platform"`.'
            ),
            "topic_root": Meaning("First levels of all topics.", f'"{sections.DEFAULT_TOPIC_ROOT}"'),
        },
    ),
    TableMeaning(
        "[signing]",
        "The key that makes a batch evidence: exactly one of `key_file` and `credential`.",
        shape.SigningShape,
        {
            "key_file": Meaning("The private key, as `metering-agent keygen` writes it, mode 0600."),
            "credential": Meaning(
                "The name of a systemd credential (`LoadCredentialEncrypted=`) that holds the key."
            ),
            "next_key_file": Meaning(
                "The key that is to take over: the agent ends the present key with a signed event after its next "
                "start, and `status` says when this file has to become `key_file`."
            ),
            "next_credential": Meaning(
                "The same as `next_key_file`, where the next key is a systemd credential."
            ),
        },
    ),
    TableMeaning(
        "[journal]",
        "The SQLite file in which everything is kept until the platform has it. The control socket lies beside it.",
        shape.JournalShape,
        {
            "path": Meaning("Where it is; its folder has to exist and be writable.", '"journal.db"'),
            "budget_mb": Meaning(
                "Most it may grow to. `metering-agent check` refuses less than an ordinary outage needs.",
                str(sections.DEFAULT_BUDGET_MB),
            ),
            "keep_acknowledged_days": Meaning(
                "How long batches stay readable here after the platform has acknowledged them.",
                str(sections.DEFAULT_KEEP_DAYS),
            ),
        },
    ),
    TableMeaning(
        "[interval]",
        "How often a batch is sealed.",
        shape.IntervalShape,
        {
            "length": Meaning(
                "Whole seconds that divide a day. It sets the resolution in time; energy is exact with any.",
                f'"{sections.DEFAULT_INTERVAL}"',
            ),
        },
    ),
    TableMeaning(
        "[web]",
        "Metrics and health over HTTP (`config/grafana/README.md`). Without this table nothing listens.",
        shape.WebShape,
        {"listen": Meaning("Address and port; 127.0.0.1 for this machine only. There is no password.")},
    ),
    TableMeaning(
        "[catalogue]",
        "Other emission sources than the 58 of an electricity meter.",
        shape.CatalogueShape,
        {"file": Meaning("A CSV file like `config/emission_sources.csv`; it says which steps there are.")},
    ),
    TableMeaning(
        "[profiles]",
        "Meters that the agent does not bring. Without this table a folder `profiles` beside the site file is used.",
        shape.ProfilesShape,
        {"directory": Meaning("Folder with profiles; one of the same id goes before the shipped one.")},
    ),
    TableMeaning(
        "[[lines]]",
        "One RS485 pair or TCP gateway; at least one.",
        shape.LineShape,
        {
            "id": Meaning("Its name, in meters, messages and metrics."),
            "transport": Meaning(
                "How it is reached: a serial adapter, Modbus TCP, or RS485 frames through a terminal server."
            ),
            "device": Meaning(
                "The serial adapter, for `rs485`. Names in `/dev/serial/by-id` stay when adapters are replugged."
            ),
            "host": Meaning("The gateway, for `modbus-tcp` and `rs485-over-tcp`."),
            "port": Meaning("Its TCP port; needed for `rs485-over-tcp`.", "502 for `modbus-tcp`"),
            "baud": Meaning("Speed of the pair.", "9600"),
            "parity": Meaning("Parity of the pair.", '"none"'),
            "stop_bits": Meaning("Stop bits of the pair.", "1"),
            "poll": Meaning(
                "How often live values are read between boundaries; energy does not depend on it.", '"5s"'
            ),
        },
    ),
    TableMeaning(
        "[[meters]]",
        "One meter, or one circuit of a meter; at least one. Besides the first four it has one of `step`, `steps` and "
        "`role`.",
        shape.MeterShape,
        {
            "id": Meaning(
                "Its name for ever: it is in the signed energy. A new meter in an old place keeps the id."
            ),
            "line": Meaning("The line it is on."),
            "address": Meaning(
                "Its number on the line: for Modbus 1 to 247, for DL/T 645 all 12 decimal digits of its plate as text,"
                " zeros in front included, and no wildcard."
            ),
            "profile": Meaning(
                "What its registers mean; the shipped ones are in `config/profiles/README.md`."
            ),
            "step": Meaning("The production step that all its energy belongs to."),
            "steps": Meaning("Exact shares of several steps; what is left of 1 stays unassigned."),
            "role": Meaning(
                "What it counts, where that is no step: feed-in, generation, compressed air, ..."
            ),
            "serial": Meaning(
                "Its serial number. Where the profile can read it, another meter is noticed at once."
            ),
            "ct_ratio": Meaning(
                "Current transformers; multiplies energy where the register counts behind them.", '"1"'
            ),
            "pt_ratio": Meaning("Voltage transformers, likewise.", '"1"'),
            "circuit": Meaning("Which circuit of a meter that has several; they share an address."),
            "baud": Meaning("Speed, where it differs from its line's.", _LIKE_THE_LINE),
            "parity": Meaning("Parity, likewise.", _LIKE_THE_LINE),
            "stop_bits": Meaning("Stop bits, likewise.", _LIKE_THE_LINE),
            "rated_kw": Meaning(
                "Most the circuit can draw, in kW: a rise beyond it is read again before it is believed.",
                "what the model can measure, where its profile says so",
            ),
            "parent": Meaning(
                "The meter that counts this one's energy as well; of another gateway as `gw02/incomer-1`."
            ),
            "production_line": Meaning("The production line whose products get this energy."),
            "powered_by": Meaning(
                "The meter is fed by the circuit it measures and is dark when that is off."
            ),
            "accuracy_class": Meaning(
                "Accuracy class of the meter, for the descriptor.", "that of its profile"
            ),
            "ct_class": Meaning("Accuracy class of the current transformers, for the descriptor."),
            "display_checked": Meaning(
                "Who compared the agent's reading with the meter's display, and when. Settles a profile that rests on "
                "one source only."
            ),
        },
    ),
)

_REGISTER_COMMON = {
    "unit": Meaning("Unit of the value; left out for text, ratios and plain numbers."),
    "per_count": Meaning("How many `unit` one raw count is, exactly.", '"1"'),
    "side": Meaning(
        "Whether it counts in front of the transformers (`primary`) or behind them, so that CT and PT multiply it.",
        '"primary"',
    ),
    "modulus": Meaning("The first count it cannot show; a rollover is believed only where this is known."),
    "invalid": Meaning("Raw values that mean that there is no value.", "none"),
}

PROFILE: tuple[TableMeaning, ...] = (
    TableMeaning(
        "(top of the file)",
        "The model. The id of a profile is the name of its file, `<vendor>-<model>`.",
        profile.ProfileShape,
        {
            "maker": Meaning("Who makes it."),
            "model": Meaning("Which model."),
            "manual": Meaning("The manual that the addresses were compared with."),
            "protocol": Meaning("What it speaks."),
            "phases": Meaning("Phases that it measures."),
            "read_limit": Meaning("Most registers one request may ask for. Not for DL/T 645."),
            "alignment": Meaning(
                "Some meters refuse reads that do not begin and end at multiples of this.", "1"
            ),
            "quiet_ms": Meaning(
                "Rest that it needs after its answer beyond the 3.5 characters of the line.", "0"
            ),
            "identity": Meaning("The register with its serial number.", "none; it cannot be read"),
            "fingerprint": Meaning(
                "Registers that a person can change at the meter and that change the meaning of its energy.",
                "none",
            ),
            "accuracy_class": Meaning("Its accuracy class.", "unknown"),
            "power_max_w": Meaning("Most active power it can measure, before CT and PT.", "unknown"),
            "confidence": Meaning("2 where two independent sources agree on the energy register, else 1."),
            "sources": Meaning("What the addresses were taken from."),
            "counts_both": Meaning(
                "Its energy counter adds import and export; wrong where a circuit feeds back.", "false"
            ),
            "generation": Meaning(
                "Which generation of hardware or firmware, where they differ in their registers."
            ),
            "notes": Meaning("What an installer has to know; `metering-agent check` prints it.", "none"),
            "serial": Meaning("How it leaves its maker; a table, below."),
            "registers": Meaning("Its quantities; tables, below. `energy_import` is the one that is booked."),
            "sums": Meaning(
                "A quantity that it keeps in several registers, read in one go and added.", "none"
            ),
            "conditions": Meaning(
                "What must hold at the meter before anything of it is booked; below.", "none"
            ),
            "recognition": Meaning("How a scan knows the model; a table, below.", "it cannot"),
            "circuits": Meaning("For a meter with several circuits; a table, below.", "it has one"),
            "examples": Meaning("Words seen on the wire and what they mean; each is a test."),
        },
    ),
    TableMeaning(
        "[serial]",
        "The settings with which it leaves its maker.",
        profile.SerialShape,
        {
            "baud": Meaning("Speed."),
            "parity": Meaning("Parity."),
            "stop_bits": Meaning("Stop bits."),
            "stated": Meaning("Whether a source says so; otherwise they are the usual ones.", "true"),
        },
    ),
    TableMeaning(
        "[registers.NAME] of a Modbus meter",
        "One quantity.",
        profile.RegisterShape,
        {
            "address": Meaning(
                "The protocol address; manuals that count from 1 or from 40001 are one or 40001 higher."
            ),
            "function": Meaning("3 for holding registers, 4 for input registers."),
            "type": Meaning("How its words encode the value."),
            "words": Meaning("Length of a text.", "by its type"),
            "word_order": Meaning("Which word of a value comes first.", '"high-first"'),
            **_REGISTER_COMMON,
        },
    ),
    TableMeaning(
        "[registers.NAME] of a DL/T 645 meter",
        "One quantity.",
        profile.DltRegisterShape,
        {
            "identifier": Meaning("Its data identifier, as the standard prints it."),
            "type": Meaning("How its bytes encode the value."),
            "bytes": Meaning("Its length."),
            **_REGISTER_COMMON,
        },
    ),
    TableMeaning(
        "[[conditions]]",
        "What must hold at the meter; nothing of it is booked while it does not.",
        profile.ConditionShape,
        {
            "registers": Meaning("What is read; the sum of several."),
            "one_of": Meaning("It has to be one of these."),
            "at_least": Meaning("It has to be this or more."),
            "at_most": Meaning("It has to be this or less."),
            "equals": Meaning("It has to be what this register says."),
            "within": Meaning("How far apart `equals` may be.", "0"),
            "remedy": Meaning("What the installer is told."),
            "other": Meaning("The profile of the other generation."),
        },
    ),
    TableMeaning(
        "[recognition]",
        "How a scan knows this model.",
        profile.RecognitionShape,
        {
            "register": Meaning("The register that tells it."),
            "one_of": Meaning("What it says there."),
        },
    ),
    TableMeaning(
        "[circuits]",
        "A meter with several circuits, each a meter of its own in the site file.",
        profile.CircuitsShape,
        {
            "count": Meaning("How many."),
            "stride": Meaning("How far the registers of the next circuit lie above."),
            "common": Meaning("Registers that all circuits share.", "none"),
        },
    ),
    TableMeaning(
        "[[examples]]",
        "Words and what they mean. A test reads each one back.",
        profile.ExampleShape,
        {
            "register": Meaning("Which register."),
            "words": Meaning("Its words as they came, in hex."),
            "reads": Meaning("The value in its unit, before CT and PT, exactly."),
            "no_value": Meaning("The words mean that there is no value; instead of `reads`.", "false"),
            "computed": Meaning("Worked out from the manual and not seen on a wire.", "false"),
        },
    ),
)
