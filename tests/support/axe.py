"""axe-core in a page: what is wrong with it for somebody who does not see it, or has no mouse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.browser import Browser

SCRIPT = Path(__file__).resolve().parents[1] / "browser" / "node_modules" / "axe-core" / "axe.min.js"
_BAD = frozenset({"serious", "critical"})
_RUN = "return axe.run(document, {resultTypes: ['violations']}).then(found => found.violations)"


def script() -> str:
    """Read axe-core; a test without it is skipped, which CI does not allow."""
    try:
        return SCRIPT.read_text(encoding="utf-8")
    except FileNotFoundError:
        pytest.skip("not installed: axe-core; `make test` does so by npm")


def wrong(window: Browser, axe: str) -> list[str]:
    """Tell what is seriously or critically wrong with the page that is open, and where."""
    # By the browser's own tools: the page's policy lets no script in that is not NORA's.
    window.run(axe)
    return [
        f"{found['id']}: {found['help']}: {[node['html'][:200] for node in found['nodes'][:3]]}"
        for found in window.run(_RUN)
        if found["impact"] in _BAD
    ]
