"""Entry of the launcher, however it is started.

As a directory or a zipapp it has no package: one is made by hand under a name of its own, and
the directory is taken off `sys.path` again, so that nothing here can shadow a module of the
upstream's.
"""

import os
import sys

PACKAGE = "deferred_init_launcher"


def _package() -> str:
    if __package__:
        return __package__
    home = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != home]
    package = type(sys)(PACKAGE)
    package.__path__ = [home]
    sys.modules[PACKAGE] = package
    return PACKAGE


if __name__ == "__main__":
    name = _package() + ".launcher"
    __import__(name)
    sys.exit(sys.modules[name].main(sys.argv[1:]))
