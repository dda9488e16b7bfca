"""JSON objects from outside, read at a cost that is bounded before they are read.

The size of a text does not bound what it becomes: a bracket and a comma are two bytes, and cost a hundred of memory.
And what is nested as deep as the reader's stack allows may break whoever writes or reads it again on a fuller stack.
So brackets and commas are counted first, which is quick and needs no reading, and the depth is looked at once after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_PARTS = 200_000
"""Brackets and commas in one manifest. In 4 MiB of descriptors there are fewer: each has some twenty bytes a part."""
MAX_DEPTH = 64
"""Objects and lists within each other; a manifest has four."""


class Unreadable(Exception):
    """What was read is no object, or one that nobody means. The text says which, to follow the name of the thing."""


def read_object(body: bytes, most_parts: int = MAX_PARTS, **how: Any) -> Mapping[str, Any]:
    """Read a JSON object of at most `most_parts` brackets and commas, nested at most `MAX_DEPTH` deep.

    `how` is what `json.loads` takes; a byte order mark is passed over. Raises `Unreadable`, and what
    the hooks in `how` raise.
    """
    if sum(map(body.count, (b"{", b"[", b","))) > most_parts:
        raise Unreadable("has more parts than anything has")
    try:
        document = json.loads(body.decode("utf-8-sig"), **how)
    except ValueError:
        raise Unreadable("is not JSON") from None
    except RecursionError:
        raise Unreadable("is nested too deep") from None
    if not isinstance(document, dict):
        raise Unreadable("is not a JSON object")
    _check_depth(document)
    return document


def _check_depth(document: object) -> None:
    """Go down level by level, which takes no stack."""
    level = [document]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for each in level:
            values = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
            below += [value for value in values if isinstance(value, (dict, list))]
        if not below:
            return
        level = below
    raise Unreadable("is nested too deep")
