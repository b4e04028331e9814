"""The laws of the house, read from the code's own imports (CONTRIBUTING.md, "The house")."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "labkit"
FOUNDATION = {"errors", "texts", "files", "startable"}
# Each room, and the rooms it may import. A room that is missing here fails the test: give it a place first.
MAY_IMPORT = {
    "errors": set(),
    "files": set(),
    "startable": set(),
    "texts": set(),
    "mail": {"mail"},
    "wire": {"wire"},
    "decode": {"decode", "wire"},
    "show": {"show", "decode", "wire"},
    "capture": {"show", "decode", "wire"},
    "provider": {"mail", "wire", "decode", "capture"},
    "exchanges": {"mail", "wire", "decode", "show", "capture", "provider"},
    "attack": {"attack", "mail", "wire", "decode", "show", "capture", "provider", "exchanges"},
    "lessons": {"lessons", "mail", "wire", "decode", "show", "capture", "provider", "exchanges", "attack", "probing"},
    "browser": {"browser", "wire"},
    "doctor": {"wire"},
    "lab": set(),
    "probing": {"probing", "mail", "wire", "decode", "show", "provider"},
    "cli": {
        "cli",
        "doctor",
        "lab",
        "probing",
        "mail",
        "wire",
        "decode",
        "show",
        "capture",
        "provider",
        "exchanges",
        "attack",
        "lessons",
    },
    "__init__": {
        "browser",
        "probing",
        "mail",
        "wire",
        "decode",
        "show",
        "capture",
        "provider",
        "exchanges",
        "attack",
        "lessons",
    },
    "__main__": {"cli"},
}
SOCKETS = {"socket", "ssl", "asyncio", "smtplib", "poplib", "http", "urllib", "socketserver", "selectors"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(module: Path) -> set[str]:
    """Every module that this one imports anywhere, also inside functions and under TYPE_CHECKING."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name_of(module: Path) -> str:
    """As an import says it."""
    return ".".join(module.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported_at_once(module: Path) -> set[str]:
    """The package's modules that this one imports when it is loaded: not inside functions, not under TYPE_CHECKING."""
    names = set(map(name_of, modules()))
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(module.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {
                inner if (inner := f"{node.module}.{alias.name}") in names else str(node.module) for alias in node.names
            }
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)
    return found & names


def rooms_imported(module: Path) -> set[str]:
    rooms = {name.split(".")[1] for name in imports(module) if name.startswith("labkit.")}
    return {name for name in rooms if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()}


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_the_law_allows(module: Path) -> None:
    assert rooms_imported(module) - FOUNDATION <= MAY_IMPORT[room(module)]


def test_no_module_waits_for_itself() -> None:
    """Imports have an order: what is left when all that need nothing more are taken away goes in a circle."""
    needs = {
        ".".join(module.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): imported_at_once(
            module
        )
        for module in modules()
    }
    while ready := {name for name, needed in needs.items() if not needed & needs.keys()}:
        needs = {name: needed for name, needed in needs.items() if name not in ready}
    assert needs == {}


def test_no_class_has_the_name_of_another() -> None:
    """A name says one thing in the whole house."""
    trees = {module: ast.parse(module.read_text(encoding="utf-8")) for module in modules()}
    places = defaultdict(list)
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(module.relative_to(PACKAGE)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_longer_than_500_lines(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("module", [m for m in modules() if room(m) == "wire"], ids=lambda path: path.stem)
def test_wire_has_no_word_of_mail(module: Path) -> None:
    """Law 1 in spirit: no port, reply or host name of a mail service. That it knows nothing of mail, it may say."""
    text = module.read_text(encoding="utf-8").replace("knows nothing of mail", "")
    assert re.findall(r"\b(?:smtp|pop3|imap|mail|message-id|EHLO|110|465|587|995)\b", text, re.IGNORECASE) == []


@pytest.mark.parametrize("module", [m for m in modules() if room(m) in {"decode", "show"}], ids=lambda path: path.stem)
def test_decode_and_show_never_open_a_socket(module: Path) -> None:
    assert not {name.split(".")[0] for name in imports(module)} & SOCKETS


@pytest.mark.parametrize("heavy", ["scapy", "matplotlib", "jinja2", "aiosmtpd", "cryptography"])
def test_importing_labkit_loads_nothing_heavy(heavy: str) -> None:
    script = f"import sys, labkit; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_no_test_uses_a_private_name() -> None:
    """What nobody but the tests may call would stay as it is for the tests' sake."""
    private = re.compile(r"from labkit\S* import [^\n]*\b_[a-z]\w*|setattr\(\w+, \"_[a-z]")
    tests = Path(__file__).parent.rglob("*.py")
    assert [path.name for path in tests if private.search(path.read_text(encoding="utf-8"))] == []


def test_every_public_name_is_there() -> None:
    import labkit

    assert {name for name in labkit.__all__ if getattr(labkit, name) is None} == set()
    assert set(labkit.__all__) <= set(dir(labkit))
