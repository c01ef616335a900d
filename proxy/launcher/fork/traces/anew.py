"""Makes anew, in a forked child, what was seeded or drawn in its parent and can be made anew.

`random` does it by itself at a fork, `secrets`, `uuid4` and OpenSSL ask the kernel or notice a
fork, `tempfile` looks at the pid. What modules have drawn from them is another matter: see `draws`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from typing import Iterable


def make_anew(generators: Iterable[random.Random], authkey: bytes | None) -> None:
    """Part from the random numbers of the parent, and so of its other children.

    `generators` are those that the system had seeded; `authkey` is what multiprocessing has drawn:
    one that a module has set is left alone.
    """
    for generator in generators:
        generator.seed()
    multiprocessing = sys.modules.get("multiprocessing.process")
    current = getattr(multiprocessing, "current_process", None)
    if current and bytes(current().authkey) == authkey:
        current().authkey = os.urandom(len(authkey))
    seed = getattr(sys.modules.get("numpy.random"), "seed", None)
    if seed:
        seed()
