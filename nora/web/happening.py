"""What happens now: fills, pushes and recent pulls of all processes of the store, whichever of them is asked.

Pushes stand in the store, which all share. Fills and pulls each process knows of itself: the others are asked when
somebody looks, and never else.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred

from nora.concurrency import Background, SingleFlight
from nora.oci import Repository
from nora.pull.progress import Place, Progress, together
from nora.storage.interfaces import OpenUpload
from nora.telemetry.recent import Entry, Given, Pull, Recent, pulls

MOST = 100
"""Fills that a process tells of, and pushes that are told of, at most."""


@attrs.frozen
class Happening:
    """What happens at one moment."""

    fills: tuple[Progress, ...]
    pushes: tuple[OpenUpload, ...]
    pulls: tuple[Pull, ...]
    """The one that began last first."""
    silent: tuple[int, ...] = ()
    """Workers that did not answer."""


class Answers(Protocol):
    """What other processes answered; `nora.process` has the real one."""

    @property
    def told(self) -> Sequence[bytes]:
        """What each said: `Happenings.own`."""

    @property
    def silent(self) -> Sequence[int]:
        """The numbers of those that said nothing."""


class Happenings:
    """Looks at what happens now.

    `fills` tells up to so many fills of this process, `recent` what it gave, `uploads` up to so many sessions of the
    store; `ask` asks the other processes, None for one alone.
    """

    def __init__(
        self,
        fills: Callable[[int], list[Progress]],
        recent: Recent,
        uploads: Callable[[int], Awaitable[list[OpenUpload]]],
        ask: Callable[[], Awaitable[Answers]] | None,
        background: Background,
    ) -> None:
        self._fills = fills
        self._recent = recent
        self._uploads = uploads
        self._ask = ask
        self._looking: SingleFlight[None, Happening] = SingleFlight(background)

    def own(self) -> bytes:
        """Tell what this process alone knows, for another one that asks."""
        return _pack(self._fills(MOST), list(self._recent))

    def look(self) -> Deferred[Happening]:
        """Look. Those who look at the same time share it. Fails with `OSError`."""
        return self._looking.run(None, self._look)

    async def _look(self) -> Happening:
        pushes = await self._uploads(MOST)
        fills, entries = self._fills(MOST), list(self._recent)
        silent: tuple[int, ...] = ()
        if self._ask is not None:
            answers = await self._ask()
            silent = tuple(answers.silent)
            for told in filter(None, answers.told):  # one without pages says nothing
                theirs, others = _unpack(told)
                fills += theirs
                entries += others
        return Happening(tuple(together(fills)[:MOST]), tuple(pushes), tuple(pulls(entries)), silent)


def _pack(fills: Sequence[Progress], entries: Sequence[Entry]) -> bytes:
    told = [
        {
            **attrs.asdict(each, recurse=False),
            "places": [(*_pair(place.repository), place.upstream) for place in each.places],
        }
        for each in fills
    ]
    return json.dumps((told, entries), check_circular=False).encode("ascii")


def _unpack(told: bytes) -> tuple[list[Progress], list[Entry]]:
    fills: list[dict[str, Any]]
    fills, entries = json.loads(told)
    found = [
        Progress(
            **{
                **each,
                "places": tuple(
                    Place(Repository(namespace, name), upstream)
                    for namespace, name, upstream in each["places"]
                ),
            }
        )
        for each in fills
    ]
    return found, [(began, seconds, Given(*given)) for began, seconds, given in entries]


def _pair(repository: Repository) -> tuple[str, str]:
    return repository.namespace, repository.name
