"""One connection, and what became of it, as a line of JSON."""

import json
import sys

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.sync.client import connect

seen = {"messages": []}
try:
    with connect(sys.argv[1], open_timeout=3, close_timeout=1, max_size=None) as socket:
        seen["status"] = 101
        while True:
            message = socket.recv(timeout=3)
            seen["messages"].append(message if isinstance(message, str) else "bytes")
except InvalidStatus as refused:
    seen["status"] = refused.response.status_code
except ConnectionClosed as closed:
    if closed.rcvd is None:
        seen["error"] = "no close frame"
        seen["code"] = 1006
    else:
        seen["code"], seen["reason"] = closed.rcvd.code, closed.rcvd.reason
except Exception as error:
    seen["error"] = type(error).__name__
print(json.dumps(seen))
