"""Cost: counted by hand on small flows."""

from labkit.decode.cost import Cost, cost
from tests.decode.conftest import C, S, flow_of


def test_a_greeting_three_commands_and_a_goodbye() -> None:
    said = [(S, b"220 x\r\n"), (C, b"EHLO x\r\n"), (S, b"250 x\r\n"), (C, b"QUIT\r\n"), (S, b"221 x\r\n")]
    # SYN and SYN-ACK, ACK and greeting, EHLO and 250, QUIT and 221
    assert cost([flow_of(said)]) == Cost(connections=1, packets=8, bytes=35, round_trips=4)


def test_pipelined_commands_cost_one_round_trip() -> None:
    one_by_one = [(C, b"a\r\n"), (S, b"1\r\n"), (C, b"b\r\n"), (S, b"2\r\n")]
    together = [(C, b"a\r\nb\r\n"), (S, b"1\r\n2\r\n")]
    assert cost([flow_of(one_by_one)]).round_trips - cost([flow_of(together)]).round_trips == 1


def test_segments_do_not_change_round_trips() -> None:
    said = [(C, b"a" * 40), (S, b"b" * 40)]
    assert cost([flow_of(said, cuts=(7,))]).round_trips == cost([flow_of(said)]).round_trips == 2


def test_a_last_word_without_an_answer_and_a_missing_handshake_cost_nothing() -> None:
    assert cost([flow_of([(S, b"+OK\r\n"), (C, b"QUIT\r\n")], opened=False)]).round_trips == 1


def test_flows_add_up() -> None:
    flow = flow_of([(C, b"a"), (S, b"b")])
    both, one = cost([flow, flow]), cost([flow])
    assert both == Cost(2 * one.connections, 2 * one.packets, 2 * one.bytes, 2 * one.round_trips)
    assert cost([]) == Cost(0, 0, 0, 0)
