"""make fuzz: every target for its share of the time, in as many processes as asked for; exit code 1 when one broke.

python -m tests.fuzz [--seconds 60] [--jobs 2] [--target NAME] [--seed N]
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.fuzz.fuzzer import GUIDED, Result, fuzz, keep
from tests.fuzz.targets import TARGETS

FINDINGS = Path(__file__).parent / "findings"


def run(name: str, seconds: float, seed: int) -> Result:
    """One target, in a process of its own."""
    return fuzz(TARGETS[name], seconds=seconds, seed=seed)


def main() -> int:
    """Fuzz and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together, on each process")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    names = asked.target or list(TARGETS)
    print(
        f"seed {asked.seed}; {'guided by coverage' if GUIDED else 'by grammar and mutation (coverage needs Python 3.12)'}"
    )
    share = asked.seconds * asked.jobs / len(names)
    total = 0
    with ProcessPoolExecutor(asked.jobs) as pool:
        results = list(pool.map(partial(run, seconds=share, seed=asked.seed), names))
    for name, result in zip(names, results, strict=True):
        total += result.executions
        rate = result.executions / result.seconds if result.seconds else 0
        print(
            f"{name:28}{result.executions:>12,} runs {rate:>9,.0f}/s {result.lines:>6,} lines {len(result.corpus):>5} kept"
        )
        if result.finding:
            data, why = result.finding
            print(f"  BROKEN: {why[:300]}\n  kept as {keep(data, name, FINDINGS).name}")
    print(f"{total:,} runs")
    return int(any(result.finding for result in results))


if __name__ == "__main__":
    sys.exit(main())
