"""Sits in a room, prints what it is told, and comes back as it is told.

    pip install websockets
    saywhy serve &
    python3 example.py ws://127.0.0.1:8080/ws lobby alice

Its tokens are those that development mode mints for the asking. It ends with 1 when it may not come back.
"""

import asyncio
import json
import random
import sys
import time
import urllib.parse
import urllib.request
from typing import Any

from saywhy_retry import GiveUp, Reauthenticate, RetryMachine, Wait
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus


class Guest:
    """A member of one room, over as many connections as it takes."""

    def __init__(self, url: str, room: str, user: str) -> None:
        self.url, self.room, self.user = url, room, user
        self.retry = RetryMachine()
        self.since: dict[str, Any] | None = None  # Where in the room's log we are.
        self.why = ""  # The last word of the connection that ended.

    async def stay(self) -> None:
        """Returns when it may not come back."""
        token = await self.token()
        while True:
            self.why = "The connection was lost"
            self.retry.started()
            code = await self.attempt(token)
            decision = self.retry.ended(now_ms(), code, random.random())
            if isinstance(decision, Reauthenticate):
                print(f"{self.why}; asking for a new token")
                try:
                    token = await self.token()
                    decision = self.retry.token_renewed()
                except OSError:
                    decision = self.retry.token_failed(random.random())
            match decision:
                case Wait(delay_ms, attempt):
                    print(f"{self.why}; attempt {attempt} in {delay_ms} ms")
                    await asyncio.sleep(delay_ms / 1_000)
                case GiveUp():
                    return print(f"{self.why}; not trying again")

    async def attempt(self, token: str) -> int:
        """One connection, up to its close code; 1006 where there was none."""
        headers = {"Authorization": f"Bearer {token}"}
        try:
            # Whoever offers this is refused with a message and a Close.
            async with connect(self.url, subprotocols=["saywhy.v1"], additional_headers=headers) as socket:
                async for text in socket:
                    await self.hear(socket, json.loads(text))
            return socket.close_code or 1006
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
        except InvalidStatus as refused:
            # A proxy, or a server that is too busy even for that; a problem document has what an error message has.
            try:
                self.last_word({**json.loads(refused.response.body), "fatal": True}, self.retry.error)
            except (ValueError, TypeError):
                self.why = f"HTTP {refused.response.status_code}"
            return 1006
        except (OSError, InvalidHandshake):
            return 1006

    async def hear(self, socket: ClientConnection, message: dict[str, Any]) -> None:
        data, request_id = message["data"], message["meta"].get("request_id")
        match message["type"]:
            case "ready":
                self.retry.ready(now_ms())
                print(f"ready: {data['user']}, {data['connection_id']}")
                await self.join(socket)
            case "error" if data["fatal"]:
                self.last_word(data, self.retry.error, request_id)
            case "goodbye":
                self.last_word(data, self.retry.goodbye, request_id)
            case "error":
                print(f"{data['name']}: {data['message']} ({request_id})")
                if data["name"] == "history_lost" and self.since:
                    self.since = None
                    await self.join(socket)
            case "ok" if self.since is None:
                self.since = data["position"]
                print(f"joined: {self.room}")
            case "message":
                self.since = data["position"]
                print(f"{data['from']}: {json.dumps(data['body'], ensure_ascii=False)}")

    async def join(self, socket: ClientConnection) -> None:
        since = {"since": self.since} if self.since else {}
        join = {"type": "join", "data": {"room": self.room, **since}, "meta": {"request_id": "join"}}
        await socket.send(json.dumps(join))

    def last_word(self, data: dict[str, Any], note: Any, request_id: str | None = None) -> None:
        note(data)
        self.why = f"{data['name']}: {data.get('message') or data.get('detail')} ({request_id or data.get('request_id')})"

    async def token(self) -> str:
        mint = urllib.parse.urljoin(self.url.replace("ws", "http", 1), "/dev/token")
        wanted = {"sub": self.user, "expires_in_s": 3_600, "rooms": {"*": ["join", "send", "history", "members"]}}
        request = urllib.request.Request(mint, json.dumps(wanted).encode())
        with await asyncio.to_thread(urllib.request.urlopen, request) as response:
            return json.load(response)["token"]


def now_ms() -> float:
    return time.monotonic() * 1_000


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    try:
        asyncio.run(Guest(*sys.argv[1:4]).stay())
        sys.exit(1)
    except KeyboardInterrupt:
        pass
