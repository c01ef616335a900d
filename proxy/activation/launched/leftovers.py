"""Takes a plan's files away when the launcher that wrote them is gone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from proxy.launcher.errors import LaunchError
from proxy.launcher.upstream.files import Files

if TYPE_CHECKING:
    from proxy.lifecycle.plan import Plan

logger = logging.getLogger(__name__)


def undo(plan: Plan) -> None:
    """Do what it would have done at its end, by the note that it has left in the run directory."""
    try:
        Files(say=logger.warning).recover(plan.run_dir, plan.cwd)
    except LaunchError as error:
        logger.error("cannot undo what the launcher did", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
