"""Names that can never be delivered to a fork, and who may look at the whole environment.

Both are tables decided on evidence, not guesses; each line says what it rests on.
"""

from __future__ import annotations

import fnmatch
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Callable, Iterable

# Read by the loader, the C library or the interpreter before any Python code runs, or by native
# libraries that put their names together at run time, where `native` cannot find them as text.
ALWAYS_COLD = (
    "PYTHON*",  # the interpreter, at its start
    "LD_*",  # ld.so
    "GLIBC_TUNABLES",
    "MALLOC_*",  # glibc and jemalloc
    "_RJEM_MALLOC_CONF",
    "MIMALLOC_*",
    "GCONV_PATH",  # glibc: iconv, locales, message catalogues
    "LOCPATH",
    "NLSPATH",
    "LANG",
    "LANGUAGE",
    "LC_*",  # the interpreter's file system and standard stream encodings
    "TZ",  # tzset() at the import of `time`, copied by whoever imports its names
    "TZDIR",
    "RES_OPTIONS",  # glibc's resolver keeps them
    "LOCALDOMAIN",
    "HOSTALIASES",
    "VIRTUAL_ENV",  # where an interpreter looks for its packages
    "__PYVENV_LAUNCHER__",
    "OPENSSL_*",  # OpenSSL's one-time set-up: seen through getenv in libcrypto and cryptography
    "SSL_CERT_*",
    "OMP_*",  # OpenMP and BLAS count their threads when loaded
    "GOMP_*",
    "KMP_*",
    "OPENBLAS_*",
    "MKL_*",
    "BLIS_*",
    "VECLIB_*",
    "NUMEXPR_*",
    "RAYON_*",  # Rust runtimes
    "RUST_*",
    "TOKIO_*",
    "GRPC_*",  # upper-cased from its own option names
    "GODEBUG",
    "GOMAXPROCS",
    "GOGC",
    "UV_*",  # libuv
    "CUDA_*",
    "NVIDIA_*",
)


# (module, function) that starts a program which reads nothing that is delivered.
_HARMLESS_STARTS = frozenset(
    [
        # `/sbin/ldconfig -p` with an environment of two names, which prints the loader's cache:
        # the first thing that `find_library` does, from 3.8 to 3.14.
        ("ctypes.util", "_findSoname_ldconfig"),
    ]
)
_START_DEPTH = 6  # frames from a function to the event of a program's start, `subprocess` between

_SCHEME_LIMIT = 31  # letters: one more than the longest one that is registered with IANA
_COMPREHENSIONS = frozenset(["<dictcomp>", "<listcomp>", "<setcomp>", "<genexpr>"])


