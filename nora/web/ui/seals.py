"""Seals: how a page knows again what it gave out itself, without a session, whichever worker is asked.

A form carries a token that only this store could make, for this user, for half a day. Another site can make a browser
send a form, password included, but can neither make the token nor read it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable

LIFETIME = 43_200
"""Seconds for which a form that lies open can be sent."""
_TOKEN = re.compile(r"([0-9]{1,12})\.([0-9a-f]{64})\Z")


class Seals:
    """Seals with the key of a store. `now` gives seconds since the epoch."""

    def __init__(self, key: Callable[[], bytes], now: Callable[[], float]) -> None:
        self._key = key
        self._now = now

    def token(self, user: str | None) -> str:
        """Make the token of a form for `user`, None for a client that cannot log in."""
        ends = int(self._now()) + LIFETIME
        return f"{ends}.{self._of_form(ends, user)}"

    def is_token(self, text: str, user: str | None) -> bool:
        """Tell whether `text` is a token for `user` that has not expired."""
        found = _TOKEN.match(text)
        if found is None or not self._now() <= int(found[1]) <= self._now() + LIFETIME:
            return False
        return hmac.compare_digest(found[2], self._of_form(int(found[1]), user))

    def seal(self, text: str) -> str:
        """Seal a text that a browser brings back."""
        return self._mac("text", text)

    def is_sealed(self, text: str, seal: str) -> bool:
        """Tell whether `seal` is that of `text`."""
        return hmac.compare_digest(seal.encode("utf-8", "replace"), self.seal(text).encode("ascii"))

    def _of_form(self, ends: int, user: str | None) -> str:
        return self._mac("nobody" if user is None else "user", f"{ends} {user}")

    def _mac(self, kind: str, text: str) -> str:
        # The key signs tokens of /v2/token too, whose texts begin otherwise.
        told = f"nora page {kind}\n{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key(), told, "sha256").hexdigest()
