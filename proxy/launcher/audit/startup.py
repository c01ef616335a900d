"""What the interpreter itself reads before the fork server's audit can begin.

`site`, `.pth` files, `sitecustomize` and `usercustomize` run before any code of ours. So a second
interpreter is started with the same flags and `-S`, and does what `site` does under an audit.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..session.command import Command

_CODE = """
import sys
package = type(sys)(%r)
package.__path__ = [%r]
sys.modules[package.__name__] = package
from %s.audit.audit import Audit
audit = Audit()
audit.install()
import site
site.main()
audit.remove()
import json
sys.__stdout__.write("\\n" + json.dumps(audit.to_json()))
"""


def reads_of_start(command: Command) -> dict[str, Any]:
    """What an audit of the interpreter's own start finds.

    Raises `OSError` or `ValueError` when that cannot be found out.
    """
    if "-S" in command.flags:
        files: dict[str, Any] = {"opened": {}, "listed": {}, "asked": {}, "blind": []}
        return {"names": {}, "written": {}, "everything": [], "patterns": [], "files": files}
    package = __name__.rsplit(".", 2)[0]
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = _CODE % (package, home, package)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(write, 1)
            os.execvp(command.argv[0], [command.argv[0], *command.flags, "-S", "-c", code])
        finally:
            os._exit(127)
    os.close(write)
    with open(read, "rb") as answer:
        said = answer.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise ValueError("it ended with status %d" % status)
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found
