"""Lists that one upstream has of a repository: its tags, and what refers to a manifest.

They come whole or not at all: over all pages, each checked, with bounds on pages, bytes and time. Where an upstream
has no referrers API the index under the tag `<algorithm>-<hex>` stands for one (distribution-spec, "Referrers Tag
Schema"), provided that it is one: a registry may resolve such a tag to the subject itself. So what it lists is
looked at, whether it names the subject.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorTime

from nora.oci import ACCEPTED_MEDIA_TYPES, Digest, Manifest, Reference, parse_reference
from nora.oci.errors import Unverified
from nora.oci.listing import (
    MAX_REFERRERS_SIZE,
    MAX_TAGS,
    MAX_TAGS_SIZE,
    TagList,
    compose_referrers,
    descriptor_digest,
    names_subject,
    parse_referrers,
    parse_tags,
)
from nora.oci.manifest import OCI_INDEX
from nora.upstream.budget import within
from nora.upstream.client import Answer, Leads
from nora.upstream.links import leads_to_list, next_query
from nora.upstream.outcomes import Absent

T = TypeVar("T")

MAX_PAGES = 2000
EXAMINED = 16
"""How many of the manifests that a tag of referrers lists are looked at; each is a pull to the upstream's limits."""
_EXCHANGES = 10
"""How many times as long as one exchange a whole list may take."""
_PAGE = "n=1000"
_MANY = 2000
"""Tags, and bytes of a page, past which they are worked on in a thread."""
_LONG = 64 * 1024
_NO_API = frozenset({301, 302, 303, 307, 308, 404, 405, 406, 501})
"""Statuses by which a registry says that it has no referrers API; redirects that were not followed are among them."""


Offload = Callable[[Callable[[], Any]], Deferred[Any]]
"""Does work in a thread; its result arrives on the reactor."""


def at_once(work: Callable[[], Any]) -> Deferred[Any]:
    """Do the work here and now."""
    return execute(work)


class Ask(Protocol):
    """What puts one question to the registry: a GET of `path` below `/v2/`; see `Exchange.ask`."""

    def __call__(
        self, method: str, path: str, headers: Mapping[str, str], query: str = ..., leads: Leads = ...
    ) -> Awaitable[Answer]:
        """Ask."""


class Lists:
    """The lists of one registry.

    `ask` puts a question, `require` raises what an answer means that is not a 200, `manifest` gets a verified one; each
    bounds its own time, `timeout` seconds at most. `received` hears of bytes. `offload` does long computations in a
    thread.
    """

    def __init__(
        self,
        ask: Ask,
        require: Callable[[Answer], Awaitable[None]],
        manifest: Callable[[str, Reference], Awaitable[Manifest]],
        clock: IReactorTime,
        timeout: float,
        received: Callable[[int], None],
        offload: Offload = at_once,
    ) -> None:
        self._ask = ask
        self._require = require
        self._manifest = manifest
        self._clock = clock
        self._timeout = timeout
        self._received = received
        self._offload = offload

    async def tags(self, repository: str) -> TagList:
        """As `Upstream.tags`."""
        return await within(self._clock, _EXCHANGES * self._timeout, self._tags(repository))

    async def referrers(self, repository: str, digest: Digest) -> bytes:
        """As `Upstream.referrers`."""
        return await within(self._clock, _EXCHANGES * self._timeout, self._referrers(repository, digest))

    async def _tags(self, repository: str) -> TagList:
        path, accept = f"{repository}/tags/list", "application/json"
        answer = await self._get(path, accept, _PAGE)
        await self._require(answer)
        tags = await self._pages(answer, path, accept, MAX_TAGS_SIZE, parse_tags)
        if len(tags) <= _MANY:
            return TagList.of(tags)
        made: TagList = await self._offload(partial(TagList.of, tags))
        return made

    async def _referrers(self, repository: str, digest: Digest) -> bytes:
        path = f"{repository}/referrers/{digest}"
        answer = await self._get(path, OCI_INDEX)
        if answer.status in _NO_API:
            await answer.drain()
            return await self._by_tag(repository, digest)
        await self._require(answer)
        listed = await self._pages(answer, path, OCI_INDEX, MAX_REFERRERS_SIZE, parse_referrers)
        body: bytes = await self._offload(partial(compose_referrers, listed))
        return body

    async def _get(self, path: str, accept: str, query: str = "") -> Answer:
        return await self._ask("GET", path, {"Accept": accept}, query=query, leads=leads_to_list)

    async def _pages(
        self, answer: Answer, path: str, accept: str, limit: int, parse: Callable[[bytes], Sequence[T]]
    ) -> list[T]:
        """Read the page in `answer` and all that follow, of up to `limit` bytes together."""
        found: list[T] = []
        asked: set[str] = set()
        while True:
            kind = (answer.header("Content-Type") or "").partition(";")[0].strip().lower()
            if accept == OCI_INDEX and kind != OCI_INDEX:
                answer.abort()
                raise Unverified("it sent something else than an index of referrers")
            body = await within(self._clock, self._timeout, _whole(answer, limit))
            self._received(len(body))
            limit -= len(body)
            found += parse(body) if len(body) <= _LONG else await self._offload(partial(parse, body))
            if len(found) > MAX_TAGS:
                raise Unverified("its list is too long")
            query = next_query(answer.headers("Link"), answer.origin.host)
            if query is None:
                return found
            if query in asked or len(asked) >= MAX_PAGES:
                raise Unverified("its list has no end")
            asked.add(query)
            answer = await self._get(path, accept, query)
            await self._require(answer)

    async def _by_tag(self, repository: str, subject: Digest) -> bytes:
        """Read the index that a tag stands for; raises `Absent` when there is none: nothing refers to `subject`."""
        tag = parse_reference(f"{subject.algorithm}-{subject.hex[:64]}")
        try:
            index = await self._manifest(repository, tag)
        except Absent as absent:
            if absent.denied:
                raise
            raise Absent("it has neither a referrers API nor a tag for this digest") from None
        if index.media_type != OCI_INDEX or Digest.of(index.body, subject.algorithm) == subject:
            raise Absent("it has no referrers API, and its tag for this digest is no list of referrers")
        return compose_referrers(await self._naming(repository, subject, parse_referrers(index.body)))

    async def _naming(
        self, repository: str, subject: Digest, listed: Sequence[Mapping[str, Any]]
    ) -> list[Mapping[str, Any]]:
        """Leave out what does not name `subject`, and what is of no type that could be pulled.

        What is past the number looked at is believed when any of those does.
        """
        known = [item for item in listed if item["mediaType"] in ACCEPTED_MEDIA_TYPES]
        naming = []
        for item in known[:EXAMINED]:
            try:
                manifest = await self._manifest(repository, descriptor_digest(item))
            except Absent as absent:
                if absent.denied:
                    raise
                continue  # it is gone, and the list was not told
            if names_subject(manifest.body, subject):
                naming.append(item)
        if listed and not naming:
            raise Absent("it has no referrers API, and nothing under its tag for this digest refers to it")
        return naming + known[EXAMINED:]


async def _whole(answer: Answer, limit: int) -> bytes:
    return await answer.read(limit)
