"""The page in a real browser over a real pipeline: one browser and one pipeline for all that one worker runs of it.

Each test brings about what it needs: with several workers a test may come first, or after any other.

Skipped where no Chromium is installed; there `BROWSER_REQUIRED=1` makes that a failure.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from bus.records import TradeIntent
from tests.kit import browser, pipeline
from tests.kit.eventually import eventually
from tests.kit.pipeline import Pipeline

browser.need()

TOKEN = "a-token-for-the-browser-tests"
WAIT_S = 20.0
PUPPET = """
window.listeners = 0;
const add = EventTarget.prototype.addEventListener;
EventTarget.prototype.addEventListener = function (...given) { window.listeners += 1; return add.apply(this, given); };
window.EventSource = class extends EventTarget { constructor() { super(); window.source = this; } close() {} };
"""
"""A stream that the test speaks through, and a count of every listener that was ever added."""


class Screen:
    """What a person sees and does."""

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def go(self, path: str) -> None:
        self.driver.get(self.url + path)

    def text(self, css: str = "body") -> str:
        try:
            return " ".join(str(self.driver.find_element(By.CSS_SELECTOR, css).text).split())
        except WebDriverException:  # between two pages there is no element, or one of the page before
            return ""

    def shows(self, words: str, css: str = "body", deadline_s: float = WAIT_S) -> None:
        try:
            eventually(lambda: words in self.text(css), deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{words!r} is not in {css}: {self.text(css)[:1_500]}") from error

    def sign_in(self, token: str) -> None:
        name = self.driver.find_element(By.ID, "operator")
        name.clear()
        name.send_keys("anna" + Keys.TAB + token + Keys.ENTER)

    def tab_to(self, words: str) -> None:
        """Press Tab until the element with this text has the focus: nothing else is a path for a keyboard."""
        for _ in range(60):
            self.driver.switch_to.active_element.send_keys(Keys.TAB)
            if self.driver.switch_to.active_element.text.strip() == words:
                return
        raise AssertionError(f"no Tab leads to {words!r}")

    def type(self, words: str) -> None:
        self.driver.switch_to.active_element.send_keys(words)

    def run(self, script: str, *given: object) -> object:
        return self.driver.execute_script(script, *given)


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    with browser.chromium() as found:
        yield found


@pytest.fixture(scope="module")
def run() -> Iterator[Pipeline]:
    with pipeline.running(
        dashboard={"port": pipeline.free_port(), "poll_s": 0.1},
        supervisor={"watchdog_s": 60.0},  # a store that is stopped must stay so until the page has said it
    ) as found:
        found.env["PILOT_DASHBOARD_TOKEN"] = TOKEN
        found.start()
        found.eventually(lambda: "Serves the dashboard on" in found.console())
        yield found


def first_trade(run: Pipeline) -> TradeIntent:
    """Return the first open trade, once there is one."""
    return run.eventually(lambda: run.intents("opened"))[0]


def steer(run: Pipeline, word: str, *, halts: int) -> None:
    """Let `pilot pause` or `pilot resume` bring about so many halts, unless it is so."""
    with run.reader() as reader:
        if len(reader.halts()) != halts:
            done = run.run(word, "--reason", "for the test", "--yes", command="pilot")
            assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def screen(driver: Chrome, run: Pipeline) -> Screen:
    return Screen(driver, f"http://127.0.0.1:{run.dashboard_port}")


def test_page_comes_alive_with_the_pipeline_and_shows_the_trade_open(screen: Screen, run: Pipeline) -> None:
    screen.go("/")
    before = screen.run("return document.timeline.currentTime") or 0
    screen.shows("Live", "#connection")
    screen.shows("position", "#part-answers", 40)
    opened = run.eventually(lambda: run.intents("opened"))
    for intent in opened:
        screen.shows(intent.symbol, "#part-holdings")
    screen.shows("Yes, trading", "#part-answers")
    assert float(str(screen.run("return document.timeline.currentTime"))) > float(str(before)), "it was loaded anew"
    paint_ms = screen.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert float(str(paint_ms)) < 5_000  # a second on an idle machine; `make screenshots` prints it
    assert browser.errors(screen.driver) == []


def test_change_reaches_the_page_and_pages_beside_it_without_errors(screen: Screen, run: Pipeline) -> None:
    intent = first_trade(run)
    for path, words in (("/intents", "Trade date"), ("/alerts", "Alerts"), (f"/intents/{intent.id}", "Order reserved")):
        screen.go(path)
        screen.shows("Live", "#connection")
        screen.shows(words)
    assert browser.errors(screen.driver) == []


@pytest.mark.parametrize("path", ["/", "/intents", "/alerts", "/sign-in", "intent"])
def test_phone_never_scrolls_sideways(screen: Screen, run: Pipeline, path: str) -> None:
    browser.resize(screen.driver, 375, 800, is_phone=True)
    try:
        screen.go(f"/intents/{first_trade(run).id}" if path == "intent" else path)
        screen.shows("prop-firm-pilot")
        wide = screen.run(
            "return [...document.querySelectorAll('main *')].filter(one => one.getBoundingClientRect().right > 376 && "
            "!one.closest('.hidden, thead')).map(one => one.outerHTML.slice(0, 80))"
        )
        assert wide == []
        assert screen.run("return document.documentElement.scrollWidth") == 375
    finally:
        browser.resize(screen.driver, 1280, 900)


@pytest.mark.parametrize("width", [1280, 375])
def test_no_sign_of_a_chart_is_cut_off(screen: Screen, run: Pipeline, width: int) -> None:
    first_trade(run)
    browser.resize(screen.driver, width, 900, is_phone=width == 375)
    try:
        screen.go("/")
        screen.shows("Equity, last weeks Now")
        cut = """const found = [...document.querySelectorAll("svg.chart text")];
            return [found.length, found.filter((one) => {
                const [text, chart] = [one, one.closest("svg")].map((it) => it.getBoundingClientRect());
                return text.left < chart.left || text.right > chart.right || text.bottom > chart.bottom + 1;
            }).map((one) => one.textContent)];"""
        number, outside = screen.run(cut)  # type: ignore[misc]
        assert number > 10 and outside == []
    finally:
        browser.resize(screen.driver, 1280, 900)


def test_names_roles_and_headings_are_there_for_who_hears_the_page(screen: Screen) -> None:
    screen.go("/")
    screen.shows("Live", "#connection")
    for css in ("header", "main", "footer", "nav[aria-label]", "[aria-live=polite]", "h1", "section[aria-labelledby]"):
        assert screen.driver.find_elements(By.CSS_SELECTOR, css), css
    silent = screen.run(
        "return [...document.querySelectorAll('svg[role=img]:not([aria-label]), th:not([scope]), a:empty, "
        "input:not([type=hidden]):not([id])')].map(one => one.outerHTML.slice(0, 80))"
    )
    assert silent == []
    levels = screen.run("return [...document.querySelectorAll('h1,h2,h3')].map(one => +one.tagName[1])")
    assert isinstance(levels, list) and levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(screen: Screen, scheme: str) -> None:
    browser.colours(screen.driver, scheme)
    screen.go("/")
    screen.shows("Live", "#connection")
    low = screen.run(browser.LOW_CONTRAST)
    assert low == []
    assert screen.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(245, 246, 248)" if scheme == "light" else "rgb(15, 19, 24)"
    )


def test_wrong_token_is_refused_and_pausing_works_by_keyboard_alone(screen: Screen, run: Pipeline) -> None:
    browser.colours(screen.driver, "light")
    steer(run, "resume", halts=0)
    screen.driver.delete_all_cookies()
    screen.go("/")
    screen.shows("Live", "#connection")
    screen.tab_to("Pause")
    outline = screen.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    screen.type(Keys.ENTER)
    screen.shows("Sign in", "h1")
    screen.sign_in("wrong")
    screen.shows("That is not the token.")
    screen.sign_in(TOKEN)
    screen.shows("Stop new orders?", "h1")
    screen.tab_to("No, go back")
    screen.driver.find_element(By.ID, "reason").send_keys("before the news" + Keys.ENTER)
    screen.shows("Applied")
    with run.reader() as reader:
        assert [halt.reason for halt in reader.halts()] == ["operator: anna: before the news"]
    screen.tab_to("To the overview")
    screen.type(Keys.ENTER)
    screen.shows("Halted: no new orders. operator: anna: before the news", "#part-banners")
    screen.shows("Running, but halted", "#part-answers")


def test_resuming_lifts_it_and_the_open_page_says_so(screen: Screen, run: Pipeline) -> None:
    steer(run, "pause", halts=1)
    screen.go("/")
    first = screen.driver.current_window_handle
    screen.driver.switch_to.new_window("tab")
    try:
        screen.go("/actions/resume")
        if screen.text("h1") == "Sign in":
            screen.sign_in(TOKEN)
            screen.shows("?", "h1")
        screen.driver.find_element(By.ID, "reason").send_keys("it is over" + Keys.ENTER)
        screen.shows("Applied")
    finally:
        screen.driver.close()
        screen.driver.switch_to.window(first)
    screen.shows("Yes, trading", "#part-answers")
    assert screen.text("#part-banners") == ""


def test_page_outlives_store_and_dashboard_and_says_what_is_wrong_meanwhile(screen: Screen, run: Pipeline) -> None:
    steer(run, "resume", halts=0)
    screen.go("/")
    screen.shows("Live", "#connection")
    screen.run("window.mine = 1")
    browser.errors(screen.driver)
    store = run.kill("store", signal.SIGSTOP)
    screen.shows("The store is silent", "#part-banners")
    screen.shows("No: it is not running", "#part-answers")
    dashboard = run.kill("dashboard")
    screen.shows("Not live since", "#connection")
    run.kill_pid(store)
    run.replaced("dashboard", dashboard)
    screen.shows("Live", "#connection")
    screen.shows("Yes, trading", "#part-answers", 40)
    assert screen.run("return window.mine") == 1, "the page was loaded anew"
    assert all("events" in entry["message"] for entry in browser.errors(screen.driver))


def test_page_that_stays_open_does_not_grow(screen: Screen) -> None:
    """Thousands of updates of every part, as a day brings them: nodes and listeners stay."""
    made = screen.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": PUPPET})
    screen.go("/")
    screen.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": made["identifier"]})
    grown = screen.run("""
        const counts = () => [document.querySelectorAll('*').length, window.listeners];
        const parts = [...document.querySelectorAll('[id^=part-]')];
        const texts = parts.map(part => part.innerHTML);
        const before = counts();
        for (let number = 0; number < 3000; number += 1) {
          const index = number % parts.length;
          const changed = {[parts[index].id.slice(5)]: `${texts[index]}<!-- ${number} -->`};
          const data = JSON.stringify({now: new Date().toISOString(), parts: changed});
          window.source.dispatchEvent(new MessageEvent('parts', {data}));
        }
        return [before, counts(), parts.at(-1).innerHTML.includes('<!-- 29')];""")
    assert isinstance(grown, list)
    assert grown[2], "the parts were not replaced"
    assert grown[0] == grown[1]
    assert 0 < grown[0][1] <= 12


def test_open_pages_do_not_hold_up_the_end(screen: Screen, run: Pipeline) -> None:
    screen.go("/")
    screen.shows("Live", "#connection")
    began_s = time.monotonic()
    pid = run.kill("dashboard", signal.SIGTERM)
    eventually(lambda: pid not in run.processes(), 8)
    assert time.monotonic() - began_s < 8
    assert run.stop(signal.SIGINT) == 0
