"""A real browser: Debian's Chromium without a screen, driven by its own driver. It asks nobody but who is tested."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.common.exceptions import JavascriptException
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.programs import environment, find

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en"),
)


class Browser:
    """One window."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        self.driver.get(url)

    def text(self, selector: str) -> str:
        """Give the text of the first element that a CSS selector finds, with plain spaces.

        In one step: a page that renews itself could take the element away between two.
        """
        return " ".join(
            str(self.run("return document.querySelector(arguments[0]).innerText", selector)).split()
        )

    def is_seen(self, selector: str) -> bool:
        """Tell whether the first element that a CSS selector finds takes any room."""
        return bool(self.run("return document.querySelector(arguments[0]).offsetHeight > 0", selector))

    def click(self, selector: str) -> None:
        """Click as a person does, which browsers ask for before they let a page copy."""
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def arrives(self, selector: str, wanted: str) -> None:
        """Wait until an element's text begins with `wanted`: a click may return before the next page is there."""
        waiting = WebDriverWait(self.driver, 20, 0.05, [JavascriptException])
        waiting.until(
            lambda _: self.text(selector).startswith(wanted), f"{selector} never began with {wanted!r}"
        )

    def press(self, key: str) -> None:
        """Press a key, wherever the focus is."""
        ActionChains(self.driver).send_keys(key).perform()

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script in the page, and give what it returns."""
        return self.driver.execute_script(script, *arguments)

    def errors(self) -> list[str]:
        """Tell what the browser complained of since it was last asked: scripts, policies, missing files."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def look(self, width: int, *, dark: bool = False, scale: float = 1) -> None:
        """Be so wide, in pixels, and light or dark."""
        told: dict[str, object] = {
            "width": width,
            "height": 800,
            "deviceScaleFactor": scale,
            "mobile": width < 500,
        }
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", told)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})

    def picture(self, path: Path) -> None:
        """Write a picture of the whole page."""
        told = {"format": "png", "captureBeyondViewport": True}
        found = self.driver.execute_cdp_cmd("Page.captureScreenshot", told)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own in `directory`; it ends with the block."""
    directory.mkdir(parents=True, exist_ok=True)
    options = Options()
    options.binary_location = find("chromium")
    for flag in (*_FLAGS, f"--user-data-dir={directory / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(find("chromedriver"), env=environment(directory, TMPDIR=str(directory)))
    driver = Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
