"""Which proxy a command talks to."""

from __future__ import annotations

import argparse
import os
from typing import Final

VARIABLE: Final = "DEFERRED_INIT_PROXY_URL"
_DEFAULT: Final = "http://127.0.0.1:8000"


def add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        type=_url,
        default=os.environ.get(VARIABLE) or _DEFAULT,
        help=f"the proxy: http://host:port or http+unix:///path (default: ${VARIABLE}, or "
        f"{_DEFAULT})",
    )


def _url(text: str) -> str:
    from proxy.client import ClientError, InitClient  # noqa: PLC0415  not for --help

    try:
        InitClient(text)
    except ClientError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
