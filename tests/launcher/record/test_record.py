from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.launcher.record.planfile import summary
from tests.launcher.launching import Launcher, alive, until
from tests.launcher.warming import SERVE, Warm, base, view, write

pytestmark = pytest.mark.slow

SERVER = {
    "app/__init__.py": "",
    "app/__main__.py": f"""
import os
import app.api
os.makedirs("state/deep", exist_ok=True)
open("state/deep/log", "w").close()
{SERVE}
""",
    # Three readers behind one cache, each hidden by the one before, and one that imports a reader.
    "app/config.py": """
        import os
        _seen = {}
        def key():
            if not _seen: _seen["key"] = os.environ.get("APP_KEY")
            return _seen["key"]
    """,
    "app/first.py": "from app.config import key\nKEY = key()",
    "app/second.py": "from app.config import key\nKEY = key()",
    "app/third.py": "from app.config import key\nKEY = key()",
    "app/importer.py": "try:\n    import app.third\nexcept Exception:\n    pass",
    "app/clean.py": "import json, logging",
    "app/whole.py": "import os\nX = len(dict(os.environ))",
    "app/spawns.py": "import socket\nS = socket.socket()",
    "app/made_up.py": "import sys, types\nsys.modules['app.fake'] = types.ModuleType('app.fake')",
    "app/api.py": "import app.clean, app.first, app.second, app.third, app.importer\n"
    "import app.whole, app.spawns, app.made_up",
}
STRUCK = {"app.first", "app.second", "app.third", "app.importer", "app.whole", "app.spawns"}


def terms(tmp_path: Path) -> dict[str, Any]:
    return {
        "names": ["APP_*"],
        "ready": {"address": f"unix:{tmp_path}/s.sock", "path": "/", "statuses": [200]},
        "timeout": 30,
    }


def recorded(launcher: Launcher) -> dict[str, Any]:
    return launcher.event("recorded")


@pytest.fixture
def app(tmp_path: Path) -> dict[str, Any]:
    write(tmp_path, SERVER)
    return base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")


def test_a_recording_strikes_every_reader_and_every_importer_of_one(
    tmp_path: Path, app: dict[str, Any]
) -> None:
    before = {str(path) for path in tmp_path.rglob("*")}
    with Launcher() as launcher:
        assert launcher.call("record", **app, preload=terms(tmp_path))["ok"]
        event = recorded(launcher)
        until(lambda: not launcher.children())
    plan = event["plan"]
    assert plan is not None, event
    assert {"app", "app.config", "app.clean", "app.made_up", "json"} <= set(plan["modules"])
    assert not {*STRUCK, "app.api", "__main__"} & set(plan["modules"])
    assert set(plan["struck"]) >= STRUCK | {"app.api"}
    # Nothing is left behind.
    assert {str(path) for path in tmp_path.rglob("*")} - before <= {f"{tmp_path}/s.sock"}


def test_a_stranger_at_the_upstreams_address_is_not_recorded_in_its_place(
    tmp_path: Path, app: dict[str, Any]
) -> None:
    with socket.socket(socket.AF_UNIX) as stranger, Launcher() as launcher:
        stranger.bind(f"{tmp_path}/s.sock")
        stranger.listen()
        assert launcher.call("record", **app, preload=terms(tmp_path))["ok"]
        event = recorded(launcher)
    assert event["plan"] is None
    assert event["why"] == f"cannot record: somebody listens at unix:{tmp_path}/s.sock already"


PLAIN = {
    "app/__init__.py": "",
    "app/__main__.py": f"import app.reader, app.late, app.dynamic, app.fine\n{SERVE}",
    # Whose import costs enough for a word.
    "app/reader.py": "import os, time; time.sleep(0.2); KEY = os.environ.get('APP_KEY')",
    # They ask for what is there already, which no import system tells.
    "app/late.py": "def load():\n    from . import reader\nload()",
    "app/dynamic.py": "import importlib; importlib.import_module('.reader', 'app')",
    "app/fine.py": """
        import os, threading
        def read(): os.environ.get("APP_OTHER")
        def use():
            from app import reader
            return reader.KEY
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    """,
}


