"""Generated packages: whatever they read while preloading, a start shows what a cold one shows."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.interpreters import seen
from tests.launcher.launching import Launcher, encoded
from tests.launcher.warming import Warm, base, view, write

pytestmark = pytest.mark.slow

NAMES = ["ALPHA", "BETA", "GAMMA"]
FILES = ["one.json", "two.json"]

SETTER = "import os\nos.environ['{n}'] = 'set'\nV = 1"
# The variables as the kernel shows them, where a warm start leaves out delivered ones.
SHOWN = (
    "import os, subprocess as s\n"
    "V = b'{n}=' in s.check_output(['cat', '/proc/%d/environ' % os.getpid()], env={{}})"
)
# How a module keeps something of a name at import: {n} the name, {m} its own number, {d} a module
# imported before it.
KEEPS = [
    "import os\nV = os.environ.get('{n}')",
    "import os\nV = os.getenv('{n}', 'absent')",
    "from os import environ\nV = environ['{n}'] if '{n}' in environ else None",
    "import os\ndef f(x=os.environ.get('{n}')): return x\nV = f()",
    (
        "import os\nfrom dataclasses import dataclass, field\n@dataclass\nclass C:\n"
        "    x: object = os.environ.get('{n}')\n"
        "    y: object = field(default_factory=lambda: os.getenv('{n}'))\nV = [C().x, C().y]"
    ),
    "import functools, os\n@functools.lru_cache(None)\ndef f(): return os.getenv('{n}')\nV = f()",
    "import shared\nV = shared.cached('{n}')",
    "import shared\nV = shared.look('{n}')",
    "import shared\ndef later(): return shared.look('{n}')\nV = None",
    "import shared\ndef later(): return shared.cached('{n}')\nV = None",
    "import os\nV = sorted(k for k in os.environ if k in ('{n}', 'X'))",
    "import os\nV = os.environ.copy().get('{n}')",
    "import os\nV = os.environ.setdefault('{n}', 'default')",
    "import {d}\nV = repr({d}.V)",
    "import {d}\ndef later(): return repr({d}.V)\nV = 1",
    "def lazily():\n    import inner_{m}\n    return inner_{m}.V\nV = lazily()",
    "V = 'nothing'",
    "import pathlib\np = pathlib.Path('{f}')\nV = p.read_text() if p.exists() else None",
    "import os\nV = os.path.exists('{f}')",
    "import os\ndef later(): return os.path.exists('{f}')\nV = 0",
    "import json\ntry: V = json.load(open('{f}'))\nexcept OSError: V = {{}}",
    SETTER,
    "import os\nos.environ.pop('{n}', None)\nV = 1",
    (
        "import os, threading\nV = []\n"
        "t = threading.Thread(target=lambda: V.append(os.getenv('{n}')))\n"
        "t.start(); t.join()"
    ),
    "import ctypes\ng = ctypes.CDLL(None).getenv\ng.restype = ctypes.c_char_p\nV = g(b'{n}')",
    "import ctypes\nV = ctypes.CDLL(None).system(b'test -n \"${n}\"')",
    "import ctypes\nV = ctypes.CDLL(None).access(b'{f}', 0)",
    "import subprocess as s\nV = s.check_output(['sh', '-c', 'echo ${n}'])",
    SHOWN,
    (
        "import multiprocessing.util as u, os\n"
        "p = u.spawnv_passfds(b'/bin/sh', [b'sh', b'-c', b'test -n \"${n}\" || test -e {f}'], ())\n"
        "V = os.waitpid(p, 0)[1]"
    ),
    "import subprocess as s\nV = s.run(['test', '-e', '{f}'], env={{}}).returncode",
    "import os\nV = os.system('test -e {f}')",
    "import os\nd = os.open('.', 0)\nV = '{f}' in os.listdir(d)\nos.close(d)",
    "import os\nd = os.open('.', 0)\nV = '{f}' in [e.name for e in os.scandir(d)]\nos.close(d)",
    (
        "import os\nd = os.open('.', 0)\ntry: V = os.stat('{f}', dir_fd=d).st_size\n"
        "except OSError: V = 0\nos.close(d)"
    ),
    (
        "import os\ntry:\n    os.link('{f}', 'link_{m}')\n    V = open('link_{m}').read()\n"
        "    os.unlink('link_{m}')\nexcept OSError: V = None"
    ),
    (
        "import os\ntry:\n    os.rename('{f}', 'moved_{m}')\n    V = open('moved_{m}').read()\n"
        "    os.rename('moved_{m}', '{f}')\nexcept OSError: V = None"
    ),
    (
        "import sqlite3\nc = sqlite3.connect(':memory:')\ntry:\n"
        "    c.execute(\"attach 'file:{f}?mode=ro' as a\"); V = 1\n"
        "except sqlite3.Error: V = 0\nc.close()"
    ),
    "from posix import stat\ntry: V = stat('{f}').st_size\nexcept OSError: V = 0",
]
SETS = ("setdefault", "] = 'set'", ".pop(")
SHARED = """
    import os
    _seen = {}
    def look(name): return os.environ.get(name)
    def cached(name):
        if name not in _seen: _seen[name] = os.environ.get(name)
        return _seen[name]
