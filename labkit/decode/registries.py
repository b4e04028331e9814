"""What the numbers of protocols are called: registries.csv, with IANA's registries and those of IEEE and ITU-T.

So a name is data, and the code that cuts bytes knows a number only where it acts on it.
"""

import csv
from importlib.resources import files


def _registries() -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {}
    with (files(__package__) / "registries.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["registry"], {})[int(row["number"], 0)] = row["name"]
    return found


REGISTRIES = _registries()
