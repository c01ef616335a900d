"""An agent of Google's ADK: the server imports it with the first session."""

from . import agent as agent
