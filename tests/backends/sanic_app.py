"""A back end with Sanic, as its authors write one: it knows nothing of what stands in front of it.

Usage: python sanic_app.py PORT
"""

import sys

from sanic import Sanic
from sanic.exceptions import SanicException
from sanic.response import json

app = Sanic("back_end")


@app.middleware("request")
async def authenticate(request):
    """The refusal of "How to send error in websocket?"."""
    if request.path == "/feed" and not request.args.get("token"):
        return json("Please authenticate yourself", status=401)


@app.websocket("/feed")
async def feed(request, ws):
    async for message in ws:
        await ws.send(message)


@app.websocket("/closes")
async def closes(request, ws):
    """What it came to there."""
    await ws.close(code=1011, reason='{"code": 401, "error": "Please authenticate yourself."}')


@app.websocket("/fails")
async def fails(request, ws):
    await ws.recv()
    raise SanicException("a handler failed")


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]), single_process=True, access_log=False, motd=False)
