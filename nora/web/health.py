"""What `/health` tells: the store, each upstream, and what needs a person, in words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from nora.storage.interfaces import Space, Totals
from nora.upstream.registry import Registry

_SOON = 14 * 86400.0
_GIB = 1024**3
LEAST_FREE = _GIB
"""Bytes below which a disk counts as nearly full, however small it is."""
LEAST_SHARE = 0.05
"""The part of a disk below which it counts as nearly full, however large it is."""


def tell(
    uptime: float,
    totals: Totals,
    space: Space,
    fills: int,
    upstreams: Sequence[Registry],
    provisional: int,
    quota_reserve: int,
    others: Sequence[str] = (),
) -> dict[str, object]:
    """Put it together; `uptime` in seconds. Dates are ISO 8601 in UTC, sizes in bytes.

    `provisional` is how many names are resolved for the time being; `quota_reserve` the pulls that are kept back.
    `others` are warnings that are known elsewhere.
    """
    warnings = [*others]
    ill = [list(_warnings(each, quota_reserve)) for each in upstreams]
    warnings += [text for each in ill for text in each]
    if provisional:
        warnings.append(_provisional(provisional))
    if space.free < LEAST_FREE or space.free < LEAST_SHARE * space.total:
        warnings.append(
            f"the disk of the store is nearly full: {space.free / _GIB:.1f} of {space.total / _GIB:.1f} GiB are free "
            f"(fewer than {LEAST_SHARE:.0%}, or than {LEAST_FREE / _GIB:.0f} GiB)"
        )
    return {
        "uptime": round(uptime, 3),
        "store": {
            "free_bytes": space.free,
            "total_bytes": space.total,
            "blobs": totals.blobs,
            "bytes": totals.bytes,
            "fills": fills,
        },
        "upstreams": [_upstream(each, texts) for each, texts in zip(upstreams, ill, strict=True)],
        "warnings": warnings,
    }


def certificate_warnings(ends: float | None, now: float) -> list[str]:
    """Warn of a certificate that ends within 14 days, or has ended; times in seconds of Unix time, None without TLS."""
    if ends is None or ends - now > _SOON:
        return []
    word = "ended" if ends <= now else "ends"
    return [f"the certificate of this server {word} at {_iso(ends)}: see server.tls_certificate"]


def _warnings(upstream: Registry, quota_reserve: int) -> Iterator[str]:
    """Tell what is wrong with one upstream, a sentence each."""
    circuit = upstream.circuit.state()
    if circuit.since is not None:
        yield f"upstream {upstream.name} is passed over since {_iso(circuit.since)}: {circuit.reason}"
    trouble = upstream.credential_trouble()
    if trouble is not None:
        again = "" if trouble.next_try is None else f"; it is not shown again for {trouble.next_try:.0f} s"
        yield f"upstream {upstream.name} is out of use since {_iso(trouble.since)}: {trouble.text}{again}"
    left = upstream.pulls_left()
    if left is not None and 0 < quota_reserve >= left:
        yield (
            f"upstream {upstream.name} says that {left} pulls are left, not more than the {quota_reserve} of "
            "quota_reserve: cached images are not renewed there"
        )


def _provisional(names: int) -> str:
    what = "1 name was" if names == 1 else f"{names} names were"
    return (
        f"{what} resolved while an earlier upstream could not answer: "
        "until it does, they may be another image than they should"
    )


def _upstream(upstream: Registry, warnings: Sequence[str]) -> dict[str, object]:
    state, circuit = upstream.state(), upstream.circuit.state()
    return {
        "name": upstream.name,
        "namespace": upstream.namespace,
        "url": upstream.url,
        "last_success": _iso(state.last_success),
        "last_error": state.last_error,
        "last_error_at": _iso(state.last_error_at),
        "pulls_left": upstream.pulls_left(),
        "pulls_reset_at": _iso(upstream.pulls_reset_at()),
        "warnings": list(warnings),
        "circuit": {
            "state": circuit.word,
            "since": _iso(circuit.since),
            "next_probe": None if circuit.next_probe is None else round(circuit.next_probe, 1),
        },
    }


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
