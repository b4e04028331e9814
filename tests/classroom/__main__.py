"""A class of learners in JupyterHub runs one lesson at the same moment; prints what came of it, exits with 0 or 1."""

import argparse
import asyncio
import importlib.util
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.wire import live
from tests.classroom.hub import Hub, Learner, Memory, hub
from tests.classroom.judging import AFTER, BEFORE, Report, wrong_with
from tests.notebooks import lessons
from tests.notebooks.outputs import seen

AT_ONCE = 4  # servers that are being started at the same moment: what is tried here is the lesson
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one learner's lesson. different: the numbers of cells that did not show what is committed."""

    different: list[int]
    seconds: float
    report: Report


async def attend(learner: Learner, cells: Sequence[Mapping[str, Any]], together: asyncio.Barrier) -> Outcome:
    """One learner runs every cell of the lesson, in order, from the moment at which all are ready."""
    assert await learner.run(BEFORE) == []
    await together.wait()
    began = time.monotonic()
    shown = [
        {"outputs": await learner.run("".join(cell["source"])) if cell["cell_type"] == "code" else []} for cell in cells
    ]
    seconds = time.monotonic() - began
    await together.wait()  # until all have finished, everybody's servers are open
    (told,) = await learner.run(AFTER)
    wanted = [dict(cell) for cell in cells]
    different = [number for number, (a, b) in enumerate(zip(seen(shown), seen(wanted), strict=True), 1) if a != b]
    return Outcome(different, seconds, Report.read(told["text"]))


async def start_all(running: Hub, users: int) -> list[Learner]:
    """A few servers at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def start(number: int) -> Learner:
        async with gate:
            return await running.start(f"learner{number:02}")

    return await asyncio.gather(*map(start, range(1, users + 1)))


async def hold(cells: Sequence[Mapping[str, Any]], users: int, engine: str, folder: Path) -> bool:
    """The whole of it, for a lesson's cells. True when nothing is wrong."""
    async with hub(folder, engine) as running:
        began = time.monotonic()
        learners = await start_all(running, users)
        started = time.monotonic() - began
        idle = running.memory()
        together = asyncio.Barrier(users)
        outcomes = await asyncio.gather(*(attend(learner, cells, together) for learner in learners))
        after = running.memory()
    by_name = dict(zip((learner.name for learner in learners), outcomes, strict=True))
    wrong = [f"{name}: cells {one.different} differ" for name, one in by_name.items() if one.different]
    wrong += wrong_with({name: one.report for name, one in by_name.items()}, engine)
    tell(started, outcomes, idle, after, wrong)
    return not wrong


def tell(
    started: float,
    outcomes: Sequence[Outcome],
    idle: Mapping[str, Memory],
    after: Mapping[str, Memory],
    wrong: Sequence[str],
) -> None:
    """Print the table."""
    reports = [outcome.report for outcome in outcomes]
    right = sum(not outcome.different for outcome in outcomes)
    print(f"  servers and kernels ready after    {started:.0f} s ({AT_ONCE} at a time)")
    print(f"  all outputs as committed           {right} of {len(outcomes)}")
    print(f"  connections captured               {sum(len(report.connections) for report in reports)}")
    print(f"  ports listened on at the end       {sum(len(report.listening) for report in reports)}")
    print(f"  {'':34} {'min':>7} {'median':>7} {'max':>7}")
    _row("the lesson, all at once, s", [outcome.seconds for outcome in outcomes], 1)
    _row("server before the lesson, MiB RSS", [memory[0] / MIB for memory in idle.values()])
    _row("server after the lesson, MiB RSS", [memory[0] / MIB for memory in after.values()])
    _row("kernel after the lesson, MiB RSS", [memory[1] / MIB for memory in after.values()])
    _row("both, MiB RSS", [(memory[0] + memory[1]) / MIB for memory in after.values()])
    _row("both, MiB, shared pages divided", [memory[2] / MIB for memory in after.values()])
    print(*(f"  WRONG: {sentence}" for sentence in wrong), sep="\n", end="\n" if wrong else "")
    print("  something is wrong" if wrong else "  nothing of one learner was found with another")


def _row(name: str, values: Sequence[float], digits: int = 0) -> None:
    numbers = (f"{value:7.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    print(f"  {name:34} {' '.join(numbers)}")


def missing(engine: str) -> str:
    """What this machine lacks for it, or ""."""
    if importlib.util.find_spec("jupyterhub") is None or shutil.which("configurable-http-proxy") is None:
        return "jupyterhub and configurable-http-proxy are needed: run make classroom, which installs both."
    return live.available() if engine == "live" else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.classroom", description=__doc__)
    parser.add_argument("--users", type=int, default=30)
    parser.add_argument("--engine", choices=["tap", "live"], default="tap")
    parser.add_argument("--lesson", choices=[path.name[:2] for path in lessons()], default="04")
    options = parser.parse_args()
    path = next(path for path in lessons() if path.name.startswith(options.lesson))
    reason = missing(options.engine)
    if reason:
        print(reason, file=sys.stderr)
        return 2
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    print(f"{options.users} learners, engine {options.engine}, {path.name}", flush=True)
    with tempfile.TemporaryDirectory(prefix="class-") as folder:
        try:
            return 0 if asyncio.run(hold(cells, options.users, options.engine, Path(folder))) else 1
        except BaseException:
            print((Path(folder) / "hub.log").read_text(errors="replace")[-4000:], file=sys.stderr)
            raise


if __name__ == "__main__":
    sys.exit(main())
