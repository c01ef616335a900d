from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.launching import Launcher, alive, encoded, until
from tests.warming import Warm, base, view, views, write

# Everything about itself that a program can see and a fork might get wrong.
SELF = """
    import gc, json, os, signal, sys, threading, time
    import app.lib

    own = "/proc/self/fd/"
    fds = [n for n in os.listdir(own) if int(n) > 2 and os.path.exists(own + n)]
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
        "gc": [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
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


FAULTS = {
    "missing": ("", "module bad.missing raised ModuleNotFoundError: No module named 'bad.missing'"),
    "raises": ("1 / 0", "module bad.raises raised ZeroDivisionError: division by zero"),
    "exits": ("import sys; sys.exit(3)", "module bad.exits called sys.exit(3)"),
    "dies": ("import os; os._exit(4)", "exited with code 4 while importing bad.dies"),
    "forks": (
        "import os, time\nif os.fork() == 0:\n    time.sleep(60)",
        "module bad.forks left process",
    ),
    "returns": ("import os\nos.fork()", "module bad.returns left process"),
    "serves": (
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()",
        "module bad.serves left a socket open",
    ),
    "waits": ("import time; time.sleep(600)", "module bad.waits was not imported within 1 s"),
    "deaf": (
        "import signal, time\nfor s in (1, 2, 15): signal.signal(s, 1)\nwhile 1: time.sleep(1)",
        "module bad.deaf was not imported within 1 s",
    ),
    "killed": (
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "was killed by SIGSEGV while importing bad.killed",
    ),
    "epoll": ("import select; e = select.epoll()", "module bad.epoll left anon_inode:[eventpoll]"),
    "writes": ("f = open('x.log', 'w')", "x.log for writing open"),
    "itself": ("import prog", "module prog is the one to be run"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_module_that_cannot_be_preloaded_is_named_and_the_start_is_cold(
    tmp_path: Path, fault: str
) -> None:
    source, expected = FAULTS[fault]
    write(tmp_path, {"bad/__init__.py": "", "good.py": "", "prog.py": "print('runs')"})
    if source:
        write(tmp_path, {f"bad/{fault}.py": source})
    prepared = base(tmp_path, "-m", "prog")
    timeout = 1 if fault in {"waits", "deaf"} else 20
    with Warm(prepared, ["good", f"bad.{fault}", "json"], timeout=timeout) as launcher:
        assert launcher.why is not None
        assert expected in launcher.why
        answer = launcher.begin()
        assert answer["kind"] == "cold"
        assert expected in answer["why"]
        launcher.event("exit", pid=answer["pid"], code=0)
        until(lambda: not launcher.children())


def test_a_lingering_thread_is_spoken_of_and_does_not_stop_the_fork(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "busy.py": """
                import threading, time
                threading.Thread(target=time.sleep, args=(600,), daemon=True, name="pump").start()
            """,
            "prog.py": "print('runs')",
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["busy"], linger=0.2) as launcher:
        assert launcher.event("warm")["notes"] == ["1 thread(s) do not survive the fork: pump"]
        answer = launcher.begin()
        assert answer["kind"] == "warm"
        launcher.event("exit", pid=answer["pid"], code=0)


def test_a_thread_that_ends_is_waited_for(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "short.py": """
                import threading, time
                threading.Thread(target=time.sleep, args=(0.2,)).start()
            """,
            "prog.py": "print('runs')",
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["short"]) as launcher:
        assert launcher.event("warm")["notes"] == []


def test_an_upstream_can_be_started_again_and_again_from_one_fork_server(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "rand.py": "import random; shared = random.random()",
            "prog.py": "import random, rand; print(random.random(), rand.shared)",
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["rand", "random"]) as launcher:
        numbers = []
        for _ in range(4):
            answer = launcher.begin()
            assert answer["kind"] == "warm"
            launcher.event("exit", pid=answer["pid"], code=0)
            numbers.append(launcher.output()[-1].split())
        assert len({first for first, _ in numbers}) == 4
        assert len({shared for _, shared in numbers}) == 1


def test_a_fork_server_that_dies_leaves_a_launcher_that_starts_cold(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "print('runs')"})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        for child in launcher.children():
            os.kill(child, signal.SIGKILL)
        answer = launcher.begin()
        assert answer["kind"] == "cold"
        assert "fork server" in answer["why"]
        launcher.event("exit", pid=answer["pid"], code=0)


def test_the_fork_server_dies_with_its_launcher(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "import time; print('up', flush=True); time.sleep(600)"})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        children = launcher.children()
        answer = launcher.begin()
        launcher.line("up")
        launcher.process.kill()
        until(lambda: not any(alive(pid) for pid in (*children, answer["pid"])))


def test_another_command_or_environment_than_prepared_is_started_cold(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "print('runs')"})
    prepared = base(tmp_path, "-m", "prog")
    with Warm(prepared, ["json"]) as launcher:
        for change in ({"argv": [*prepared["argv"], "x"]}, {"base_env": {"X": "1"}}, {"cwd": "/"}):
            answer = launcher.start(**(prepared | change))
            assert answer["kind"] == "cold"
            assert "than was prepared" in answer["why"]
            launcher.event("exit", pid=answer["pid"])


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["{python}", "-c", "print(1)"], "option -c of the interpreter"),
        (["{python}", "-i", "prog.py"], "option -i of the interpreter"),
        (["{python}", "-X", "importtime", "prog.py"], "-X importtime"),
        (["{python}", "-"], "standard input"),
        (["/bin/sh", "-c", "exit 0"], "is not a Python script"),
        (["{python}", "package"], "is a directory or an archive"),
    ],
)
def test_a_command_that_cannot_be_repeated_by_a_fork_is_started_cold(
    tmp_path: Path, argv: list[str], why: str
) -> None:
    write(tmp_path, {"prog.py": "", "package/__main__.py": ""})
    argv = [word.format(python=sys.executable) for word in argv]
    with Warm(base(tmp_path) | {"argv": argv}, ["json"]) as launcher:
        assert launcher.why is not None
        assert why in launcher.why
        answer = launcher.begin()
        assert answer["kind"] == "cold"
        launcher.event("exit", pid=answer["pid"], code=0)


def test_an_init_in_front_of_the_interpreter_is_what_the_launcher_is_already(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"prog.py": "import os; print(os.getppid())"})
    prepared = base(tmp_path) | {"argv": ["tini", "-g", "--", sys.executable, "-m", "prog"]}
    with Warm(prepared, ["json"]) as launcher:
        answer = launcher.begin()
        assert answer["kind"] == "warm"
        launcher.event("exit", pid=answer["pid"], code=0)
        assert launcher.output()[-1] == str(launcher.pid)


def test_delivered_files_are_there_and_gone_as_in_a_cold_start(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "import os; print(open(os.environ['CONF']).read())"})
    run_dir = tmp_path / "run"
    conf = run_dir / "conf.json"
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        answer = launcher.begin(
            env={"CONF": str(conf)}, files=[encoded(conf, b"{}")], run_dir=str(run_dir)
        )
        assert answer["kind"] == "warm"
        launcher.event("exit", pid=answer["pid"], code=0)
        assert launcher.output()[-1] == "{}"
        launcher.stop()
        assert not run_dir.exists()


def test_secrets_are_not_left_readable_in_the_fork_server(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "import time; print('up', flush=True); time.sleep(600)"})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        [forkserver] = launcher.children()
        launcher.begin(env={"TOKEN_OF_MINE": "s3cret-value"})
        launcher.line("up")
        assert b"s3cret" not in Path(f"/proc/{forkserver}/environ").read_bytes()
        launcher.stop(0)


def test_progress_is_told_while_warming(tmp_path: Path) -> None:
    write(tmp_path, {f"m{n}.py": "import time; time.sleep(.15)" for n in range(6)})
    write(tmp_path, {"prog.py": ""})
    with Warm(base(tmp_path, "-m", "prog"), [f"m{n}" for n in range(6)]) as launcher:
        warming = [event for event in launcher.events if event["event"] == "warming"]
        assert warming[0]["total"] == 6
        assert [event["done"] for event in warming] == sorted(event["done"] for event in warming)
        assert launcher.event("warm")["modules"] == 6
