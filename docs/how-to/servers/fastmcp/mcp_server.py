"""An MCP server with one tool, for whoever has the token."""

import os

from fastmcp import FastMCP
from fastmcp.server.auth import StaticTokenVerifier

TOKEN = os.environ.get("MCP_TOKEN")

mcp = FastMCP(
    "tools",
    auth=StaticTokenVerifier(tokens={TOKEN: {"client_id": "user", "scopes": []}})
    if TOKEN
    else None,
)


@mcp.tool
def whose() -> str:
    return f"key={os.environ.get('OPENAI_API_KEY')} data={os.environ.get('DATA_DIR')}"
