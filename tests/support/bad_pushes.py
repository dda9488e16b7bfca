"""Bad input to the endpoints that take content, row by row: what is sent, and what is to come of it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import attrs

from tests.support.images import MEBIBYTE, digest_of, image_of_blobs

NAME = "team/app"
UPLOADS = f"/v2/{NAME}/blobs/uploads/"
MANIFESTS = f"/v2/{NAME}/manifests/"
WRONG = "sha256:" + "0" * 64
LIMIT = 4 * MEBIBYTE
MOST = 8 * MEBIBYTE
"""What an upload may have here."""
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CHUNKED = ("Transfer-Encoding: chunked",)


@attrs.frozen
class Row:
    """One request, and what is to come of it."""

    id: str
    method: str
    path: str
    status: int
    code: str
    headers: tuple[str, ...] = ()
    body: bytes = b""
    kept: bool | None = True
    """Whether the connection goes on; None where that depends on how much of the body was there."""
    told: bool = True
    """Whether the audit log tells of it; else the daemon's log does."""


def sized(body: bytes) -> tuple[str, ...]:
    """Say how long a body is."""
    return (f"Content-Length: {len(body)}",)


def chunks(*parts: bytes) -> bytes:
    """Frame a body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def brought(id: str, method: str, path: str, status: int, code: str, body: bytes, *headers: str) -> Row:
    """Make the row of a body that is as long as it says."""
    return Row(id, method, path, status, code, (*sized(body), *headers), body)


def spans() -> Iterator[Row]:
    """Chunks in the wrong place, or of another size than they say."""
    path = UPLOADS + "{session}"
    for method, tail in (("PATCH", ""), ("PUT", f"?digest={digest_of(b'abc')}")):

        def row(
            id: str,
            told: str,
            status: int,
            code: str,
            body: bytes = b"abc",
            method: str = method,
            tail: str = tail,
        ) -> Row:
            return brought(
                f"{method} {id}", method, path + tail, status, code, body, f"Content-Range: {told}"
            )

        yield row("range longer than body", "0-9", 400, "SIZE_INVALID")
        yield row("range shorter than body", "0-1", 400, "SIZE_INVALID")
        yield row("range in the future", "5-7", 416, "BLOB_UPLOAD_INVALID")
        for number, nonsense in enumerate(
            (
                *("abc", "5-1", "-1", "0-", "bytes */5", "bytes=0-2", "0-1, 2-3", "0x0-0x2", ""),
                *("0-99999999999999999999999", "\xb2-3", "0-2/", "0-2\t0", "9" * 5000 + "-1", "0 - 2"),
            )
        ):
            yield row(f"range of nonsense {number}", nonsense, 416, "BLOB_UPLOAD_INVALID")
        for id, told, body in (
            ("chunks shorter than range", "0-9", b"abc"),
            ("chunks longer than range", "0-1", b"abcde"),
        ):
            yield Row(
                f"{method} {id}",
                method,
                path + tail,
                400,
                "SIZE_INVALID",
                (*CHUNKED, f"Content-Range: {told}"),
                chunks(body),
                kept=None,
            )
    two = ("Content-Range: 0-2", "Content-Range: 0-2")
    yield brought("two ranges", "PATCH", path, 416, "BLOB_UPLOAD_INVALID", b"abc", *two)


def blobs() -> Iterator[Row]:
    """Blobs that are not what they are said to be."""
    session = UPLOADS + "{session}"
    for method, path in (("POST", UPLOADS), ("PUT", session)):
        for id, digest in (
            ("wrong", WRONG),
            ("wrong sha512", "sha512:" + "0" * 128),
            ("malformed", "sha256:xyz"),
            ("upper case", "sha256:" + "A" * 64),
            ("of another algorithm", "md5:" + "0" * 32),
            ("a path", "sha256:../../../../etc/passwd"),
            ("with NUL", WRONG[:-1] + "%00"),
            ("over-long", "sha256:" + "0" * 1800),
            ("empty", ""),
            ("of bytes", "%ff%fe"),
        ):
            yield brought(
                f"{method} digest {id}",
                method,
                f"{path}?digest={digest}",
                400,
                "DIGEST_INVALID",
                b"abc",
            )
        yield Row(
            f"{method} too large",
            method,
            f"{path}?digest={WRONG}",
            413,
            "SIZE_INVALID",
            (f"Content-Length: {MOST + 1}",),
            kept=False,
        )
        yield Row(
            f"{method} too large in chunks",
            method,
            f"{path}?digest={WRONG}",
            413,
            "SIZE_INVALID",
            CHUNKED,
            chunks(*[b"x" * MEBIBYTE] * 9),
            kept=None,
        )
    yield brought("no digest", "PUT", session, 400, "DIGEST_INVALID", b"abc")
    yield Row(
        "PATCH too large", "PATCH", session, 413, "SIZE_INVALID", (f"Content-Length: {10**17}",), kept=False
    )
    for method in ("PATCH", "PUT", "GET", "DELETE"):
        tail = f"?digest={digest_of(b'abc')}" if method == "PUT" else ""
        body = b"abc" if method in ("PATCH", "PUT") else b""
        for id, place in (
            ("another repository's", "/v2/team/other/blobs/uploads/{session}"),
            ("nobody's", UPLOADS + "0" * 32),
            ("upper case", UPLOADS + "{SESSION}"),
            ("over-long", UPLOADS + "a" * 1500),
            ("of dots", UPLOADS + "..."),
            ("of stars", UPLOADS + "*"),
            ("dots and a suffix", UPLOADS + "{session}..."),
        ):
            yield brought(f"{method} session {id}", method, place + tail, 404, "BLOB_UPLOAD_UNKNOWN", body)
        for id, tricks in (
            ("slashes", "{session}%2fdata"),
            ("up", "%2e%2e%2f{session}"),
            ("NUL", "{session}%00"),
            ("bytes", "%ff"),
            ("letters", quote("é")),
        ):
            yield brought(
                f"{method} session with {id}", method, UPLOADS + tricks + tail, 400, "NAME_INVALID", body
            )


def manifests() -> Iterator[Row]:
    """Manifests that are none, or that contradict themselves."""

    def row(
        id: str, body: bytes, code: str = "MANIFEST_INVALID", kind: str | None = OCI, to: str = "x"
    ) -> Row:
        headers = () if kind is None else (f"Content-Type: {kind}",)
        return brought(f"manifest {id}", "PUT", MANIFESTS + to, 400, code, body, *headers)

    def document(**fields: Any) -> bytes:
        return json.dumps({**GOOD, **fields}).encode()

    def raw(field: str) -> bytes:
        return document()[:-1] + b", " + field.encode("latin-1") + b"}"

    part = {"mediaType": "text/plain", "size": 2, "digest": digest_of(b"{}")}
    for id, body in (
        *(("empty", b""), ("cut off", document()[:-1]), ("a list", b"[]"), ("null", b"null")),
        *(
            ("a text", b'"x"'),
            ("noise", random.Random(1).randbytes(3000)),
            ("UTF-16", document().decode().encode("utf-16")),
        ),
        *(("with a byte order mark", b"\xef\xbb\xbf" + document()), ("two documents", document() * 2)),
        ("of brackets", b"[" * 100_000),
        ("of closed brackets", b"[" * 100_000 + b"]" * 100_000),
        ("of objects", b'{"a":' * 100_000),
        ("deep within", raw('"x": ' + "[" * 100_000 + "]" * 100_000)),
        ("deep objects within", raw('"x": ' + '{"a":' * 100_000 + "1" + "}" * 100_000)),
        ("key twice", raw('"config": {}')),
        ("key twice below", raw('"x": {"a": 1, "a": 2}')),
        ("huge integer", raw(f'"x": {"9" * 100_000}')),
        ("NaN", raw('"x": NaN')),
        ("infinity", raw('"x": -Infinity')),
        ("NUL", raw('"x": "\0"')),
        ("invalid UTF-8", raw('"x": "\xff"')),
        ("surrogates in UTF-8", raw('"x": "\xed\xa0\x80"')),
        ("100,000 layers", document(layers=[{}] * 100_000)),
        ("10,001 layers", document(layers=[{**part, "size": 1}] * 10_001)),
        ("millions of lists", b'{"x":[' + b"[]," * 1_390_000 + b"[]]}"),
        ("millions of objects", b"[" + b"{}," * 1_390_000 + b"{}]"),
        ("millions of keys", b"{" + b",".join(b'"%x":0' % n for n in range(380_000)) + b"}"),
        *(("no layers", document(layers=None)), ("layers no list", document(layers={"a": 1}))),
        ("a layer no object", document(layers=["x"])),
        *(
            (f"size {size!r}", document(layers=[{**part, "size": size}]))
            for size in (-1, 2**63, True, "2", 1.5)
        ),
        *((f"digest {digest!r}", document(layers=[{**part, "digest": digest}])) for digest in ("x", 1, None)),
        ("digest of NUL", document(layers=[{**part, "digest": "sha256:" + "\0" * 64}])),
        ("digest up", document(layers=[{**part, "digest": "sha256:../../../x"}])),
        ("type surrogate", document(layers=[{**part, "mediaType": "a/\ud800"}])),
        ("type NUL", document(layers=[{**part, "mediaType": "a/\0"}])),
        ("type over-long", document(layers=[{**part, "mediaType": "a/" + "b" * 300}])),
        *((f"version {version!r}", document(schemaVersion=version)) for version in (1, "2", True, None)),
        ("subject surrogate", document(subject="\ud800")),
        ("artifact surrogate", document(artifactType="\ud800")),
        ("annotations", document(annotations={"a": {"b": "c"}})),
        ("index and image", document(manifests=[])),
        ("media type contradicts", document(mediaType=INDEX)),
    ):
        yield row(id, body)
    yield row(
        "without type", json.dumps({k: v for k, v in GOOD.items() if k != "mediaType"}).encode(), kind=None
    )
    for kind in (
        "text/plain",
        "application/json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "*",
    ):
        yield row(f"type {kind}", document(), kind=kind)
    missing = [{**part, "digest": digest_of(b"%d" % number)} for number in range(3)]
    yield row("missing blobs", document(layers=missing), "MANIFEST_BLOB_UNKNOWN")
    yield row("missing subject's blobs", document(layers=missing[:1], subject=part), "MANIFEST_BLOB_UNKNOWN")
    listing = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**part, "mediaType": OCI}]})
    yield row("index of missing", listing.encode(), "MANIFEST_BLOB_UNKNOWN", INDEX)
    yield row("wrong digest", document(), "DIGEST_INVALID", to=WRONG)
    for id, tag in (("long", "a" * 129), ("dotted", ".x"), ("dashed", "-x"), ("accented", quote("é"))):
        code = "NAME_INVALID" if "%" in tag else "TAG_INVALID"
        yield row(f"tag {id}", document(), code, to=tag)
    yield row("digest of md5", document(), "DIGEST_INVALID", to="md5:" + "0" * 32)
    yield row("tag argument", document(), "TAG_INVALID", to=f"{digest_of(document())}?tag=..")
    many = f"{digest_of(document())}?" + "&".join(f"tag=t{n}" for n in range(101))
    yield attrs.evolve(row("too many tags", document(), "TAG_INVALID", to=many), status=414)
    large = b"{" + b" " * LIMIT
    head, kind = ("PUT", MANIFESTS + "x", 413, "SIZE_INVALID"), f"Content-Type: {OCI}"
    yield Row("manifest too large", *head, (f"Content-Length: {LIMIT + 1}", kind), kept=False)
    yield Row("manifest too large, sent", *head, (f"Content-Length: {LIMIT + 1}", kind), large, kept=False)
    yield Row("manifest too large in chunks", *head, (*CHUNKED, kind), chunks(large, b"}"), kept=None)


def names() -> Iterator[Row]:
    """Names and paths that are none."""
    for id, name in (
        *(("upper case", "Team/app"), ("up", "team/../app"), ("encoded up", "team/%2e%2e/app")),
        *(("a dot", "team/./app"), ("encoded slash", "team%2fapp"), ("two slashes", "team//app")),
        *(("a slash before", "/team"), ("encoded NUL", "team%00app"), ("accented", "t%C3%A9am")),
        *(("bytes", "t%ff"), ("new lines", "a%0d%0ab"), ("a space", "a%20b"), ("long", "a" * 300)),
        *(("over-long", "a/" * 1500 + "a"), ("dashed", "-a"), ("dots", "a..b"), ("a backslash", "a%5cb")),
        *(("twice encoded", "a%252e%252e"), ("underscored", "_a"), ("a colon", "a:b")),
    ):
        body = json.dumps(GOOD).encode()
        for method, tail, sent, headers in (
            ("PUT", "manifests/x", body, (f"Content-Type: {OCI}",)),
            ("POST", f"blobs/uploads/?digest={digest_of(b'abc')}", b"abc", ()),
            ("PATCH", "blobs/uploads/" + "0" * 32, b"abc", ()),
        ):
            yield brought(
                f"{method} name with {id}", method, f"/v2/{name}/{tail}", 400, "NAME_INVALID", sent, *headers
            )


def framing() -> Iterator[Row]:
    """Bodies whose form is broken on the way: the request is answered, once, and its connection ends."""
    for id, body in (
        *(("no number", b"zz\r\nabc\r\n0\r\n\r\n"), ("negative", b"-3\r\nabc\r\n0\r\n\r\n")),
        *(("signed", b"+3\r\nabc\r\n0\r\n\r\n"), ("prefixed", b"0x3\r\nabc\r\n0\r\n\r\n")),
        *(("a space", b"3 \r\nabc\r\n0\r\n\r\n"), ("underscored", b"0_3\r\nabc\r\n0\r\n\r\n")),
        *(("empty size", b"\r\nabc\r\n0\r\n\r\n"), ("too long", b"2\r\nabc\r\n0\r\n\r\n")),
        ("huge size", b"f" * 5000 + b"\r\nabc"),
        ("huge extension", b"3;" + b"a" * 100_000 + b"\r\nabc\r\n0\r\n\r\n"),
        ("extension of NUL", b"3;\0\r\nabc\r\n0\r\n\r\n"),
        ("huge trailer", b"3\r\nabc\r\n0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"),
        ("many trailers", b"3\r\nabc\r\n0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"),
    ):
        for method, path in (("PATCH", UPLOADS + "{session}"), ("PUT", MANIFESTS + "x")):
            yield Row(f"{method} chunk {id}", method, path, 400, "UNSUPPORTED", CHUNKED, body, kept=False)


def heads() -> Iterator[Row]:
    """Heads that are none, or too long: answered without a request."""

    def row(id: str, *headers: str, status: int = 400, body: bytes = b"3\r\nabc\r\n0\r\n\r\n") -> Row:
        code = "SIZE_INVALID" if status == 431 else "UNSUPPORTED"
        path = UPLOADS + "{session}"
        return Row(f"head {id}", "PATCH", path, status, code, headers, body, kept=False, told=False)

    yield row("100 kB", "X-Long: " + "y" * 100_000, status=431)
    yield row("100 kB in lines", *(f"X-{n}: {'y' * 990}" for n in range(100)), status=431)
    yield row("1,000 headers", *(f"X-{n}: y" for n in range(1000)), status=431)
    yield row("100 kB folded", "X: y", *(" " + "y" * 990 for n in range(100)))
    yield row("a folded length", "Content-Length:", " 3")
    yield row("both lengths", "Transfer-Encoding: chunked", "Content-Length: 3")
    yield row("both lengths, turned", "Content-Length: 3", "Transfer-Encoding: chunked")
    yield row("two lengths", "Content-Length: 3", "Content-Length: 4")
    yield row("length twice", "Content-Length: 3", "Content-Length: 3")
    for number, length in enumerate(
        ("-1", "+3", "0x3", "3 3", "3,3", "", "three", "3_0", "\xb2", "9" * 10_000)
    ):
        yield row(f"length {number}", f"Content-Length: {length}")
    for coding in (
        "gzip",
        "chunked, gzip",
        "gzip, chunked",
        "identity",
        "xchunked",
        "chunked;a",
        "",
        "chunked, chunked",
    ):
        yield row(f"coding {coding!r}", f"Transfer-Encoding: {coding}")
    yield row("coding twice", *CHUNKED, *CHUNKED)
    yield row("coding identity and length", "Transfer-Encoding: identity", "Content-Length: 3")
    yield row("coding with a tab", "Transfer-Encoding: \x0bchunked")
    yield row("NUL", "X: a\0b")
    yield row("no colon", "nonsense")
    yield row("no name", ": x")
    yield row("a space before the colon", "Content-Length : 3")
    yield row("a space before the name", " Content-Length: 3", "X: y")
    yield row("a bare line feed", "X: a\nContent-Length: 3")
    yield row("a bare return", "X: a\rb")
    yield Row("head long line", "PATCH", UPLOADS + "a" * 100_000, 431, "SIZE_INVALID", kept=False, told=False)
    yield Row("head method", "PA\0TCH", UPLOADS, 400, "UNSUPPORTED", kept=False, told=False)
    yield Row("head letter in the path", "PATCH", "/v2/\xe9", 400, "UNSUPPORTED", kept=False, told=False)
    yield Row("head NUL in the path", "PATCH", UPLOADS + "\0", 400, "UNSUPPORTED", kept=False, told=False)


GOOD: dict[str, Any] = json.loads(image_of_blobs([b"a layer"]).manifest.data)
ROWS = [*blobs(), *spans(), *manifests(), *names(), *framing(), *heads()]
