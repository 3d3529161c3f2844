"""What a healthy agent with 26 meters says of itself; a test of `overview` holds it against what a real one says."""

from typing import Any

from agent.service.advice import advise

HOUR_MS = 3_600_000


def a_meter(number: int, **more: Any) -> dict[str, Any]:
    return {
        "meter": f"m{number:02d}",
        "line": "hall-a",
        "address": number,
        "profile": "eastron-sdm630-v2",
        "steps": {"reflow_soldering": "1"},
        "serial": f"2206{number:04d}",
        "quality": "good",
        "flags": [],
        "age_ms": 12_000,
        "booked": {
            "register_kwh": "1597.110107",
            "register_milliwh": 1597110107,
            "at_ms": 1,
            "epoch": 1,
            "n": 4,
        },
        "not_booked": None,
        "ratio": None,
        "returned_ms": None,
        "order": None,
        "reads": 180,
        "failed_reads": 0,
        "errors": {},
        "failures": 0,
        "problem": None,
        "live": {"power_active_total": "917.100 W"},
    } | more


def a_line(name: str = "hall-a", **more: Any) -> dict[str, Any]:
    return {
        "line": name,
        "transport": "rs485",
        "place": "/dev/ttyUSB0",
        "open": True,
        "outages": 0,
        "problem": None,
        "meters": 26,
        "meters_answering": 26,
        "reads": 900,
        "failed_reads": 0,
        "errors": {},
        "busy_ms": 4_320_000,
        "observed_ms": 10_800_000,
        "recent": {"for_ms": 300_000, "busy_permille": 412, "requests": 900, "damaged": 0},
        "last_sweep_ms": 1_040,
        "rounds_skipped": 0,
        "sweeps_skipped": 0,
        "echoes": False,
        "floods": 0,
    } | more


def an_overview(**more: Any) -> dict[str, Any]:
    """An agent with 26 meters that is well."""
    return {
        "at_ms": 1_795_388_122_042,
        "org": "zj-meterworks",
        "agent": "gw01",
        "sw": "0.1.0",
        "site": {"path": "site.toml", "sha256": "a403fd3f"},
        "started_ms": 1_795_377_322_042,
        "uptime_ms": 3 * HOUR_MS,
        "interval_ms": 60_000,
        "clock": {"sync": "S", "err_ms": 12},
        "lines": [a_line()],
        "meters": [a_meter(number) for number in range(1, 27)],
        "boundary": {
            "last_cut_ms": 1_795_388_100_000,
            "age_ms": 22_042,
            "cuts": 180,
            "length_ms": 60_000,
            "skipped": 0,
            "skipped_recently": False,
            "problem": None,
        },
        "journal": {
            "path": "journal.db",
            "bytes": 12_300_000,
            "budget_bytes": 1_024_000_000,
            "free_bytes": 9_000_000_000,
            "standing": "normal",
            "chain": "01M82QH163YA4YNQ2RW9VYJHK6",
            "seq": 180,
            "hash": "yCzeR6FYMyWmU97BdbiTyRnUyxM9OZoB13_0Pbqyp30",
            "acknowledged": {
                "chain": "01M82QH163YA4YNQ2RW9VYJHK6",
                "seq": 180,
                "stored_ms": 1_795_388_101_000,
            },
            "sound_ms": None,
            "backlog_batches": 0,
            "backlog_milliwh": 0,
            "backlog_kwh": "0.000000",
            "backlog_since_ms": None,
            "backlog_age_ms": None,
        },
        "platform": {
            "audience": "carbon.grid.example",
            "broker": "mqtts://broker.grid.example:8883",
            "by_stick": False,
            "acknowledgement": "platform",
            "connected": True,
            "for_ms": 2 * HOUR_MS,
            "connections": 1,
            "problem": None,
            "refusal": None,
            "published": 180,
            "last_acknowledged_ms": 1_795_388_101_000,
            "rejected_messages": 0,
            "rejected_recently": False,
        },
        "certificates": [
            {
                "role": "client",
                "path": "gw01.pem",
                "not_before_ms": 1_790_000_000_000,
                "not_after_ms": 1_813_800_000_000,
                "days_left": 213,
                "problem": None,
            }
        ],
        "web": {"listen": "127.0.0.1:9464", "problem": None},
        "signing_key": {
            "kid": "A8cAcBW5wQgLJYdNU9yMRmfF0ZU-lBiw85Xi44ppmgI",
            "alg": "Ed25519",
            "other": None,
            "rotation": None,
        },
    } | more


def with_problems(said: dict[str, Any]) -> dict[str, Any]:
    """The same with what needs attention, as the agent adds it."""
    return said | {"problems": [problem.as_json() for problem in advise(said)]}
