"""Routing: which upstreams a client's name may mean, by rules alone.

The first rule that fits counts:

1. The client sent `ns` (containerd, and the distribution-spec's registry proxying): the chain of that namespace.
   NORA's own host names mean that nothing was sent. An unknown one is never dialled.
2. The first component is a namespace or a prefix: that chain. One with a dot that is neither means another registry.
3. Unqualified: every upstream, in the order of the configuration.

An upstream that excludes the name, as it is called there, is no candidate by any of them.

Nothing is looked up here: what is hosted, and who owns an unqualified name, records tell (`nora.pull`).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence

import attrs

from nora.oci import Repository, check_name
from nora.oci.errors import Denied, InvalidName, NameUnknown
from nora.oci.reference import LOCAL
from nora.upstream.interfaces import Candidate, Route, Upstream
from nora.upstream.origin import Origin

DOCKER_HUB = "docker.io"
"""The namespace in which one component means `library/<name>`."""

_ALIASES = {"index.docker.io": DOCKER_HUB, "registry-1.docker.io": DOCKER_HUB}
_MAX_NAMESPACE = 255
_REFUSED = "only what is hosted here, or named with its registry, may be pulled"


def canonical_host(host: str) -> str:
    """Write a registry's host as it is compared: lower-case, no default port, Docker Hub by its one name."""
    name = host.strip().lower()
    for port in (":443", ":80"):
        name = name.removesuffix(port)
    return _ALIASES.get(name, name)


def namespace_of(url: str) -> str:
    """Tell the namespace that an upstream's URL stands for when none is configured; raises `ValueError`."""
    return canonical_host(Origin.of(url).netloc)


def _matcher(patterns: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(fnmatch.translate(pattern)) for pattern in patterns)


@attrs.frozen
class RoutedUpstream:
    """An upstream, the one-component `prefix` that also names its chain, and the names that it is asked for.

    `include` and `exclude` are patterns of names at that upstream (`*` matches any characters, slashes too). Without
    `include` it is asked for every name that `exclude` does not match.
    """

    upstream: Upstream
    prefix: str | None = None
    include: tuple[re.Pattern[str], ...] = attrs.field(default=(), converter=_matcher)
    exclude: tuple[re.Pattern[str], ...] = attrs.field(default=(), converter=_matcher)

    def takes(self, name: str) -> bool:
        """Tell whether this upstream may be asked for `name`, as it is called there."""
        if any(pattern.match(name) for pattern in self.exclude):
            return False
        return not self.include or any(pattern.match(name) for pattern in self.include)


