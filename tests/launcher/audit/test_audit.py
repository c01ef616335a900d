"""The rule that no start is warm when something delivered was looked at while preloading."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import cffi
import pytest

from tests.launcher.launching import Launcher, encoded
from tests.launcher.warming import Warm, base, view, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

# Ways to look at KEY, in a module `reader` that is preloaded.
READS = {
    "getitem": "import os\nX = os.environ['KEY'] if 'KEY' in os.environ else None",
    "get": "import os\nX = os.environ.get('KEY')",
    "getenv": "import os\nX = os.getenv('KEY')",
    "getenvb": "import os\nX = os.getenvb(b'KEY')",
    "bytes": "import os\nX = os.environb.get(b'KEY')",
    "in": "import os\nX = 'KEY' in os.environ",
    "try": "import os\ntry: X = os.environ['KEY']\nexcept KeyError: X = None",
    "from import": "from os import environ\nX = environ.get('KEY')",
    "from import getenv": "from os import getenv as g\nX = g('KEY')",
    "default argument": "import os\ndef f(x=os.environ.get('KEY')): return x\nX = f()",
    "dataclass": "import os\nfrom dataclasses import dataclass\n@dataclass\nclass C:\n"
    "    x: object = os.environ.get('KEY')\nX = C().x",
    "class body": "import os\nclass C:\n    x = os.environ.get('KEY')\nX = C.x",
    "cache": "import functools, os\n@functools.lru_cache\n"
    "def f(): return os.getenv('KEY')\nX = f()",
    "pop": "import os\nX = os.environ.pop('KEY', None)",
    "setdefault": "import os\nX = os.environ.setdefault('KEY', 'mine')",
    "set": "import os\nos.environ['KEY'] = 'mine'\nX = os.environ['KEY']",
    "putenv": "import os\nos.putenv('KEY', 'mine')\nX = os.system('exit $KEY')",
    "del": "import os\ntry:\n    del os.environ['KEY']\n    X = 1\nexcept KeyError: X = 0",
    "copy": "import os\nX = os.environ.copy().get('KEY')",
    "dict": "import os\nX = dict(os.environ).get('KEY')",
    "star": "import os\nX = {**os.environ}.get('KEY')",
    "items": "import os\nX = [v for k, v in os.environ.items() if k == 'KEY']",
    "keys": "import os\nX = 'KEY' in list(os.environ.keys())",
    "values": "import os\nX = 'v4lue' in os.environ.values()",
    "iteration": "import os\nX = [k for k in os.environ if k == 'KEY']",
    "list": "import os\nX = 'KEY' in list(os.environ)",
    "len": "import os\nX = len(os.environ) - len([k for k in os.environ if k != 'KEY'])",
    "repr": "import os\nX = 'KEY' in repr(os.environ)",
    "or": "import os\nX = (os.environ | {}).get('KEY')",
    "equal": "import os\nX = os.environ == {'KEY': 'v4lue'}",
    "private": "import os\nX = os.environ._data.get(b'KEY')",
    "private iteration": "import os\nX = sorted(os.environ._data) and b'KEY' in os.environ._data",
    "posix": "import posix\nX = str(posix.environ.get(b'KEY'))",
    "proc": "X = b'KEY=' in open('/proc/self/environ', 'rb').read()",
    "proc by pid": "import os\nfd = os.open('/proc/%d/environ' % os.getpid(), 0)\n"
    "X = b'KEY=' in os.read(fd, 1 << 20)\nos.close(fd)",
    "proc by directory": "import os\nd = os.open('/proc/self', 0)\n"
    "fd = os.open('environ', 0, dir_fd=d)\nX = b'KEY=' in os.read(fd, 1 << 20)\n"
    "os.close(fd)\nos.close(d)",
    "C library": "import ctypes\ng = ctypes.CDLL(None).getenv\ng.restype = ctypes.c_char_p\n"
    "X = g(b'KEY')",
    "C library's variable": "import ctypes\nX = []\n"
    "e = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')\n"
    "while e[len(X)]: X.append(e[len(X)])\nX = any(x.startswith(b'KEY=') for x in X)",
    "C library by handle": "import ctypes, _ctypes\n"
    "p = _ctypes.dlsym(ctypes.CDLL(None)._handle, 'getenv')\n"
    "X = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_char_p)(p)(b'KEY')",
    "C library's system": "import ctypes\nX = ctypes.CDLL(None).system(b'test \"$KEY\" = v4lue')",
    "a child's parent": "import os, subprocess as s\n"
    "X = b'KEY=' in s.check_output(['cat', '/proc/%d/environ' % os.getpid()], env={})",
    "a child of C code's": "import multiprocessing.util as u, os\n"
    "pid = u.spawnv_passfds(b'/bin/sh', [b'sh', b'-c', b'test -n \"$KEY\"'], ())\n"
    "X = os.waitpid(pid, 0)[1]",
    "expandvars": "import os\nX = os.path.expandvars('$KEY')",
    "subprocess": "import subprocess as s\nX = s.check_output(['sh', '-c', 'echo $KEY']).decode()",
    "system": "import os\nX = os.system('test -n \"$KEY\"')",
    "template": "import os, string\nX = string.Template('$KEY').safe_substitute(os.environ)",
    "chain": "import os, collections\nX = collections.ChainMap({}, os.environ).get('KEY')",
    "thread": "import os, threading\nX = []\nt = threading.Thread(target=lambda:"
    " X.append(os.getenv('KEY')))\nt.start(); t.join()",
    "submodule": "import sub.inner\nX = sub.inner.X",
    "helper": "import helper\nX = helper.look('KEY')",
    "lazy": "import helper\nX = helper.lazy()",
    "imported in a function": "def f():\n    from helper import KEY\n    return KEY\nX = f()",
    "exec": "exec('import os; X = os.environ.get(\"KEY\")')",
    "importlib": "import importlib\nX = importlib.import_module('sub.inner').X",
}
HELPERS = {
    "sub/__init__.py": "",
    "sub/inner.py": "import os\nX = os.environ.get('KEY')",
    "helper.py": """
        import os
        def look(name): return os.environ.get(name)
        def lazy():
            import sub.inner
            return sub.inner.X
        def __getattr__(name):
            if name.startswith("__"): raise AttributeError(name)
            return os.environ.get(name)
    """,
    "prog.py": """
        import json, os
        import reader
        print(json.dumps([repr(reader.X), os.environ.get("KEY"), os.popen("echo $KEY").read()]))
    """,
}


def without_launcher(prepared: dict[str, Any], delivered: dict[str, str]) -> Any:
    """What the start prints when nobody has prepared it."""
    env = os.environ | prepared["base_env"] | delivered
    done = subprocess.run(
        prepared["argv"], cwd=prepared["cwd"], env=env, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("present", [False, True], ids=["absent before", "present before"])
def test_whatever_was_read_while_preloading_is_never_stale(
    tmp_path: Path, way: str, *, present: bool
) -> None:
    write(tmp_path, HELPERS | {"reader.py": READS[way]})
    prepared = base(tmp_path, "-m", "prog", **({"KEY": "old"} if present else {}))
    delivered = {"KEY": "v4lue"}
    cold = without_launcher(prepared, delivered)
    with Warm(prepared, ["json", "helper", "reader"]) as launcher:
        assert launcher.why is None
        answer = launcher.begin(env=delivered)
        assert view(answer, launcher) == cold
        assert answer["kind"] == "cold"
        assert "reader" in answer["why"] or "sub.inner" in answer["why"], answer["why"]
        assert "KEY" in answer["why"]
        if present and way != "private iteration":
            assert launcher.begin(unset=["K*"])["kind"] == "cold"


def test_what_was_not_read_is_started_warm_and_arrives(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "reader.py": "import os\nX = os.environ.get('OTHER')",
            "prog.py": """
                import json, os, posix, reader
                print(json.dumps([reader.X, dict(os.environ), os.popen("env").read()]))
            """,
        },
    )
    prepared = base(tmp_path, "-m", "prog", OTHER="o", GONE="g", KEPT="k")
    fields = {"env": {"MY_KEY": "v4lue", "ÜMLAUT": "\udcff", "KEPT": "k"}, "unset": ["GONE*"]}
    with Launcher() as launcher:
        cold = view(launcher.start(**prepared, **fields), launcher)
    with Warm(prepared, ["reader"]) as launcher:
        answer = launcher.begin(**fields)
        assert answer["kind"] == "warm", answer
        assert view(answer, launcher) == cold


def test_what_modules_set_while_preloading_stays_set(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "setter.py": "import os\nos.environ['SET_BY_IT'] = '1'\nos.environ.pop('GONE', 0)\n"
            "os.putenv('ONLY_IN_C', '2')",
            "prog.py": """
                import json, os, setter
                print(json.dumps([dict(os.environ), os.popen("echo $ONLY_IN_C").read()]))
            """,
        },
    )
    prepared = base(tmp_path, "-m", "prog", GONE="g")
    with Launcher() as launcher:
        cold = view(launcher.start(**prepared, env={"MY_KEY": "1"}), launcher)
    with Warm(prepared, ["setter"]) as launcher:
        answer = launcher.begin(env={"MY_KEY": "1"})
        assert answer["kind"] == "warm"
        assert view(answer, launcher) == cold
        for name in ("SET_BY_IT", "GONE", "ONLY_IN_C"):
            assert launcher.begin(env={name: "x"})["kind"] == "cold"
            launcher.stop(0)


@pytest.mark.parametrize(
    "name",
    [
        "PYTHONPATH",
        "PYTHONHASHSEED",
        "LD_PRELOAD",
        "MALLOC_ARENA_MAX",
        "GLIBC_TUNABLES",
        "LC_ALL",
        "LANG",
        "TZ",
        "PATH",
        "OMP_NUM_THREADS",
        "OPENSSL_CONF",
        "SSL_CERT_FILE",
        "RUST_LOG",
    ],
)
def test_names_that_act_below_python_always_mean_a_cold_start(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"prog.py": ""})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        answer = launcher.begin(env={name: ""})
        assert answer["kind"] == "cold"
        assert name in answer["why"]


def test_what_the_interpreter_s_own_start_reads_is_known_too(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "sitecustomize.py": "import os, builtins; builtins.X = os.environ.get('KEY')",
            "prog.py": "import json; print(json.dumps([X]))",
        },
    )
    prepared = base(tmp_path, "-m", "prog", PYTHONPATH=str(tmp_path))
    with Warm(prepared, ["json"]) as launcher:
        assert launcher.why is None
        answer = launcher.begin(env={"KEY": "v4lue"})
        assert answer["kind"] == "cold"
        assert view(answer, launcher) == ["v4lue"]


LOOKS = {
    "open": "try: X = open('{path}').read()\nexcept OSError: X = None",
    "relative": "try: X = open('conf/app.json').read()\nexcept OSError: X = None",
    "os.open": "import os\ntry: X = os.read(os.open('{path}', 0), 9).decode()\n"
    "except OSError: X = None",
    "pathlib": "import pathlib\np = pathlib.Path('{path}')\ntry: X = p.read_text()\n"
    "except OSError: X = None",
    "listdir of a descriptor": "import os\ntry:\n    d = os.open('{dir}', 0)\n"
    "    X = os.listdir(d)\n    os.close(d)\nexcept OSError: X = None",
    "scandir of a descriptor": "import os\ntry:\n    d = os.open('{dir}', 0)\n"
    "    X = [e.name for e in os.scandir(d)]\n    os.close(d)\nexcept OSError: X = None",
    "stat beside a descriptor": "import os\nd = os.open('{base}', 0)\n"
    "try: X = os.stat('conf/app.json', dir_fd=d).st_size\nexcept OSError: X = None\nos.close(d)",
    "open beside a descriptor": "import os\nd = os.open('{base}', 0)\ntry:\n"
    "    f = os.open('conf/app.json', 0, dir_fd=d)\n"
    "    X = os.read(f, 9).decode()\n    os.close(f)\n"
    "except OSError: X = None\nos.close(d)",
    "hard link": "import os\ntry:\n    os.link('{path}', '{base}/other')\n"
    "    X = open('{base}/other').read()\n    os.unlink('{base}/other')\nexcept OSError: X = None",
    "symbolic link": "import os\nos.symlink('conf/app.json', '{base}/other')\n"
    "try: X = open('{base}/other').read()\nexcept OSError: X = None\n"
    "finally: os.unlink('{base}/other')",
    "rename": "import os\ntry:\n    os.rename('{path}', '{base}/other')\n"
    "    X = open('{base}/other').read()\n    os.rename('{base}/other', '{path}')\n"
    "except OSError: X = None",
    "mkdir": "import os\ntry:\n    os.mkdir('{dir}')\n    os.rmdir('{dir}')\n    X = 1\n"
    "except OSError: X = 0",
    "subprocess": "import subprocess as s\n"
    "X = s.run(['cat', '{path}'], stdout=s.PIPE, stderr=s.PIPE, env={{}}).stdout.decode()",
    "system": "import os\nX = os.system('test -e {path}')",
    "C library": "import ctypes\nX = ctypes.CDLL(None).access(b'{path}', 0)",
    "C library's system": "import ctypes\nX = ctypes.CDLL(None).system(b'test -e {path}')",
    "sqlite": "import sqlite3\nc = sqlite3.connect(':memory:')\n"
    "try: X = c.execute(\"attach 'file:{path}?mode=ro' as a\") and 1\n"
    "except sqlite3.Error: X = None\nfinally: c.close()",
    "copied function": "from posix import stat\ntry: X = stat('{path}').st_size\n"
    "except OSError: X = None",
    "listdir": "import os\ntry: X = os.listdir('{dir}')\nexcept OSError: X = None",
    "scandir": "import os\ntry: X = [e.name for e in os.scandir('{dir}')]\n"
    "except OSError: X = None",
    "glob": "import glob\nX = glob.glob('{dir}/*.json')",
    "exists": "import os\nX = os.path.exists('{path}')",
    "isfile": "from os.path import isfile\nX = isfile('{path}')",
    "stat": "import os\ntry: X = os.stat('{path}').st_size\nexcept OSError: X = None",
    "lstat": "from os import lstat\ntry: X = lstat('{path}').st_size\nexcept OSError: X = None",
    "access": "import os\nX = os.access('{path}', os.R_OK)",
    "path exists": "import pathlib\nX = pathlib.Path('{path}').exists()",
    "directory exists": "import os\nX = os.path.isdir('{dir}')",
}


@pytest.mark.parametrize(
    ("way", "source"),
    LOOKS.items(),
    ids=LOOKS,
)
@pytest.mark.parametrize("present", [False, True], ids=["absent before", "present before"])
def test_a_file_that_was_looked_at_while_preloading_is_never_stale(
    tmp_path: Path, way: str, source: str, *, present: bool
) -> None:
    directory = tmp_path / "conf"
    conf = directory / "app.json"
    write(
        tmp_path,
        {
            "reader.py": source.format(path=conf, dir=directory, base=tmp_path),
            "prog.py": "import json, reader; print(json.dumps([reader.X]))",
        },
    )
    prepared = base(tmp_path, "-m", "prog")
    if present:
        directory.mkdir()
        conf.write_text("old one")
    file = encoded(conf, b"new")
    with Launcher() as launcher:
        cold = view(launcher.start(**prepared, files=[file]), launcher)
        launcher.stop()
    with Warm(prepared, ["json", "reader"], files=[str(conf)]) as launcher:
        answer = launcher.begin(files=[file])
        assert view(answer, launcher) == cold
        if not (present and way == "directory exists"):  # it stays as it was
            assert answer["kind"] == "cold", way


CFFI = {
    "declared": "import cffi\nf = cffi.FFI()\nf.cdef('char *getenv(const char *);')\n"
    "v = f.dlopen(None).getenv(b'KEY')\nX = v and f.string(v).decode()",
    "declared in pieces": "import cffi\nf = cffi.FFI()\nDECLARATIONS = ['extern char **environ;']\n"
    "for each in DECLARATIONS: f.cdef(each)\n"
    "e = f.dlopen(None).environ\nn = 0\nX = False\n"
    "while e[n]:\n    X = X or f.string(e[n]).startswith(b'KEY=')\n    n += 1",
    "generated": "import generated\nv = generated.ffi.dlopen(None).getenv(b'KEY')\n"
    "X = v and generated.ffi.string(v).decode()",
}


@pytest.mark.parametrize("way", CFFI)
@pytest.mark.parametrize("present", [False, True], ids=["absent before", "present before"])
def test_what_was_read_through_cffi_is_never_stale(
    tmp_path: Path, way: str, *, present: bool
) -> None:
    builder = cffi.FFI()
    builder.cdef("char *getenv(const char *);")
    builder.set_source("generated", None)
    builder.emit_python_code(str(tmp_path / "generated.py"))
    write(tmp_path, HELPERS | {"reader.py": CFFI[way]})
    prepared = base(tmp_path, "-m", "prog", **({"KEY": "old"} if present else {}))
    delivered = {"KEY": "v4lue"}
    cold = without_launcher(prepared, delivered)
    with Warm(prepared, ["json", "reader"]) as launcher:
        answer = launcher.begin(env=delivered)
        assert view(answer, launcher) == cold
        assert answer["kind"] == "cold"
        assert "reader" in answer["why"] or "generated" in answer["why"]


def test_a_file_whose_name_nobody_can_know_is_read_by_no_program(tmp_path: Path) -> None:
    """Whatever was started while preloading: the directory is made for this one start."""
    write(
        tmp_path,
        {
            "reader.py": "import subprocess\nX = subprocess.run(['true']).returncode",
            "prog.py": "import json, os, reader\n"
            "print(json.dumps(open(os.environ['CONF']).read()))",
        },
    )
    conf = tmp_path / "run" / "conf"
    prepared = base(tmp_path, "-m", "prog", CONF=str(conf))
    file = encoded(conf, b"new")
    for files, kind in (([], "warm"), ([str(conf)], "cold")):
        with Warm(prepared, ["json", "reader"], files=files) as launcher:
            answer = launcher.begin(files=[file], run_dir=str(conf.parent))
            assert answer["kind"] == kind, answer
            assert view(answer, launcher) == "new"


def test_what_a_thread_reads_is_blamed_on_whose_import_has_started_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "library.py": "import os\ndef look(): return os.environ.get('KEY')",
            "innocent.py": "import library",
            "starter.py": """
                import threading, library
                X = []
                class Looks(threading.Thread):
                    def run(self):
                        X.append(library.look())
                thread = Looks(); thread.start(); thread.join()
                import _thread, time
                done = _thread.allocate_lock(); done.acquire()
                def raw():
                    X.append(library.look()); done.release()
                _thread.start_new_thread(raw, ()); done.acquire()
            """,
            "prog.py": "import json, starter; print(json.dumps(starter.X))",
        },
    )
    prepared = base(tmp_path, "-m", "prog")
    with Warm(prepared, ["json", "innocent", "starter"]) as launcher:
        answer = launcher.begin(env={"KEY": "v4lue"})
        assert answer["kind"] == "cold"
        assert answer["why"].endswith("KEY was read while preloading starter")
        assert view(answer, launcher) == ["v4lue"] * 2


def test_looking_for_a_library_reads_nothing_that_is_delivered(tmp_path: Path) -> None:
    """`find_library` starts a program, whose environment is its own."""
    write(
        tmp_path,
        {
            "reader.py": "import ctypes.util\nX = ctypes.util.find_library('c')",
            "prog.py": "import json, reader; print(json.dumps(reader.X))",
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["json", "reader"]) as launcher:
        answer = launcher.begin(env={"MY_KEY": "1"})
        assert answer["kind"] == "warm", answer
        assert str(view(answer, launcher)).startswith("libc.so")


def test_who_looks_for_proxies_reads_the_proxies_of_schemes_alone(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "reader.py": "import urllib.request\nX = urllib.request.getproxies_environment()",
            "prog.py": "import json, reader; print(json.dumps(reader.X.get('http')))",
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["json", "reader"]) as launcher:
        for name, kind in (("HTTP_PROXY", "cold"), ("all_proxy", "cold"), ("OH_0_PROXY", "warm")):
            answer = launcher.begin(env={name: "http://proxy:1"})
            assert answer["kind"] == kind, answer
            view(answer, launcher)
            launcher.another()


def test_the_audit_leaves_the_system_s_functions_as_they_were(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "prog.py": """
                import json, os, posix, shutil
                print(json.dumps([
                    [getattr(os, n) is getattr(posix, n) for n in ("stat", "lstat", "access")],
                    os.stat in os.supports_dir_fd, os.stat in os.supports_follow_symlinks,
                    shutil.rmtree.avoids_symlink_attacks,
                ]))
            """
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["json", "shutil", "pathlib"]) as launcher:
        answer = launcher.begin(env={"MY_KEY": "1"})
        assert answer["kind"] == "warm"
        assert view(answer, launcher) == [[True] * 3, True, True, True]
