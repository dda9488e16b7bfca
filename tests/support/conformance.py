"""A client of the distribution-spec for checking a registry: it does what it is told, right or wrong.

`Client` makes single requests; `Repository` knows the endpoints of one repository. What a check expects to succeed on
the way to what it is about is asserted here.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urljoin, urlsplit

import attrs

from tests.support.conformance_content import (
    ALGORITHMS,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    Content,
    digest_of,
)
from tests.support.conformance_login import Login

OCTETS = "application/octet-stream"
_ACCEPT = [("Accept", kind) for kind in (INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)]


@attrs.frozen
class Answer:
    """A response, read whole. `url` is what was asked, whole as well."""

    status: int
    headers: http.client.HTTPMessage = attrs.field(repr=False)
    body: bytes
    url: str

    @property
    def location(self) -> str:
        """The absolute URL of `Location`, which must be there."""
        location: str = self.headers["Location"] or ""
        assert location, f"no Location with {self.status}"
        return urljoin(self.url, location)

    @property
    def digest(self) -> str | None:
        """What `Docker-Content-Digest` says."""
        said: str | None = self.headers["Docker-Content-Digest"]
        return said

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The codes of an error's body, which must have the form of the specification ("Error Codes")."""
        errors = self.json["errors"]
        assert errors, "no error in an error"
        for error in errors:
            assert error["code"].replace("_", "").isalpha()
            assert error["code"].isupper()
            assert isinstance(error.get("message", ""), str)
        return [error["code"] for error in errors]

    def expect(self, *statuses: int) -> Answer:
        """Give the answer back when its status is one of `statuses`."""
        assert self.status in statuses, (
            f"{self.status} for {self.url}, wanted {statuses}: {self.body[:300]!r}"
        )
        return self


class Client:
    """Whom a check talks to: the registry at `url`, as clients do over one connection, for as long as it is kept.

    An answer that leaves the connection in disorder harms the request after it, and so is found. With `login` there is
    somebody to show; `trust` is what a certificate is verified by. With more `lines` than one, each request takes the
    next of so many connections, so that several workers have each a part in what belongs together.
    """

    def __init__(
        self, url: str, login: Login | None = None, trust: ssl.SSLContext | None = None, lines: int = 1
    ) -> None:
        self.url = url
        self._login = login
        self._trust = trust
        self._turns = itertools.cycle(range(lines))
        self._kept: dict[tuple[str, int], http.client.HTTPConnection] = {}

    @property
    def shows_tokens(self) -> bool:
        """Whether it shows tokens, each for the repository that it was asked about."""
        return self._login is not None and self._login.has_tokens

    def ask(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Iterable[tuple[str, str]] = (),
        streamed: bool = False,
    ) -> Answer:
        """Make a request. `url` may be a path; a `streamed` body comes in chunks, without a Content-Length."""
        whole = urljoin(self.url, url)
        named = list(headers)
        if self._login is None or urlsplit(whole).netloc != urlsplit(self.url).netloc:
            return self._once(method, whole, body, named, streamed)
        shown = self._login.header(method, whole)
        answer = self._once(method, whole, body, [*named, *_authorization(shown)], streamed)
        if answer.status == 401:
            better = self._login.answer(method, whole, answer, self._get)
            if better is not None:
                return self._once(method, whole, body, [*named, *_authorization(better)], streamed)
        return answer

    def _get(self, url: str, headers: Mapping[str, str]) -> Answer:
        return self._once("GET", url, None, headers.items(), False)

    def _once(
        self, method: str, url: str, body: bytes | None, headers: Iterable[tuple[str, str]], streamed: bool
    ) -> Answer:
        parts = urlsplit(url)
        place = (f"{parts.scheme}://{parts.netloc}", next(self._turns))
        connection = self._kept.get(place)
        if connection is None:
            connection = self._kept[place] = self._connection(parts)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            # Who refuses early may have left before the body was sent; what it said is there nevertheless.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                self._send(connection, method, body, streamed)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read(), url)
        except BaseException:
            self._kept.pop(place).close()
            raise

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.netloc, timeout=30, context=self._trust)
        return http.client.HTTPConnection(parts.netloc, timeout=30)

    def close(self) -> None:
        """Leave."""
        for connection in self._kept.values():
            connection.close()

    @staticmethod
    def _send(
        connection: http.client.HTTPConnection, method: str, body: bytes | None, streamed: bool
    ) -> None:
        if streamed:
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders(iter([body] if body else []), encode_chunked=True)
            return
        if body is not None or method in {"POST", "PUT", "PATCH"}:
            connection.putheader("Content-Length", str(len(body or b"")))
        connection.endheaders(body)


def _authorization(shown: str | None) -> list[tuple[str, str]]:
    return [] if shown is None else [("Authorization", shown)]


