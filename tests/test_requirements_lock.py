"""The locks: by version, from no named index, and the tests see what the images get.

`requirements.lock` is what the images install, each file by its hash; `requirements-test.lock` is
what the tests are seen green with.
"""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.harness import ROOT

IMAGE = (ROOT / "requirements.lock").read_text()
TESTS = (ROOT / "requirements-test.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# One pin with the hashes on the lines that follow it.
PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?P<marker> ; [^\\\n]*[^\\\n ])?"
    r"(?P<hashes>(?: \\\n +--hash=sha256:[0-9a-f]{64})*)$",
    re.MULTILINE,
)


def pinned(lock: str) -> dict[str, str]:
    return {match["name"].lower(): match["version"] for match in PIN.finditer(lock)}


def wanted(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in requirements}


def test_every_dependency_is_pinned() -> None:
    assert wanted(PROJECT["dependencies"]) <= set(pinned(IMAGE))


@pytest.mark.parametrize("extra", PROJECT["optional-dependencies"])
def test_every_extra_is_pinned_for_the_tests(extra: str) -> None:
    assert wanted(PROJECT["optional-dependencies"][extra]) <= set(pinned(TESTS))


def test_the_tests_see_what_the_images_get() -> None:
    assert pinned(IMAGE).items() <= pinned(TESTS).items()


def test_every_pin_of_the_images_has_its_hashes() -> None:
    assert all(match["hashes"] for match in PIN.finditer(IMAGE))


@pytest.mark.parametrize("lock", [IMAGE, TESTS], ids=["image", "tests"])
def test_nothing_but_pins_is_in_a_lock(lock: str) -> None:
    rest = [line for line in lock.splitlines() if not line.startswith(("#", "    --hash="))]
    assert len(rest) == len(pinned(lock))


@pytest.mark.parametrize("lock", [IMAGE, TESTS], ids=["image", "tests"])
def test_no_index_is_named(lock: str) -> None:
    assert "://" not in lock
    assert "index-url" not in lock
