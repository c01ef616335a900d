"""Writes the pages; with `--check` ends with 1 when one of them is not what it would write."""

from __future__ import annotations

import argparse

from docs.generate import PAGES, REFERENCE


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    stale = []
    for name, page in PAGES.items():
        file, text = REFERENCE / name, page()
        if not file.exists() or file.read_text() != text:
            stale.append(name)
            if not args.check:
                file.write_text(text)
    for name in stale:
        print(f"{name}: {'is stale' if args.check else 'written'}")
    return int(args.check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
