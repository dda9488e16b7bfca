"""`/health` of several workers: the worst of each, and who does not answer."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nora.web.together import together

_EARLY, _LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z"


def upstream(name: str, state: str = "closed", **other: object) -> dict[str, object]:
    """Make what one worker tells of an upstream."""
    circuit = {"state": state, "since": None, "next_probe": None}
    told = {"name": name, "circuit": circuit, "last_success": None, "last_error": None, "last_error_at": None}
    return {**told, **other}


def worker(
    number: int, *upstreams: dict[str, object], fills: int = 0, warnings: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Make what one worker tells of itself."""
    return {
        "uptime": 100.0,
        "store": {"blobs": 7, "fills": fills},
        "upstreams": list(upstreams),
        "warnings": list(warnings),
        "worker": number,
        "pid": 1000 + number,
        "served": 10.0 * number,
        "at": 5.0,
    }


class TogetherTests(SynchronousTestCase):
    """`together`."""

    def upstreams(self, own: dict[str, Any], other: dict[str, Any], number: int) -> list[dict[str, Any]]:
        """Give what worker `number` tells of the upstreams of both."""
        told: Any = together(own, [other], number, 2)["upstreams"]
        return list(told)

    def test_store_and_workers(self) -> None:
        """The store is told once, fills are summed, the workers are listed in order, and nothing inner is shown."""
        told = together(worker(2, fills=1), [worker(1, fills=2)], 2, 2)
        self.assertEqual(told["store"], {"blobs": 7, "fills": 3})
        self.assertEqual(
            told["workers"],
            [{"worker": 1, "pid": 1001, "uptime": 10.0}, {"worker": 2, "pid": 1002, "uptime": 20.0}],
        )
        self.assertEqual(set(told), {"uptime", "store", "upstreams", "warnings", "workers"})

    def test_silent_worker(self) -> None:
        """A worker that tells nothing is named."""
        told = together(worker(2), [worker(3)], 2, 4)
        self.assertEqual(told["warnings"], ["worker 1 does not answer", "worker 4 does not answer"])

    def test_worst_circuit(self) -> None:
        """A circuit that is open in any worker is told; the newest success and the newest error are told beside it."""
        own = worker(1, upstream("a", last_success=_LATE, last_error="old", last_error_at=_EARLY))
        other = worker(2, upstream("a", "open", last_success=_EARLY, last_error="new", last_error_at=_LATE))
        for first, second, number in ((own, other, 1), (other, own, 2)):
            (told,) = self.upstreams(first, second, number)
            self.assertEqual(told["circuit"]["state"], "open")
            self.assertEqual((told["last_success"], told["last_error"]), (_LATE, "new"))

    def test_upstream_that_another_does_not_know(self) -> None:
        """While a reload goes round, a worker may not know an upstream yet."""
        (told,) = self.upstreams(worker(1, upstream("a")), worker(2), 1)
        self.assertEqual(told["last_success"], None)

    def test_warnings(self) -> None:
        """The same trouble is told once, whenever each worker met it; that of another upstream is another."""
        told = together(
            worker(1, warnings=(f"upstream mirror1 is passed over since {_EARLY}: connection refused",)),
            [
                worker(
                    2,
                    warnings=(
                        f"upstream mirror1 is passed over since {_LATE}: connection refused",
                        f"upstream mirror2 is passed over since {_LATE}: connection refused",
                    ),
                ),
                worker(3, warnings=("upstream 1 says that 3 pulls are left",)),
                worker(
                    4,
                    warnings=(
                        "upstream 2 says that 3 pulls are left",
                        "upstream 1 says that 4 pulls are left",
                    ),
                ),
            ],
            1,
            4,
        )
        self.assertEqual(
            told["warnings"],
            [
                f"upstream mirror1 is passed over since {_EARLY}: connection refused",
                f"upstream mirror2 is passed over since {_LATE}: connection refused",
                "upstream 1 says that 3 pulls are left",
                "upstream 2 says that 3 pulls are left",
            ],
        )