def test_what_the_boot_has_shown_is_not_tried(tmp_path: Path) -> None:
    write(tmp_path, PLAIN)
    with Launcher() as launcher:
        argv = base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")
        assert launcher.call("record", **argv, preload=terms(tmp_path))["ok"]
        plan = recorded(launcher)["plan"]
    told = [event["text"] for event in launcher.events if event["event"] == "recording"]
    assert [text for text in told if text.startswith("trial")] == [
        f"trial 1 of {len(plan['modules'])} modules strikes nothing"
    ]
    assert sorted(plan["costs"]) == ["app.fine", "app.reader"]
    assert plan["costs"]["app.reader"] >= 0.2
    assert plan["struck"] == {
        "app.reader": "reads APP_KEY",
        "app.fine": "reads APP_OTHER",
        "app.late": "imports app.reader",
        "app.dynamic": "imports app.reader",
    }


def test_the_last_trial_is_the_fork_server(tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.touch()
    counted = f"import os\nwith open({str(count)!r}, 'a') as file: file.write('x')\n"
    write(
        tmp_path,
        {
            "app/__init__.py": "",
            "app/__main__.py": f"import sys, app.fine\n{SERVE}",
            "app/fine.py": f"import sys\nprint('imported', file=sys.stderr)\n{counted}",
        },
    )
    argv = base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")
    with Warm(argv, "auto", **terms(tmp_path)) as launcher:  # type: ignore[arg-type]
        assert launcher.why is None
        assert count.read_text() == "xx"  # the boot, and the trial
        for _ in range(2):
            answer = launcher.begin(env={"APP_KEY": "delivered"})
            assert answer["kind"] == "warm", answer
            launcher.event("output", line="serving")
            assert count.read_text() == "xx"
            launcher.stop(0)
        forked = launcher.preloaded()
        launcher.process.kill()
        until(lambda: not any(alive(pid) for pid in forked))


LOOP = {
    "app/__init__.py": "",
    "app/__main__.py": f"import app.loop, app.one, app.two, app.three\n{SERVE}",
    "app/loop.py": "import asyncio; LOOP = asyncio.new_event_loop()",  # three descriptors
    "app/one.py": "import asyncio",
    "app/two.py": "import asyncio",
    "app/three.py": "import asyncio",
}


def test_who_leaves_many_descriptors_is_the_only_one_to_blame(tmp_path: Path) -> None:
    write(tmp_path, LOOP)
    with Launcher() as launcher:
        argv = base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")
        assert launcher.call("record", **argv, preload=terms(tmp_path))["ok"]
        plan = recorded(launcher)["plan"]
    assert set(plan["struck"]) == {"app.loop"}


def test_for_a_name_that_the_interpreter_reads_nothing_is_left_out(tmp_path: Path) -> None:
    program = f"import app.home, app.lang\n{SERVE}"
    write(
        tmp_path,
        {
            "app/__init__.py": "",
            "app/__main__.py": program,
            "app/home.py": "import os; HOME = os.environ.get('HOME')",
            "app/lang.py": "import os; LANG = os.environ.get('LANG')",
        },
    )
    with Launcher() as launcher:
        argv = base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")
        preload = terms(tmp_path) | {"names": ["HOME", "LANG"]}
        assert launcher.call("record", **argv, preload=preload)["ok"]
        plan = recorded(launcher)["plan"]
    assert plan["struck"] == {}
    with Warm(argv, plan["modules"]) as launcher:
        answer = launcher.begin(env={"HOME": "/elsewhere"})
        assert answer["kind"] == "cold"
        assert "HOME" in answer["why"]


def test_that_an_upstream_has_workers_is_told(tmp_path: Path) -> None:
    start = "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])"
    program = f"import subprocess, sys, app.lib\n{start}\n{SERVE}"
    write(tmp_path, {"app/__init__.py": "", "app/lib.py": "", "app/__main__.py": program})
    argv = base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")
    with Warm(argv, "auto", **terms(tmp_path)) as launcher:  # type: ignore[arg-type]
        told = next(event for event in launcher.events if event["event"] == "warm")
        assert told["struck"] == "what the processes import that it starts (1)"


LEAVES = {f"app/leaf{n}.py": "import json" for n in range(30)}
LIKELY = {
    "app/__init__.py": "",
    "app/__main__.py": "import app.many, app.few\n"
    + "\n".join(f"import app.leaf{n}" for n in range(30))
    + SERVE,
    "app/few.py": "import os; KEY = os.environ.get('FEW_KEY')",
    "app/base.py": "import os; KEY = os.environ.get('MANY_KEY')",
    "app/many.py": "import app.base\n" + "\n".join(f"import app.one{n}" for n in range(60)),
} | {f"app/one{n}.py": "from app import base" for n in range(60)}


def test_for_a_name_that_is_only_likely_few_modules_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, LEAVES | LIKELY)
    likely = {"likely": ["FEW_KEY", "MANY_KEY"]}
    with Launcher() as launcher:
        argv = base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")
        assert launcher.call("record", **argv, preload=terms(tmp_path) | likely)["ok"]
        plan = recorded(launcher)["plan"]
    assert plan["struck"] == {"app.few": "reads FEW_KEY"}
    assert {"app.base", "app.many", "app.one7"} <= set(plan["modules"])
    with Warm(argv, plan["modules"]) as launcher:
        for name, kind in (("FEW_KEY", "warm"), ("MANY_KEY", "cold")):
            answer = launcher.begin(env={name: "1"})
            assert answer["kind"] == kind, answer
            launcher.stop(0)
            launcher.another()


