from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.interpreters import seen
from tests.launcher.launching import Launcher
from tests.launcher.warming import Warm, base, view, views, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

VERSIONS = seen()
# Everything about itself that a program can see and a fork might get wrong.
SELF = """
    import gc, json, os, signal, sys, threading, time
    import app.lib

    own = "/proc/self/fd/"
    # Newer libffis, which the fork server's ctypes loads, keep their own file open.
    fds = [n for n in os.listdir(own) if int(n) > 2 and os.path.exists(own + n)
           and "/libffi.so" not in os.readlink(own + n)]
    main = sys.modules["__main__"]
    spec = main.__spec__
    print(json.dumps({
        "argv": sys.argv,
        "orig_argv": getattr(sys, "orig_argv", None),
        "path": sys.path,
        "flags": str(sys.flags),
        "warnoptions": sys.warnoptions,
        "xoptions": sys._xoptions,
        "executable": sys.executable,
        "prefix": sys.prefix,
        "main": {k: repr(v) for k, v in vars(main).items() if k.startswith("__")
                 and k not in ("__builtins__", "__loader__", "__spec__")},
        "loader": type(main.__loader__).__name__,
        "spec": spec and [spec.name, spec.origin, spec.parent],
        "is main": main.__dict__ is globals(),
        "depth": app.lib.names(),
        "env": dict(os.environ),
        "raw env": {k.decode(): v.decode() for k, v in os.environb.items()},
        "posix": __import__("posix").environ is os.environ._data,
        "type": type(os.environ._data).__name__,
        "from C": os.popen("env").read().count("DELIVERED=1"),
        "cwd": os.getcwd(),
        "umask": os.umask(0),
        "session": os.getsid(0) == os.getpid() == os.getpgrp(),
        "fds": fds,
        "stdin": os.readlink("/proc/self/fd/0"),
        "stdout": [sys.stdout.line_buffering, sys.stdout.write_through, sys.stdout.encoding,
                   sys.stdout.errors, sys.stderr.line_buffering, sys.stderr.errors],
        "signals": {str(s): repr(signal.getsignal(s)) for s in sorted(signal.valid_signals())},
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "threads": threading.active_count(),
        "excepthook": sys.excepthook is sys.__excepthook__,
        "gc": [gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.callbacks],
        "ours": [m for m in sys.modules if "init_launcher" in m],
        "cmdline": open("/proc/self/cmdline").read().rstrip(chr(0)).split(chr(0)),
        "comm": open("/proc/self/comm").read(),
        "status": [l for l in open("/proc/self/status")
                   if l.startswith(("SigIgn", "SigCgt", "SigBlk", "NoNewPrivs"))],
        "wakeup": signal.set_wakeup_fd(-1),
        "switch": sys.getswitchinterval(),
        "recursion": sys.getrecursionlimit(),
        "tz": time.tzname,
        "meta_path": [getattr(f, "__name__", type(f).__name__) for f in sys.meta_path],
    }, indent=0))
"""
LIBRARY = {
    "app/__init__.py": "",
    "app/lib.py": """
        import sys

        def names():
            frame, found = sys._getframe(1), []
            while frame and frame.f_globals.get("__name__") in ("__main__", "runpy"):
                found.append(frame.f_code.co_name)
                frame = frame.f_back
            return found[:1]
    """,
    "app/__main__.py": SELF,
    "app/sub.py": SELF,
    "server.py": SELF,
}


@pytest.mark.parametrize(
    "argv",
    [
        ["-m", "app"],
        ["-m", "app.sub", "--port", "1", "-x"],
        ["-mapp", "one"],
        ["server.py", "a", "--b"],
        ["./server.py"],
        ["{cwd}/server.py"],
        ["{cwd}/link"],
        ["-u", "-m", "app"],
        ["-um", "app"],
        ["-W", "error::UserWarning", "-X", "utf8", "-m", "app"],
        ["-B", "-O", "-s", "-m", "app"],
        ["-I", "server.py"],
        ["-S", "-E", "server.py"],
        ["-Walways", "-Xdev", "server.py"],
    ],
    ids=" ".join,
)
def test_a_warm_upstream_sees_of_itself_what_a_cold_one_sees(
    tmp_path: Path, argv: list[str]
) -> None:
    write(tmp_path, LIBRARY)
    (tmp_path / "link").symlink_to("server.py")
    if "-I" in argv:
        (tmp_path / "app/lib.py").write_text("")  # not on the path
        (tmp_path / "server.py").write_text(
            (tmp_path / "server.py")
            .read_text()
            .replace("import app.lib\n", "")
            .replace("app.lib.names()", "0")
        )
        modules = ["json", "logging"]
    else:
        modules = ["json", "logging", "app", "app.lib"]
    argv = [word.format(cwd=tmp_path) for word in argv]
    cold, warm, answer = views(
        tmp_path, argv, modules, env={"DELIVERED": "1", "ALSO_DELIVERED": "ü"}
    )
    assert answer["kind"] == "warm", answer
    assert warm == cold


