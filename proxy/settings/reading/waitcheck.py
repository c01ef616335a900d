"""The rules of how an upstream waits: what each way needs, and what it has no use for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.settings.reading.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.settings.tree import Settings


def check_dormancy(settings: Settings) -> Iterator[Fault]:
    upstream = settings.upstream
    wanted = upstream.dormancy
    here, about = ("upstream", "dormancy"), (("upstream", "dormancy"),)
    if wanted in {"native", "standby", "preload"} and upstream.activation in {"signal", "forward"}:
        yield Fault(
            here,
            f"cannot be {wanted} with upstream.activation: {upstream.activation}",
            "the upstream is started by somebody else",
            about=(("upstream", "activation"),),
        )
    elif wanted == "native" and upstream.fields_and_files.native is None:
        yield Fault(
            here,
            "cannot be native: nothing tells how the upstream is started dormant",
            "describe it under upstream.mapping.native",
            about=(("upstream", "profile"), ("upstream", "mapping")),
        )
    elif wanted == "standby" and not upstream.standby.requests:
        yield Fault(
            here,
            "cannot be standby: nothing tells the upstream of an init",
            "describe requests under upstream.standby",
            about=about,
        )
    elif wanted in {"native", "standby"} and not settings.deferred_init:
        yield Fault(
            here,
            f"cannot be {wanted} without deferred_init: the upstream is started at once",
            about=(("deferred_init",),),
        )
    if wanted == "preload" and not upstream.preload.enabled:
        hint = "leave upstream.preload.modules out (auto: recorded at the start)"
        yield Fault(here, "cannot be preload: nothing is to be preloaded", hint, about=about)
    if wanted in {"cold", "standby"} and upstream.preload.chosen:
        yield Fault(
            ("upstream", "preload"), f"has no effect with upstream.dormancy: {wanted}", about=about
        )
    if upstream.rehearsal:
        yield from _rehearsal(settings)
    if upstream.standby.requests and wanted != "standby":
        yield from _requests(settings)


def _rehearsal(settings: Settings) -> Iterator[Fault]:
    upstream = settings.upstream
    if upstream.activation in {"signal", "forward"}:
        why = f"with upstream.activation: {upstream.activation}"
    elif not settings.deferred_init:
        why = "without deferred_init: the upstream is started at once"
    elif upstream.stands_by or upstream.native is not None:
        why = "on an upstream that runs while it is dormant"
    else:
        return
    named = ("rehearsal", "dormancy", "standby", "activation", "profile", "mapping")
    about = (("deferred_init",), *(("upstream", name) for name in named))
    yield Fault(("upstream", "rehearsal"), f"has no effect {why}", about=about)


def _requests(settings: Settings) -> Iterator[Fault]:
    """Requests that would not be made: what only they deliver would get lost."""
    upstream = settings.upstream
    if upstream.dormancy != "auto":
        why = f"with upstream.dormancy: {upstream.dormancy}"
    elif upstream.activation in {"signal", "forward"}:
        why = f"with upstream.activation: {upstream.activation}"
    elif not settings.deferred_init:
        why = "without deferred_init: nothing is delivered"
    elif upstream.native is not None:
        why = "beside a dormant mode of the upstream's own"
    else:
        return
    yield Fault(
        ("upstream", "standby", "requests"),
        f"has no effect {why}",
        about=(
            ("deferred_init",),
            *(("upstream", name) for name in ("standby", "dormancy", "activation", "profile")),
            ("upstream", "mapping", "native"),
        ),
    )
