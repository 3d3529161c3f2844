"""When dead meters are probed, by the values alone."""

from agent.adapters.clock import SystemClock
from agent.errors import MeterSilent
from agent.protocol.pace import SHARE_PERMILLE
from agent.service.patience import Patience
from agent.service.poll import LineWorker
from agent.service.watch import TOLERATED_FAILURES
from tests.service.test_poll import LINE, ScriptedLine, metered

SECOND_NS = 1_000_000_000


def test_nobody_is_woken_before_a_probe_can_be_paid_for() -> None:
    """Two dead meters, one cheap and one dear: the line sleeps until the one that is next can be probed."""
    now_ns = 1000 * SECOND_NS
    watches = LineWorker(LINE, [metered(1), metered(2)], ScriptedLine({}), SystemClock()).watches
    watches["m1"].pace.answered(5_000_000)  # known: a short wait; the other one was never heard
    patience = Patience("hall-a", watches, now_ns)
    for watch in watches.values():
        for _ in range(TOLERATED_FAILURES):
            patience.failed(watch, MeterSilent("silent"), now_ns - SECOND_NS, now_ns)
    turns = 0
    end_ns = now_ns + 60 * SECOND_NS
    while now_ns < end_ns:
        probed = patience.probe_due(now_ns)
        if probed is not None:
            patience.failed(probed, MeterSilent("silent"), now_ns - SECOND_NS // 2, now_ns)
        due_ns = patience.probe_due_ns(now_ns)
        assert due_ns is not None
        now_ns = max(now_ns + 100_000, due_ns)
        turns += 1
    probes_max = 60 * SHARE_PERMILLE // 1000 * 2 + 2 * TOLERATED_FAILURES
    assert turns <= 2 * probes_max
