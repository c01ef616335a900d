"""The OpenHands SDK's own remote client, run by the upstream's interpreter.

Reads {"host", "api_key", "working_dir", "model", "base_url", "model_key", "text"} from standard
input; prints one JSON object as its last line.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    # Here: these packages are in the upstream's environment, not in the tests'.
    from openhands.sdk import LLM, Agent, Conversation, Workspace  # type: ignore  # noqa: PGH003, PLC0415
    from openhands.sdk.conversation import response_utils  # type: ignore  # noqa: PGH003, PLC0415
    from pydantic import SecretStr  # noqa: PLC0415

    asked = json.load(sys.stdin)
    llm = LLM(
        usage_id="agent",
        model=asked["model"],
        base_url=asked["base_url"],
        api_key=SecretStr(asked["model_key"]),
    )
    workspace = Workspace(
        host=asked["host"], api_key=asked["api_key"], working_dir=asked["working_dir"]
    )
    pushed: list[Any] = []
    conversation = Conversation(
        agent=Agent(llm=llm, tools=[]),
        workspace=workspace,
        callbacks=[pushed.append],
        delete_on_close=False,
    )
    try:
        conversation.send_message(asked["text"])
        conversation.run()
        ran = workspace.execute_command("echo from-the-workspace")
        print(
            json.dumps(
                {
                    "class": type(conversation).__name__,
                    "workspace": type(workspace).__name__,
                    "id": str(conversation.id),
                    "status": conversation.state.execution_status.value,
                    "answer": response_utils.get_agent_final_response(conversation.state.events),
                    "pushed": sorted({type(event).__name__ for event in pushed}),
                    "command": ran.stdout.strip(),
                }
            )
        )
    finally:
        conversation.close()


if __name__ == "__main__":
    main()
