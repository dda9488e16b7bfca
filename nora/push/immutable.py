"""Immutable tags: what the operator allows to be pushed once, and never changed or removed by a client."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from nora.oci import Digest, Repository
from nora.oci.errors import Denied


class ImmutableTags:
    """The patterns of one configuration, of `name:tag`; `*` is any run of characters, `?` any one."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(re.compile(fnmatch.translate(pattern)) for pattern in patterns)

    def cover(self, repository: Repository, tag: str) -> bool:
        """Tell whether `tag` may not change once it is there."""
        return any(pattern.match(f"{repository.name}:{tag}") for pattern in self._patterns)

    def check_push(self, repository: Repository, tag: str, present: Digest | None, pushed: Digest) -> None:
        """Raise `Denied` when `tag` points at `present` for good, and `pushed` is another."""
        if present is not None and present != pushed and self.cover(repository, tag):
            raise Denied(
                f"{repository.name}:{tag} is immutable: docker.immutable_tags",
                {"tag": tag, "digest": str(present)},
            )

    def check_removal(self, repository: Repository, tag: str) -> None:
        """Raise `Denied` when `tag` may not be removed."""
        if self.cover(repository, tag):
            raise Denied(f"{repository.name}:{tag} is immutable: docker.immutable_tags", {"tag": tag})
