"""Contents: what is here, for a person who looks: repositories, their tags, and what each is made of.

It is read from the index and the store alone, and no upstream is ever asked. Who may not pull a repository does not
see it: it is left out of lists, and asked for by name it is not there, in the words for one that never was.

A page costs what is on it, however many repositories there are: it begins at a name, and ends at a bound of work.
So a client that may see few of many gets pages that are short, or empty, though others follow.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from nora.access import Action, Rights
from nora.access.rights import full_name
from nora.content.catalog import Shown
from nora.content.shelves import Image, Referrer, Shelves, Summary, TagRow
from nora.oci import Digest, Reference, Repository, Tag, check_name
from nora.oci.errors import InvalidName, ManifestUnknown, NameUnknown, NotAllowed
from nora.oci.reference import LOCAL
from nora.pull.freshness import Freshness
from nora.storage.holdings import Holdings
from nora.storage.interfaces import Index, Lists, Repositories, TagRecord
from nora.storage.overview import Held, Overview, Pulled
from nora.storage.repositories import is_namespace

_STEP = 250
"""Names that are asked for at once."""
_LOOKS = 5000
"""What looking at names may cost on one page, the rules for one name being 1: some tens of milliseconds."""
_PRIVATE_LOOK, _ASKED = 10, 50
"""What it costs to read whether a repository is private, and to ask for names once."""
_LAST = "\N{DELETE}"
"""No name has this character, and none that one has comes after it."""
_SEARCHES = 10
"""Steps of a search on one page; one looks at 50,000 names (`nora.storage.overview.STEP`)."""
_ENTRIES, _ENTRIES_TOGETHER = 1000, 5000
"""Entries of the index that are added up for the size of a repository, and of all on a page."""
_ENTRIES_ALONE = 2000


@attrs.frozen
class RepositoryRow:
    """A repository in a list."""

    repository: Repository
    summary: Summary
    held: Held

    @property
    def name(self) -> str:
        """The full name."""
        return full_name(self.repository)

    @property
    def hosted(self) -> bool:
        """It was pushed here, and is not cached."""
        return self.repository.namespace == LOCAL


@attrs.frozen
class RepositoryPage:
    """A part of the list of repositories; `following` is the name to go on after, None at the end."""

    rows: tuple[RepositoryRow, ...]
    following: str | None


@attrs.frozen
class TagLine:
    """A tag in a list."""

    row: TagRow
    pulled: Pulled | None
    next_check: float | None
    """When its upstream is asked again at the earliest, in seconds since the epoch; None: never."""


@attrs.frozen
class TagsPage:
    """A part of the list of a repository's tags; `following` is the tag to go on after."""

    lines: tuple[TagLine, ...]
    following: str | None


@attrs.frozen
class Referrers:
    """What refers to a manifest, as far as it is known here; `asked_at` is when an upstream said so."""

    list: tuple[Referrer, ...]
    more: bool
    known: bool
    asked_at: float | None = None


@attrs.frozen
class ImagePage:
    """A manifest, by a tag (then there is a `record`) or by its digest."""

    image: Image
    record: TagRecord | None
    pulled: Pulled | None
    pulled_variants: dict[Digest, Pulled]
    next_check: float | None
    referrers: Referrers


