"""What a recording has left out, in the order in which it is worth a look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.commands.record import say_struck

if TYPE_CHECKING:
    import pytest


def test_causes_are_told_by_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    struck = {
        "app.key": "reads APP_KEY",
        "fs.config": "reads the whole environment",
        "fs": "imports fs.config",
        "fs.http": "imports fs",
        "gradio": "needs fs.http",
        "one": "imports two",
        "two": "imports one",
    }
    say_struck({"struck": struck, "modules": ["json"] * 40})
    assert capsys.readouterr().err.splitlines() == [
        "warning: 7 of 47 modules are left out: every start imports them",
        "left out: fs.config (reads the whole environment), and 3 that import or need it",
        "left out: app.key (reads APP_KEY)",
    ]


def test_little_that_is_left_out_is_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    say_struck({"struck": {"app.key": "reads APP_KEY"}, "modules": ["json"] * 40})
    assert capsys.readouterr().err == "left out: app.key (reads APP_KEY)\n"


def test_what_is_left_out_is_told_the_dearest_first(capsys: pytest.CaptureFixture[str]) -> None:
    struck = {"app.few": "reads FEW", "app.many": "reads MANY", "app.one": "imports app.many"}
    costs = {"app.few": 2.14, "app.many": 0.02}
    say_struck({"struck": struck, "costs": costs, "modules": ["json"] * 40})
    assert capsys.readouterr().err.splitlines() == [
        "left out: app.few (reads FEW): 2.1 s of every start",
        "left out: app.many (reads MANY), and 1 that import or need it",
    ]
