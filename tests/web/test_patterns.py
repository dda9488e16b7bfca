"""The patterns of routes, which must be there before the first client is."""

from __future__ import annotations

import re
from typing import Any

from nora.web.registry import Registry
from tests.support.web_site import SiteTestCase

DIGEST = f"sha256:{'0' * 64}"


class PatternTests(SiteTestCase):
    """What building a site does for its first client."""

    def test_compiled(self) -> None:
        """The first request compiles no pattern of a route: all of them were, when the site was built."""
        cached: Any = vars(re)["_cache"]
        re.purge()
        self.build()
        before = len(cached)
        self.assertGreater(before, 0)
        routes: Any = Registry.app.url_map
        for path in (
            f"/a/b/blobs/{DIGEST}",
            "/a/b/manifests/1",
            "/a/b/tags/list",
            f"/a/b/referrers/{DIGEST}",
        ):
            routes.bind("").match(path)
        self.assertEqual(len(cached), before)
