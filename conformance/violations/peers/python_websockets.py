"""python-websockets, after its documentation: `python_websockets.py server PORT`, or `client URL COUNT` for URL/0, URL/1, …."""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(websocket):
    try:
        async for message in websocket:
            await websocket.send(message)
    except ConnectionClosed:
        pass


async def client(url):
    async with connect(url, compression=None) as websocket:
        await echo(websocket)


async def main(role, where, count="0"):
    if role == "server":
        async with serve(echo, "127.0.0.1", int(where), max_size=64 * 1024) as server:
            await server.serve_forever()
    else:
        await asyncio.gather(*(client(f"{where}/{n}") for n in range(int(count))), return_exceptions=True)


asyncio.run(main(*sys.argv[1:]))
