"""The sample agent: conversations as append-only lists of events, and the runs that extend them.

Everything a client sees is an event, and the status is read off the last one that names it; so
what is on disk, what a stream replays and what the status says cannot disagree. The events have
the form of the OpenHands agent server's. On disk a conversation is a file of JSON lines.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
import uuid
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

MAX_WAIT: Final = 60.0  # seconds: the `wait` tool must not hold a run for ever

Event = dict[str, Any]


class RefusedError(Exception):
    """A request is not met and nothing is stored; `status` and the text are the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _event(kind: str, source: str, **fields: Any) -> Event:
    now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    return {"id": str(uuid.uuid4()), "timestamp": now, "kind": kind, "source": source, **fields}


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
    """Its events, kept in `file` if there is one."""

    def __init__(self, ident: uuid.UUID, file: Path | None) -> None:
        self.id = ident
        self.events: list[Event] = []
        self.closed = False
        self.fault: str | None = None  # why the last run could not go on
        self._file = file
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
        status = {"execution_status": self.status, "fault": self.fault}
        return {"id": str(self.id), "events": len(self.events)} | status

    def append(self, *events: Event) -> None:
        """Store, then show. Raises `OSError`."""
        if self._file is not None:
            with open(self._file, "a", opener=_private) as file:
                file.writelines(f"{json.dumps(event)}\n" for event in events)
        self.events += events
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


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Conversations:
    """All conversations and their runs, at most `max_runs` at a time; kept in `directory`."""

    def __init__(self, directory: Path | None, max_runs: int) -> None:
        self._directory = directory
        self._max_runs = max_runs
        self._all: dict[uuid.UUID, Conversation] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Load what is on disk. Raises `OSError` when the directory cannot be made."""
        if self._directory is None:
            return
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in sorted(self._directory.glob("*.jsonl")):
            try:
                conversation = Conversation(uuid.UUID(file.stem), file)
                conversation.events = [json.loads(line) for line in file.read_text().splitlines()]
                if conversation.status == "running":  # the server that ran it is gone
                    conversation.append(_status("paused"))
            except (OSError, ValueError) as error:
                logger.warning("cannot serve conversation %s: %s", file.stem, error)
                continue
            self._all[conversation.id] = conversation

    def get(self, ident: uuid.UUID) -> Conversation | None:
        return self._all.get(ident)

    def all(self) -> list[Conversation]:
        return list(self._all.values())

    def create(self, text: str | None) -> Conversation:
        """A conversation, begun with the user message `text` if there is one.

        Raises `RefusedError` or `OSError`; there is no conversation then.
        """
        ident = uuid.uuid4()
        file = self._directory / f"{ident}.jsonl" if self._directory is not None else None
        conversation = Conversation(ident, file)
        if text is None:
            conversation.append()  # makes the file
        else:
            self.say(conversation, text)
        self._all[ident] = conversation
        return conversation

    def say(self, conversation: Conversation, text: str) -> None:
        """Hear a user message and start the run that answers it.

        Raises `RefusedError` or `OSError`.
        """
        running = [each for each in self._all.values() if each.status == "running"]
        if conversation in running:
            raise RefusedError(409, f"conversation {conversation.id} is already running")
        if len(running) >= self._max_runs:
            busy = f"{len(running)} of {self._max_runs} runs (max_concurrent_runs) are busy"
            raise RefusedError(429, busy)
        conversation.append(_message("user", text), _status("running"))
        conversation.fault = None
        task = asyncio.create_task(self._run(conversation, text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop the runs and end every reader. A run cut off here is `paused` after a restart."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for conversation in self._all.values():
            conversation.close()

    async def _run(self, conversation: Conversation, text: str) -> None:
        tool, arguments = choose_tool(text)
        call = {"tool_name": tool, "tool_call_id": str(uuid.uuid4())}
        try:
            conversation.append(_event("ActionEvent", "agent", action=arguments, **call))
            result = await use_tool(tool, arguments)
            conversation.append(
                _event("ObservationEvent", "environment", observation=result, **call),
                _message("agent", f"{tool}: {result}"),
                _status("finished"),
            )
        except OSError as error:
            # Not told through an event: events are what cannot be stored.
            conversation.fault = f"cannot store the event: {error.strerror}"
            logger.warning("conversation %s: %s", conversation.id, conversation.fault)
