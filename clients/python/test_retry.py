"""The retry machine against the vectors that every client has to pass: `python3 -m unittest` in this folder."""

import json
import types
import unittest
from dataclasses import asdict
from pathlib import Path
from typing import Any

import saywhy_retry

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "conformance" / "retry.json").read_text("utf-8"))

# Rules, each broken in one way. The vectors have to notice every one of them.
MUTATIONS = {
    "the backoff has no ceiling": ("min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** (self._attempt - 1))", "BACKOFF_BASE_MS * 2 ** (self._attempt - 1)"),
    "the first ceiling is 2 s": ("(self._attempt - 1)", "self._attempt"),
    "a wait is rounded up": ("math.floor(random * ms)", "math.ceil(random * ms)"),
    "a session lasted after 4999 ms": ("LASTING_MS = 5_000", "LASTING_MS = 4_999"),
    "a session lasted after 5001 ms": ("LASTING_MS = 5_000", "LASTING_MS = 5_001"),
    "being ready at all resets the attempts": (" and now_ms - live.ready_at_ms >= LASTING_MS", ""),
    "the last ready counts": (" and self._state.ready_at_ms is None", ""),
    "what was granted once is granted again": ("self._spent.add(because.retry)", ""),
    "a session that lasted grants nothing anew": ("self._spent.clear()", ""),
    "the goodbye comes before the error": ("live.fatal or live.goodbye", "live.goodbye or live.fatal"),
    "the close code comes first": ("live.fatal or live.goodbye or _meaning(code)", "_meaning(code)"),
    "a reply counts as the last word": (' and data.get("fatal") is True', ""),
    "the first error counts": ('_understood("message", data) or self._state.fatal', 'self._state.fatal or _understood("message", data)'),
    "words that say nothing erase those before": ('_understood("message", data) or self._state.fatal', '_understood("message", data)'),
    "`now` is always at once": ("0 if is_first else backoff_ms", "0"),
    "`after` is always obeyed": ("after_ms if is_first else max(after_ms, backoff_ms)", "after_ms"),
    "the hour cuts the sum": ("delay_ms + _part(min(asked.spread_ms, AFTER_CAP_MS - delay_ms), random)", "min(AFTER_CAP_MS, delay_ms + _part(asked.spread_ms, random))"),
    "`after` without numbers is at once": ("AFTER_MS = 1_000", "AFTER_MS = 0"),
    "a missing spread is 1 s": ("spread_ms or 0)", "spread_ms or 1_000)"),
    "a name is not looked at": ('row["code"] == code if name is None else row["name"] == name', 'row["code"] == code'),
    "an unknown word is obeyed": ("if word in POLICIES:", "if word:"),
    "an unknown private code is tried again": (" or 4000 <= code <= 4999", ""),
    "1000 is tried again": ("code == 1000 or ", ""),
    "the registered codes mean nothing": (' or _row(lambda row: row["close"]["iana"] == code)', ""),
    "a new token is always asked for": ('case "reauthenticate" if is_first:', 'case "reauthenticate":'),
    "a failed token is tried at once": ("self._wait(self._backoff(random), self._state.because)", "self._wait(0, self._state.because)"),
    "it comes back after it gave up": ("self._state = OVER", "self._state = WAITING"),
}


def fed(machine: Any, step: dict[str, Any]) -> Any:
    """The answer to one step, in the words of the vectors."""
    event, now_ms, random = step["event"], step["now_ms"], step.get("random", float("nan"))
    match event["type"]:
        case "open":
            return None
        case "started":
            machine.started()
            return None
        case "ready":
            machine.ready(now_ms)
            return None
        case "error":
            machine.error(event["data"])
            return None
        case "goodbye":
            machine.goodbye(event["data"])
            return None
        case "ended":
            decision = machine.ended(now_ms, event["code"], random)
        case "token_renewed":
            decision = machine.token_renewed()
        case "token_failed":
            decision = machine.token_failed(random)
    if decision is None:
        return None
    words = {"Wait": "wait", "Reauthenticate": "reauthenticate", "GiveUp": "give_up"}
    return {"decision": words[type(decision).__name__], **asdict(decision)}


def disagreements(retry: types.ModuleType) -> list[str]:
    """The steps at which a machine does not answer what it has to."""
    found = []
    for vector in VECTORS:
        machine = retry.RetryMachine()
        for at, step in enumerate(vector["steps"]):
            try:
                answer = fed(machine, step)
            except (ValueError, OverflowError) as error:
                answer = str(error)
            if answer != step.get("expect"):
                found.append(f"{vector['name']}, step {at} ({vector['why']}): {answer}, not {step.get('expect')}")
    return found


def mutated(before: str, after: str) -> types.ModuleType:
    source = Path(saywhy_retry.__file__).read_text("utf-8")
    assert source.count(before) == 1, f"there is not one {before}"
    wrong = types.ModuleType("wrong_retry")
    wrong.__file__ = saywhy_retry.__file__
    exec(compile(source.replace(before, after), "wrong_retry.py", "exec"), wrong.__dict__)
    return wrong


class Vectors(unittest.TestCase):
    def test_every_vector(self) -> None:
        self.assertGreaterEqual(len(VECTORS), 70)
        self.assertEqual(disagreements(saywhy_retry), [])

    def test_a_wrong_machine_is_found(self) -> None:
        for name, (before, after) in MUTATIONS.items():
            with self.subTest(name):
                self.assertNotEqual(disagreements(mutated(before, after)), [])


if __name__ == "__main__":
    unittest.main()
