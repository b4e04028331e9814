"""How long the first comparison takes, what `import labkit` costs, and what the synthesizer saves: one run.

python -m tests.benchmarks.comparing
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from labkit.capture import Capture
from labkit.decode.exposure import expose
from labkit.exchanges import FOUR, compare
from labkit.wire.events import Connection, Event, EventKind
from labkit.wire.frames import Synthesizer

FRAMES = 3_000


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """The median of some rounds, after one that does not count."""
    work()
    taken = []
    for _round in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def importing() -> None:
    """`import labkit` beside a bare Python."""

    def run(code: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    bare, with_labkit = seconds(run("pass"), 9), seconds(run("import labkit"), 9)
    print(f"import labkit: {1000 * (with_labkit - bare):.1f} ms over bare Python ({1000 * bare:.0f} ms)  goal ≤ 60 ms")


def comparing() -> None:
    """The card's four policies, from start to the last figure of its tables; and the exposures alone."""

    def whole() -> None:
        comparison = compare(*FOUR)
        comparison.text()
        comparison.html()

    began = time.perf_counter()
    whole()
    first = time.perf_counter() - began
    print(f"the comparison of four policies: {first:.3f} s at first, {seconds(whole):.3f} s after that  goal < 1 s")
    captures: list[Capture] = [item.capture for item in compare(*FOUR).exchanges]

    def exposures() -> None:
        for capture in captures:
            expose(capture._dissect())

    print(f"exposure of its four sessions: {1000 * seconds(exposures):.1f} ms  goal < 50 ms")


def synthesizing() -> None:
    """Frames from recorded bytes, beside the same frames built of scapy's objects."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    connection = Connection(1, ("127.0.0.1", 50001), ("127.0.0.1", 25))
    events = [Event(number, connection, EventKind.RECEIVED, b"x" * 100) for number in range(FRAMES // 2)]
    frames = Synthesizer().add(events)

    def with_scapy() -> None:
        for number in range(FRAMES // 20):
            tcp = TCP(sport=50001, dport=25, flags="PA", seq=number * 100, ack=1)
            bytes(Ether() / IP(src="127.0.0.1", dst="127.0.0.1") / tcp / (b"x" * 100))

    ours = seconds(lambda: Synthesizer().add(events)) / len(frames)
    theirs = seconds(with_scapy) / (FRAMES // 20)
    print(f"a frame: {1e6 * ours:.1f} µs, of scapy's objects {1e6 * theirs:.0f} µs: {theirs / ours:.0f} ×  goal ≥ 20 ×")


def main() -> None:
    """Print all three."""
    importing()
    comparing()
    synthesizing()


if __name__ == "__main__":
    main()
