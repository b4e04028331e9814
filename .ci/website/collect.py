"""Collects what runs in a browser tab, in one folder: Pyodide's core, pure packages as wheels, a lock that names only these.

python .ci/website/collect.py FOLDER

Pyodide comes from npm, packages from the package index, at the releases that are pinned here and in packages.txt. Nothing
else is asked for, then or later: the folder is all that a tab loads. Wheels are written anew, without compiled parts and
with fixed times, so that the same sources give the same octets.
"""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

from labkit.mail.certificates import SHIPPED, ship
from labkit.mail.issuer import Issuer

ROOT = Path(__file__).parent.parent.parent
PYODIDE = "314.0.7"
PYTHON = "3.14"
CORE = ("pyodide.mjs", "pyodide.js", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
LOCK = "pyodide-lock.json"
_TAB = {"sys_platform": "emscripten", "platform_system": "Emscripten", "python_version": PYTHON, "extra": "browser"}
_COMPILED = {".so", ".pyd", ".dylib"}
_NOT_SHIPPED = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
# A cell may import scapy before labkit, and scapy asks at once for what the platform lacks, which labkit fills.
_FIRST = {"scapy/__init__.py": b"import labkit\n"}
_THEN = (1980, 1, 1, 0, 0, 0)


def collect(folder: Path) -> Path:
    """Fill the folder, and return it. What is in it already is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    core = _core(folder.with_name(folder.name + ".npm"))
    for name in CORE:
        shutil.copy(core / name, folder)
    wheels = [_wheel(found, folder) for found in _installed(folder.with_name(folder.name + ".packages"))]
    lock = {
        "info": json.loads((core / LOCK).read_text())["info"],
        "packages": {entry["name"]: entry for entry in wheels},
    }
    for entry in wheels:
        entry["depends"] = [name for name in entry["depends"] if name in lock["packages"]]
    (folder / LOCK).write_text(json.dumps(lock, indent=1, sort_keys=True))
    return folder


def _core(folder: Path) -> Path:
    """npm's package: where it is."""
    folder.mkdir(exist_ok=True)
    _run("npm", "install", "--silent", "--no-save", "--no-audit", "--no-fund", "--prefix", folder, f"pyodide@{PYODIDE}")
    return folder / "node_modules" / "pyodide"


def _installed(folder: Path) -> Iterator[Distribution]:
    """The packages, unpacked, and labkit among them, with its certificates."""
    shutil.rmtree(folder, ignore_errors=True)
    tool = ["uv", "pip"] if shutil.which("uv") else [sys.executable, "-m", "pip"]
    install = [*tool, "install", "--quiet", "--no-deps", "--target", folder]
    _run(
        *(*install, "--python-version", PYTHON, "--only-binary", ":all:", "--require-hashes"),
        *("-r", Path(__file__).with_name("packages.txt")),
    )
    _run(*install, "--no-build-isolation", *(["--python", sys.executable] if tool[0] == "uv" else []), ROOT)
    ship(Issuer(), folder / "labkit" / "mail" / SHIPPED.name)
    yield from sorted(distributions(path=[str(folder)]), key=lambda found: found.name)


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT)


def _wheel(found: Distribution, folder: Path) -> dict[str, object]:
    """Write a distribution as a wheel: its entry in the lock."""
    name = re.sub(r"[-_.]+", "_", found.name).lower()
    path = folder / f"{name}-{found.version}-py3-none-any.whl"
    info = f"{name}-{found.version}.dist-info"
    contents = dict(sorted(_contents(found, info).items()))
    record = "".join(f"{place},sha256={_base64(octets)},{len(octets)}\n" for place, octets in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for place, octets in contents.items():
            archive.writestr(zipfile.ZipInfo(place, _THEN), octets, zipfile.ZIP_DEFLATED)
    tops = {place.split("/")[0].removesuffix(".py") for place in contents if not place.startswith(info)}
    return {
        "name": name.replace("_", "-"),
        "version": found.version,
        "file_name": path.name,
        "install_dir": "site",
        "package_type": "package",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "imports": sorted(top for top in tops if top.isidentifier() and not top.startswith("_")),
        "depends": _depends(found),
        "unvendored_tests": False,
    }


def _contents(found: Distribution, info: str) -> dict[str, bytes]:
    octets = {}
    for file in found.files or ():
        path = Path(str(file.locate()))
        if path.suffix in _COMPILED | {".pyc"} or file.name in _NOT_SHIPPED or file.parts[0] in {"..", "bin", "share"}:
            continue
        place = f"{info}/{'/'.join(file.parts[1:])}" if file.parts[0].endswith(".dist-info") else file.as_posix()
        octets[place] = _FIRST.get(place, b"") + path.read_bytes()
    wheel = f"{info}/WHEEL"
    octets[wheel] = b"Wheel-Version: 1.0\nGenerator: labkit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if found.name == "labkit":
        shipped = Path("labkit", "mail", SHIPPED.name)
        octets[shipped.as_posix()] = Path(str(found.locate_file(shipped))).read_bytes()
    return octets


def _depends(found: Distribution) -> list[str]:
    needed = [Requirement(text) for text in found.requires or ()]
    fit = [one.name for one in needed if one.marker is None or one.marker.evaluate(_TAB)]
    return sorted({re.sub(r"[-_.]+", "-", name).lower() for name in fit})


def _base64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(octets).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    made = collect(Path(sys.argv[1]).resolve())
    files = [path.stat().st_size for path in made.iterdir()]
    print(f"{made}: {len(files)} files, {sum(files) / 1e6:.1f} MB")
