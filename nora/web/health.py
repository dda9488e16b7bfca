"""What `/health` tells: the store, each upstream, and what needs a person, in words."""

from __future__ import annotations

import time
from collections.abc import Sequence

from nora.storage.interfaces import Totals
from nora.upstream.registry import Registry

_SOON = 14 * 86400.0


def tell(
    uptime: float,
    totals: Totals,
    free_bytes: int,
    fills: int,
    upstreams: Sequence[Registry],
    warnings: Sequence[str] = (),
) -> dict[str, object]:
    """Put it together; `uptime` in seconds. Dates are ISO 8601 in UTC, sizes in bytes.

    `warnings` are those of others, for people, beside the upstreams'.
    """
    return {
        "uptime": round(uptime, 3),
        "store": {"free_bytes": free_bytes, "blobs": totals.blobs, "bytes": totals.bytes, "fills": fills},
        "upstreams": [_upstream(each) for each in upstreams],
        "warnings": [*warnings, *_passed_over(upstreams)],
    }


def certificate_warnings(ends: float | None, now: float) -> list[str]:
    """Warn of a certificate that ends within 14 days, or has ended; times in seconds of Unix time, None without TLS."""
    if ends is None or ends - now > _SOON:
        return []
    word = "ended" if ends <= now else "ends"
    return [f"the certificate of this server {word} at {_iso(ends)}: see server.tls_certificate"]


def _passed_over(upstreams: Sequence[Registry]) -> list[str]:
    return [
        f"upstream {each.name} is passed over since {_iso(circuit.since)}: {circuit.reason}"
        for each in upstreams
        if (circuit := each.circuit.state()).since is not None
    ]


def _upstream(upstream: Registry) -> dict[str, object]:
    state, circuit = upstream.state(), upstream.circuit.state()
    return {
        "name": upstream.name,
        "namespace": upstream.namespace,
        "url": upstream.url,
        "last_success": _iso(state.last_success),
        "last_error": state.last_error,
        "last_error_at": _iso(state.last_error_at),
        "circuit": {
            "state": circuit.word,
            "since": _iso(circuit.since),
            "next_probe": None if circuit.next_probe is None else round(circuit.next_probe, 1),
        },
    }


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