"""
PROG = """
    import json, os, sys
    seen = {}
    for name in %r:
        module = __import__(name)
        seen[name] = repr([module.V, getattr(module, "later", int)()])
    files = {f: os.path.exists(f) and open(f).read() for f in %r}
    print(json.dumps([seen, {n: os.environ.get(n) for n in %r}, files]))
"""

modules = st.lists(
    st.tuples(st.sampled_from(KEEPS), st.sampled_from(NAMES), st.sampled_from(FILES)),
    min_size=1,
    max_size=4,
)
some_names = st.sets(st.sampled_from(NAMES), max_size=2)


def out_of_turn(modules: list[tuple[str, str, str]], preloaded: set[int]) -> set[str]:
    """Names that a preloaded module sets before one that the program imports earlier has run.

    The order of imports is the preload list's: this is what it means to leave out the earlier one.
    Who sets names is preloaded all the same: without it most servers would be cold, and a recorded
    list leaves out few.
    """
    return {
        name
        for number, (source, name, _) in enumerate(modules)
        if number in preloaded and any(each in source for each in SETS)
        for earlier in range(number)
        if earlier not in preloaded and modules[earlier][1] == name
    }


def looked_up_late(modules: list[tuple[str, str, str]], preloaded: set[int]) -> set[str]:
    """Names that a module which is not preloaded looks for where no warm start shows them."""
    late = (module for number, module in enumerate(modules) if number not in preloaded)
    return {name for source, name, _ in late if source == SHOWN}


def apart_from(names: set[str], modules: list[tuple[str, str, str]], shown: Any) -> Any:
    """What is shown, without these names and the modules that keep one of them."""
    seen, env, files = shown
    kept, keeps_one = {}, False
    for number, (source, name, _) in enumerate(modules):
        keeps_one = name in names or ("{d}" in source and keeps_one)
        if not keeps_one:
            kept[number] = seen[f"mod_{number}"]
    return kept, {name: value for name, value in env.items() if name not in names}, files


# Who reads comes first, who sets is preloaded.
OUT_OF_TURN: dict[str, Any] = {
    "modules": [(source, "ALPHA", "one.json") for source in (KEEPS[0], SETTER)],
    "preloaded": {1},
    "before": set(),
    "removed": set(),
    "files": set(),
}

LOOKED_UP_LATE = OUT_OF_TURN | {"modules": [(SHOWN, "ALPHA", "one.json")], "preloaded": set()}


@pytest.mark.timeout(600)  # a hundred interpreters are started, of each version
@pytest.mark.parametrize("version", seen())
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    modules=modules,
    preloaded=st.sets(st.integers(0, 3)),
    before=some_names,
    delivered=some_names,
    removed=some_names,
    files=st.sets(st.sampled_from(FILES), max_size=1),
)
@example(delivered={"BETA"}, **OUT_OF_TURN)
@example(delivered={"ALPHA"}, **OUT_OF_TURN)
@example(delivered={"ALPHA"}, **LOOKED_UP_LATE)
@example(delivered=set(), **(OUT_OF_TURN | {"removed": {"ALPHA"}}))
@example(delivered=set(), **(OUT_OF_TURN | {"removed": {"ALPHA"}, "before": {"ALPHA"}}))
def test_a_warm_start_shows_what_a_cold_start_shows(
    version: str,
    *,
    modules: list[tuple[str, str, str]],
    preloaded: set[int],
    before: set[str],
    delivered: set[str],
    removed: set[str],
    files: set[str],
) -> None:
    home = Path(tempfile.mkdtemp(prefix="property-"))
    try:
        names = [f"mod_{number}" for number in range(len(modules))]
        written = {"shared.py": SHARED, "prog.py": PROG % (names, FILES, NAMES)}
        for number, (source, name, file) in enumerate(modules):
            earlier = names[number - 1] if number else "shared_empty"
            written[f"mod_{number}.py"] = source.format(n=name, m=number, d=earlier, f=file)
            written[f"inner_{number}.py"] = f"import os\nV = os.environ.get('{name}')"
        written["shared_empty.py"] = "V = 0"
        write(home, written)
        python = seen()[version]
        prepared = base(home, "-m", "prog", python=python, **dict.fromkeys(before, "before"))
        fields = {
            "env": dict.fromkeys(delivered, "delivered"),
            "unset": sorted(removed),
            "files": [encoded(home / file, b'{"new": 1}') for file in files],
        }
        with Launcher(python) as launcher:
            cold = view(launcher.start(**prepared, **fields), launcher)
        listed = ["json", *(names[number] for number in preloaded if number < len(names))]
        with Warm(prepared, listed, files=[str(home / file) for file in FILES]) as warm:
            assert warm.why is None
            for _ in range(2):
                answer = warm.begin(**fields)
                apart: set[str] = set()
                if answer["kind"] == "warm":
                    early = out_of_turn(modules, preloaded)
                    # What is not there is not removed, and whoever sets it is nobody's concern.
                    assert not early & (delivered | (removed & before))
                    apart = early | looked_up_late(modules, preloaded)
                shown = view(answer, warm)
                assert apart_from(apart, modules, shown) == apart_from(apart, modules, cold), answer
    finally:
        shutil.rmtree(home)


SETTINGS = {
    "prefix": (
        (
            "from pydantic_settings import BaseSettings\n"
            "class S(BaseSettings, env_prefix='APP_'):\n    key: str = 'default'\nV = S().key"
        ),
        {"APP_KEY", "app_key"},
    ),
    "no prefix": (
        (
            "from pydantic_settings import BaseSettings\nclass S(BaseSettings):\n"
            "    key: str = 'default'\nV = S().key"
        ),
        {"KEY", "key"},
    ),
    "alias": (
        (
            "from pydantic import Field\nfrom pydantic_settings import BaseSettings\n"
            "class S(BaseSettings):\n    key: str = Field('default', validation_alias='THE_KEY')\n"
            "V = S().key"
        ),
        {"THE_KEY"},
    ),
    "nested": (
        (
            "from pydantic import BaseModel\nfrom pydantic_settings import BaseSettings\n"
            "class N(BaseModel):\n    key: str = 'default'\n"
            "class S(BaseSettings, env_nested_delimiter='__'):\n    sub: N = N()\nV = S().sub.key"
        ),
        {"SUB__KEY"},
    ),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_pydantic_settings_are_never_stale_and_do_not_forbid_warm_starts(
    tmp_path: Path, kind: str
) -> None:
    pytest.importorskip("pydantic_settings")
    source, names = SETTINGS[kind]
    write(tmp_path, {"conf.py": source, "prog.py": "import conf, json; print(json.dumps(conf.V))"})
    prepared = base(tmp_path, "-m", "prog")
    with Warm(prepared, ["conf"]) as launcher:
        assert launcher.why is None
        # Without the prefix it is the name of another variable.
        others = {"UNRELATED_NAME": "1"} | ({"KEY": "1"} if kind == "prefix" else {})
        answer = launcher.begin(env=others)
        assert answer["kind"] == "warm", answer
        assert view(answer, launcher) == "default"
        for name in sorted(names):
            answer = launcher.begin(env={name: "delivered"})
            assert answer["kind"] == "cold"
            assert view(answer, launcher) == "delivered"


def test_a_preload_list_with_a_module_that_reads_the_session_key_is_never_started_warm(
    tmp_path: Path,
) -> None:
    """The trap of which the design tells: a cache of the key, filled at import, means no key."""
    write(
        tmp_path,
        {
            "agent/__init__.py": "",
            "agent/config.py": """
                import json, os
                _config = None
                def get_config():
                    global _config
                    if _config is None:
                        path = os.environ.get("CONFIG_PATH")
                        stored = json.load(open(path)) if path else {}
                        _config = [os.environ.get("SESSION_KEY"), stored.get("key")]
                    return _config
            """,
            "agent/sockets.py": "from agent.config import get_config\nget_config()",
            "agent/__main__.py": "import json; from agent.config import get_config\n"
            "import agent.sockets; print(json.dumps(get_config()))",
        },
    )
    prepared = base(tmp_path, "-m", "agent")
    config = tmp_path / "run" / "config.json"
    deliveries: list[tuple[dict[str, Any], list[str | None]]] = [
        ({"env": {"SESSION_KEY": "k"}}, ["k", None]),
        (
            {
                "env": {"CONFIG_PATH": str(config)},
                "files": [encoded(config, json.dumps({"key": "k"}).encode())],
                "run_dir": str(config.parent),
            },
            [None, "k"],
        ),
    ]
    for listed, kind in ((["agent.config"], "warm"), (["agent.config", "agent.sockets"], "cold")):
        with Warm(prepared, ["json", *listed]) as launcher:
            for fields, expected in deliveries:
                answer = launcher.begin(**fields)
                assert answer["kind"] == kind, answer
                assert view(answer, launcher) == expected
                if kind == "cold":
                    assert "agent.sockets" in answer["why"]
                launcher.another()
