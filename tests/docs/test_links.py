"""Links within the repository lead to a file and a heading that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import anchors, links, pages
from tests.harness import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link:
            assert link.startswith("https://"), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_of_the_docs_is_found_from_their_index() -> None:
    docs = ROOT / "docs"
    index = {(docs / link.partition("#")[0]).resolve() for link in links(docs / "README.md")}
    assert {page for page in pages() if page.is_relative_to(docs)} - index == {docs / "README.md"}
