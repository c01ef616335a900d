from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from tests.containers.podman import HARDENED, PROXY_IMAGE, Container, podman

if TYPE_CHECKING:
    from collections.abc import Iterator


class Run(Protocol):
    def __call__(
        self, *options: str, image: str = ..., command: tuple[str, ...] = ...
    ) -> Container: ...


@pytest.fixture
def run() -> Iterator[Run]:
    """Start a hardened container; it is removed afterwards."""
    started: list[str] = []

    def start(*options: str, image: str = PROXY_IMAGE, command: tuple[str, ...] = ()) -> Container:
        name = podman("run", "--detach", *HARDENED, *options, image, *command)
        started.append(name)
        return Container(name)

    yield start
    for name in started:
        podman("rm", "--force", "--time", "0", name, check=False)
