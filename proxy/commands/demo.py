"""`demo`: the guided tour."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="walk the whole life cycle on the embedded sample agent",
        description="Start a proxy and the sample agent server behind it, and walk the whole life "
        "cycle, each step with its answer and its time. Needs no settings, and reads none.",
    )
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    from proxy.demo.tour.tour import run_tour  # noqa: PLC0415  the other commands need none of it

    return run_tour()
