"""What the launcher is told about warm starts, from the upstream's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.activation.launched.likely import LIKELY
from proxy.lifecycle.mapping import overridden
from proxy.settings.values import statuses_of

if TYPE_CHECKING:
    from proxy.settings import UpstreamSettings
    from proxy.settings.mapping import MappingSettings


def preload_message(upstream: UpstreamSettings) -> dict[str, Any] | None:
    """The field `preload` of the launcher's operations; None when nothing is to be preloaded."""
    if not upstream.preloads:
        return None
    preload = upstream.preload
    terms = recording_terms(upstream)
    return preload.model_dump(mode="json") | terms | {"files": guessable_files(upstream)}


def recording_terms(upstream: UpstreamSettings) -> dict[str, Any]:
    """What a recording needs: names that an activation may deliver, and how to see readiness."""
    url, ready = upstream.url, upstream.ready
    address = f"unix:{url.socket_path}" if url.socket_path else str(url.address)
    return {
        "timeout": upstream.preload.timeout,
        "names": sorted({*deliverable(upstream.fields_and_files), *upstream.preload.may_deliver}),
        "likely": list(LIKELY),
        "ready": {
            "address": address,
            "path": ready.path,
            "headers": ready.headers,
            "statuses": sorted(statuses_of(ready.statuses)),
            "body": ready.body.pattern if ready.body is not None else None,
            "log": ready.log.pattern if ready.log is not None else None,
        },
    }


def guessable_files(upstream: UpstreamSettings) -> list[str]:
    """The mapping's files, except those in a directory whose name the proxy makes up."""
    paths = [file.path for file in upstream.fields_and_files.files.values()]
    if upstream.run_dir is None:
        return [path for path in paths if not path.startswith("{run_dir}")]
    return [path.replace("{run_dir}", upstream.run_dir) for path in paths]


def deliverable(mapping: MappingSettings) -> list[str]:
    """Names and patterns of the variables that a mapping may set or remove.

    What a caller delivers in `env` is not known before it comes: the fork server judges it then.
    """
    names = {name for field in mapping.fields.values() for name in overridden(field)}
    names |= {file.env for file in mapping.files.values() if file.env is not None}
    return sorted(names | set(mapping.variables))
