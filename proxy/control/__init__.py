"""The control plane: the aiohttp application behind `/api/init`, `/health` and `/ready`.

Knows `lifecycle` and `errors`; never the relay. Begin with `app`, then `watch` (long polls, event
streams); `inlet` takes connections from the relay, `metrics`, `openapi` and `page` are read-only.
"""
