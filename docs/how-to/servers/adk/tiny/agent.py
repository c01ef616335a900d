"""It answers without a model."""

import os
from collections.abc import AsyncGenerator

from google.adk.agents import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events import Event
from google.genai import types

STYLE = os.environ.get("AGENT_STYLE", "none")  # read when the agent is imported


class Tiny(BaseAgent):
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        text = f"style={STYLE} key={os.environ.get('GOOGLE_API_KEY')}"
        content = types.Content(role="model", parts=[types.Part(text=text)])
        yield Event(author=self.name, invocation_id=ctx.invocation_id, content=content)


root_agent = Tiny(name="tiny")
