"""Every example of every page: run as it stands, or else read as far as that goes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import KINDS, Block, blocks, every, pages
from tests.docs.terminal import Reader
from tests.harness import ROOT
from tests.real.pods import interpreter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Command


RUN = {"sh", "python"}


def typed(page: Path, *, real: bool) -> list[Block]:
    """What a reader of the page types; with `real`, who has an agent server."""
    return [
        block
        for block in blocks(page)
        if block.language in RUN
        and "elsewhere" not in block.words
        and ("real" in block.words) is real
    ]


def those_with_something_to_type(*, real: bool) -> list[Path]:
    return [page for page in pages() if typed(page, real=real)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


async def read(page: Path, directory: Path, *, real: bool) -> None:
    env: dict[str, str] = {}
    replaced: dict[str, str] = {}
    if real:
        env = {"PROXY_UPSTREAM__URL": "http://127.0.0.1:18000", "OPENHANDS_SUPPRESS_BANNER": "1"}
        replaced = {
            "/opt/agent/bin/python": interpreter("newest"),
            "/opt/agent": str(directory),
            "/tmp/user-workspace": str(directory / "user-workspace"),
        }
    async with Reader(directory, env, replaced) as reader:
        for block in typed(page, real=real):
            await reader.type(block)


@pytest.mark.slow
@pytest.mark.parametrize("page", those_with_something_to_type(real=False), ids=name)
async def test_a_page_works_word_for_word(page: Path, tmp_path: Path) -> None:
    await read(page, tmp_path, real=False)


@pytest.mark.real
@pytest.mark.timeout(480)
@pytest.mark.parametrize("page", those_with_something_to_type(real=True), ids=name)
async def test_a_page_works_with_a_real_agent_server(page: Path, tmp_path: Path) -> None:
    await read(page, tmp_path, real=True)


@pytest.mark.parametrize("block", every("yaml"), ids=str)
def test_settings_are_valid(block: Block, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(block.text)
    done = command("check", str(file), OH_SECRET_KEY="k")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "block", [block for block in every("sh") if "elsewhere" in block.words], ids=str
)
async def test_a_shell_understands_what_is_not_run(block: Block) -> None:
    shell = await asyncio.create_subprocess_exec(
        "bash", "-n", "-c", block.text, stderr=asyncio.subprocess.PIPE
    )
    _, error = await shell.communicate()
    assert shell.returncode == 0, error.decode()


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        assert block.words in KINDS.get(block.language, set()), f"{block}: {block.language}"
