"""Every error the proxy raises on purpose.

One small tree: each error knows the HTTP status that it becomes at the border, and its text is
fit to be shown to the caller (no secret value, the cause named).
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar


def cause_of(error: OSError) -> str:
    """Why, in the kernel's words: asyncio and aiohttp put the address into theirs."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


class ProxyError(Exception):
    """Base of the tree; `status` is the HTTP status an uncaught one is answered with."""

    status: ClassVar[int] = 500


class SettingsError(ProxyError):
    """Settings, command line or a file named there are wrong (exit code 2).

    `faults` holds one line per fault, each starting with its path (`upstream.url: …`).
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class RequestError(ProxyError):
    """The caller's request was refused; nothing was changed."""

    status: ClassVar[int] = 400


class WrongKeyError(RequestError):
    """`X-Init-API-Key` is missing or wrong."""

    status: ClassVar[int] = 401


class StateError(RequestError):
    """The request does not fit the present state (a second init)."""

    status: ClassVar[int] = 400


class ClaimedError(RequestError):
    """The server is held by another claim, or by this one with another body; which is not told."""

    status: ClassVar[int] = 409


class BodyTooLargeError(RequestError):
    """The body is over the limit."""

    status: ClassVar[int] = 413


class EncodedBodyError(RequestError):
    """The body is compressed."""

    status: ClassVar[int] = 415


class InvalidFieldError(RequestError):
    """A field of the init request is unknown, of the wrong type or out of range."""

    status: ClassVar[int] = 422


class DrainingError(RequestError):
    """The proxy is shutting down."""

    status: ClassVar[int] = 503


class ActivationError(ProxyError):
    """The upstream could not be brought to ready; everything was undone."""

    status: ClassVar[int] = 500


class ActivationTimeoutError(ActivationError):
    """`init.timeout` passed before the upstream was ready."""

    status: ClassVar[int] = 504


class LauncherError(ActivationError):
    """The launcher is gone, refused a command or broke the protocol."""


class LauncherGoneError(LauncherError):
    """The launcher's connection ended before it had answered."""
