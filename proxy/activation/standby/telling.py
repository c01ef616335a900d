"""Makes the requests by which a running upstream is told of an init."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from proxy.activation.talking import open_session, read_answer
from proxy.errors import ActivationError, cause_of
from proxy.settings.values import statuses_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.lifecycle.told.requests import PlannedRequest
    from proxy.settings import ServerUrl


async def tell(
    url: ServerUrl, requests: Iterable[PlannedRequest], on_request: Callable[[str], None]
) -> None:
    """One after the other; `on_request` hears the name of each that begins.

    Raises `ActivationError` for the first that is not answered as it must be, with the upstream's
    own words, whole: whoever shows them masks them before they are cut.
    """
    async with open_session(url, timeout=None) as session:
        for request in requests:
            on_request(request.name)
            try:
                async with asyncio.timeout(request.timeout):
                    await _make(session, url, request)
            except TimeoutError:
                late = f"{request.name} was not answered within {request.timeout:g} s"
                raise ActivationError(late) from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                # The texts of other errors than those of connecting may quote what was sent.
                cause = cause_of(error) if isinstance(error, OSError) else type(error).__name__
                raise ActivationError(f"{request.name} was not answered: {cause}") from None


async def _make(session: aiohttp.ClientSession, url: ServerUrl, request: PlannedRequest) -> None:
    async with session.request(
        request.method,
        URL(url.base + request.path, encoded=True),
        headers=request.headers,
        data=request.body,
        allow_redirects=False,
    ) as answer:
        text = await read_answer(answer)
        if answer.status not in statuses_of(request.statuses):
            raise ActivationError(f"{request.name} was answered {answer.status}: {text}")
        if request.answer is not None and not re.search(request.answer, text):
            lacking = f"without {request.answer}"
            raise ActivationError(f"{request.name} was answered {answer.status} {lacking}: {text}")
