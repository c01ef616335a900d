"""The relay beside nginx, HAProxy, Envoy, Caddy and a plain aiohttp proxy.

    python -m benchmarks.relay [--rounds 3] [--seconds 2] [--only ours,nginx] [--parts small,bulk]
                               [--json FILE] [--check]

All proxies run at once on one core, idle except for the one that is measured; the upstream and the
load share another (with four cores, each has its own). In every round all take their turn, so that
a disturbance meets all alike; ratios are taken within a round.

With `--json` what FILE has of other parts and proxies stays, so that a run can be made in pieces.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks.relay import contenders
from benchmarks.relay.bench import Bench
from benchmarks.relay.parts import PARTS
from benchmarks.relay.report import Report


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--only", default="", help="names of proxies, by commas")
    names = ",".join(part.__name__ for part in PARTS)
    parser.add_argument("--parts", default=names, help="by commas, of " + names)
    parser.add_argument("--json", type=Path, help="add to this file")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    return parser.parse_args()


def noted(report: Report, path: Path | None) -> Report:
    """The report, together with what is in the file; written after every part, lest it be lost."""
    if path is None:
        return report
    together = Report.read(path).updated(report) if path.exists() else report
    together.write(path)
    return together


def main() -> int:
    options = parsed()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = options.parts.split(",")
    report = Report({}, {})
    with contextlib.ExitStack() as stack:
        bench = Bench(
            Path(stack.enter_context(tempfile.TemporaryDirectory())),
            stack,
            only=set(filter(None, options.only.split(","))),
            rounds=options.rounds,
            seconds=options.seconds,
        )
        versions = contenders.versions(bench.chosen.values())
        for part in PARTS:
            if part.__name__ in wanted:
                print(f"{part.__name__} …", file=sys.stderr)
                part(bench)
                report = noted(Report(bench.measures, versions), options.json)
    print(report)
    print(
        f"{bench.disturbed} samples were disturbed by other guests of the host, and taken again; "
        f"of one that counts, at most {bench.stolen:.0%} was lost to them"
    )
    return int(options.check and report.missed)


if __name__ == "__main__":
    sys.exit(main())
