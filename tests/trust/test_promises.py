"""SECURITY.md promises nothing that no test holds: every link in it names a test that exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LINKS = re.findall(r"\]\(([^)#]*)#?([^)]*)\)", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))


def names_in(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_every_link_names_a_test() -> None:
    assert LINKS
    for path, name in LINKS:
        assert name.startswith("test_"), path
        assert name in names_in(ROOT / path), f"{path} has no {name}"


def test_every_file_of_trust_is_told_of() -> None:
    told = {path for path, _name in LINKS}
    assert {f"tests/trust/{path.name}" for path in Path(__file__).parent.glob("test_*.py")} - told == {
        "tests/trust/test_promises.py"
    }
