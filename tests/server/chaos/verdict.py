"""What must be true of a pod, whatever was done to it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.server.chaos.pod import STANDING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.server.chaos.pod import Life, Pod


class Untrue(AssertionError):  # noqa: N818  what is untrue is the news
    """Not to be waited for: it must never have been so."""


class Verdict:
    """Judges `pod`, whose upstreams since `since` must all be of `user`."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self.user = ""
        self.since = 0
        # Whether a state that is just being told must be true at this moment. Not while somebody
        # is on the way to find out: after the end of a container.
        self.strict = True

    def begin(self, user: str) -> None:
        """From here on every start is `user`'s."""
        self.judge_lives()
        self.user, self.since = user, len(self._pod.lives())

    def judge_lives(self) -> None:
        """Raise `Untrue` for an upstream that must not have been."""
        for life in self._pod.lives()[self.since :]:
            if life.users != [self.user] or not life.alone:
                raise Untrue(f"{life}, in the time of {self.user}")

    def judge_answer(self, answer: dict[str, Any] | None) -> None:
        """Raise `Untrue` for what a client was answered by somebody else's upstream."""
        if answer is not None and answer["users"] != [self.user]:
            raise Untrue(f"{answer['users']} answers, in the time of {self.user}")

    async def faults(self, wanted: frozenset[str]) -> tuple[str, list[str]]:
        """The state, one of `wanted`, and what is not as it says. Raises `Untrue`."""
        self.judge_lives()
        try:
            details = await self._pod.details()
            ready = (await self._pod.proxy.get("/ready"))[0]
            state = str(details["state"])
            found = list(self._of_state(state, details))
        except aiohttp.ClientError as error:
            return "", [f"the proxy does not answer: {error}"]
        if state not in wanted:
            found.append(f"the state is {state}: {details}")
        if ready != 200:
            found.append(f"/ready is {ready}")
        if state == "ready":
            answer = await self._pod.asked()
            self.judge_answer(answer)
            if answer is None or answer["pid"] != details["pid"]:
                found.append(f"{details['pid']} is said to serve; the answer: {answer}")
        return state, found + list(self._of_processes(state))

    def _of_state(self, state: str, details: dict[str, Any]) -> Iterator[str]:
        living = [life for life in self._pod.lives() if life.process.alive]
        if state == "dormant":
            found = [*map(str, living), *self._left_files()]
            if self.strict and found:
                raise Untrue(f"the state is dormant, and there is {found}")
            yield from found
            if details["pid"] is not None or details["phase"] is not None:
                yield f"dormant has a process or a phase: {details}"
        elif state == "ready":
            yield from self._of_the_ready(details["pid"], living)

    def _of_the_ready(self, pid: int, living: Sequence[Life]) -> Iterator[str]:
        if [life.process.pid for life in living] != [pid]:
            yield f"{pid} is said to live; there live {[str(life) for life in living]}"
        texts = self._pod.files()
        for path in ("run/user.json", "place/server.json"):
            if self.user not in texts.get(path, ""):
                yield f"{path} is not {self.user}'s: {texts.get(path)}"

    def _left_files(self) -> Iterator[str]:
        expected = {str(self._pod.place.relative_to(self._pod.directory)): STANDING}
        found = self._pod.files()
        if found != expected:
            yield f"files: {found}"
        # The one that was found when the pod came up is the deployment's.
        if self._pod.run_dir.exists():
            yield "the run directory"

    def _of_processes(self, state: str) -> Iterator[str]:
        kin = self._pod.kin()
        count = Counter(one.role for one in kin)
        exact = {"proxy": 1, "upstream": state == "ready"}
        # What was lost comes back by itself, after a rest.
        most = {"launcher": 1, "forkserver": 1, "middle": 1, "waiting": 1}
        most["upstream's"] = most["upstream"] = state == "ready"
        right = all(count[role] == number for role, number in exact.items()) and all(
            count[role] <= most.get(role, exact.get(role, 0)) for role in count
        )
        if not right:
            yield f"processes: {[tuple(one) for one in kin]}"
