"""The Pythons of this machine: the launcher runs on all of them, the proxy on the supported ones.

`python -m tests.interpreters` lists them, and fails where one is missing that CI has to see.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent
_OLDEST: Final = 8  # Python 3.8
# CI sees these and at least one that is newer; of those, which there are is the archive's affair.
_REQUIRED: Final = frozenset(f"3.{minor}" for minor in range(_OLDEST, 14))


@functools.cache
def interpreters() -> dict[str, str]:
    """One interpreter of every version from 3.8 on: pyenv's, and those on the PATH."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = {f"3.{sys.version_info.minor}": sys.executable}
    for path in sorted(pyenv.glob("3.*/bin/python")):
        match = re.match(r"3\.(\d+)\.", path.parent.parent.name)
        if match and int(match[1]) >= _OLDEST:
            found.setdefault(f"3.{match[1]}", str(path))
    for version in (f"3.{minor}" for minor in range(_OLDEST, sys.version_info.minor + 10)):
        program = shutil.which(f"python{version}")
        # A shim of pyenv's may stand for nothing.
        if version not in found and program is not None and _runs(program):
            found[version] = program
    return dict(sorted(found.items(), key=lambda item: _minor(item[0])))


def seen() -> dict[str, str]:
    """The oldest, this one and the newest; where `EVERY_PYTHON` is set, as in CI, all of them."""
    every = interpreters()
    chosen = {min(every, key=_minor), f"3.{sys.version_info.minor}", max(every, key=_minor)}
    return {
        version: path
        for version, path in every.items()
        if version in chosen or os.environ.get("EVERY_PYTHON")
    }


def _minor(version: str) -> int:
    return int(version.partition(".")[2])


def _runs(program: str) -> bool:
    return subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0


def supported() -> list[str]:
    """The versions that pyproject.toml names."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: 3."
    return [line.rpartition(" ")[2] for line in project["classifiers"] if line.startswith(prefix)]


def main() -> int:
    found = interpreters()
    for version, path in found.items():
        print(version, path, "supported" if version in supported() else "launcher")
    missing = _REQUIRED - set(found)
    if missing:
        print("missing: Python " + ", ".join(sorted(missing, key=_minor)), file=sys.stderr)
    newer = [version for version in supported() if version in set(found) - _REQUIRED]
    if not newer:
        print("missing: any supported Python after 3.13", file=sys.stderr)
    return 1 if missing or not newer else 0


if __name__ == "__main__":
    sys.exit(main())
