"""The overview as Prometheus metrics: names, help texts and labels; made at each scrape, nothing is counted twice.

Names follow Prometheus' conventions: base units (seconds, bytes, joules: 1 kWh is 3 600 000 J, and the rate of a
register in joules is a power in watts), `_total` for what only grows, moments as Unix seconds. Labels are the ids of
lines and meters and a few fixed words, so that their number is bounded by the site file. `README.md` in
`config/grafana` lists them; a test keeps that list, the dashboard and this module the same.

The one module that imports prometheus_client; it writes the format and escapes what needs it. Floats are for the
operator's charts only; the ledger and everything that is signed has integers.

Comes before: `agent.service.overview`. Comes after: `agent.adapters.endpoints`, which serves it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

JOULES_PER_MILLIWH = 3.6
RESULTS = ("ok", "silent", "busy", "damaged", "refused", "other")
"""What became of a request to a meter."""

Sample = tuple[tuple[str, ...], float]


class Metrics:
    """Writes an overview in the format that a scraper asks for."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._latest = _Latest()
        self._registry.register(self._latest)
        ProcessCollector(registry=self._registry)

    def text(self, said: Mapping[str, Any], accept: str = "") -> tuple[bytes, str]:
        """The metrics and their content type; `accept` is the header of the request."""
        self._latest.said = said
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Latest(Collector):
    """Gives the families of the overview that it was handed last."""

    def __init__(self) -> None:
        self.said: Mapping[str, Any] = {}

    def collect(self) -> Iterable[Metric]:
        """Called by the library for each scrape."""
        return families(self.said) if self.said else ()


def families(said: Mapping[str, Any]) -> Iterator[Metric]:
    """Every metric of an overview but those of the process itself."""
    yield from _of_the_agent(said)
    yield from _of_lines(said["lines"])
    yield from _of_meters(said)
    yield from _of_the_journal(said["journal"])
    yield from _of_the_platform(said)
    yield from _of_problems(said["problems"])


def _of_the_agent(said: Mapping[str, Any]) -> Iterator[Metric]:
    boundary, clock = said["boundary"], said["clock"]
    yield _gauge(
        "metering_agent_build_info",
        "Version of the agent; always 1.",
        ("version", "gateway"),
        [((said["sw"], f"{said['org']}/{said['agent']}"), 1)],
    )
    yield _one(
        "metering_agent_start_time_seconds", "When the agent was started, Unix time.", _s(said["started_ms"])
    )
    yield _one("metering_interval_length_seconds", "Length of an interval.", _s(said["interval_ms"]))
    yield _total(
        "metering_intervals_closed", "Intervals closed and written to the journal.", boundary["cuts"]
    )
    yield _total(
        "metering_intervals_skipped",
        "Boundaries skipped because the one before was at work.",
        boundary["skipped"],
    )
    yield from _moment(
        "metering_last_interval_timestamp_seconds",
        "The boundary closed last, Unix time.",
        boundary["last_cut_ms"],
    )
    yield _one(
        "metering_clock_synchronised",
        "Whether the wall clock is synchronised to a time server.",
        clock["sync"] == "S",
    )
    yield _one(
        "metering_clock_error_seconds",
        "Largest error the wall clock is thought to have.",
        _s(clock["err_ms"]),
    )
    yield _gauge(
        "metering_certificate_not_after_timestamp_seconds",
        "When a certificate of the connection to the broker ends, Unix time.",
        ("role",),
        [
            ((entry["role"],), _s(entry["not_after_ms"]))
            for entry in said["certificates"]
            if entry["not_after_ms"] is not None
        ],
    )