GUARDED = {
    "app/__main__.py": f"import app.guard\n{SERVE}",
    "app/__init__.py": "",
    # Quiet has to be undone by whoever imports it, and nobody but this module knows.
    "app/guard.py": """
        import importlib, logging
        importlib.import_module("app.quiet")
        importlib.import_module("app.deep.er")
        logging.disable(logging.NOTSET)
    """,
    "app/quiet.py": "import logging; logging.disable(logging.CRITICAL)",
    "app/deep/__init__.py": "import app.quiet",
    "app/deep/er.py": "import app.quiet",
}


def test_what_is_imported_under_the_care_of_another_is_preloaded_so(tmp_path: Path) -> None:
    write(tmp_path, GUARDED)
    with Launcher() as launcher:
        argv = base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")
        assert launcher.call("record", **argv, preload=terms(tmp_path))["ok"]
        modules = recorded(launcher)["plan"]["modules"]
    ours = [name for name in modules if name.startswith("app")]
    assert ours == ["app", "app.guard", "app.quiet", "app.deep", "app.deep.er"]


RESTORING = {
    "app/__init__.py": "",
    # Not preloaded, so nothing is imported under its care.
    "app/__main__.py": f"""
import logging, sys
before = logging.root.manager.disable, sys.excepthook
import app.quiet, app.hook, app.fine
logging.disable(before[0])
sys.excepthook = before[1]
{SERVE}
""",
    "app/quiet.py": "import logging; logging.disable(logging.CRITICAL)",
    "app/hook.py": "import sys\ndef hook(*_): pass\nsys.excepthook = hook",
    "app/fine.py": "import app.quiet_not, json",
    "app/quiet_not.py": "import logging; logging.getLogger('app').setLevel(10)",
}


def test_who_makes_a_warm_start_another_than_the_cold_one_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, RESTORING)
    with Launcher() as launcher:
        argv = base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")
        assert launcher.call("record", **argv, preload=terms(tmp_path))["ok"]
        event = recorded(launcher)
    plan = event["plan"]
    assert plan is not None, event
    assert plan["struck"] == {
        "app.quiet": "leaves logging otherwise than a cold start",
        "app.hook": "leaves hooks otherwise than a cold start",
    }
    assert {"app.fine", "app.quiet_not"} <= set(plan["modules"])


