"""Ports that are chosen before they are used, by several processes at once."""

import socket

import pytest

from simulators import ports


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_parts_of_several_runs_do_not_overlap(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    for number in range(count):
        monkeypatch.setenv(ports.VARIABLE, ports.part_of(number, count))
        part = set(ports._part())
        assert len(part) >= len(ports.PORTS) // count and part <= set(ports.PORTS)
        assert not seen & part
        seen |= part


def test_no_port_is_given_twice_and_none_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = ports.free_port()
    with socket.create_server(("127.0.0.1", taken)):
        monkeypatch.setattr(ports, "_given", set())
        monkeypatch.setenv(ports.VARIABLE, f"{taken}-{taken + 9}")
        given: list[int] = []
        with pytest.raises(RuntimeError, match=f"no free port found from {taken} to {taken + 9}"):
            while True:
                given.append(ports.free_port())
    assert taken not in given and len(given) == len(set(given)) <= 9


def test_without_a_part_all_ports_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ports.VARIABLE, raising=False)
    assert ports._part() == ports.PORTS
