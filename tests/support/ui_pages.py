"""All pages, for the tests that look at each of them: in order, accessible, without a word of complaint."""

from __future__ import annotations

PAGES = (
    *(
        "/ui/",
        "/ui/?period=day",
        "/ui/?period=month",
        "/ui/now",
        "/ui/upstreams",
        "/ui/client",
        "/ui/nowhere",
    ),
    *("/ui/contents", "/ui/contents/docker.io/library/thing", "/ui/contents/docker.io/library/thing:1"),
    *("/ui/activity", "/ui/activity?client=nobody&outcome=refused", "/ui/activity?outcome=none"),
    "/ui/actions/refresh?repository=library/thing&tag=1",
    "/ui/actions/purge?repository=library/thing",
    "/ui/actions/delete?repository=library/thing&tag=1",
)
"""A new page goes here. The server has pulled the cached `library/thing:1`, and whoever looks is its administrator."""
