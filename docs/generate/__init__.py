"""The references under `docs/reference` that are read off the code: `python -m docs.generate`.

One file a page; each has a function `page() -> str`. Knows `proxy`; nothing knows it but a test,
which holds the pages to what is committed. `markdown` is what they share.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from docs.generate import commands, http_api, log_events, metrics, settings

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCE: Final = Path(__file__).resolve().parent.parent / "reference"

PAGES: Final[dict[str, Callable[[], str]]] = {
    "commands.md": commands.page,
    "http-api.md": http_api.page,
    "log-events.md": log_events.page,
    "metrics.md": metrics.page,
    "settings.md": settings.page,
}
