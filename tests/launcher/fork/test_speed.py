"""What makes warm starts quick leaves nothing behind that an upstream could trip over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interpreters import seen
from tests.launcher.warming import views, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

VERSIONS = seen()


@pytest.mark.parametrize("version", VERSIONS)
def test_loggers_strings_and_patterns_work_on_after_the_fork(tmp_path: Path, version: str) -> None:
    write(
        tmp_path,
        {
            "lib.py": """
                import logging, re
                logger = logging.getLogger("lib.part")
                PATTERN = re.compile("(?P<name>[a-z]+)-[0-9]+")
                TABLE = {"text": "a-1", 2.5: b"bytes", 10**20: "big"}
            """,
            "prog.py": """
                import io, json, logging, logging.config, sys, lib
                stream = io.StringIO()
                logging.config.dictConfig({
                    "version": 1, "disable_existing_loggers": True,
                    "handlers": {"h": {"class": "logging.StreamHandler", "stream": stream}},
                    "root": {"handlers": ["h"], "level": "INFO"},
                    "loggers": {"lib.part": {"level": "DEBUG"}},
                })
                lib.logger.debug("seen %s", lib.PATTERN.match(lib.TABLE["text"])["name"])
                lib.logger.handlers.append(logging.NullHandler())
                found = [stream.getvalue(), len(lib.logger.handlers), lib.logger.disabled]
                lib.TABLE.clear()
                del logging.Logger.manager.loggerDict["lib.part"], lib.logger, lib.PATTERN
                print(json.dumps([found, len(lib.TABLE), sys.intern("te" + "xt") is "text"]))
            """.replace('is "text"', '== "text"'),
        },
    )
    cold, warm, answer = views(tmp_path, ["-m", "prog"], ["lib"], python=VERSIONS[version])
    assert answer["kind"] == "warm", answer
    assert warm == cold


def test_an_audit_hook_of_the_upstreams_sees_what_it_sees_in_a_cold_start(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "prog.py": """
                import json, sys
                seen = []
                sys.addaudithook(lambda event, args: seen.append(event))
                open(__file__).close()
                print(json.dumps(seen[:1]))
            """,
        },
    )
    cold, warm, answer = views(tmp_path, ["-m", "prog"], ["json"])
    assert answer["kind"] == "warm"
    assert warm == cold == ["open"]
