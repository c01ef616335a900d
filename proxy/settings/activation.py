"""The ways to start an upstream other than `spawn`, and what each needs to know."""

from __future__ import annotations

import signal
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, SecretStr

from proxy.settings.mapping import Model
from proxy.settings.values import AbsolutePath, Text  # noqa: TC001  pydantic reads the annotations

Activation = Literal["spawn", "launcher", "signal", "forward"]

# What cannot be caught tells a process nothing, and would only end it.
_SIGNALS: Final = {s.name: s for s in signal.Signals} | {"SIGKILL": None, "SIGSTOP": None}


def _signal(name: str) -> str:
    if not _SIGNALS.get(name):
        raise ValueError("must be the name of a signal that can be caught, as SIGTERM or SIGHUP")
    return name


SignalName = Annotated[str, AfterValidator(_signal)]


class LauncherSettings(Model):
    socket: AbsolutePath | None = Field(
        default=None,
        description="Unix socket on a volume shared with the agent's container, where the "
        "launcher there listens.",
    )
    token: AbsolutePath | None = Field(
        default=None,
        description="Path on a volume that only the proxy has, where it makes the socket by which "
        "it and its launcher find each other again after a restart.",
    )


class SignalSettings(Model):
    pidfile: AbsolutePath | None = Field(
        default=None, description="File with the pid of the process to be signalled."
    )
    process: Annotated[Text, Field(min_length=1)] | None = Field(
        default=None,
        description="Its command line, arguments joined by spaces; * and ? are patterns. With a "
        "pidfile, both must fit.",
    )
    signal: SignalName | None = Field(
        default="SIGTERM",
        description="What it is sent once the files are there; null: nothing, it waits for them.",
    )
    restarts: bool = Field(
        default=True,
        description="Whether it ends on the signal and another takes its place; false: it reads "
        "the files again itself.",
    )


class ForwardSettings(Model):
    key: SecretStr | None = Field(
        default=None, description="The upstream's own X-Init-API-Key; null: it wants none."
    )
