"""The table of what upstreams do wrong, and of what a client then gets: rows for the test, and text for its document.

A `Row` is one misbehaviour. Each of its cells is tried with an upstream of its own, a `Case`, whose content no other
case shares, so that no outcome depends on another.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from nora.oci import Digest
from tests.support.authority import Authority
from tests.support.fake_upstream import MANIFEST_TYPE, Fault, Image, make_image
from tests.support.stage import Guarded

MIB = 1024 * 1024
TAG, NEW_TAG, DIGEST, BLOB = "cached tag", "uncached tag", "uncached digest", "uncached blob"
COLUMNS = (TAG, NEW_TAG, DIGEST, BLOB)
REPOSITORY = "team/app"
RETRY_AFTER = 7
_BOMB = 64 * MIB


@attrs.frozen
class Expected:
    """What the client gets. `text` says it in the document."""

    text: str
    status: int = 200
    cache: str | None = None
    """The `Cache-Status` that the answer has."""
    outcome: str | None = None
    """What the error's `detail` says of the upstream."""
    retry_after: int | None = None
    short: bool = False
    """The body ends before its length."""
    resumed: bool = False
    """The upstream is asked once more, for the rest."""
    rest: bool = False
    """The next upstream is asked for the rest."""
    loud: bool = False
    """The log and the metrics say that our credential was refused."""
    within: str | None = None
    """The name of the time that bounds the answer; `AT_ONCE` for none at all."""


AT_ONCE = "at once"
STALE = Expected("200 stale", cache="nora; hit; detail=stale")
CONFIRMED = Expected("200", cache="nora; hit")
WHOLE = Expected("200")
DENIED = Expected("404, `detail` says `denied`", 404, outcome="denied")
ABSENT = Expected("404", 404, outcome="absent")
LIMITED = Expected("429, `Retry-After` passed on", 429, outcome="limited", retry_after=RETRY_AFTER)
BAD = Expected("502", 502, outcome="unavailable")
SOON_STALE = attrs.evolve(STALE, text="200 stale after `revalidate_timeout`", within="revalidate_timeout")
STALE_AT_ONCE = attrs.evolve(STALE, text="200 stale at once", within=AT_ONCE)
LOUDLY_STALE = attrs.evolve(STALE, loud=True)
LOUD = Expected("502, loudly", 502, outcome="unavailable", loud=True)
NEXT = Expected("200 from the next upstream")
REST = Expected("200, whole, the rest from the next upstream", rest=True)
LATE = Expected("504 after `answer_timeout`", 504, within="answer_timeout")
SHORT = Expected("short read", short=True)
RESUMED = Expected("200, whole, one request for the rest", resumed=True)


class Case:
    """One cell: an upstream, what it has, and what is asked of it."""

    def __init__(
        self, upstream: Guarded, name: str, column: str, layer: int, behind: Guarded | None = None
    ) -> None:
        self.upstream = upstream
        self.behind = behind
        """A second server: what it redirects to, what stands where it stood, or the next in the chain."""
        self.name = name
        self.secret = f"secret-of-{name}"
        """The password that opens it, where it wants one."""
        self.forgets = False
        """The daemon forgets what this upstream has no more, or denies."""
        self.namespace = f"{name}.test"
        self.column = column
        self.known = make_image([b"known " + name.encode()])
        self.image: Image = make_image([hashlib.shake_256(name.encode()).digest(layer)])
        upstream.add_image(REPOSITORY, "known", self.known)
        upstream.add_image(REPOSITORY, "1", self.image)
        self.digest = self.image.digest
        """Of the manifest that is asked for by digest."""
        self.served: set[Digest] = set()
        """What a client rightly got of it, and may be stored."""
        self.body = self.image.blobs[1] if column == BLOB else self.image.manifest

    def path(self, tag: str = "1") -> str:
        """Tell the path of the cell's request."""
        if self.column == BLOB:
            what = f"blobs/{Digest.of(self.body)}"
        else:
            what = f"manifests/{self.digest if self.column == DIGEST else tag}"
        return f"/v2/{REPOSITORY}/{what}?ns={self.namespace}"

    def replace(self, manifest: bytes) -> None:
        """Have the tag name other bytes, whatever they are."""
        self.digest = Digest.of(manifest)
        self.upstream.add_manifest(REPOSITORY, manifest, MANIFEST_TYPE, "1")


Spoil = Callable[[Case], None]