def test_what_is_another_warm_and_nobody_knows_why_is_not_preloaded(tmp_path: Path) -> None:
    program = "import app.lib, os, sys\nif app.lib.PID != os.getpid(): sys.argv.append('x')\n"
    files = {"app/__init__.py": "", "app/lib.py": "import os; PID = os.getpid()"}
    write(tmp_path, files | {"app/__main__.py": program + SERVE})
    with Launcher() as launcher:
        argv = base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")
        assert launcher.call("record", **argv, preload=terms(tmp_path))["ok"]
        event = recorded(launcher)
    why = "cannot record: a warm start differs from a cold one in arguments"
    assert (event["plan"], event["why"]) == (None, why)


def test_what_was_recorded_starts_warm_with_what_is_delivered(
    tmp_path: Path, app: dict[str, Any]
) -> None:
    plan_file = tmp_path / "plan.json"
    with Launcher() as launcher:
        launcher.call("record", **app, preload=terms(tmp_path))
        plan_file.write_text(json.dumps(recorded(launcher)["plan"]))
    (tmp_path / "app/__main__.py").write_text(
        "import json, app.api, app.first, app.third\n"
        "print(json.dumps([app.first.KEY, app.third.KEY, app.whole.X > 0]))"
    )
    with Warm(app, [], plan=str(plan_file)) as launcher:
        assert launcher.why is None
        answer = launcher.begin(env={"APP_KEY": "delivered"})
        assert answer["kind"] == "warm", answer
        assert view(answer, launcher) == ["delivered", "delivered", True]


def test_auto_records_in_the_background_and_keeps_the_plan(
    tmp_path: Path, app: dict[str, Any]
) -> None:
    plan_file = tmp_path / "plan.json"
    preload = terms(tmp_path) | {"plan": str(plan_file)}
    with Warm(app, "auto", **preload) as launcher:  # type: ignore[arg-type]
        assert launcher.why is None
        assert any(event["event"] == "recording" for event in launcher.events)
    with Warm(app, "auto", **preload) as launcher:  # type: ignore[arg-type]
        assert launcher.why is None
        assert not any(event["event"] == "recording" for event in launcher.events)
    # For other packages than it was made for, it is made again.
    plan = json.loads(plan_file.read_text())
    plan["identity"]["packages"]["gone"] = "1.0"
    plan_file.write_text(json.dumps(plan))
    with Warm(app, "auto", **preload) as launcher:  # type: ignore[arg-type]
        assert launcher.why is None
        assert any(event["event"] == "recording" for event in launcher.events)
    assert "gone" not in json.loads(plan_file.read_text())["identity"]["packages"]


def test_a_plan_for_something_else_is_refused(tmp_path: Path, app: dict[str, Any]) -> None:
    plan_file = tmp_path / "plan.json"
    with Launcher() as launcher:
        launcher.call("record", **app, preload=terms(tmp_path))
        plan = recorded(launcher)["plan"]
    for change, why in (
        ({"identity": plan["identity"] | {"version": "3.0.0"}}, "recorded with version 3.0.0"),
        (
            {"identity": plan["identity"] | {"platform": "plan9-mips"}},
            "recorded with platform plan9-mips",
        ),
        ({"command": {"kind": "module", "target": "other"}}, "is for another command"),
        ({"version": 99}, "its version is not 1"),
        ({"modules": "json"}, "modules is missing or wrong"),
    ):
        plan_file.write_text(json.dumps(plan | change))
        with Warm(app, [], plan=str(plan_file)) as launcher:
            assert launcher.why is not None
            assert why in launcher.why


@pytest.mark.parametrize("content", [None, "", "[]", '{"version": 1}'])
def test_a_plan_that_cannot_be_read_is_reported(
    tmp_path: Path, app: dict[str, Any], content: str | None
) -> None:
    plan_file = tmp_path / "plan.json"
    if content is not None:
        plan_file.write_text(content)
    with Warm(app, [], plan=str(plan_file)) as launcher:
        assert launcher.why is not None
        assert str(plan_file) in launcher.why


