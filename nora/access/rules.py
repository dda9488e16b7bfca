"""The operator's rules: who may do what to which repositories. The first rule that matches decides.

A rule matches by its user and by its pattern, whatever the action; then it allows the actions that it lists, and denies
the others. Where there are rules and none matches, nothing is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from nora.access.rights import Action

LOGGED_IN = "*"
"""In the place of a user: anybody who has logged in."""
ANONYMOUS_USER = "anonymous"
"""In the place of a user: anybody who has not."""
EVERYONE = "everyone"
"""In the place of a user: both."""
RESERVED = frozenset({LOGGED_IN, ANONYMOUS_USER, EVERYONE})
"""The words that no user can be called."""

_IMPLIED = {
    Action.PULL: {Action.PULL},
    Action.PUSH: {Action.PUSH, Action.PULL},
    Action.DELETE: {Action.DELETE, Action.PULL},
    Action.ADMIN: set(Action),
}
"""Clients look before they push or delete, so that either would be of no use without pulling."""


_PULL = frozenset({Action.PULL})
_UNRULED = _PULL | {Action.PUSH, Action.DELETE}
_MAX_KNOWN = 4096
"""For how many users their rules are kept at hand."""


def _with_implied(actions: Iterable[Action]) -> frozenset[Action]:
    return frozenset(implied for action in actions for implied in _IMPLIED[action])


@attrs.frozen
class Rule:
    """One rule. `repository` is a pattern of full names, in which `*` stands for any characters, slashes too.

    `actions` are with those that they imply: pushing and deleting that of pulling, `admin` all others. None denies.
    """

    user: str
    repository: str
    actions: frozenset[Action] = attrs.field(converter=_with_implied)
    _parts: tuple[str, ...] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_parts", tuple(self.repository.split("*")))

    @property
    def beginning(self) -> str:
        """What every full name begins with that the pattern matches."""
        return self._parts[0]

    def concerns(self, user: str | None) -> bool:
        """Tell whether the rule is for `user`, None for who has not logged in."""
        if user is None:
            return self.user in (ANONYMOUS_USER, EVERYONE)
        return self.user in (LOGGED_IN, EVERYONE) or (self.user == user and user not in RESERVED)

    def matches(self, repository: str) -> bool:
        """Tell whether the pattern matches a full name: each part is looked for once, from left to right."""
        first, *others = self._parts
        if not others:
            return repository == first
        *between, last = others
        end = len(repository) - len(last)
        if not (repository.startswith(first) and repository.endswith(last)):
            return False
        position = len(first)
        for part in between:
            found = repository.find(part, position, max(end, 0))
            if found < 0:
                return False
            position = found + len(part)
        return position <= end


class RuleSet:
    """The rules, in their order. Without any, who may log in may pull, push and delete, and the others pull."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = tuple(rules)
        self._known: dict[str | None, tuple[tuple[Rule, ...], frozenset[Action]]] = {}

    def most(self, user: str | None) -> frozenset[Action]:
        """Tell the most that `user` may do to any repository."""
        if not self._rules:
            return _PULL if user is None else _UNRULED
        return self._of(user)[1]

    def allow(self, user: str | None, action: Action, repository: str) -> bool:
        """Tell whether `user` may take `action` on the repository with that full name; see `nora.access.Rules`."""
        if not self._rules:
            return action in self.most(user)
        for rule in self._of(user)[0]:
            if rule.matches(repository):
                return action in rule.actions
        return False

    def beginnings(self, user: str | None, action: Action) -> tuple[str, ...]:
        """Tell with what names begin that `user` may take `action` on; see `nora.access.Rules`."""
        if not self._rules:
            return ("",)
        told = sorted({rule.beginning for rule in self._of(user)[0] if action in rule.actions})
        kept: list[str] = []
        for each in told:
            if not (kept and each.startswith(kept[-1])):
                kept.append(each)
        return tuple(kept)

    def _of(self, user: str | None) -> tuple[tuple[Rule, ...], frozenset[Action]]:
        """Give the rules that are for `user`, and all that they allow together."""
        known = self._known.get(user)
        if known is None:
            rules = tuple(rule for rule in self._rules if rule.concerns(user))
            known = (rules, frozenset[Action]().union(*(rule.actions for rule in rules)))
            if len(self._known) < _MAX_KNOWN:
                self._known[user] = known
        return known
