"""A graph of one step, whose style and key are the user's."""

import os
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

STYLE = os.environ.get("AGENT_STYLE", "none")  # read when the graph is imported


class State(TypedDict, total=False):
    text: str
    out: str


def step(state: State) -> State:
    key = os.environ.get("OPENAI_API_KEY")
    return {"out": f"{state.get('text')} style={STYLE} key={key}"}


builder = StateGraph(State)
builder.add_node("step", step)
builder.add_edge(START, "step")
builder.add_edge("step", END)
graph = builder.compile()