@attrs.frozen
class Row:
    """One thing that upstreams do. `spoil` makes the upstream of a case do it, in the reactor's thread."""

    key: str
    text: str
    spoil: Spoil
    cells: Mapping[str, Expected]
    """By column; one that is missing is not asked."""
    auth: bool = False
    known: bool = False
    """The upstream was asked before, and its token is held."""
    layer: int = 100_000
    url: str | None = None
    """Where the upstream is from then on, `{port}` being that of the server behind."""
    flat: bool = False
    """Memory must not grow by what is sent."""
    behind: Mapping[str, object] | None = None
    """The case has a second server, with these options."""
    next: bool = False
    """That server has the same, and is the next upstream for the name."""
    login: bool = False
    """The upstream gives tokens to whoever shows a password, which the daemon has and shares what it opens."""
    opened: bool = False
    """The circuit is open already."""
    forgets: bool = False
    """The daemon has `"forget"` for what upstreams have no more, or deny."""


def _fault(**how: Any) -> Spoil:
    def spoil(case: Case) -> None:
        case.upstream.fault("/v2/*", Fault(**how))

    return spoil


def _unauthorized(case: Case) -> None:
    challenge = case.upstream.challenge.replace("{url}", case.upstream.url)
    case.upstream.fault("/v2/*", Fault(status=401, headers=(("WWW-Authenticate", challenge),)))


def _dies(case: Case) -> None:
    """Do nothing: `url` tells where it is no more."""


def _broken_blob(**how: Any) -> Spoil:
    def spoil(case: Case) -> None:
        case.upstream.fault("*/blobs/*", Fault(**how))

    return spoil


def _gzip_bomb(case: Case) -> None:
    bomb = gzip.compress(bytes(_BOMB), 6)
    upstream = case.upstream
    for key, (_, media_type, digest) in upstream.manifests.items():
        upstream.manifests[key] = (bomb, media_type, digest)
    for name in upstream.blobs:
        upstream.blobs[name] = bomb
    upstream.fault("/v2/*", Fault(headers=(("Content-Encoding", "gzip"),)))


class _Zeros(bytes):
    """Many zeros that take no memory until a slice of them is wanted."""

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, index: Any) -> Any:
        start, stop, _ = index.indices(len(self))
        return bytes(stop - start)


def _vast(**how: Any) -> Spoil:
    def spoil(case: Case) -> None:
        upstream = case.upstream
        for key, (_, media_type, digest) in upstream.manifests.items():
            upstream.manifests[key] = (_Zeros(), media_type, digest)
        upstream.fault("/v2/*", Fault(**how))

    return spoil


def _bad_json(case: Case) -> None:
    case.replace(b'{"schemaVersion": 2, "layers": [' + case.name.encode())


def _vast_challenge(case: Case) -> None:
    case.upstream.auth = True
    case.upstream.challenge = f'Bearer realm="{{url}}/token?{"a" * MIB}",service="fake"'


def _revoke(case: Case) -> None:
    case.upstream.revoke()


def _refuse_login(case: Case) -> None:
    case.upstream.logins = set()
    case.upstream.revoke()


