"""A server that takes its user's credentials while it runs, as opencode does.

`PUT /auth/NAME` keeps a JSON body for as long as the process lives, `GET /self` tells everything.
What it does instead of that is in the file `--mood` names: {"auth": ..., "boot": ...}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

parser = argparse.ArgumentParser()
parser.add_argument("--unix", required=True)
parser.add_argument("--mood", required=True, type=Path)
parser.add_argument("--greeting", default="")
arguments = parser.parse_args()
told: list[dict[str, Any]] = []


def mood(about: str) -> str:
    try:
        return str(json.loads(arguments.mood.read_text()).get(about, ""))
    except FileNotFoundError:
        return ""


async def ready(_request: web.Request) -> web.Response:
    how = mood("boot")
    silent = how == "silent" or (how == "choosy" and os.environ.get("TOKEN") != "the-users")
    return web.Response(status=503 if silent else 200)


async def auth(request: web.Request) -> web.StreamResponse:
    how, text = mood("auth"), await request.text()
    if how == "die":
        print("the last words of the server", file=sys.stderr, flush=True)
        os._exit(4)
    told.append(
        {
            "target": request.raw_path,
            "method": request.method,
            "headers": dict(request.headers),
            "body": text,
        }
    )
    if how == "hang":
        arguments.mood.with_suffix(".json.told").write_text(str(os.getpid()))
        await asyncio.Event().wait()
    if how == "redirect":
        raise web.HTTPFound("/elsewhere")
    if how == "refuse":
        return web.json_response({"no": json.loads(text)["key"]}, status=400)
    return web.json_response({"taken": how != "deaf"})


async def about(_request: web.Request) -> web.Response:
    return web.json_response(
        {
            "pid": os.getpid(),
            "told": told,
            "env": dict(os.environ),
            "greeting": arguments.greeting,
        }
    )


with arguments.mood.with_suffix(".starts").open("a") as starts:
    print(json.dumps({"pid": os.getpid(), "env": dict(os.environ)}), file=starts)
if mood("boot") == "leaves":
    left = subprocess.Popen(["sleep", "300"], start_new_session=True)
    arguments.mood.with_suffix(".left").write_text(str(left.pid))
if mood("boot") == "die" or (mood("boot") == "strict" and os.environ.get("TOKEN") != "the-users"):
    print("cannot be without a user", file=sys.stderr)
    raise SystemExit(5)
app = web.Application()
app.router.add_get("/ready", ready)
app.router.add_get("/self", about)
app.router.add_route("*", "/auth/{provider}", auth)
web.run_app(app, path=arguments.unix, print=None)
