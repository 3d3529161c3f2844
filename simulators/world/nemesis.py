"""Everything that can go wrong, by name: each kind a small play of `network_plays`, `bus_plays`, `box_plays`,
`operator_plays`, `key_plays` or `liar_plays`. What cannot be put right (an exchanged meter, a lost disk) is over when
it has happened. Fault numbers are those of the catalogue in tests/FAULTS.md.
"""

from simulators.meters.faults import Kind
from simulators.world import box_plays, bus_plays, key_plays, liar_plays, network_plays, operator_plays
from simulators.world.plays import Play

KINDS: dict[str, Play] = {
    "ack-ahead": network_plays.false_acknowledgement(7, by_platform=True),
    "ack-forged": network_plays.forged_release,
    "ack-lost": network_plays.weather("ack_lose", 600, 0),
    "ack-of-stranger": network_plays.false_acknowledgement(3, by_platform=False),
    "ack-replayed": network_plays.replayed,
    "ack-wrong-hash": network_plays.false_acknowledgement(-1, by_platform=True),
    "bad-number": liar_plays.number_skipped,
    "bad-start": liar_plays.start_before_its_end,
    "bit-rot": box_plays.bit_rot,
    "big-map": operator_plays.big_map,
    "broker-amnesia": network_plays.broker_forgets,
    "broker-down": network_plays.broker_down,
    "clock-step": box_plays.clock_step,
    "clock-unset": box_plays.no_clock,
    "clone": operator_plays.cloned,
    "confirmed": operator_plays.confirmed,
    "courier": key_plays.by_stick,
    "crash": box_plays.killed,
    "crash-storm": box_plays.restart_storm,
    "denied": network_plays.weather("refuse", 0x87, None),
    "dark": bus_plays.dark,
    "disk-full": box_plays.disk_full,
    "disk-gone": box_plays.disk_gone,
    "disk-lost": box_plays.disk_lost,
    "disk-slow": box_plays.slow_disk,
    "double": network_plays.weather("double", 300, 0),
    "drift": box_plays.unsynchronised,
    "eio": box_plays.write_error,
    "exchange": operator_plays.exchanged,
    "fsync": box_plays.sync_error,
    "half-open": network_plays.half_open,
    "key-revoked": key_plays.revoked,
    "key-rotated": key_plays.rotated,
    "late-once": bus_plays.late_once,
    "late": network_plays.weather("late", 300, 0),
    "lost": network_plays.weather("lose", 300, 0),
    "meter-bad-checksum": bus_plays.sick(Kind.BAD_CHECKSUM),
    "meter-busy": bus_plays.sick(Kind.EXCEPTION, code=6),
    "meter-doubles": bus_plays.sick(Kind.DUPLICATE),
    "meter-failed": bus_plays.sick(Kind.EXCEPTION, code=4),
    "meter-function": bus_plays.sick(Kind.WRONG_FUNCTION),
    "meter-half": bus_plays.sick(Kind.HALF),
    "meter-late": bus_plays.sick(Kind.LATE, delay_ms=700),
    "meter-long": bus_plays.sick(Kind.LONG),
    "meter-noise-after": bus_plays.sick(Kind.NOISE_AFTER),
    "meter-noise-before": bus_plays.sick(Kind.NOISE_BEFORE),
    "meter-other-unit": bus_plays.sick(Kind.WRONG_UNIT),
    "meter-refuses": bus_plays.sick(Kind.EXCEPTION, code=2),
    "meter-short": bus_plays.sick(Kind.SHORT),
    "meter-silent": bus_plays.sick(Kind.SILENT),
    "no-subscriber": network_plays.weather("refuse", 0x10, None),
    "noise": bus_plays.noise,
    "old-image": box_plays.old_image,
    "own-word": operator_plays.own_word,
    "platform-down": network_plays.platform_down,
    "platform-restored": network_plays.platform_restored,
    "power-cut": box_plays.power_cut,
    "power-cut-in-write": box_plays.power_cut_in_write,
    "puback-lost": network_plays.weather("lose_puback", 300, 0),
    "ratio": operator_plays.other_ratio,
    "register-back": bus_plays.runs_back,
    "register-jump": bus_plays.shows(lambda raw: raw ^ 1 << 20, 1),
    "register-zero": bus_plays.shows(lambda raw: 0, 1),
    "register-zero-twice": bus_plays.shows(lambda raw: 0, 2),
    "ratio-at-meter": operator_plays.ratio_at_meter,
    "reset": operator_plays.reset,
    "stale-retained": network_plays.stale_retained,
    "step": operator_plays.other_step,
    "stop": box_plays.stopped,
    "suspend": box_plays.suspended,
    "swapped": bus_plays.addresses_swapped,
    "unparsable": liar_plays.unparsable,
    "unplugged": bus_plays.unplugged,
    "wakes-wrong": bus_plays.wrong_after_start,
    "wal-deleted": box_plays.log_deleted,
    "wrong-first": bus_plays.wrong_first,
}
"""Every kind of fault, by the name under which a plan has it."""

OPEN: dict[str, str] = {}
"""Kinds that break a promise today; they are drawn only when asked for by name until the agent is mended."""

FORCED = frozenset({"own-word"})
"""Kinds that only a scenario has: where the platform answers, they are refused."""

SETTLED = frozenset(KINDS) - frozenset(OPEN) - FORCED