def with_query(url: str, **values: str) -> str:
    """Set parameters of a URL and keep the others."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | values
    return parts._replace(query=urlencode(query)).geturl()


class Repository:
    """One repository of a registry."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self._base = f"/v2/{name}"

    # Uploads

    def post(
        self, query: Mapping[str, str] | None = None, body: bytes | None = None, streamed: bool = False
    ) -> Answer:
        """Open an upload session, or with parameters more than that."""
        headers = [("Content-Type", OCTETS)] if body is not None else []
        url = f"{self._base}/blobs/uploads/"
        return self.client.ask(
            "POST", with_query(url, **(query or {})) if query else url, body, headers, streamed
        )

    def session(self) -> str:
        """Open an upload session and give its location."""
        return self.post().expect(202).location

    def patch(self, location: str, data: bytes, start: int | None = None, streamed: bool = False) -> Answer:
        """Send data to a session: as a chunk that begins at `start`, or without saying where it belongs."""
        return self.client.ask("PATCH", location, data, _of_chunk(data, start), streamed)

    def put(
        self,
        location: str,
        digest: str,
        data: bytes | None = None,
        start: int | None = None,
        streamed: bool = False,
    ) -> Answer:
        """Close a session, with data in the same request or without."""
        headers = _of_chunk(data, start) if data is not None else [("Content-Type", OCTETS)]
        return self.client.ask("PUT", with_query(location, digest=digest), data, headers, streamed)

    def progress(self, location: str) -> int:
        """Ask how far a session is: the position of its last byte."""
        answer = self.client.ask("GET", location).expect(204)
        assert answer.location
        return last_byte(answer)

    def push(self, *blobs: Content) -> None:
        """Push blobs as most clients do."""
        for blob in blobs:
            self.put(self.session(), blob.digest, blob.data).expect(201)

    # Blobs

    def blob(self, method: str, digest: str, **headers: str) -> Answer:
        """Ask for a blob, or for its removal. Underscores in names of headers are dashes."""
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return self.client.ask(method, f"{self._base}/blobs/{digest}", headers=named)

    # Manifests

    def manifest(self, method: str, reference: str) -> Answer:
        """Ask for a manifest, or for its removal."""
        return self.client.ask(method, f"{self._base}/manifests/{reference}", headers=_ACCEPT)

    def put_manifest(
        self, manifest: Content, reference: str = "", tags: Sequence[str] = (), streamed: bool = False
    ) -> Answer:
        """Push a manifest: by its digest, when no `reference` says otherwise, and with `tags` as parameters."""
        query = "?" + urlencode([("tag", tag) for tag in tags]) if tags else ""
        return self.client.ask(
            "PUT",
            f"{self._base}/manifests/{quote(reference or manifest.digest, safe=':/')}{query}",
            manifest.data,
            [("Content-Type", manifest.media_type)],
            streamed,
        )

    def push_whole(self, contents: Sequence[Content], *tags: str) -> Content:
        """Push an image or an index: its blobs, then its manifests by digest, the last of them by `tags` too."""
        for content in contents:
            if content.is_manifest:
                self.put_manifest(content).expect(201)
            else:
                self.push(content)
        for tag in tags:
            self.put_manifest(contents[-1], tag).expect(201)
        return contents[-1]

    # Lists

    def list_tags(self, **query: str) -> Answer:
        """Ask for the list of tags."""
        url = f"{self._base}/tags/list"
        return self.client.ask("GET", with_query(url, **query) if query else url)

    def tags(self, **query: str) -> list[str]:
        """Give the tags, which may not be missing."""
        found: list[str] = self.list_tags(**query).expect(200).json["tags"]
        return found

    def list_referrers(self, digest: str, **query: str) -> Answer:
        """Ask who refers to a digest."""
        url = f"{self._base}/referrers/{digest}"
        return self.client.ask("GET", with_query(url, **query) if query else url)

    def referrers(self, digest: str, **query: str) -> dict[str, dict[str, Any]]:
        """Give the descriptors of those who refer to a digest, by their own digests; each may be there once."""
        found = self.list_referrers(digest, **query).expect(200).json["manifests"]
        by_digest = {one["digest"]: one for one in found}
        assert len(by_digest) == len(found), "a referrer is listed twice"
        return by_digest


def last_byte(answer: Answer) -> int:
    """Read a session's `Range`, which is `0-` and the position of the last byte."""
    first, _, last = (answer.headers["Range"] or "").partition("-")
    assert first == "0", f"Range: {answer.headers['Range']}"
    return int(last)


def check_blob(repository: Repository, blob: Content) -> None:
    """See that a blob is there, byte for byte, by GET and HEAD."""
    for method, body in (("GET", blob.data), ("HEAD", b"")):
        answer = repository.blob(method, blob.digest).expect(200)
        assert answer.body == body
        assert answer.headers["Content-Length"] == str(len(blob.data))
        assert answer.digest == blob.digest


def check_created(client: Client, answer: Answer, content: Content) -> None:
    """See that something was created, under its digest, and that its Location gives it out."""
    answer.expect(201)
    assert answer.digest in {content.digest, None}
    assert client.ask("GET", answer.location, headers=_ACCEPT).expect(200).body == content.data


def check_manifest(repository: Repository, manifest: Content, reference: str = "") -> None:
    """See that a manifest is there, byte for byte, by GET and HEAD."""
    for method, body in (("GET", manifest.data), ("HEAD", b"")):
        answer = repository.manifest(method, reference or manifest.digest).expect(200)
        assert answer.body == body
        assert answer.headers["Content-Type"] == manifest.media_type
        assert answer.headers["Content-Length"] == str(len(manifest.data))
        assert answer.digest == manifest.digest


def next_page(answer: Answer) -> str | None:
    """Read the `Link` to the next page (RFC 8288); None when there is none."""
    link: str | None = answer.headers["Link"]
    if link is None:
        return None
    target, _, parameters = link.partition(">")
    assert target.startswith("<")
    assert parameters.replace(" ", "") in {';rel="next"', ";rel=next"}
    return urljoin(answer.url, target[1:])


def _of_chunk(data: bytes, start: int | None) -> list[tuple[str, str]]:
    headers = [("Content-Type", OCTETS)]
    if start is not None:
        headers.append(("Content-Range", f"{start}-{start + len(data) - 1}"))
    return headers


def other_algorithm(content: Content) -> str:
    """Give the digest of some content by the algorithm that is not its own."""
    (other,) = set(ALGORITHMS) - {content.algorithm}
    return digest_of(content.data, other)
