"""When to connect again: the client's side of the retry contract, without clock, randomness or socket.

One machine for each logical connection. It is told what happens, and answers what to do. `·` is no answer.

| told                 | waiting (at first) | live                   | renewing         | over |
|----------------------|--------------------|------------------------|------------------|------|
| started              | live               | live, a new one        | live             | ·    |
| ready                | ·                  | notes the first time   | ·                | ·    |
| error, goodbye       | ·                  | notes the last of each | ·                | ·    |
| ended                | ·                  | see below              | ·                | ·    |
| token_renewed        | ·                  | ·                      | waiting / wait 0 | ·    |
| token_failed         | ·                  | ·                      | waiting / wait B | ·    |

On `ended` the first of these decides: the last fatal error, the last goodbye, the close code's row, its class. First and
again are counted since the last session that was ready for 5 s; n is the number of endings since then.

| it asks for    | first                                                | again                    |
|----------------|------------------------------------------------------|--------------------------|
| never          | over / give up                                       |                          |
| now            | waiting / wait 0                                     | waiting / wait B         |
| backoff        | waiting / wait B = U(0, min(30 s, 1 s × 2ⁿ⁻¹))       | waiting / wait B         |
| after          | waiting / wait A = delay + U(0, spread), at most 1 h | waiting / wait max(A, B) |
| reauthenticate | renewing / reauthenticate                            | over / give up           |

That the opening handshake succeeded is not told: it proves nothing, as refusals come after it.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BACKOFF_BASE_MS = 1_000
BACKOFF_CAP_MS = 30_000
AFTER_CAP_MS = 3_600_000  # No server can ask for more, its spread included.
AFTER_MS = 1_000  # What `after` waits, and spreads over, when it comes without a number.
LASTING_MS = 5_000  # For how long a session has to be ready before the attempts that led to it are forgotten.

POLICIES = ("never", "now", "backoff", "after", "reauthenticate")
CATALOGUE = Path(__file__).resolve().parents[2] / "catalogue" / "catalogue.json"
ROWS: list[dict[str, Any]] = json.loads(CATALOGUE.read_text("utf-8"))["rows"]


@dataclass(frozen=True)
class Because:
    """Who decided, and what they asked for, which need not be what is done: the second `now` waits."""

    source: str  # message, goodbye, close_code or class
    code: int | None
    row: str | None
    retry: str


@dataclass(frozen=True)
class Wait:
    """Connect after a delay. `attempt` counts from 1, and starts anew once a session lasted."""

    delay_ms: int
    attempt: int
    because: Because


@dataclass(frozen=True)
class Reauthenticate:
    """Get a new token, then say `token_renewed` or `token_failed`."""

    because: Because


@dataclass(frozen=True)
class GiveUp:
    """Never connect again. Nothing is answered from now on."""

    because: Because


Decision = Wait | Reauthenticate | GiveUp


@dataclass(frozen=True)
class Asked:
    """A policy with its numbers, and where it came from."""

    because: Because
    delay_ms: int = 0
    spread_ms: int = 0


@dataclass
class Live:
    """An attempt under way, or a session."""

    ready_at_ms: float | None = None
    fatal: Asked | None = None
    goodbye: Asked | None = None


@dataclass
class Renewing:
    """A new token is being asked for."""

    because: Because


WAITING, OVER = "waiting", "over"


class RetryMachine:
    """Decides whether and when a client connects again. Each `random` is in [0, 1), and a new one."""

    def __init__(self) -> None:
        self._state: Live | Renewing | str = WAITING
        self._attempt = 0  # Endings since a session lasted.
        self._spent: set[str] = set()  # What was granted since then; each is granted once.

    def started(self) -> None:
        """An attempt to connect began. What the connection before it was told is forgotten."""
        if self._state != OVER:
            self._state = Live()

    def ready(self, now_ms: float) -> None:
        if isinstance(self._state, Live) and self._state.ready_at_ms is None:
            self._state.ready_at_ms = now_ms

    def error(self, data: dict[str, Any]) -> None:
        """The server sent an `error` with that `data`."""
        if isinstance(self._state, Live) and data.get("fatal") is True:
            # Words that say nothing about trying again leave the ones before.
            self._state.fatal = _understood("message", data) or self._state.fatal

    def goodbye(self, data: dict[str, Any]) -> None:
        """The server sent a `goodbye` with that `data`."""
        if isinstance(self._state, Live):
            self._state.goodbye = _understood("goodbye", data) or self._state.goodbye

    def ended(self, now_ms: float, code: int, random: float) -> Decision | None:
        """The connection ended or never came to be; 1005 is a Close without a code, and 1006 is none at all."""
        live = self._state
        if not isinstance(live, Live):
            return None
        if live.ready_at_ms is not None and now_ms - live.ready_at_ms >= LASTING_MS:
            self._attempt = 0
            self._spent.clear()
        self._attempt += 1
        return self._decide(live.fatal or live.goodbye or _meaning(code), random)

    def token_renewed(self) -> Decision | None:
        return self._wait(0, self._state.because) if isinstance(self._state, Renewing) else None

    def token_failed(self, random: float) -> Decision | None:
        """There is no new token; the old one is tried once more."""
        return self._wait(self._backoff(random), self._state.because) if isinstance(self._state, Renewing) else None

    def _decide(self, asked: Asked, random: float) -> Decision:
        because = asked.because
        is_first = because.retry not in self._spent
        self._spent.add(because.retry)
        backoff_ms = self._backoff(random)
        match because.retry:
            case "now":
                return self._wait(0 if is_first else backoff_ms, because)
            case "backoff":
                return self._wait(backoff_ms, because)
            case "after":
                # The spread is what is cut, not the sum: else a crowd that was told "within a day" comes back in one instant.
                delay_ms = min(asked.delay_ms, AFTER_CAP_MS)
                after_ms = delay_ms + _part(min(asked.spread_ms, AFTER_CAP_MS - delay_ms), random)
                # A server that says "in 0 s" each time must not be stormed either.
                return self._wait(after_ms if is_first else max(after_ms, backoff_ms), because)
            case "reauthenticate" if is_first:
                self._state = Renewing(because)
                return Reauthenticate(because)
            case _:
                self._state = OVER
                return GiveUp(because)

    def _backoff(self, random: float) -> int:
        return _part(min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** (self._attempt - 1)), random)

    def _wait(self, delay_ms: int, because: Because) -> Wait:
        self._state = WAITING
        return Wait(delay_ms, self._attempt, because)


def _part(ms: int, random: float) -> int:
    return math.floor(random * ms)


def _understood(source: str, data: dict[str, Any]) -> Asked | None:
    """`None` when neither the words nor the catalogue say anything about trying again."""
    name, code, word = data.get("name"), data.get("code"), data.get("retry")
    # An unknown name is somebody else's row, whatever its code is here.
    row = _row(lambda row: row["code"] == code if name is None else row["name"] == name)
    if word in POLICIES:
        because = Because(source, code, row and row["name"], word)
        delay_ms, spread_ms = _count(data.get("retry_after_ms")), _count(data.get("spread_ms"))
        return Asked(because, AFTER_MS, AFTER_MS) if delay_ms is None else Asked(because, delay_ms, spread_ms or 0)
    return row and _as_in(row, source, code)


def _meaning(code: int) -> Asked:
    """What a Close means by itself. `iana` adds the registered codes to those of `app`."""
    row = _row(lambda row: row["close"]["app"] == code) or _row(lambda row: row["close"]["iana"] == code)
    if row:
        return _as_in(row, "close_code", code)
    # Who does not know a private code must not take it for "come again".
    is_final = code == 1000 or 4000 <= code <= 4999
    return Asked(Because("class", code, None, "never" if is_final else "backoff"))


def _as_in(row: dict[str, Any], source: str, code: int | None) -> Asked:
    because = Because(source, code, row["name"], row["retry"])
    return Asked(because, row.get("retry_after_ms", 0), row.get("spread_ms", 0))


def _count(value: Any) -> int | None:
    """What a server sends as a number need not be one."""
    return value if type(value) is int and value >= 0 else None


def _row(fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    return next((row for row in ROWS if fits(row)), None)