def test_an_init_that_comes_while_recording_is_not_kept_waiting(
    tmp_path: Path, app: dict[str, Any]
) -> None:
    write(tmp_path, {"app/clean.py": "import time; time.sleep(600)"})
    with Launcher() as launcher:
        preload = terms(tmp_path) | {"modules": "auto"}
        launcher.call("prepare", **app, preload=preload)
        launcher.call("hasten")
        assert "cut short" in launcher.event("cold")["why"]
        write(tmp_path, {"app/__main__.py": "print('runs')"})
        answer = launcher.start(**app)
        assert answer["kind"] == "cold"
        launcher.event("exit", pid=answer["pid"], code=0)
        until(lambda: not launcher.children())


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise SystemExit('no license')", "exited with code 1: no license"),
        ("import time; time.sleep(600)", "was not ready within 3 s"),
    ],
)
def test_an_upstream_that_does_not_become_ready_cannot_be_recorded(
    tmp_path: Path, app: dict[str, Any], source: str, why: str
) -> None:
    write(tmp_path, {"app/__main__.py": source})
    with Launcher() as launcher:
        preload = terms(tmp_path) | {"timeout": 3 if "sleep" in source else 30}
        launcher.call("record", **app, preload=preload)
        event = recorded(launcher)
        assert event["plan"] is None
        assert why in event["why"]
        until(lambda: not launcher.children())


def test_a_recording_dies_with_its_launcher(tmp_path: Path, app: dict[str, Any]) -> None:
    write(tmp_path, {"app/__main__.py": "import time; time.sleep(600)"})
    with Launcher() as launcher:
        launcher.call("record", **app, preload=terms(tmp_path))
        children = launcher.children()
        assert children
        launcher.process.kill()
        until(lambda: not any(alive(pid) for pid in children))


def test_the_command_writes_a_plan(tmp_path: Path, app: dict[str, Any]) -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "proxy", "record", "--output", str(tmp_path / "plan.json")),
            *("--may-deliver", "APP_*", "--", *app["argv"]),
        ],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PROXY_UPSTREAM__URL": f"http+unix://{tmp_path}/s.sock",
            "PROXY_UPSTREAM__PROFILE": "none",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert "app.clean" in plan["modules"]
    # What reads it is named; who only imports a reader is counted, and in the plan.
    assert "left out: app.first (reads APP_KEY)" in done.stderr
    assert "app.importer" in plan["struck"]
    assert "app.importer" not in done.stderr.partition("left out: ")[2]
    assert " that import or need it" in done.stderr
    total = len(plan["struck"]) + len(plan["modules"])
    warned = f"warning: {len(plan['struck'])} of {total} modules are left out" in done.stderr
    assert warned is (len(plan["struck"]) > total / 10)


def test_a_trial_tells_causes_first_and_counts_the_rest() -> None:
    followers = {f"a{number}": "imports urllib" for number in range(2000)}
    told = summary({**followers, "urllib": "reads names like a_*"})
    assert told == (
        "urllib reads names like a_*, a0 imports urllib, a1 imports urllib, "
        "a10 imports urllib, a100 imports urllib, 1996 more"
    )
    assert summary({}) == "nothing"
    dear = summary({"cheap": "reads A", "dear": "reads B", "x": "imports cheap"}, {"dear": 1.26})
    assert dear == "dear reads B (1.3 s), cheap reads A, x imports cheap"


def test_a_recording_says_which_interpreter_it_cannot_run(
    tmp_path: Path, app: dict[str, Any]
) -> None:
    with Launcher() as launcher:
        argv = ["nowhere/bin/python", *app["argv"][1:]]
        launcher.call("record", **(app | {"argv": argv}), preload=terms(tmp_path))
        event = recorded(launcher)
    assert event["plan"] is None
    assert f"cannot run nowhere/bin/python in {tmp_path}: No such file" in event["why"]
