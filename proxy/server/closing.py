"""The end, in order: let routers notice, drain, stop the upstream, close.

A second signal skips to the last of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from proxy.errors import ProxyError
from proxy.lifecycle.state import Event, State

if TYPE_CHECKING:
    from proxy.activation.starter import Starter
    from proxy.activation.transaction import Activator
    from proxy.control.inlet import Inlet
    from proxy.lifecycle.state import Lifecycle
    from proxy.relay import Relay
    from proxy.server.listen import Listener
    from proxy.server.stopping import Stopping
    from proxy.settings import DrainSettings

logger = logging.getLogger(__name__)

# Seconds for the last bytes of a stopped upstream (WebSocket close frames) to reach the clients.
LAST_BYTES: Final = 1.0


class Closing:
    """Closes what it is given, as `stopping` was asked to."""

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        activator: Activator,
        starter: Starter,
        relay: Relay,
        listener: Listener,
        control: Inlet,
        settings: DrainSettings,
        stopping: Stopping,
    ) -> None:
        self._lifecycle = lifecycle
        self._activator = activator
        self._starter = starter
        self._relay = relay
        self._listener = listener
        self._control = control
        self._settings = settings
        self._stopping = stopping

    async def close(self) -> None:
        if self._stopping.told and self._lifecycle.state is State.READY:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.delay):
                    await self._stopping.cut.wait()
        self._lifecycle.apply(Event.DRAIN)
        drain = asyncio.create_task(self._drain(), name="drain")
        cut = asyncio.create_task(self._stopping.cut.wait(), name="second signal")
        await asyncio.wait({drain, cut}, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        if not drain.done():
            drain.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drain
            self._relay.abort()
            try:
                await self._starter.kill()
            except ProxyError as error:
                logger.error("cannot stop the upstream", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
        elif drain.exception() is not None:
            logger.error("cannot drain", exc_info=drain.exception())
        self._listener.close()
        self._relay.abort()
        await self._starter.close()
        await self._control.close()

    async def _drain(self) -> None:
        # A running activation is undone at once; nobody can use what it would have started.
        await asyncio.gather(self._activator.interrupt(), self._relay.drain(self._settings.grace))
        self._listener.close()
        # The upstream closes its own WebSockets properly, through tunnels that are still open.
        await self._activator.shutdown()
        await self._relay.drain(LAST_BYTES, tunnels=True)
