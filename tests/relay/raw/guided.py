"""Coverage-guided fuzzing of the relay's pure parts, by hand:

    python -m tests.relay.raw.guided {request,response,chunks} [-max_total_time=600] [CORPUS …]

Needs atheris, which is no requirement of the tests. What follows the target goes to libFuzzer;
`python -m tests.relay.raw.guided seeds DIR` writes a corpus of cases to begin with.
"""

from __future__ import annotations

import sys
from pathlib import Path


def seeds(directory: Path) -> None:
    from tests.relay.raw.corpus_requests import ACCEPTED, REFUSED  # noqa: PLC0415  see `main`
    from tests.relay.raw.corpus_responses import BAD, CUT, SAME  # noqa: PLC0415

    directory.mkdir(exist_ok=True)
    requests = ACCEPTED + [case for _, case in REFUSED]
    bodies = [case.partition(b"\r\n\r\n")[2] for case in requests]
    cases = requests + bodies + SAME + BAD + [a + b for a, b in CUT]
    for number, case in enumerate(cases):
        (directory / str(number)).write_bytes(b"\x80" + case[:4096])


def main() -> None:
    if sys.argv[1] == "seeds":
        seeds(Path(sys.argv[2]))
        return
    import atheris  # noqa: PLC0415  see above

    # What is imported before is not instrumented, so nothing of the relay may be.
    with atheris.instrument_imports(include=["proxy.relay"]):
        from tests.relay.raw.targets import TARGETS  # noqa: PLC0415
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
