"""A FastAPI application that knows its caller by a token."""

import os
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException

TOKEN = os.environ.get("API_TOKEN", "")

app = FastAPI()


@app.get("/healthz")
def healthz() -> dict[str, bool]:
    return {"ok": True}


@app.get("/who")
def who(authorization: Annotated[str, Header()] = "") -> dict[str, str | None]:
    if not TOKEN or authorization != f"Bearer {TOKEN}":
        raise HTTPException(401)
    return {"key": os.environ.get("OPENAI_API_KEY"), "data": os.environ.get("DATA_DIR")}