def always_cold(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in ALWAYS_COLD)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether `name` fits one of `patterns`, which are lower case and ignore case."""
    lower = name.lower()
    return any(fnmatch.fnmatchcase(lower, pattern) for pattern in patterns)


def overlap(one: str, other: str) -> bool:
    """Whether some name fits both patterns (as `fnmatch`)."""
    a, b = _tokens(one), _tokens(other)
    letters = _letters(a + b)
    waiting, seen = [(0, 0)], {(0, 0)}
    while waiting:
        i, j = waiting.pop()
        if i == len(a) and j == len(b):
            return True
        for step in _steps(a[i] if i < len(a) else "", b[j] if j < len(b) else "", letters):
            place = (i + step[0], j + step[1])
            if place not in seen:
                seen.add(place)
                waiting.append(place)
    return False


def _steps(one: str, other: str, letters: str) -> list[tuple[int, int]]:
    """How far one more letter, or the end of a `*`, can go in each pattern; "" is a pattern's end.

    A `*` takes a letter by going nowhere, while the other pattern goes on by one.
    """
    steps = []
    if one == "*":
        steps += [(1, 0), (0, 1)] if other and other != "*" else [(1, 0)]
    if other == "*":
        steps += [(0, 1), (1, 0)] if one and one != "*" else [(0, 1)]
    if one and other and "*" not in (one, other):
        both = (fnmatch.fnmatchcase(c, one) and fnmatch.fnmatchcase(c, other) for c in letters)
        steps += [(1, 1)] if any(both) else []
    return steps


def _tokens(pattern: str) -> list[str]:
    """Its parts, each of which stands for one letter, but `*`."""
    tokens = []
    while pattern:
        end = 1
        if pattern[0] == "[":
            # A bracket right behind the first one (or its `!`) is a member.
            end = pattern.find("]", 3 if pattern[1:2] == "!" else 2) + 1 or 1
        tokens.append(pattern[:end] if end > 1 or pattern[0] != "[" else "[[]")
        pattern = pattern[end:]
    return tokens


def _letters(tokens: list[str]) -> str:
    """One letter of every kind that the tokens can tell apart: their own, the next, and another."""
    named = {letter for token in tokens for letter in token} | {"\0"}
    beside = {chr(ord(letter) + by) for letter in named for by in (-1, 1) if ord(letter) + by >= 0}
    return "".join(named | {letter for letter in beside if ord(letter) < sys.maxunicode})


def starts_harmlessly(frame: FrameType | None) -> bool:
    """Whether the program that is started below `frame` is known to read nothing delivered."""
    for _ in range(_START_DEPTH):
        if frame is None:
            break
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in _HARMLESS_STARTS:
            return True
        frame = frame.f_back
    return False


def iterated(frame: FrameType) -> tuple[str, ...] | None:
    """The name patterns (lower case) that the code iterating in `frame` keeps; None: all of them.

    `frame` is the one that called `os.environ`'s own methods.
    """
    around = frame
    # Comprehensions have frames of their own before Python 3.12, generator expressions always.
    while around.f_code.co_name in _COMPREHENSIONS and around.f_back is not None:
        around = around.f_back
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    judge = ITERATORS.get((package, around.f_code.co_name))
    return judge(around) if judge and around.f_globals is frame.f_globals else None


def _proxies(_frame: FrameType) -> tuple[str, ...]:
    """`urllib.request.getproxies_environment` looks at `<scheme>_proxy`; the rest it reads by name.

    Same in 3.8 to 3.14. httpx, requests and aiohttp go through it whenever a client is made. No
    scheme has an underscore (RFC 3986, 3.1): what else ends like that is a proxy for nothing.
    """
    return tuple("[!_]" * length + "_proxy" for length in range(1, _SCHEME_LIMIT + 1))


def _tqdm(frame: FrameType) -> tuple[str, ...] | None:
    """`tqdm.utils.envwrap` overrides its defaults by `<prefix>*` (TQDM_) at its import."""
    prefix = frame.f_locals.get("prefix")
    return (_literal(prefix.lower()) + "*",) if isinstance(prefix, str) and prefix else None


def _pydantic_settings(frame: FrameType) -> tuple[str, ...] | None:
    """pydantic-settings copies the environment, looks its fields' names up in it and drops it.

    The source object is asked for its fields; a source or a settings class that may look at more
    (a subclass, sources of its own) counts as reading everything.
    """
    caller = frame.f_back
    if caller is not None and caller.f_code.co_name == "_load_env_vars":
        caller = caller.f_back
    source = caller.f_locals.get("self") if caller is not None else None
    kind = type(source)
    if kind.__name__ != "EnvSettingsSource" or not kind.__module__.startswith("pydantic_settings."):
        return None
    try:
        return _fields(source)
    except (AttributeError, TypeError):
        return None  # another release than those known here


def _fields(source: object) -> tuple[str, ...] | None:
    settings = source.settings_cls  # type: ignore[attr-defined]
    base = next(c for c in settings.__mro__ if c.__module__ == "pydantic_settings.main")
    if settings.settings_customise_sources.__func__ is not base.settings_customise_sources.__func__:
        return None
    prefix: str = source.env_prefix  # type: ignore[attr-defined]
    delimiter = source.env_nested_delimiter  # type: ignore[attr-defined]
    patterns = [_literal(prefix) + "*"] if prefix else []
    for name, field in settings.model_fields.items():
        # The prefix is left out with aliases, unless it is said to be for these alone.
        aliases = {*_aliases(field.validation_alias), *_aliases(field.alias)}
        bare = (
            aliases if getattr(source, "env_prefix_target", "all") != "alias" else {name, *aliases}
        )
        for full in {prefix + each for each in {name, *aliases}} | bare:
            patterns.append(_literal(full))
            if delimiter:
                patterns.append(_literal(full + delimiter) + "*")
    return tuple(pattern.lower() for pattern in patterns)


def _aliases(alias: object) -> list[str]:
    """Every name in a string, AliasPath or AliasChoices."""
    if alias is None:
        return []
    if isinstance(alias, str):
        return [alias]
    if hasattr(alias, "choices"):
        return [name for choice in alias.choices for name in _aliases(choice)]
    return [str(alias.path[0])]  # type: ignore[attr-defined]


def _literal(text: str) -> str:
    """`text` with nothing in it that fnmatch would interpret."""
    return "".join("[%s]" % letter if letter in "*?[" else letter for letter in text)


# (top-level package, function that iterates) -> what it keeps
ITERATORS: dict[tuple[str, str], Callable[[FrameType], tuple[str, ...] | None]] = {
    ("urllib", "getproxies_environment"): _proxies,
    ("pydantic_settings", "parse_env_vars"): _pydantic_settings,
    ("tqdm", "envwrap"): _tqdm,
}
