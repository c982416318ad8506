"""A real headless Chromium, driven over its own driver: as few as possible, one a module is enough.

with browser.chromium() as driver:
    driver.get(url)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

REQUIRED_ENV = "BROWSER_REQUIRED"  # set by .ci/run: there a browser that is missing is a failure
PROGRAMS = ("/usr/bin/chromium", "/usr/bin/chromedriver")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--force-prefers-reduced-motion",
    "--no-proxy-server",
)
PAGE_LOAD_S = 20
LOW_CONTRAST = r"""
const light = (colour) => {
  const [r, g, b] = colour.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const parse = (text) => text.match(/[\d.]+/g).map(Number);
const ground = (one) => {
  for (let at = one; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour.slice(0, 3);
  }
  return [255, 255, 255];
};
const found = [];
for (const one of document.querySelectorAll("body *")) {
  if (![...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
  if (one.closest(".hidden, .skip, noscript")) continue;
  const style = getComputedStyle(one);
  const colour = parse(one instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [light(colour), light(ground(one.closest("svg") ?? one))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) found.push(`${one.outerHTML.slice(0, 90)} ${ratio.toFixed(2)}`);
}
return found;
"""
"""Returns every text on the page whose contrast is below 4.5 to 1 (WCAG AA), with its figure."""


def need() -> None:
    """Skip the calling module where no Chromium is installed; fail where one is required."""
    missing = [program for program in PROGRAMS if not os.access(program, os.X_OK)]
    if not missing:
        return
    why = f"{' and '.join(missing)} missing: apt-get install chromium chromium-driver"
    if os.environ.get(REQUIRED_ENV) == "1":
        pytest.fail(why, pytrace=False)
    pytest.skip(why, allow_module_level=True)


@contextlib.contextmanager
def chromium(*arguments: str) -> Iterator[webdriver.Chrome]:
    """Start a browser with a profile of its own, and leave neither behind."""
    profile = tempfile.mkdtemp(prefix="pb-", dir="/tmp")
    options = Options()
    options.binary_location = PROGRAMS[0]
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(PROGRAMS[1]))
    try:
        driver.set_page_load_timeout(PAGE_LOAD_S)
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def resize(driver: webdriver.Chrome, width: int, height: int, *, is_phone: bool = False) -> None:
    """Make the page exactly so large, whatever window there is around it."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone},
    )


def colours(driver: webdriver.Chrome, scheme: str) -> None:
    """Prefer `light` or `dark`."""
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )


def errors(driver: webdriver.Chrome) -> list[dict[str, Any]]:
    """Return what the console said since the last call, but for refused connections: those are tests' own work."""
    return [
        entry
        for entry in driver.get_log("browser")
        if entry["level"] in ("SEVERE", "WARNING") and "ERR_" not in entry["message"]
    ]
