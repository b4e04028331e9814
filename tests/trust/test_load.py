"""A class at work: every message that got 250 is there exactly once, byte for byte, with the capture on.

The whole of it, fifty clients and ten thousand messages beside bare aiosmtpd, is `python -m tests.benchmarks.load`.
"""

from tests.benchmarks.load import lab, run


def test_ten_clients_at_once() -> None:
    load = run(lab, clients=10, messages=300)
    assert load.accepted == 300
    assert (load.lost, load.doubled, load.altered) == (0, 0, 0)
    assert load.looks > 0
    assert load.memory < 512 * 2**20