def _of_lines(lines: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    lines = list(lines)

    def gauge(name: str, text: str, key: str) -> Metric:
        return _gauge(name, text, ("line",), [((line["line"],), line[key]) for line in lines])

    def total(name: str, text: str, key: str, per: int = 1) -> Metric:
        return _counter(name, text, ("line",), [((line["line"],), line[key] / per) for line in lines])

    yield gauge("metering_line_up", "Whether the port or connection of a line is open.", "open")
    yield gauge("metering_line_meters", "Meters on a line.", "meters")
    yield gauge(
        "metering_line_meters_answering", "Meters of a line whose last read succeeded.", "meters_answering"
    )
    yield total("metering_line_busy_seconds", "Time a line spent in transactions.", "busy_ms", 1000)
    yield total("metering_line_outages", "How often a line went down.", "outages")
    yield total(
        "metering_line_rounds_skipped", "Rounds of live reads left out for lack of time.", "rounds_skipped"
    )
    yield total("metering_line_sweeps_skipped", "Sweeps ended by the next boundary.", "sweeps_skipped")
    yield _gauge(
        "metering_line_sweep_duration_seconds",
        "How long the last reading of all energy registers of a line took.",
        ("line",),
        [((line["line"],), _s(line["last_sweep_ms"])) for line in lines if line["last_sweep_ms"] is not None],
    )


def _of_meters(said: Mapping[str, Any]) -> Iterator[Metric]:
    meters, at_ms, labels = said["meters"], said["at_ms"], ("meter", "line")

    def name(meter: Mapping[str, Any]) -> tuple[str, str]:
        return meter["meter"], meter["line"]

    yield _counter(
        "metering_meter_register_joules",
        "The energy register of a meter as it was booked last, CT and PT applied.",
        labels,
        [
            (name(meter), meter["booked"]["register_milliwh"] * JOULES_PER_MILLIWH)
            for meter in meters
            if meter["booked"] is not None
        ],
    )
    yield _gauge(
        "metering_meter_good",
        "Whether a meter is read, in time, and its readings are booked without doubt.",
        labels,
        [(name(meter), meter["quality"] == "good") for meter in meters],
    )
    yield _gauge(
        "metering_meter_last_read_timestamp_seconds",
        "When the energy register of a meter was last read for a boundary, Unix time.",
        labels,
        [(name(meter), _s(at_ms - meter["age_ms"])) for meter in meters if meter["age_ms"] is not None],
    )
    yield _gauge(
        "metering_meter_reading_held",
        "Whether the last reading of a meter was kept out of the ledger.",
        labels,
        [(name(meter), meter["not_booked"] is not None) for meter in meters],
    )
    yield _counter(
        "metering_meter_reads",
        "Requests to a meter by what became of them.",
        (*labels, "result"),
        [((*name(meter), result), _reads(meter, result)) for meter in meters for result in RESULTS],
    )


def _reads(meter: Mapping[str, Any], result: str) -> float:
    count: float = meter["reads"] if result == "ok" else meter["errors"].get(result, 0)
    return count


def _of_the_journal(journal: Mapping[str, Any]) -> Iterator[Metric]:
    yield _one(
        "metering_journal_size_bytes", "Size of the journal with its write-ahead log.", journal["bytes"]
    )
    yield _one("metering_journal_budget_bytes", "Most the journal may take.", journal["budget_bytes"])
    if journal["free_bytes"] is not None:
        yield _one(
            "metering_journal_free_bytes", "Free space on the journal's file system.", journal["free_bytes"]
        )
    yield _one(
        "metering_journal_following", "Whether journal and platform agree.", journal["standing"] == "normal"
    )
    yield _one("metering_chain_sequence", "Number of the batch sealed last, in its chain.", journal["seq"])
    yield _one("metering_backlog_batches", "Batches not yet acknowledged.", journal["backlog_batches"])
    yield _one(
        "metering_backlog_energy_joules",
        "Energy in batches not yet acknowledged.",
        journal["backlog_milliwh"] * JOULES_PER_MILLIWH,
    )
    yield _one(
        "metering_backlog_age_seconds",
        "Age of the oldest batch not yet acknowledged, 0 without any.",
        _s(journal["backlog_age_ms"] or 0),
    )


def _of_the_platform(said: Mapping[str, Any]) -> Iterator[Metric]:
    platform, acknowledged = said["platform"], said["journal"]["acknowledged"]
    yield _one(
        "metering_broker_connected", "Whether there is a connection to the broker.", platform["connected"]
    )
    yield _total("metering_broker_connections", "Connections made since the start.", platform["connections"])
    yield _total(
        "metering_batches_published", "Batches taken by the broker, repeats included.", platform["published"]
    )
    yield _total(
        "metering_messages_rejected",
        "Messages to this gateway that were not genuine acknowledgements.",
        platform["rejected_messages"],
    )
    yield from _moment(
        "metering_platform_acknowledged_timestamp_seconds",
        "When the platform stored what it acknowledged last, Unix time.",
        None if acknowledged is None else acknowledged["stored_ms"],
    )
    if acknowledged is not None:
        yield _one(
            "metering_platform_acknowledged_sequence",
            "Number of the batch acknowledged last.",
            acknowledged["seq"],
        )


def _of_problems(problems: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    yield _gauge(
        "metering_problem",
        "Something that needs attention, as in metering-agent status; 1 as long as it lasts.",
        ("code", "gravity", "subject"),
        [((problem["code"], problem["gravity"], problem["subject"]), 1) for problem in problems],
    )


# ----------------------------------------------------------------------------------------------------------- families


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Iterable[Sample]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, float(value))
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], samples: Iterable[Sample]) -> Metric:
    """A counter; the library appends `_total`."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, float(value))
    return family


def _one(name: str, text: str, value: float) -> Metric:
    return _gauge(name, text, (), [((), value)])


def _total(name: str, text: str, value: float) -> Metric:
    return _counter(name, text, (), [((), value)])


def _moment(name: str, text: str, wall_ms: int | None) -> Iterator[Metric]:
    """A moment, left out where there was none yet."""
    if wall_ms is not None:
        yield _one(name, text, _s(wall_ms))


def _s(length_ms: int) -> float:
    return length_ms / 1000
