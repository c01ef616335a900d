"""The rules between keys, over a tree whose keys are each right by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.settings.addresses import TcpAddress, UnixAddress
from proxy.settings.mapping import MappingSettings
from proxy.settings.probing import ReadySettings
from proxy.settings.reading.faults import Fault
from proxy.settings.reading.mapcheck import check_mapping
from proxy.settings.reading.templatecheck import check_needs, named_fields
from proxy.settings.reading.waitcheck import check_dormancy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.settings.tree import ListenSettings, Settings
    from proxy.settings.upstream import UpstreamSettings

# What only whoever starts the upstream could heed.
_STARTING: Final = ("command", "cwd")
_UNUSED: Final = {
    "signal": _STARTING,
    "forward": (
        *_STARTING,
        "env",
        "deny_env",
        "profile",
        "mapping",
        "run_dir",
        "alive",
        "stop_signal",
        "stop_grace",
    ),
}


def check(settings: Settings) -> Iterator[Fault]:
    """Every fault, located at the key that is most likely to be the wrong one."""
    yield from _key(settings)
    yield from _listen(settings)
    yield from _upstream(settings)
    yield from _ready(settings.upstream)
    yield from _activation(settings.upstream)
    yield from check_dormancy(settings)
    yield from _gate(settings)
    yield from check_mapping(
        settings.upstream.mapping, named_fields(settings), own_paths=_own_paths(settings)
    )
    yield from check_needs(settings)


def _key(settings: Settings) -> Iterator[Fault]:
    init, address = settings.init, settings.listen.address
    if settings.deferred_init and init.key is None and not init.allow_without_key:
        if address.loopback:
            return
        yield Fault(
            ("init", "key"),
            f"is not set, and whoever reaches {address} first could claim the pod",
            "set it (OH_SECRET_KEY), listen on 127.0.0.1 or a Unix socket, or set "
            "init.allow_without_key: true",
            about=(("deferred_init",), ("init",), ("listen", "address")),
        )


def _listen(settings: Settings) -> Iterator[Fault]:
    listen = settings.listen
    for other in (("listen", "address"), ("upstream", "url")):
        taken = listen.address if other[0] == "listen" else settings.upstream.url.address
        if other[0] == "listen" and "admin" not in listen.model_fields_set:
            continue  # its default gives way
        if listen.admin is not None and _same(listen.admin, taken) and _port(taken) != 0:
            yield Fault(
                ("listen", "admin"),
                f"is the address of {'.'.join(other)}, {taken}",
                "/metrics needs a port of its own; null: none",
                about=(("listen",), other),
            )
    if listen.unix != type(listen.unix)() and not _unix_sockets(listen):
        yield Fault(
            ("listen", "unix"),
            "has no effect: no address under listen is a Unix socket",
            about=(("listen", "address"),),
        )
    if listen.trusted_proxies and not isinstance(listen.address, TcpAddress):
        yield Fault(
            ("listen", "trusted_proxies"),
            "has no effect on a Unix socket: who connects to it has no address",
            "set listen.unix.trusted: true",
            about=(("listen", "address"),),
        )


def _unix_sockets(listen: ListenSettings) -> bool:
    return any(isinstance(each, UnixAddress) for each in (listen.address, listen.admin))


def _port(address: object) -> int | None:
    return address.port if isinstance(address, TcpAddress) else None


def _upstream(settings: Settings) -> Iterator[Fault]:
    upstream = settings.upstream
    if _same(settings.listen.address, upstream.url.address):
        yield Fault(
            ("upstream", "url"),
            f"is the proxy's own listener, {settings.listen.address}",
            "the upstream needs a port or socket of its own",
            about=(("listen", "address"), ("upstream", "url")),
        )
    if upstream.profile != "none" and upstream.mapping != MappingSettings():
        yield Fault(
            ("upstream", "mapping"),
            f"has no effect with upstream.profile: {upstream.profile}",
            "set upstream.profile: none, or leave the mapping out",
            about=(("upstream", "profile"),),
        )
    if upstream.preload.plan is not None and upstream.preload.modules not in ((), "auto"):
        yield Fault(
            ("upstream", "preload", "modules"),
            "cannot be a list when upstream.preload.plan names one",
            "leave one of the two out",
            about=(("upstream", "preload"),),
        )
    if upstream.on_exit == "dormant" and not settings.deferred_init:
        yield Fault(
            ("upstream", "on_exit"),
            "cannot be dormant without deferred_init: nobody could wake the upstream again",
            "set it to restart or exit, or set deferred_init: true",
            about=(("deferred_init",),),
        )
    if upstream.run_dir is not None and not upstream.run_dir.strip("/"):
        yield Fault(
            ("upstream", "run_dir"), "cannot be /", "it is removed when an activation is undone"
        )


def _ready(upstream: UpstreamSettings) -> Iterator[Fault]:
    ready, here = upstream.ready, ("upstream", "ready")
    for name in ("headers", "statuses", "body") if ready.path is None else ():
        if getattr(ready, name) != ReadySettings.model_fields[name].get_default(
            call_default_factory=True
        ):
            yield Fault(
                (*here, name), "has no effect with upstream.ready.path: null", about=(here,)
            )
    if ready.log is not None and upstream.activation in {"signal", "forward"}:
        yield Fault(
            (*here, "log"),
            f"cannot be given with upstream.activation: {upstream.activation}",
            "what the upstream prints is not seen here",
            about=(("upstream", "activation"),),
        )


def _activation(upstream: UpstreamSettings) -> Iterator[Fault]:
    way = upstream.activation
    about = (("upstream", "activation"),)
    for section in ("launcher", "signal", "forward"):
        if section != way and getattr(upstream, section) != type(getattr(upstream, section))():
            yield Fault(
                ("upstream", section),
                f"has no effect with upstream.activation: {way}",
                f"set upstream.activation: {section}, or leave it out",
                about=about,
            )
    for name in _UNUSED.get(way, ()):
        if getattr(upstream, name) != type(upstream).model_fields[name].get_default(
            call_default_factory=True
        ):
            yield Fault(
                ("upstream", name),
                f"has no effect with upstream.activation: {way}",
                "the upstream is started by somebody else",
                about=about,
            )
    if upstream.preload.chosen and way in {"signal", "forward"}:
        yield Fault(
            ("upstream", "preload"),
            f"has no effect with upstream.activation: {way}",
            "there is no launcher to preload in",
            about=about,
        )
    for name in ("socket", "token") if way == "launcher" else ():
        if getattr(upstream.launcher, name) is None:
            yield Fault(("upstream", "launcher", name), "is not set", about=about)
    if way == "signal":
        yield from _signal(upstream)


def _signal(upstream: UpstreamSettings) -> Iterator[Fault]:
    about = (("upstream", "activation"), ("upstream", "signal"))
    if upstream.run_dir is None:
        yield Fault(
            ("upstream", "run_dir"),
            "is not set, and the upstream must find its files somewhere",
            "a directory on a volume that proxy and upstream share",
            about=about,
        )
    told = upstream.signal
    if told.signal is not None and told.pidfile is None and told.process is None:
        yield Fault(
            ("upstream", "signal"),
            f"does not say which process gets {told.signal}",
            "set pidfile or process, or signal: null",
            about=about,
        )


def _same(listen: object, dial: object) -> bool:
    """Whether a connection to `dial` would arrive at `listen`."""
    if not isinstance(listen, TcpAddress) or not isinstance(dial, TcpAddress):
        return listen == dial
    if listen.port != dial.port:
        return False
    local = dial.loopback and (listen.wildcard or listen.loopback)
    return listen.host == dial.host or local or dial.wildcard


def _own_paths(settings: Settings) -> frozenset[str]:
    """The gate decides about these before any others (lifecycle/gate.py)."""
    prefix = settings.control.prefix
    return frozenset(prefix + path for path in ("/api/init", "/health", "/ready"))


def _gate(settings: Settings) -> Iterator[Fault]:
    if settings.gate.session_keys == "enforce" and not settings.deferred_init:
        yield Fault(
            ("gate", "session_keys"),
            "would let nobody pass: without deferred_init no key is delivered",
            "set deferred_init: true",
            about=(("deferred_init",),),
        )
    if settings.gate.query_parameter is not None and settings.gate.session_keys == "off":
        yield Fault(
            ("gate", "query_parameter"),
            "has no effect with gate.session_keys: off",
            about=(("gate",),),
        )
    for index, path in enumerate(settings.gate.open_paths):
        if path in _own_paths(settings):
            yield Fault(
                ("gate", "open_paths", index), f"{path} is answered by the proxy in every state"
            )
        elif "?" in path:
            yield Fault(
                ("gate", "open_paths", index),
                "must be a path without a query",
                "a query is allowed with every open path",
            )
    limits = settings.limits
    if limits.target_length >= limits.head_size:
        yield Fault(
            ("limits", "target_length"),
            f"must be less than limits.head_size ({limits.head_size}): the target is in the head",
            about=(("limits",),),
        )