def _cut_then_fail(case: Case) -> None:
    case.upstream.fault("*/blobs/*", Fault(status=500))
    case.upstream.fault("*/blobs/*", Fault(truncate=3 * MIB * 3 // 10, times=1))


def _redirect(case: Case) -> None:
    assert case.behind is not None
    case.behind.presigned = True
    case.behind.manifests, case.behind.blobs = case.upstream.manifests, case.upstream.blobs
    case.upstream.fault("/v2/*", Fault(redirect=f"{case.behind.url}{{path}}"))


_HEADERS = tuple((f"X-Padding-{i}", "a" * 1024) for i in range(10 * 1024))


def _all(cached: Expected, new: Expected) -> dict[str, Expected]:
    return {TAG: cached, NEW_TAG: new, DIGEST: new, BLOB: new}


def _manifests(cached: Expected, new: Expected) -> dict[str, Expected]:
    return {TAG: cached, NEW_TAG: new, DIGEST: new}


ROWS = (
    Row("unauthorized", "401 after the token flow", _unauthorized, _all(STALE, DENIED), auth=True),
    Row("forbidden", "403 after the token flow", _fault(status=403), _all(STALE, DENIED), auth=True),
    Row(
        "denied-forget",
        '403, with `on_upstream_denied = "forget"`',
        _fault(status=403),
        _all(DENIED, DENIED),
        auth=True,
        forgets=True,
    ),
    Row(
        "credential",
        "refuses our credential",
        _refuse_login,
        _all(LOUDLY_STALE, LOUD),
        auth=True,
        login=True,
    ),
    Row("absent", "404", _fault(status=404), _all(STALE, ABSENT)),
    Row(
        "absent-forget",
        '404, with `on_upstream_delete = "forget"`',
        _fault(status=404),
        _all(ABSENT, ABSENT),
        forgets=True,
    ),
    Row(
        "limited",
        "429 with `Retry-After`",
        _fault(status=429, headers=(("Retry-After", str(RETRY_AFTER)),)),
        _all(STALE, LIMITED),
    ),
    Row("failing", "500", _fault(status=500), _all(STALE, BAD)),
    Row("unavailable", "503", _fault(status=503), _all(STALE, BAD)),
    Row("refused", "connection refused", _dies, _all(STALE, BAD), url="http://127.0.0.1:1"),
    Row("dropped", "connection dropped before the answer", _fault(drop=True), _all(STALE, BAD)),
    Row(
        "tls",
        "TLS failure",
        _dies,
        _all(STALE, BAD),
        behind={"authority": Authority("nobody-trusts-this")},
        url="https://127.0.0.1:{port}",
    ),
    Row("dns", "a name that does not resolve", _dies, _all(STALE, BAD), url="http://upstream.invalid"),
    Row("hangs", "no answer", _fault(hold=True), _all(SOON_STALE, LATE)),
    Row(
        "hangs-open",
        "no answer, and its circuit is open",
        _fault(hold=True),
        _all(STALE_AT_ONCE, LATE),
        opened=True,
    ),
    Row(
        "stalls",
        "silence inside a blob",
        _broken_blob(stall=MIB, times=1),
        {BLOB: RESUMED},
        layer=2 * MIB,
    ),
    Row(
        "cuts",
        "connection cut at 30 % of a blob",
        _broken_blob(truncate=3 * MIB * 3 // 10, times=1),
        {BLOB: RESUMED},
        layer=3 * MIB,
    ),
    Row(
        "cuts-next",
        "the same, then 500, before another upstream",
        _cut_then_fail,
        {BLOB: REST},
        layer=3 * MIB,
        behind={},
        next=True,
    ),
    Row(
        "corrupt-blob",
        "wrong bytes in a blob of more than 1 MiB",
        _broken_blob(corrupt=True),
        {BLOB: SHORT},
        layer=2 * MIB,
    ),
    Row(
        "corrupt",
        "wrong bytes in a manifest, or in a blob of up to 1 MiB",
        _fault(corrupt=True),
        {NEW_TAG: BAD, DIGEST: BAD, BLOB: BAD},
    ),
    Row(
        "corrupt-next",
        "the same, before another upstream",
        _fault(corrupt=True),
        {NEW_TAG: NEXT, DIGEST: NEXT, BLOB: NEXT},
        behind={},
        next=True,
    ),
    Row("revoked", "refuses a token that it gave", _revoke, _all(CONFIRMED, WHOLE), auth=True, known=True),
    Row(
        "redirects",
        "redirect to another host",
        _redirect,
        _all(CONFIRMED, WHOLE),
        auth=True,
        known=True,
        behind={},
    ),
    Row("html", "200 with a web page", _fault(html=True), _all(STALE, BAD)),
    Row(
        "gzip-bomb", "a compressed body, small until it is unpacked", _gzip_bomb, _all(STALE, BAD), flat=True
    ),
    Row("headers", "10 MiB of headers", _fault(headers=_HEADERS), _all(STALE, BAD), flat=True),
    Row("vast", "a manifest of 1 GiB", _vast(), _manifests(STALE, BAD), flat=True),
    Row(
        "vast-unsized",
        "a manifest of 1 GiB of which no length is told",
        _vast(chunked=True),
        _manifests(STALE, BAD),
        flat=True,
    ),
    Row("bad-json", "a manifest that is not JSON", _bad_json, _manifests(STALE, BAD)),
    Row("vast-challenge", "a challenge of 1 MiB", _vast_challenge, _all(STALE, BAD), flat=True),
)


def table() -> str:
    """Write the rows as the document has them."""
    lines = [
        "| an upstream answers with | cached tag | uncached tag | uncached digest or blob |",
        "|---|---|---|---|",
    ]
    for row in ROWS:
        last = list(dict.fromkeys(row.cells[c].text for c in (DIGEST, BLOB) if c in row.cells))
        cells = [row.cells[c].text if c in row.cells else "-" for c in (TAG, NEW_TAG)]
        assert len(last) == 1, f"{row.key}: digest and blob differ"
        lines.append(f"| {' | '.join([row.text, *cells, *last])} |")
    return "\n".join(lines) + "\n"
