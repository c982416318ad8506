"""`make screenshots`: the pictures in docs/pictures, of a real pipeline with the paper broker.

Prints how long the first page took. Writes nothing else; needs Chromium and its driver.
"""

from __future__ import annotations

import base64
import random
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

from selenium.webdriver import Chrome

from bus.clock import iso
from bus.vocabulary import Status
from config import load
from store import connection
from store.board import Board
from tests.kit import browser, pipeline
from tests.kit.eventually import eventually
from tests.kit.pipeline import Pipeline

FOLDER = load.ROOT / "docs" / "pictures"
WIDTH, PHONE = 1280, 390
SEED = 7
HEIGHT_MAX, PHONE_HEIGHT = 2_400, 844


class Camera:
    """Takes pictures of one pipeline's pages."""

    def __init__(self, driver: Chrome, run: Pipeline) -> None:
        self.driver = driver
        self.url = f"http://127.0.0.1:{run.dashboard_port}"

    def take(self, name: str, path: str = "/", *, scheme: str = "light", height: int = 0, width: int = WIDTH) -> None:
        is_phone = width == PHONE
        browser.colours(self.driver, scheme)
        browser.resize(self.driver, width, height or 900, is_phone=is_phone)
        self.driver.get(self.url + path)
        eventually(lambda: "Live" in self.driver.find_element("id", "connection").text)
        if not height:
            whole = int(self.driver.execute_script("return document.documentElement.scrollHeight"))
            browser.resize(self.driver, width, min(whole, HEIGHT_MAX), is_phone=is_phone)
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.png").write_bytes(base64.b64decode(self.driver.get_screenshot_as_base64()))
        sys.stdout.write(f"docs/pictures/{name}.png\n")

    def paint_ms(self) -> float:
        """Return when the page that is shown had its first content on the screen."""
        script = "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
        return float(self.driver.execute_script(script))


def main() -> None:
    """Renew all pictures."""
    with pipeline.running(dashboard={"port": pipeline.free_port()}) as run, browser.chromium() as driver:
        run.env["PILOT_DASHBOARD_TOKEN"] = "only-for-the-pictures"
        _past(run)
        run.start()
        run.eventually(run.all_settled, 60)
        camera = Camera(driver, run)
        ended = run.intents(str(Status.OPENED))[-1]
        said = run.run("close", ended.id, "--reason", "before the weekend", "--yes", command="pilot")
        assert said.returncode == 0, said.stderr
        run.eventually(lambda: run.intents(str(Status.CLOSED)), 30)
        pips = ("--sl", "4000", "--tp", "9000")  # so far away that even the smallest order would risk too much
        run.run("submit", "USDCHF", "BUY", *pips, "--reason", "range breakout", "--yes", command="pilot")
        run.eventually(lambda: run.intents(str(Status.REJECTED)), 30)
        _move_prices(run)
        camera.take("desktop-light")
        sys.stdout.write(f"first content after {camera.paint_ms():.0f} ms\n")
        camera.take("desktop-dark", scheme="dark")
        camera.take("phone", width=PHONE, height=PHONE_HEIGHT)
        camera.take("intent", f"/intents/{ended.id}", height=1_500)
        said = run.run("pause", "--reason", "payrolls in ten minutes", "--yes", command="pilot")
        assert said.returncode == 0, said.stderr
        camera.take("halted", height=900)


def _past(run: Pipeline) -> None:
    """Write the readings of an account that has been watched for twelve days: simulated, as all prices here are."""
    run.data.mkdir(mode=0o700)
    db = connection.open_writer(run.data / "decisions.db")
    dice, now = random.Random(SEED), datetime.now(UTC)
    cents, balance = 5_000_000, 5_000_000
    with closing(db), db:
        for minutes in range(12 * 24 * 60, 0, -5):
            at = now - timedelta(minutes=minutes)
            cents += int(dice.gauss((5_000_000 - cents) * 0.004 / max(1, minutes / 600), 700))
            balance = cents if dice.random() < 0.02 else balance
            db.execute(
                "INSERT INTO equity_samples VALUES (?, ?, ?, ?, 0, 1, 0, 0, 'ok')",
                (iso(at), at.date().isoformat(), balance, cents),
            )


def _move_prices(run: Pipeline) -> None:
    """Let the account swing for a while, so that there is a curve to see."""
    with run.reader() as reader:
        orders = [order for order in reader.orders() if order.status == "opened"]
    for step in (0.15, -0.25, 0.1, 0.3, 0.2, 0.45):
        for order in orders:
            plan = order.plan
            price = plan.entry_price + (plan.tp_price - plan.entry_price) * int(step * 100) / 100
            run.broker("/paper/price", symbol=plan.broker_symbol, bid=str(price.quantize(plan.sl_price)))
        now = _samples(run)
        run.eventually(lambda now=now: _samples(run) > now + 1)


def _samples(run: Pipeline) -> int:
    """Return how many readings of the last minutes a curve would show."""
    with closing(Board(run.data / "decisions.db")) as board:
        now = datetime.now(UTC)
        return len(board.curve(now - timedelta(minutes=5), now, 300))


if __name__ == "__main__":
    main()