def test_a_console_script_is_run_by_its_interpreter(tmp_path: Path) -> None:
    write(tmp_path, LIBRARY)
    script = tmp_path / "serve"
    script.write_text(f"#!{sys.executable} -u\n" + (tmp_path / "server.py").read_text())
    script.chmod(0o755)
    prepared = base(tmp_path) | {"argv": [str(script), "--port", "1"]}
    with Launcher() as launcher:
        cold = view(launcher.start(**prepared), launcher)
    with Warm(prepared, ["json", "app.lib"]) as launcher:
        answer = launcher.begin()
        assert answer["kind"] == "warm", answer
        assert view(answer, launcher) == cold


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("raise SystemExit(3)", 3),
        ("raise SystemExit('no config')", 1),
        ("raise SystemExit", 0),
        ("def f():\n    1 / 0\nf()", 1),
        ("import os; os._exit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", 130),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143),
        ("import atexit; atexit.register(print, 'bye'); print('x')", 0),
        ("import threading; threading.Thread(target=print, args=('late',)).start()", 0),
        ("import sys; sys.excepthook = lambda *a: print('hook', a[0], a[2].tb_lineno); 1 / 0", 1),
        ("print(*syntax error*)", 1),
        ("import missing_module_xyz", 1),
    ],
)
@pytest.mark.parametrize("argv", [["-m", "prog"], ["prog.py"]], ids=" ".join)
def test_a_warm_upstream_ends_as_a_cold_one_does(
    tmp_path: Path, argv: list[str], source: str, code: int
) -> None:
    write(tmp_path, {"prog.py": source})
    prepared = base(tmp_path, *argv)

    def end(launcher: Launcher, answer: dict[str, object]) -> tuple[object, ...]:
        event = launcher.event("exit", pid=answer["pid"])
        return event["code"], event["reason"], launcher.output(), launcher.output("stderr")

    with Launcher() as launcher:
        cold = end(launcher, launcher.start(**prepared))
    with Warm(prepared, ["json"]) as warm:
        answer = warm.begin()
        assert answer["kind"] == "warm"
        assert end(warm, answer) == cold
    assert cold[0] == code


def test_a_module_that_does_not_exist_ends_as_in_a_cold_start(tmp_path: Path) -> None:
    prepared = base(tmp_path, "-m", "nothing_here")
    with Launcher() as launcher:
        cold = launcher.start(**prepared)
        expected = launcher.event("exit", pid=cold["pid"])["tail"]
    with Warm(prepared, []) as warm:
        answer = warm.begin()
        assert warm.event("exit", pid=answer["pid"])["tail"] == expected


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("argv", [["-m", "app"], ["./server.py", "x"]], ids=" ".join)
def test_it_is_so_on_every_version_of_python(tmp_path: Path, version: str, argv: list[str]) -> None:
    write(tmp_path, LIBRARY)
    cold, warm, answer = views(
        tmp_path,
        argv,
        ["json", "logging", "asyncio", "email.message", "app", "app.lib"],
        python=VERSIONS[version],
        env={"DELIVERED": "1", "UMLAUT": "ü"},
    )
    assert answer["kind"] == "warm", answer
    assert warm == cold


@pytest.mark.parametrize("version", VERSIONS)
def test_classes_and_functions_can_be_replaced_and_freed_after_the_fork(
    tmp_path: Path, version: str
) -> None:
    write(
        tmp_path,
        {
            "lib.py": """
                class Thing:
                    def method(self): return 1
                def function(a=[]): return a
                thing = Thing()
            """,
            "prog.py": """
                import gc, json, sys, weakref, lib
                ends = []
                weakref.finalize(lib.thing, ends.append, 1)
                del lib.thing
                for name in ("Thing", "function"):
                    delattr(lib, name)
                lib.Thing = type("Thing", (), {})
                del sys.modules["lib"], lib
                gc.unfreeze()
                gc.collect()
                print(json.dumps(ends), flush=True)
            """,
        },
    )
    cold, warm, answer = views(tmp_path, ["-m", "prog"], ["lib"], python=VERSIONS[version])
    assert answer["kind"] == "warm"
    assert warm == cold == [1]
