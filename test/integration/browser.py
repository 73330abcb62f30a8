# SPDX-License-Identifier: ISC
#
# browser.py - a headless Chromium, for tests of the live page.
#
# Knows nothing of what the page shows.
"""browser(): a page in Chromium, with what it asked for and what it complained about."""
import contextlib
import json
import shutil
import time

import pytest

from machine import scratch_dir
from waiting import wait_until

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"


class Page:
    """A page that is open."""

    def __init__(self, driver):
        self.driver = driver
        self.requests, self.complaints = [], []

    def open(self, url):
        """Seconds until its load event has been handled."""
        began = time.monotonic()
        self.driver.get(url)
        return time.monotonic() - began

    def run(self, script, *args):
        return self.driver.execute_script(script, *args)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.textContent", selector)

    def rows(self, table):
        """Of the table with this id: a list of texts for each row of its body."""
        return self.run("return [...document.querySelectorAll('#' + arguments[0] + ' tbody tr')]"
                        ".map((row) => [...row.cells].map((cell) => cell.textContent))", table)

    def titles(self, table):
        return self.run("return [...document.querySelectorAll('#' + arguments[0] + ' thead th')]"
                        ".map((cell) => cell.textContent)", table)

    def column(self, table, title):
        at = self.titles(table).index(title)
        return [row[at] for row in self.rows(table)]

    def wait(self, predicate, what, timeout=20):
        return wait_until(predicate, timeout, lambda: f"{what}: {self.run('return document.body.innerText')}")

    def observe(self):
        """Takes what the browser has logged since; (URLs asked for, complaints)."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        self.complaints += [entry["message"] for entry in self.driver.get_log("browser")]
        return self.requests, self.complaints


@contextlib.contextmanager
def browser(width=1280, height=1000, dark=False):
    """Skips the test where there is no Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not shutil.which(CHROMIUM) or not shutil.which(DRIVER):
        pytest.skip("no chromium and chromium-driver: etc/install-deps.sh all")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--no-proxy-server", "--disable-background-networking",
                     f"--user-data-dir={scratch_dir('chromium')}",
                     f"--window-size={width},{height}"):
        options.add_argument(argument)
    if dark:
        options.add_argument("--force-dark-mode")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    from selenium.webdriver.chrome.service import Service
    driver = webdriver.Chrome(service=Service(DRIVER), options=options)
    try:
        if dark:
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
                {"name": "prefers-color-scheme", "value": "dark"}]})
        yield Page(driver)
    finally:
        driver.quit()
