"""What an audit has heard is told while others go on reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.launcher.audit.audit import Audit
from proxy.launcher.fork.reads import reads

if TYPE_CHECKING:
    from collections.abc import Iterator


class Others(list[tuple[str, ...]]):
    """The stacks of a name; who goes through them is overtaken by another thread's reading."""

    audit: Audit

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        self.audit.names[f"MORE_{len(self.audit.names)}"] = []
        return super().__iter__()


def test_names_that_are_read_meanwhile_do_not_hinder_a_report() -> None:
    audit = Audit()
    stacks = Others([("app.reader",)])
    stacks.audit = audit
    audit.names["APP_KEY"] = stacks
    audit.names["OTHER"] = []
    assert reads(audit, ["app_*"], []) == [("reads APP_KEY", ("app.reader",))]
