from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from proxy.activation.launched.own.interpreter import find_interpreter

if TYPE_CHECKING:
    from pathlib import Path


def executable(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["python", "python3", "python3.13", "python3.14t", "pypy3.10"])
def test_interpreter_is_known_by_its_name_and_found_on_the_path(tmp_path: Path, name: str) -> None:
    python = executable(tmp_path / "bin" / name)
    env = {"PATH": f"/no/such:{python.parent}"}
    assert find_interpreter([name, "-m", "server"], env) == str(python)
    assert find_interpreter([str(python)], {}) == str(python)
    assert find_interpreter([f"bin/{name}"], {}, cwd=str(tmp_path)) == str(python)
    assert find_interpreter([name], {"PATH": "bin"}, cwd=str(tmp_path)) == str(python)
    assert find_interpreter(["/usr/bin/env", "A=b", name, "C=d"], env) == str(python)
    assert find_interpreter(["env", f"PATH={python.parent}", name], {}) == str(python)


def test_link_of_a_virtual_environment_is_not_resolved(tmp_path: Path) -> None:
    executable(tmp_path / "base" / "python3.12")
    link = tmp_path / "venv" / "bin" / "python"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "base" / "python3.12")
    assert find_interpreter([str(link)], {}) == str(link)


@pytest.mark.parametrize(
    "head",
    [
        "#!{python}",
        "#! {python} -I",
        "#!/usr/bin/env python3.12",
        "#!/usr/bin/env -S python3.12 -I",
        "#!/usr/bin/env -S A=b python3.12",
        "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''",
    ],
)
def test_script_tells_its_interpreter(tmp_path: Path, head: str) -> None:
    python = executable(tmp_path / "with space" / "python3.12")
    if head.startswith(("#!{", "#! {")):
        python = executable(tmp_path / "bin" / "python3.12")
    script = executable(tmp_path / "server", head.format(python=python) + "\nimport x\n")
    assert find_interpreter([str(script)], {"PATH": str(python.parent)}) == str(python)


@pytest.mark.parametrize(
    "content",
    [
        "#!/bin/sh\necho python3\n",
        "#!/usr/bin/env node\n",
        "#!/usr/bin/env\n",
        "#!\n",
        "",
        "\x7fELF\xff\xfe",
        '#!/usr/bin/env "python3\n',
        "#!/no/such/python3\n",
    ],
)
def test_what_is_no_python_program_has_no_interpreter(tmp_path: Path, content: str) -> None:
    program = executable(tmp_path / "server", content)
    assert find_interpreter([str(program)], {"PATH": "/no/such"}) is None


def test_what_cannot_be_executed_has_no_interpreter(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("")
    assert find_interpreter(["python3"], {"PATH": str(tmp_path)}) is None
    assert find_interpreter([str(tmp_path / "python3")], {}) is None
    assert find_interpreter([str(tmp_path)], {}) is None
    assert find_interpreter(["no-such-python"], {"PATH": os.environ["PATH"]}) is None
    assert find_interpreter([""], {}) is None
