"""What `/health` tells of several workers: one answer made of what each knows of itself.

Circuits, credentials and errors are each worker's own: the worst of them is told, so that no trouble hides behind the
worker that happens to be asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_BAD = ("closed", "half-open", "open")
"""States of a circuit, the worst last."""
_COUNTED = re.compile(r"(?<= )(?<!^upstream )[0-9][0-9TZ:.-]*(?= |:|,|$)")
"""Times and counts in a warning, but not the name of an upstream: two that differ in nothing else are one."""

State = Mapping[str, Any]


def together(own: State, others: Sequence[State], number: int, workers: int) -> dict[str, object]:
    """Put the state of worker `number`, `own`, and those of the `others` that answered together; `workers` in all."""
    states = [own, *others]
    answered = {number, *(state["worker"] for state in others)}
    warnings: dict[str, str] = {}
    for state in states:
        for warning in state["warnings"]:
            warnings.setdefault(_COUNTED.sub("", warning), warning)
    silent = [each for each in range(1, workers + 1) if each not in answered]
    return {
        **{key: value for key, value in own.items() if key not in {"worker", "pid", "at", "served"}},
        "store": {**own["store"], "fills": sum(state["store"]["fills"] for state in states)},
        "upstreams": [_upstream(each, states) for each in own["upstreams"]],
        "warnings": [*warnings.values(), *(f"worker {each} does not answer" for each in silent)],
        "workers": [
            {"worker": state["worker"], "pid": state["pid"], "uptime": state["served"]}
            for state in sorted(states, key=lambda state: int(state["worker"]))
        ],
    }


def _upstream(own: State, states: Sequence[State]) -> dict[str, object]:
    same = [each for state in states for each in state["upstreams"] if each["name"] == own["name"]]
    worst = max(same, key=lambda each: _BAD.index(each["circuit"]["state"]))
    failed = max(same, key=lambda each: each["last_error_at"] or "")
    return {
        **worst,
        "last_success": max(each["last_success"] or "" for each in same) or None,
        "last_error": failed["last_error"],
        "last_error_at": failed["last_error_at"],
    }
