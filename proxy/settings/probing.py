"""What the upstream is asked: whether it is ready (`upstream.ready`), and whether it hangs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from proxy.settings.mapping import Model
from proxy.settings.values import (
    HeaderName,
    HeaderValue,
    NotBool,
    Pattern,
    RequestPath,
    Seconds,
    Statuses,
)


class ReadySettings(Model):
    path: RequestPath | None = Field(
        default="/ready",
        description="What the readiness probe asks the upstream for; null: nothing, that it "
        "accepts a connection is enough.",
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, description="Headers that the probe has."
    )
    statuses: Annotated[tuple[Statuses, ...], Field(min_length=1)] = Field(
        default=(200,),
        description="Statuses that mean ready: numbers, or ranges as `200-399`.",
    )
    body: Pattern | None = Field(
        default=None,
        description="A regular expression that must be found in the answer's first 64 KiB, too.",
    )
    log: Pattern | None = Field(
        default=None,
        description="A regular expression that must be found in a line of the upstream's output, "
        "too.",
    )
    interval: Seconds = Field(
        default=0.01,
        description="Seconds between two attempts, in the beginning: up to a second when it takes "
        "long.",
    )
    timeout: Seconds = Field(default=2.0, description="Seconds one attempt may take.")


class AliveSettings(Model):
    path: RequestPath | None = Field(
        default=None,
        description="What a ready upstream is asked for, to see that it does not hang; null: it "
        "is not asked. Any status under 500 will do.",
    )
    interval: Seconds = Field(
        default=10.0, description="Seconds between two such requests, and for one of them."
    )
    failures: Annotated[int, Field(ge=1, le=1000), NotBool] = Field(
        default=3, description="Failures in a row after which it is killed, as if it had died."
    )
