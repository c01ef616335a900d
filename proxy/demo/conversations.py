"""The sample agent: conversations as append-only lists of events, and the runs that extend them.

Everything a client sees is an event, and the status is read off the last one that names it; so
what is on disk, what a stream replays and what the status says cannot disagree. The events have
the form of the OpenHands agent server's.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import uuid
from typing import TYPE_CHECKING, Any, Final

from proxy.demo.archive import META, event_name

if TYPE_CHECKING:
    from proxy.demo.archive import Archive

logger = logging.getLogger(__name__)

TOOLS: Final = ("count", "reverse", "wait")
MAX_WAIT: Final = 60.0  # seconds: the `wait` tool must not hold a run for ever

Event = dict[str, Any]


class RunRefusedError(Exception):
    """A run cannot start; `status` is the HTTP status that says why. Nothing was stored."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def _event(kind: str, source: str, **fields: Any) -> Event:
    head = {"id": str(uuid.uuid4()), "timestamp": _now(), "kind": kind, "source": source}
    return head | fields


def _message(source: str, text: str) -> Event:
    role = "user" if source == "user" else "assistant"
    content = [{"type": "text", "text": text}]
    return _event("MessageEvent", source, llm_message={"role": role, "content": content})


def _status(value: str) -> Event:
    return _event(
        "ConversationStateUpdateEvent", "environment", key="execution_status", value=value
    )


def choose_tool(text: str) -> tuple[str, dict[str, Any]]:
    """What the agent does with a message, as (tool, arguments); the same text, the same choice."""
    verb, _, rest = text.strip().partition(" ")
    if verb == "reverse" and rest:
        return "reverse", {"text": rest}
    if verb == "wait":
        try:
            # In this order NaN, which is neither less nor more, becomes 0.
            return "wait", {"seconds": max(0.0, min(float(rest), MAX_WAIT))}
        except ValueError:
            pass  # "wait for me" is just a sentence
    return "count", {"text": text}


async def use_tool(tool: str, arguments: dict[str, Any]) -> str:
    if tool == "wait":
        await asyncio.sleep(arguments["seconds"])
        return f"waited {arguments['seconds']:g} s"
    text: str = arguments["text"]
    if tool == "reverse":
        return text[::-1]
    return f"{len(text.split())} words, {len(text)} characters"


class Conversation:
    def __init__(self, ident: uuid.UUID, created_at: str, archive: Archive | None) -> None:
        self.id = ident
        self.created_at = created_at
        self.events: list[Event] = []
        self.closed = False
        self.fault: str | None = None  # why the last run could not go on
        self._archive = archive
        self._changed = asyncio.Event()

    @property
    def status(self) -> str:
        if self.fault:
            return "error"
        for event in reversed(self.events):
            if event.get("key") == "execution_status":
                return str(event["value"])
        return "idle"

    def info(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "created_at": self.created_at,
            "execution_status": self.status,
            "fault": self.fault,
            "events": len(self.events),
        }

    async def append(self, event: Event) -> None:
        """Store, then show: nobody sees an event that a crash could take back.

        Only one run extends a conversation at a time, so that the order needs no lock.
        """
        if self._archive is not None:
            name = event_name(len(self.events))
            await asyncio.to_thread(self._archive.save, self.id, name, event)
        self.events.append(event)
        self._wake()

    async def news(self, start: int, patience: float) -> list[Event] | None:
        """The events from index `start` on, as soon as there are any.

        Empty when `patience` (seconds) passed without one, None when there will be no more.
        Readers keep an index, not a queue: a slow one costs no memory.
        """
        if start >= len(self.events) and not self.closed:
            try:
                async with asyncio.timeout(patience):
                    await self._changed.wait()
            except TimeoutError:
                return []
        return self.events[start:] or (None if self.closed else [])

    def close(self) -> None:
        """End every reader once it has seen all events."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def __repr__(self) -> str:
        return f"<Conversation {self.id} {self.status} events={len(self.events)}>"


class Conversations:
    """All conversations and their runs, at most `max_runs` at a time."""

    def __init__(self, archive: Archive | None, max_runs: int) -> None:
        self._archive = archive
        self._max_runs = max_runs
        self._all: dict[uuid.UUID, Conversation] = {}
        self._running: set[uuid.UUID] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Load what is on disk. Raises `OSError` when the directory cannot be used."""
        if self._archive is None:
            return
        await asyncio.to_thread(self._archive.open)
        for ident, meta, events in await asyncio.to_thread(self._archive.load):
            conversation = Conversation(ident, str(meta.get("created_at")), self._archive)
            conversation.events = events
            self._all[ident] = conversation
            if conversation.status == "running":  # the server that ran it is gone
                await conversation.append(_status("paused"))

    def get(self, ident: uuid.UUID) -> Conversation | None:
        return self._all.get(ident)

    def all(self) -> list[Conversation]:
        return sorted(self._all.values(), key=lambda each: (each.created_at, each.id))

    async def create(self, text: str | None) -> Conversation:
        """A conversation, begun with the user message `text` if there is one.

        Raises `RunRefusedError` or `OSError`; there is no conversation then.
        """
        conversation = Conversation(uuid.uuid4(), _now(), self._archive)
        if text is not None:
            self._claim(conversation)
        try:
            if self._archive is not None:
                meta = {"created_at": conversation.created_at}
                await asyncio.to_thread(self._archive.save, conversation.id, META, meta)
            if text is not None:
                await self._begin(conversation, text)
        except BaseException:
            self._running.discard(conversation.id)
            if self._archive is not None:
                self._archive.discard(conversation.id)
            raise
        self._all[conversation.id] = conversation
        return conversation

    async def say(self, conversation: Conversation, text: str) -> None:
        """Hear a user message and start the run that answers it; returns when it is stored.

        Raises `RunRefusedError` or `OSError`.
        """
        self._claim(conversation)
        await self._begin(conversation, text)

    async def close(self) -> None:
        """Stop the runs and end every reader. A run cut off here is `paused` after a restart."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for conversation in self._all.values():
            conversation.close()

    def _claim(self, conversation: Conversation) -> None:
        """Take a run's place before the first await, so that two requests cannot both have it."""
        if conversation.id in self._running:
            raise RunRefusedError(409, f"conversation {conversation.id} is already running")
        if len(self._running) >= self._max_runs:
            raise RunRefusedError(
                429, f"{len(self._running)} of {self._max_runs} runs (max_concurrent_runs) are busy"
            )
        self._running.add(conversation.id)

    async def _begin(self, conversation: Conversation, text: str) -> None:
        try:
            await conversation.append(_message("user", text))
            await conversation.append(_status("running"))
            conversation.fault = None
        except BaseException:
            self._running.discard(conversation.id)
            raise
        task = asyncio.create_task(self._run(conversation, text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, conversation: Conversation, text: str) -> None:
        try:
            tool, arguments = choose_tool(text)
            call = {"tool_name": tool, "tool_call_id": str(uuid.uuid4())}
            await conversation.append(_event("ActionEvent", "agent", action=arguments, **call))
            result = await use_tool(tool, arguments)
            await conversation.append(
                _event("ObservationEvent", "environment", observation=result, **call)
            )
            await conversation.append(_message("agent", f"{tool}: {result}"))
            await conversation.append(_status("finished"))
        except OSError as error:
            # Not told through an event: events are what cannot be stored.
            conversation.fault = f"cannot store the event: {error.strerror}"
            logger.warning("conversation %s: %s", conversation.id, conversation.fault)
        finally:
            self._running.discard(conversation.id)
