"""What an init delivers as files: written, undone, remembered while somebody may run with it."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from proxy.activation.signalled.shellfile import shell_file
from proxy.lifecycle.plan import PlannedFile

if TYPE_CHECKING:
    from proxy.lifecycle.plan import Plan

logger = logging.getLogger(__name__)

ENVIRONMENT: Final = "environment"
_UNKNOWN: Final = b"what an earlier proxy delivered"  # in the place of a digest, and equal to none


class PlanFiles(Protocol):
    """Writes files, all or none, and undoes them. Raises `ActivationError`."""

    def write(self, files: list[PlannedFile], run_dir: str) -> None: ...

    def undo(self) -> None: ...

    def clear(self, run_dir: str) -> None:
        """Undo what a proxy that was killed has left."""


class Delivery:
    """One at a time, in `run_dir`; the environment is the last file to be written."""

    def __init__(self, run_dir: str, files: PlanFiles) -> None:
        self._files = files
        self._run_dir = run_dir
        self._delivered: bytes | None = None  # digest of what a process may read
        self._read: bytes | None = None  # and of what one may have read, whose end was not seen

    def recover(self) -> bool:
        """Undo what a predecessor that was killed has left behind; whether there was anything."""
        if not Path(self._run_dir, ENVIRONMENT).exists():
            return False
        logger.warning("undoing what an earlier proxy delivered")
        self._delivered = _UNKNOWN
        self._files.clear(self._run_dir)
        return True

    def write(self, plan: Plan) -> None:
        """Raises `ActivationError`; nothing is there then."""
        files = _files(plan)
        self._delivered = _digest(files)
        self._files.write(files, plan.run_dir)

    def undo(self) -> bool:
        """Take it back; whether there was anything. Whoever has read it may live on."""
        if self._delivered is None:
            return False
        self._read, self._delivered = self._delivered, None
        self._files.undo()
        return True

    def forget(self) -> None:
        """Whoever may have read what was taken back has ended."""
        self._read = None

    def may_be_known(self, plan: Plan) -> bool:
        """Whether somebody may run with what another plan than this has delivered."""
        return self._read not in {None, _digest(_files(plan))}


def _files(plan: Plan) -> list[PlannedFile]:
    # The base files of the other container cannot be read from here.
    files = [dataclasses.replace(file, base_file=None) for file in plan.files]
    path = str(Path(plan.run_dir, ENVIRONMENT))
    return [*files, PlannedFile(path, shell_file(plan), 0o600, None)]


def _digest(files: list[PlannedFile]) -> bytes:
    told = hashlib.sha256()
    for file in files:
        for part in (file.path.encode(errors="surrogateescape"), file.content):
            told.update(b"%d:" % len(part) + part)
    return told.digest()
