"""Conversations on disk: one directory each, one file per record, each written whole or not at all.

    <conversations_path>/<id>/meta.json
    <conversations_path>/<id>/event-00000.json …

A record is `{"signature": …, "body": …}`. With a secret key the signature is an HMAC over the
record's place and body, so that a file of another user's volume, or one moved elsewhere, is
noticed and not served.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import shutil
import uuid
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

META: Final = "meta.json"


class ArchiveError(Exception):
    """A record cannot be read, or cannot be trusted."""


def event_name(index: int) -> str:
    return f"event-{index:05d}.json"


class Archive:
    """The directory `path`; `keys[0]` signs, every key of `keys` is accepted when reading."""

    def __init__(self, path: Path, keys: tuple[str, ...]) -> None:
        self._path = path
        self._keys = tuple(key.encode() for key in keys)

    def open(self) -> None:
        """Make the directory. Raises `OSError` when it cannot be written to."""
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = self._path / f".probe-{os.getpid()}"
        _write_whole(probe, b"")
        probe.unlink()

    def save(self, conversation: uuid.UUID, name: str, body: dict[str, Any]) -> None:
        """Store one record durably. Raises `OSError`; the previous content is intact then."""
        directory = self._path / str(conversation)
        directory.mkdir(mode=0o700, exist_ok=True)
        record = {"signature": self._sign(f"{conversation}/{name}", body), "body": body}
        _write_whole(directory / name, json.dumps(record).encode())

    def discard(self, conversation: uuid.UUID) -> None:
        """Take a conversation back, as far as that is possible."""
        shutil.rmtree(self._path / str(conversation), ignore_errors=True)

    def load(self) -> list[tuple[uuid.UUID, dict[str, Any], list[dict[str, Any]]]]:
        """Every trusted conversation as (id, meta, events); the others are named in the log."""
        found = []
        for directory in sorted(self._path.iterdir()):
            try:
                conversation = uuid.UUID(directory.name)
            except ValueError:
                continue  # not ours
            try:
                meta = self._read(conversation, META)
                count = sum(1 for _ in directory.glob("event-*.json"))
                events = [self._read(conversation, event_name(index)) for index in range(count)]
            except (ArchiveError, OSError) as error:
                logger.warning("cannot serve conversation %s: %s", conversation, error)
                continue
            found.append((conversation, meta, events))
        return found

    def _read(self, conversation: uuid.UUID, name: str) -> dict[str, Any]:
        try:
            record = json.loads((self._path / str(conversation) / name).read_bytes())
            signature, body = record["signature"], record["body"]
        except (ValueError, TypeError, KeyError) as error:
            raise ArchiveError(f"{name} is damaged: {error!r}") from None
        if self._keys and not self._trusted(f"{conversation}/{name}", body, signature):
            raise ArchiveError(f"{name} was not written with one of our secret keys")
        if not isinstance(body, dict):
            raise ArchiveError(f"{name} is damaged: its body is no object")
        return body

    def _sign(self, place: str, body: Any) -> str | None:
        return _hmac(self._keys[0], place, body) if self._keys else None

    def _trusted(self, place: str, body: Any, signature: Any) -> bool:
        return isinstance(signature, str) and any(
            hmac.compare_digest(
                _hmac(key, place, body).encode(), signature.encode(errors="replace")
            )
            for key in self._keys
        )


def _hmac(key: bytes, place: str, body: Any) -> str:
    message = f"{place}\n{json.dumps(body, sort_keys=True)}"
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()


def _write_whole(path: Path, content: bytes) -> None:
    """Write beside, sync, rename, sync the directory: a crash leaves the old file or the new."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        with open(draft, "wb", opener=_private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