class Routing:
    """The rules of one configuration.

    `own_hosts` are the hosts, with port, that clients reach NORA by. `hosted` are patterns (`team/*`, where `*`
    matches any characters, slashes too) of names that no upstream is ever asked for. `default_action` is `allow`, or
    `deny` to refuse unqualified names that are not hosted. Raises `ValueError` when a prefix is ambiguous or a
    namespace reserved.
    """

    def __init__(
        self,
        upstreams: Sequence[RoutedUpstream],
        *,
        own_hosts: Iterable[str] = (),
        default_action: str = "allow",
        hosted: Iterable[str] = (),
    ) -> None:
        if default_action not in ("allow", "deny"):
            raise ValueError("default_action is allow or deny")
        self._all = tuple(upstreams)
        self._own = frozenset(canonical_host(host) for host in own_hosts)
        self._deny = default_action == "deny"
        self._hosted = _matcher(hosted)
        self._chains: dict[str, list[RoutedUpstream]] = {}
        for each in self._all:
            namespace = canonical_host(each.upstream.namespace)
            if namespace == LOCAL:
                raise ValueError(f"the namespace {LOCAL} is reserved for what is pushed here")
            self._chains.setdefault(namespace, []).append(each)
        self._named: dict[str, str] = {namespace: namespace for namespace in self._chains}
        for each in upstreams:
            if each.prefix is not None:
                self._add_prefix(each.prefix, canonical_host(each.upstream.namespace))

    def route(self, name: str, ns: str | None = None) -> Route:
        """Resolve `name`, and `ns` as the client sent it.

        Raises `InvalidName`; `NameUnknown` for a namespace that is none of ours, or whose upstreams all exclude the
        name. Where `default_action` is `deny`, the route of what is not surely hosted says why it is refused.
        """
        check_name(name)
        if ns is not None and canonical_host(ns) not in self._own:
            return self._under(name, ns)
        leading, slash, rest = name.partition("/")
        namespace = self._namespace(leading) if slash else None
        if namespace is not None:
            return self._chain(name, namespace, rest, None)
        if slash and ("." in leading or ":" in leading):
            raise NameUnknown(f"{leading} is none of this registry's upstreams", {"namespace": leading})
        return self._unqualified(name)

    def pushed(self, name: str, ns: str | None = None) -> Repository:
        """Tell the hosted repository that a push to `name`, and `ns` as the client sent it, means by the rules alone.

        Raises `InvalidName`, and `Denied` where the name is another registry's: nothing can be pushed through to one.
        """
        check_name(name)
        if ns is not None and canonical_host(ns) not in self._own:
            raise Denied(
                "a push with ns is for another registry, and nothing is pushed through to one; "
                "public_url and aliases tell the names of this one",
                {"namespace": ns[:_MAX_NAMESPACE]},
            )
        leading, slash, _ = name.partition("/")
        namespace = self._namespace(leading) if slash else None
        if namespace is not None:
            raise Denied(
                f"{leading} stands for the upstream {namespace}, by namespace or prefix of docker.upstreams, "
                "and nothing is pushed through to an upstream",
                {"name": name, "namespace": namespace},
            )
        if slash and ("." in leading or ":" in leading):
            raise Denied(
                f"{leading} looks like another registry's host; what is hosted here has no dot in its first part",
                {"name": name},
            )
        return Repository(LOCAL, name)

    def is_hosted(self, name: str) -> bool:
        """Tell whether the configuration keeps the unqualified `name` from every upstream."""
        return any(pattern.match(name) for pattern in self._hosted)

    def _add_prefix(self, prefix: str, namespace: str) -> None:
        check_name(prefix)
        if "/" in prefix:
            raise ValueError(f"the prefix {prefix} is not one component")
        if self._named.setdefault(prefix, namespace) != namespace:
            raise ValueError(f"the prefix {prefix} stands for two namespaces")

    def _namespace(self, leading: str) -> str | None:
        """Tell the namespace that a first component names: itself, an alias, or a prefix."""
        return self._named.get(leading) or self._named.get(canonical_host(leading))

    def _under(self, name: str, ns: str) -> Route:
        namespace = canonical_host(ns)
        if len(ns) > _MAX_NAMESPACE or namespace not in self._chains:
            raise NameUnknown(
                "the namespace is none of this registry's upstreams", {"namespace": ns[:_MAX_NAMESPACE]}
            )
        leading, slash, rest = name.partition("/")
        inner = rest if slash and self._namespace(leading) == namespace else name
        return self._chain(name, namespace, inner, ns)

    def _chain(self, name: str, namespace: str, inner: str, ns: str | None) -> Route:
        candidates = _candidates(
            (each, _repository(each.upstream, inner)) for each in self._chains[namespace]
        )
        if not candidates:
            raise NameUnknown(
                f"this registry's upstreams for {namespace} exclude the name",
                {"namespace": namespace, "name": inner},
            )
        return Route(name, candidates, True, ns)

    def _unqualified(self, name: str) -> Route:
        if self.is_hosted(name):
            return Route(name, (), False, hosted=True)
        if self._deny:
            return Route(name, (), False, refused=_REFUSED)
        places = []
        for each in self._all:
            try:
                places.append((each, _repository(each.upstream, name)))
            except InvalidName:  # too long once `library/` is before it: that upstream cannot have it
                continue
        return Route(name, _candidates(places), False)


def _candidates(places: Iterable[tuple[RoutedUpstream, Repository]]) -> tuple[Candidate, ...]:
    """Keep the places whose upstream may be asked for what the repository is called there."""
    return tuple(
        Candidate(repository, each.upstream) for each, repository in places if each.takes(repository.name)
    )


def _repository(upstream: Upstream, name: str) -> Repository:
    """Tell what `name` is called at `upstream`."""
    namespace = canonical_host(upstream.namespace)
    if namespace == DOCKER_HUB and "/" not in name:
        name = f"library/{name}"
    return Repository(namespace, check_name(name))
