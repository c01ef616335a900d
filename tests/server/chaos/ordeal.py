"""One pod, round after round: harm, what is true afterwards, and a claim that works."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.server.chaos.harm import HELPERS, Hand, Round, drawn
from tests.server.chaos.pod import PATIENCE, TIMEOUT
from tests.server.chaos.verdict import Untrue, Verdict

if TYPE_CHECKING:
    from random import Random

    from tests.server.chaos.pod import Pod

READY, DORMANT = frozenset({"ready"}), frozenset({"dormant"})
EITHER = READY | DORMANT
LONGEST_STAY = 3  # rounds of one user's: each death makes the next restart wait longer


class Ordeal:
    """`hit` counts who was harmed, and how. `label` tells how the ordeal can be had again."""

    def __init__(self, pod: Pod, random: Random, *, on_exit: str, label: str) -> None:
        self._pod = pod
        self._random = random
        self._on_exit = on_exit
        self._label = label
        self._verdict = Verdict(pod)
        self._number = 0
        self._stayed = 0
        self._usual = 0.0  # seconds of a claim that nobody disturbs
        self._round: Round | None = None
        self.hit: Counter[str] = Counter()
        self._hand = Hand(pod, 0, self.hit)

    async def begin(self) -> None:
        await self._pod.begin()
        await self._pod.until(lambda: self._pod.warm)
        begun = time.monotonic()
        await self._claimed()
        self._usual = time.monotonic() - begun

    async def suffer(self, rounds: int) -> None:
        for _ in range(rounds):
            self._number += 1
            self._hand = Hand(self._pod, self._usual, self.hit)
            self._verdict.strict = True
            if fault := await self._fault():
                pytest.fail(self._report(fault), pytrace=False)

    async def _fault(self) -> str | None:
        """What was wrong in a round, if anything was."""
        try:
            async with asyncio.timeout(TIMEOUT + 6 * PATIENCE):
                await self._suffer_one()
        except TimeoutError:
            return "it hangs"
        except (AssertionError, aiohttp.ClientError) as error:
            return f"{type(error).__name__}: {error}"
        return None

    async def _suffer_one(self) -> None:
        before = await self._pod.details()
        chosen = self._round = drawn(self._random, ready=before["state"] == "ready")
        if before["state"] == "dormant":
            if chosen.warm:
                await self._pod.until(lambda: self._pod.warmed)
            if chosen.opening in {"ready", "ending"}:
                await self._claimed()
        before = await self._pod.details()
        status = await self._harmed(chosen)
        state = await self._settled(self._possible(chosen, status))
        if chosen.opening == "ready" and self._hand.touched <= HELPERS:
            after = await self._pod.details()
            if after["pid"] != before["pid"]:
                raise Untrue(f"the upstream was {before['pid']} and is {after['pid']}")
        await self._another(state, stay=chosen.again)

    async def _another(self, state: str, *, stay: bool) -> None:
        """The next user's claim, undisturbed; or none, where the user's server has to go on."""
        self._stayed += 1
        if state == "ready" and self._on_exit == "restart" and self._stayed < LONGEST_STAY and stay:
            return
        if state == "ready":
            await self._vacated()
        await self._claimed()
        if not stay:
            await self._vacated()

    # Harm

    async def _harmed(self, chosen: Round) -> int | None:
        """Carry out a round; the claim's status, None when there was no answer or no claim."""
        hand = self._hand
        watching = asyncio.create_task(self._watch())
        tasks: list[asyncio.Task[Any]] = [watching]
        try:
            if chosen.opening in {"before", "during"}:
                self._verdict.begin(self._name())
            claim = None
            if chosen.opening == "during":
                tasks.append(claim := asyncio.create_task(self._claim(fails=chosen.fails)))
            elif chosen.opening == "ending":
                await self._pod.dismiss()
            tasks.append(harm := asyncio.create_task(hand.do(chosen.harms)))
            if chosen.opening == "before":
                await hand.begun.wait()
                tasks.append(claim := asyncio.create_task(self._claim(fails=False)))
            async with asyncio.timeout(TIMEOUT + PATIENCE):
                status = await claim if claim is not None else None
            hand.answered.set()
            await harm
            await hand.over()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not watching.cancelled():
            watching.result()  # raises what it has seen
        self._verdict.strict = not hand.ends_container
        return status

    async def _watch(self) -> None:
        """A client that asks whose server it is, all the time."""
        while True:
            self._verdict.judge_answer(await self._pod.asked())
            await asyncio.sleep(0.01)

    async def _claim(self, *, fails: bool) -> int | None:
        try:
            status, answer = await self._pod.claim(
                self._verdict.user, env={"WITNESS_EXIT": "3"} if fails else {}
            )
        except aiohttp.ClientError as error:
            self._hand.said.append(f"the claim: {error!r}")
            return None
        self._hand.said.append(f"the claim: {status} {answer}")
        return status

    def _possible(self, chosen: Round, status: int | None) -> frozenset[str]:
        """The states that may come of a round. Raises `Untrue` for an answer that cannot be."""
        hand = self._hand
        claimed = chosen.opening in {"before", "during"}
        if claimed and (
            status not in {200, 500, 504, 503, None}
            or (status in {503, None} and not hand.ends_proxy)
            or (status == 200 and chosen.fails)
        ):
            raise Untrue(f"the claim was answered {status}")
        if status in {500, 504}:
            return DORMANT
        if self._on_exit == "restart" and not hand.ends_proxy:
            return READY
        return EITHER

    # What must come after it

    async def _settled(self, possible: frozenset[str]) -> str:
        """The state that the pod comes to, when everything it says of itself is true."""
        faults = ["nothing was seen"]
        try:
            async with asyncio.timeout(PATIENCE):
                while faults:
                    await self._revived()
                    state, faults = await self._verdict.faults(possible)
                    await asyncio.sleep(0.01)
        except TimeoutError:
            listed = "".join(f"\n    {fault}" for fault in faults)
            raise AssertionError(f"it does not come to {sorted(possible)}:{listed}") from None
        return state

    async def _revived(self) -> None:
        code = self._pod.proxy.process.returncode
        if code is not None:
            if not self._hand.ends_proxy:
                raise Untrue(f"the proxy has ended with {code}")
            self._verdict.strict = False
            if not await self._pod.without_orphans():
                raise Untrue("the proxy is gone, and not everybody with it")
        await self._pod.revive()

    async def _claimed(self) -> None:
        self._stayed = 0
        self._verdict.begin(self._name())
        answer = await self._pod.claim(self._verdict.user)
        if answer != (200, {"state": "ready", "error": None}):
            raise AssertionError(f"a claim that nobody disturbs is answered {answer}")
        await self._settled(READY)

    async def _vacated(self) -> None:
        """By the upstream's end, or by the proxy's where the upstream would come back."""
        if self._on_exit == "dormant":
            await self._pod.dismiss()
        else:
            await self._hand.end_proxy()
        await self._settled(DORMANT)

    def _name(self) -> str:
        return f"user-{self._number}-{self._random.getrandbits(32):08x}"

    def _report(self, what: str) -> str:
        lines = [
            f"{self._label}, round {self._number}: {what}",
            f"  {self._round}",
            *("  " + said for said in self._hand.said),
            "the upstreams there were:",
            *(f"  {life}" for life in self._pod.lives()[-6:]),
            "the processes there are:",
            *(f"  {tuple(one)}" for one in self._pod.kin()),
            "the end of the log:",
            *self._pod.tail(),
        ]
        return "\n".join(lines)