class Contents:
    """The contents of one store, by the rules of one configuration."""

    def __init__(
        self,
        index: Index,
        overview: Overview,
        shelves: Shelves,
        holdings: Holdings,
        repositories: Repositories,
        lists: Lists,
        privacy: Shown,
        freshness: Freshness,
    ) -> None:
        self._index = index
        self._overview = overview
        self._shelves = shelves
        self._holdings = holdings
        self._repositories = repositories
        self._lists = lists
        self._privacy = privacy
        self._freshness = freshness

    async def repositories(self, text: str, last: str, limit: int, rights: Rights) -> RepositoryPage:
        """List up to `limit` repositories after `last` that the client may pull and that have `text` in their names.

        Raises `NotAllowed` for who may pull nothing at all.
        """
        if Action.PULL not in rights.actions:
            raise NotAllowed("pull is not allowed")
        found, following = await self._names(text, last, limit, rights)
        summaries = await self._shelves.summaries(found)
        held = await self._overview.held(found, _ENTRIES, _ENTRIES_TOGETHER)
        return RepositoryPage(tuple(map(RepositoryRow, found, summaries, held)), following)

    async def repository(self, name: str, rights: Rights) -> RepositoryRow:
        """Find a repository by its full name; raises `NameUnknown`, also where the client may not pull it."""
        for repository in _meant(name):
            if await self._visible(repository, rights) and not await self._holdings.is_empty(repository):
                (summary,) = await self._shelves.summaries([repository])
                (held,) = await self._overview.held([repository], _ENTRIES_ALONE, _ENTRIES_ALONE)
                return RepositoryRow(repository, summary, held)
        raise NameUnknown("there is no such repository here")

    async def tags(self, repository: Repository, after: str, limit: int) -> TagsPage:
        """List up to `limit` tags after `after`."""
        page = await self._holdings.tags(repository, after, limit)
        rows = await self._shelves.tags(repository, page.tags)
        pulled = await self._overview.pulls(repository, [row.record.descriptor.digest for row in rows])
        lines = tuple(
            TagLine(
                row,
                pulled.get(row.record.descriptor.digest),
                self._next_check(repository, row.name, row.record),
            )
            for row in rows
        )
        return TagsPage(lines, page.tags[-1] if page.more and page.tags else None)

    async def image(self, repository: Repository, reference: Reference) -> ImagePage:
        """Look at what a tag points at, or a digest names; raises `ManifestUnknown`."""
        record = None
        if isinstance(reference, Tag):
            record = await self._repositories.tag(repository, reference.name)
            if record is None:
                raise ManifestUnknown("there is no such tag here")
        digest = record.descriptor.digest if record is not None else reference
        descriptor = (
            None if isinstance(digest, Tag) else await self._repositories.manifest(repository, digest)
        )
        if descriptor is None:
            raise ManifestUnknown("there is no such manifest here")
        image = await self._shelves.image(repository, descriptor)
        children = [each.part.descriptor.digest for each in image.variants]
        pulled = await self._overview.pulls(repository, [descriptor.digest, *children])
        return ImagePage(
            image,
            record,
            pulled.get(descriptor.digest),
            pulled,
            None if record is None else self._next_check(repository, str(reference), record),
            await self._referrers(repository, descriptor.digest),
        )

    async def _names(
        self, text: str, last: str, limit: int, rights: Rights
    ) -> tuple[Sequence[Repository], str | None]:
        """Find the names of a page, and the one to go on after.

        Names that no rule can allow, by how they begin, are passed over in one step.
        """
        beginnings = rights.beginnings(Action.PULL)
        found: list[Repository] = []
        looks, searches = _LOOKS, _SEARCHES
        while True:
            start = _start(last, beginnings)
            if start is None:
                return found, None
            step, end = await self._step(text, start)
            looks -= _ASKED
            searches -= 1
            for repository in step:
                name = full_name(repository)
                if name == last:
                    continue
                if looks <= 0:
                    return found, last
                if not name.startswith(beginnings):
                    end = name
                    break
                looks -= self._price(repository, rights)
                if await self._visible(repository, rights):
                    if len(found) >= limit:
                        return found, full_name(found[-1])
                    found.append(repository)
                last = name
            if end is None:
                return found, None
            last = end
            if looks <= 0 or (text and searches <= 0):
                return found, last

    async def _step(self, text: str, last: str) -> tuple[Sequence[Repository], str | None]:
        if text:
            searched = await self._overview.search(text, last, _STEP)
            return searched.repositories, searched.end
        listed = await self._index.repositories(last, _STEP)
        return listed, full_name(listed[-1]) if len(listed) == _STEP else None

    def _price(self, repository: Repository, rights: Rights) -> int:
        return 1 if rights.private or repository.namespace == LOCAL else _PRIVATE_LOOK

    async def _visible(self, repository: Repository, rights: Rights) -> bool:
        if not rights.allows(Action.PULL, repository):
            return False
        if rights.scopes is not None and (full_name(repository), Action.PULL) not in rights.scopes:
            return False
        return repository.namespace == LOCAL or await self._privacy.shows(repository, rights)

    async def _referrers(self, repository: Repository, digest: Digest) -> Referrers:
        if repository.namespace == LOCAL:
            page = await self._holdings.referrers(repository, digest, None, "")
            found, more = await self._shelves.referrers(page.body)
            return Referrers(tuple(found), more or page.following is not None, True)
        listed = await self._lists.referrers(repository, digest)
        if listed is None:
            return Referrers((), False, False)
        found, more = await self._shelves.referrers(listed.body)
        return Referrers(tuple(found), more, True, listed.source.checked_at)

    def _next_check(self, repository: Repository, tag: str, record: TagRecord) -> float | None:
        if repository.namespace == LOCAL:
            return None
        until = self._freshness.until(repository, tag, record)
        return None if until == float("inf") else until


def _start(last: str, beginnings: Sequence[str]) -> str | None:
    """Tell after which name to look on for the first after `last` that begins so; None when there can be none."""
    for each in beginnings:
        if last.startswith(each):
            return last
        if each > last:
            # Right before it, so that the name which is all of it is found too.
            return f"{each[:-1]}{chr(ord(each[-1]) - 1)}{_LAST}"
    return None


def _meant(name: str) -> list[Repository]:
    """List what a full name may mean."""
    namespace, _, rest = name.partition("/")
    found = []
    for repository in (Repository(LOCAL, name), Repository(namespace, rest)):
        try:
            check_name(repository.name)
        except InvalidName:
            continue
        if repository.name == name or (namespace != LOCAL and is_namespace(namespace)):
            found.append(repository)
    return found
