"""What is done to a pod, and when: all of it drawn from one generator, before it is done."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, NamedTuple

from proxy.processes import descendants
from tests.launcher.launching import alive

if TYPE_CHECKING:
    from collections import Counter
    from random import Random

    from tests.server.chaos.pod import Pod

ONE_BY_ONE = ("proxy", "launcher", "forkserver", "waiting", "upstream")
HELPERS = frozenset({"forkserver", "waiting"})
_WAYS = (signal.SIGKILL,) * 5 + (signal.SIGTERM,) * 3 + (signal.SIGSTOP,) * 3
_DORMANT = ("before", "during", "during", "during", "ready", "ending")
_READY = ("ready", "ending")
_WHOLE = 0.1  # share of the harm that is done to the whole pod
_LONG = 0.02  # share of the stops that last until somebody has given up


class Harm(NamedTuple):
    """One signal. `delay`, and how long a stop is held, are in usual claims."""

    victims: tuple[str, ...]  # the first of them that is there; "pod" is every process of it
    way: signal.Signals
    delay: float
    hold: float | None  # None: until the claim is answered


class Round(NamedTuple):
    """Harm, and what the pod is doing then.

    before   it is dormant; the claim comes right after the first harm
    during   the claim is under way
    ready    the claim was answered
    ending   the upstream ends by itself
    """

    opening: str
    harms: tuple[Harm, ...]
    warm: bool  # the first harm finds a fork server, if there can be one
    fails: bool  # the upstream of this claim exits at its start
    again: bool  # whoever is ready afterwards stays for the next round


def drawn(random: Random, *, ready: bool) -> Round:
    """The next round of a pod that is dormant, or `ready`."""
    opening = random.choice(_READY if ready else _DORMANT)
    return Round(
        opening,
        tuple(_harm(random) for _ in range(random.choice((1, 1, 2)))),
        warm=random.random() < 0.7,
        fails=opening == "during" and random.random() < 0.25,
        again=random.random() < 0.5,
    )


def _harm(random: Random) -> Harm:
    return Harm(
        ("pod",) if random.random() < _WHOLE else tuple(random.sample(ONE_BY_ONE, len(ONE_BY_ONE))),
        random.choice(_WAYS),
        delay=random.uniform(0, 1.3),
        hold=None if random.random() < _LONG else random.uniform(0, 2),
    )


class Hand:
    """Does harm to `pod`, and knows what must, or may, come of it by itself. One for each round."""

    def __init__(self, pod: Pod, unit: float, hit: Counter[str]) -> None:
        self._pod = pod
        self._unit = unit
        self._hit = hit
        self._doomed: set[int] = set()
        self._ended: set[str] = set()  # roles that were killed or told to end
        self._told: set[str] = set()
        self.touched: set[str] = set()
        self.begun = asyncio.Event()
        self.answered = asyncio.Event()
        self.said: list[str] = []

    @property
    def ends_proxy(self) -> bool:
        """Whether the proxy must end, or may: a launcher that is told to takes its proxy along."""
        leaves = self._apart and "launcher" in self._told
        return leaves or not self._ended.isdisjoint({"proxy", "pod"})

    @property
    def ends_container(self) -> bool:
        return self.ends_proxy or (self._apart and "launcher" in self._ended)

    @property
    def _apart(self) -> bool:
        return self._pod.agent is not None

    async def do(self, harms: tuple[Harm, ...]) -> None:
        try:
            for harm in harms:
                await asyncio.sleep(harm.delay * self._unit)
                await self._one(harm)
        finally:
            self.begun.set()

    async def _one(self, harm: Harm) -> None:
        there = self._pod.roles()
        role = next((one for one in harm.victims if one in there or one == "pod"), None)
        if role is None:
            self.said.append(f"{harm.way.name} finds nobody")
            return
        pids = self._pids(role, there, harm.way)
        self.said.append(f"{harm.way.name} to {role} {pids}")
        self.touched.add(role)
        self._hit.update((role, harm.way.name))
        first = role == "pod" or (role == "launcher" and self._apart)
        within = {one.pid for pid in pids for one in descendants(pid)} if first else set()
        for pid in pids:
            self._pod.signal(pid, harm.way)
        self.begun.set()
        if harm.way == signal.SIGSTOP:
            await self._hold(pids, harm, role)
        else:
            self._doomed.update(pids)
            self._ended.add(role)
            if harm.way == signal.SIGTERM:
                self._told.add(role)
            elif first:
                await self._pod.empty(within)

    def _pids(self, role: str, there: dict[str, int], way: signal.Signals) -> list[int]:
        if role != "pod":
            return [there[role]]
        if way == signal.SIGTERM:
            return [there[one] for one in ("proxy", "launcher") if one in there]
        return [one.pid for one in self._pod.kin()]

    async def _hold(self, pids: list[int], harm: Harm, role: str) -> None:
        try:
            if harm.hold is None and role not in {"proxy", "pod"}:  # else nobody could answer
                await self.answered.wait()
            else:
                await asyncio.sleep((harm.hold or 1) * self._unit)
        finally:
            for pid in reversed(pids):
                self._pod.signal(pid, signal.SIGCONT)
            self.said.append(f"SIGCONT to {role}")

    async def over(self) -> None:
        """Wait for the end of all who were told to. Raises `AssertionError`."""
        await self._pod.until(lambda: not any(alive(pid) for pid in self._doomed))
        if left := [pid for pid in self._doomed if alive(pid)]:
            raise AssertionError(f"{left} did not end")
        if not self._ended.isdisjoint({"proxy", "pod"}):
            await self._pod.proxy.ended()

    async def end_proxy(self) -> None:
        """In good order. Raises `AssertionError`."""
        self._ended.add("proxy")
        self._pod.proxy.process.terminate()
        if (code := await self._pod.proxy.ended()) != 0:
            raise AssertionError(f"the proxy has ended with {code}")
