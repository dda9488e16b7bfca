"""Which registry is held to the specification, and by whom: one that is there, or NORA in the form that is asked for.

Without anything said it is NORA alone, over plain HTTP, where everybody on this machine may push.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from tests.support.conformance import Client
from tests.support.conformance_login import Login
from tests.support.daemon import Nora
from tests.support.doors import PASSWORD
from tests.support.room import make_room
from tests.support.ways import protect
from tests.support.workers import wait_for_workers

OTHER, OTHERS_CA = "REGISTRY_UNDER_TEST", "REGISTRY_CA"
"""A registry's URL, with user and password where it wants them; the file of the authority that it is believed by."""
FORM = "NORA_UNDER_TEST"
"""Some of `FORMS`, separated by spaces."""
FORMS = frozenset({"basic", "bearer", "tls", "workers"})
_WORKERS = 2
_LINES = 16
"""The kernel gives a connection to a worker by its port: of so many each worker surely has some."""


@contextmanager
def registry_under_test() -> Iterator[Client]:
    """Give a client of the registry that the environment asks for."""
    other = os.environ.get(OTHER)
    forms = frozenset(os.environ.get(FORM, "").split())
    assert forms <= FORMS, f"{FORM} knows {sorted(FORMS)}"
    assert not (other and forms), f"{FORM} is about NORA, {OTHER} names another registry"
    with _other(other) if other else _nora(forms) as client:
        try:
            yield client
        finally:
            client.close()


@contextmanager
def _other(url: str) -> Iterator[Client]:
    parts = urlsplit(url)
    login = None if parts.username is None else Login(unquote(parts.username), unquote(parts.password or ""))
    secure = parts.scheme == "https"
    trust = ssl.create_default_context(cafile=os.environ.get(OTHERS_CA)) if secure else None
    yield Client(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), login, trust)


@contextmanager
def _nora(forms: frozenset[str]) -> Iterator[Client]:
    room = make_room()
    try:
        door = protect(room, login=bool(forms & {"basic", "bearer"}), tls="tls" in forms)
        sections = door.sections
        if "workers" in forms:
            sections = {**sections, "server": {**sections.get("server", {}), "workers": _WORKERS}}
        nora = Nora(room.place("nora"), [], sections)
        nora.trust = door.trust
        room.start(nora)
        if "workers" in forms:
            wait_for_workers(nora, _WORKERS)
        url = nora.url if door.trust is None else nora.url.replace("http:", "https:", 1)
        login = None if door.user is None else Login(door.user, PASSWORD, at_once="basic" in forms)
        yield Client(url, login, door.trust, _LINES if "workers" in forms else 1)
    finally:
        room.end()
