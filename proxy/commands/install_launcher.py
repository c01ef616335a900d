"""`install-launcher`: write the stand-alone launcher for another container."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.errors import ProxyError

if TYPE_CHECKING:
    import argparse

_SOURCE: Final = Path(__file__).resolve().parent.parent / "launcher"
# Zip files begin in 1980; the same source makes the same file.
_DATE: Final = (1980, 1, 1, 0, 0, 0)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "install-launcher",
        help="write the stand-alone launcher for another container",
        description="Write the launcher as one file, for upstream.activation: launcher. In the "
        "agent's container run it with the agent's interpreter (Python 3.8 or later): "
        "python -I -S DEST --socket PATH.",
    )
    parser.add_argument("destination", type=Path, metavar="DEST", help="a file, as launcher.pyz")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    place: Path = args.destination
    part = place.with_name(f".{place.name}.part")
    try:
        _write(part)
        part.chmod(0o555)
        part.rename(place)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ProxyError(f"cannot write {place}: {error.strerror}") from None
    return 0


def _write(place: Path) -> None:
    # Stored, not deflated: an interpreter without zlib can read it.
    with zipfile.ZipFile(place, "w", zipfile.ZIP_STORED) as archive:
        for source in sorted(_SOURCE.rglob("*.py")):
            name = str(source.relative_to(_SOURCE))
            archive.writestr(zipfile.ZipInfo(name, _DATE), source.read_bytes())
