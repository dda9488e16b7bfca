"""Growing a file in a thread, and knowing how long it is afterwards, whatever went wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from nora.storage.durable import no_space
from nora.storage.interfaces import Disk


async def grow(
    disk: Disk, descriptor: int, write: Callable[..., int], *arguments: Any
) -> tuple[int, Exception | None]:
    """Call `write(*arguments)`, which writes to the end of a file and tells its new length, in one hop.

    Gives the length, in bytes, and what went wrong: `NoSpace`, `OSError`, or None. After a failure some bytes may have
    been written; the file itself tells how many.
    """
    try:
        return await disk.run(write, *arguments), None
    except OSError as error:
        return os.fstat(descriptor).st_size, no_space(error) or error
