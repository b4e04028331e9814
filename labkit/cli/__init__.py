"""The lab in a terminal: the same capabilities as the notebooks, for people and for scripts.

Exit codes: 0 done, 1 done and something is wrong (doctor) or nobody answered (probe), 2 could not be done as asked, with one
sentence that says why. Whoever reads the output may leave at any time: that is 0.
Heavy modules are imported inside the commands, so that `labkit --help` answers at once.
"""

from labkit.cli import compare, doctor, lab, probe, read, serve
from labkit.cli.base import main

__all__ = ["main"]

for command in (compare.compare, read.read, serve.serve, probe.probe, doctor.doctor, lab.lab):
    main.add_command(command)
