"""The example, walked through in a real browser.

It needs Chromium and its driver, which no wheel brings.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urljoin

import psycopg
import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from sa_history.testing import PgServer
from tests.programs import CHROMEDRIVER, CHROMIUM

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent.parent
SCRIPT = "<script>document.title = 'pwned'</script>"

Kiosk: TypeAlias = Callable[[], list[str]]
"""Waits for what the example prints once it can be used."""


@pytest.fixture(scope="module")
def axe(request: pytest.FixtureRequest) -> str:
    """The script of axe-core, which finds what keeps people from using a page."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        missing = "not installed: axe-playwright-python"
        if request.config.getoption("--require-programs"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return Path(spec.origin).with_name("axe.min.js").read_text()


def databases_of(process: subprocess.Popen[str], server: PgServer) -> int:
    url = server.url.set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        query = "SELECT FROM pg_database WHERE starts_with(datname, %s)"
        return connection.execute(query, (f"kiosk_{process.pid}_",)).rowcount


@pytest.fixture(scope="module")
def browser_and_driver(programs: Callable[..., list[str]]) -> list[str]:
    """Where both programs are; asked for before anything is started."""
    return programs(CHROMIUM, CHROMEDRIVER)


@pytest.fixture(scope="module")
def kiosk(
    browser_and_driver: list[str],
    pg_server: PgServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kiosk]:
    """The example, started as ``nox -s example`` does it."""
    log = tmp_path_factory.mktemp("kiosk") / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "examples/flask_app/serve.py", "--port=0", "--orders=40"],
            cwd=ROOT,
            env={
                **os.environ,
                "DATABASE_URL": pg_server.url.render_as_string(hide_password=False),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Shells have what they start in the background ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    assert process.stdout is not None
    with process.stdout as printed:
        try:
            yield lambda: [printed.readline() for _ in range(3)]
            serving = databases_of(process, pg_server)
        finally:
            process.send_signal(signal.SIGINT)
            rest = printed.read()
            status = process.wait()
    assert (status, rest) == (0, "\nAll is gone.\n"), log.read_text()
    assert (serving, databases_of(process, pg_server)) == (1, 0)


class Browser:
    """A headless Chromium, and what somebody does with it."""

    def __init__(self, browser: str, driver: str, profile: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for argument in (
            "--headless=new",
            "--no-sandbox",  # which root has no use of
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1200,900",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(driver))
        self.admin = self.password = ""

    def open(self, address: str) -> None:
        self.driver.get(address)

    def visit(self, path: str) -> None:
        """Open another page of the site."""
        self.open(urljoin(self.driver.current_url, path))

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def go(self, leave: Callable[[], Any]) -> None:
        """Do what leads to another page, and wait until it is there."""
        self.driver.execute_script("window.before = true")
        leave()
        there = "return !window.before && document.readyState == 'complete'"
        # It may be asked between the pages.
        wait = WebDriverWait(self.driver, 10, 0.02, [WebDriverException])
        wait.until(lambda driver: driver.execute_script(there))

    def follow(self, text: str) -> None:
        self.go(self.driver.find_element(By.LINK_TEXT, text).click)

    def press(self, text: str) -> None:
        button = f"//button[normalize-space()='{text}' or @aria-label='{text}']"
        self.go(self.driver.find_element(By.XPATH, button).click)

    def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            field = self.one(f"main [name={name}]")
            if field.tag_name == "select":
                Select(field).select_by_visible_text(value)
            else:
                field.clear()
                field.send_keys(value)

    def log_in(self, name: str, password: str) -> None:
        self.fill(name=name, password=password)
        self.press("Log in")

    def texts(self, css: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])]"
        found: list[str] = self.driver.execute_script(
            f"{script}.map(element => element.innerText.trim())", css
        )
        return found

    def headings(self) -> list[str]:
        return self.texts("article h2")

    def events(self) -> list[int]:
        """Return the numbers of the events on the page."""
        found = self.all("[data-event]")
        return [int(event.get_attribute("data-event") or "") for event in found]

    def about(self, number: int) -> list[str]:
        """Return the labels of the events of a card, and its request."""
        about = f".cards > li:nth-child({number + 1}) .about"
        return self.texts(f"{about} .label, {about} time + a")

    def rows(self, inside: str) -> dict[str, list[str]]:
        """Return a table, by what its rows are headed."""
        script = "return [...document.querySelectorAll(arguments[0])]"
        cells = "[...row.children].map(cell => cell.innerText.trim())"
        rows = self.driver.execute_script(
            f"{script}.map(row => {cells})", f"{inside} tbody tr"
        )
        return {head: cells for head, *cells in rows}

    def show(self, screen: dict[str, Any], **features: str) -> None:
        """Have a screen of a size, and what somebody prefers, such as dark colours."""
        send = self.driver.execute_cdp_cmd
        media = [{"name": n.replace("_", "-"), "value": v} for n, v in features.items()]
        send("Emulation.setDeviceMetricsOverride", screen)
        send("Emulation.setEmulatedMedia", {"features": media})

    def violations(self, axe: str) -> list[str]:
        """Return what axe finds on the page."""
        found = self.driver.execute_async_script(
            f"{axe}; const done = arguments[0]; axe.run().then(found => done("
            "found.violations.flatMap(rule => rule.nodes.map("
            "node => `${rule.id}: ${node.html}`))), error => done([String(error)]))"
        )
        return [*found]

    def is_shown(self, css: str) -> bool:
        return self.one(css).is_displayed()

    def picture(self) -> bytes:
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {})
        return base64.b64decode(taken["data"])


@pytest.fixture(scope="module")
def logged_in(
    browser_and_driver: list[str],
    kiosk: Kiosk,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Browser]:
    """The browser, where the admin has logged in with what was printed."""
    browser = Browser(*browser_and_driver, tmp_path_factory.mktemp("profile"))
    try:
        address, login, password = kiosk()
        browser.open(address.strip())
        browser.admin = login.removeprefix("Log in as ").partition(",")[0]
        browser.password = password.removeprefix("everybody's password is ").partition(
            "."
        )[0]
        browser.log_in(browser.admin, browser.password)
        assert browser.one("h1").text == "Everything that changed"
        yield browser
    finally:
        browser.driver.quit()


PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
SCREEN = {"width": 1200, "height": 900, "deviceScaleFactor": 1, "mobile": False}


@pytest.fixture
def browser(logged_in: Browser) -> Browser:
    """The browser, at the timeline."""
    logged_in.show(SCREEN, prefers_color_scheme="light")
    logged_in.visit("/history/")
    return logged_in


def take_picture(browser: Browser, name: str, screen: dict[str, Any]) -> None:
    """Take a picture of the docs."""
    picture = browser.picture()
    size = struct.unpack(">II", picture[16:24])
    assert size == (screen["width"], screen["height"])
    assert len(picture) < 150_000
    if os.environ.get("PICTURES") == "rewrite":
        (ROOT / "docs" / "images" / f"{name}.png").write_bytes(picture)


def test_pages_fit_phones_and_screens_and_keyboards(browser: Browser) -> None:
    page = "const page = document.documentElement;"
    width = "return [page.scrollWidth, page.clientWidth]"
    colour = "return getComputedStyle(document.body).color"

    def look(name: str, screen: dict[str, Any], colours: str, text: str) -> None:
        browser.show(screen, prefers_color_scheme=colours)
        assert browser.driver.execute_script(page + width) == [screen["width"]] * 2
        assert browser.driver.execute_script(colour) == text
        take_picture(browser, name, screen)

    look("timeline-phone", PHONE, "dark", "rgb(230, 232, 235)")
    look("timeline", SCREEN, "light", "rgb(28, 30, 33)")

    browser.one("body").send_keys(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the events"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.driver.switch_to.active_element == browser.one("main")

    browser.fill(table="Order", user="ada")
    browser.press("Filter")
    browser.go(browser.one("article h2 a, article h3 a").click)
    Select(browser.one("[name=version]")).select_by_index(len(browser.events()) - 1)
    browser.press("Compare")
    assert browser.one("[aria-label=Comparison] caption")
    look("object", SCREEN, "light", "rgb(28, 30, 33)")

    browser.visit("/history/chart")
    look("chart", SCREEN, "light", "rgb(28, 30, 33)")


def test_an_order_is_written_and_its_history_read_and_restored(
    browser: Browser,
) -> None:
    # An order, as a customer makes it at the counter.
    browser.visit("/orders/new")
    browser.fill(customer="Zoë Winter", address="1 Mill Lane")
    browser.press("Save")
    order = browser.one("h1").text
    path = f"/{order.lower().replace(' ', 's/')}"
    for product in ("umbrella", "candle"):
        choice = Select(browser.one("[name=product]"))
        choice.select_by_visible_text(
            next(o.text for o in choice.options if o.text.startswith(product))
        )
        browser.press("Add")

    # It is edited, and loses an item.
    browser.fill(customer="Zoë Summer", status="paid", note=SCRIPT)
    browser.one("[name=tag]").click()
    browser.press("Save")
    button = browser.one("[aria-label$=candle]")
    item = button.get_attribute("aria-label").split()[2].strip(",")
    browser.go(button.click)
    assert browser.one("[role=status]").text == "The candle is deleted."

    # Both are on the timeline: who, in which request, and what.
    browser.follow("History")
    newest, *_ = browser.headings()
    assert newest == f"ada deleted Item {item}"
    assert browser.about(0) == [f"POST {path}/items/{item}/delete", "delete"]
    browser.one("article summary").click()
    deleted = browser.rows(".cards > li:first-child")
    assert (deleted["id"], deleted["quantity"]) == ([item], ["1"])
    edited = browser.headings().index("ada created Tag on an order, changed Order")
    assert browser.about(edited) == [f"POST {path}", "snapshot", "snapshot"]
    browser.go(
        browser.all("article")[edited].find_element(By.LINK_TEXT, f"POST {path}").click
    )
    assert browser.one("h1").text == "Changed together"
    (together,) = browser.headings()
    assert together == "ada created Tag on an order, changed Order"
    tagged, changed = browser.texts("article h3")
    assert tagged.startswith(f"created Tag on an order ({order}, Zoë Summer, Tag ")
    assert changed == f"changed {order}"
    assert browser.rows("main > .row")["endpoint"] == ["kiosk.order"]
    assert browser.rows(".diff") == {
        "customer": ["Zoë Winter", "Zoë Summer"],
        "status": ["new", "paid"],
        "note": ["", SCRIPT],
    }

    # All that somebody did with orders, and page by page.
    browser.follow("History")
    browser.fill(table="Order", user="ben")
    browser.press("Filter")
    first, events = browser.headings(), browser.events()
    assert len(events) == 25
    browser.follow("Older events")
    second, older = browser.headings(), browser.events()
    assert max(older) < min(events)
    for heading in first + second:
        assert heading.startswith(("ben created Order ", "ben changed Order "))

    # Two versions of the order, and back to the first.
    browser.visit(path)
    browser.follow("History of this order")
    assert browser.headings() == [f"ada changed {order}", f"ada created {order}"]
    before, after = (Select(place) for place in browser.all("[name=version]"))
    before.select_by_index(1)
    after.select_by_index(0)
    browser.press("Compare")
    assert browser.rows("[aria-label=Comparison]") == {
        "customer": ["Zoë Winter", "Zoë Summer"],
        "status": ["new", "paid"],
        "note": ["", SCRIPT],
    }
    version = browser.events()[1]
    browser.go(browser.one(f"a[href$='/restore/orders_event/{version}']").click)
    assert browser.texts("h1") == [f"Restore {order}"]
    assert browser.rows(".diff")["customer"] == ["Zoë Summer", "Zoë Winter"]
    browser.press("Restore")
    said = f"The version of event {version} is restored."
    assert browser.texts("[role=status]") == [said]
    told = f"ada restored version {version}: changed {order}"
    assert browser.headings()[0] == told
    assert browser.rows(".cards > li:first-child")["customer"] == [
        "Zoë Summer",
        "Zoë Winter",
    ]
    restored = f"POST /history/restore/orders_event/{version}"
    assert browser.about(0) == [restored, "snapshot"]
    browser.follow(restored)
    assert browser.rows("main > .row")["restored"] == [str(version)]
    assert browser.rows("main > .row")["user"] == ["ada"]
    browser.visit(path)
    assert browser.one("[name=customer]").get_attribute("value") == "Zoë Winter"
    assert browser.one("[name=note]").get_attribute("value") == ""

    log = [entry["message"] for entry in browser.driver.get_log("browser")]
    assert not [message for message in log if "Content Security Policy" in message]


def test_an_order_that_was_deleted_with_all_it_had_comes_back(
    axe: str, browser: Browser
) -> None:
    browser.visit("/orders/new")
    browser.fill(customer="Ida Frost", address="3 Low Road")
    browser.press("Save")
    order = browser.one("h1").text
    path = f"/{order.lower().replace(' ', 's/')}"
    for _ in range(2):
        browser.press("Add")
    browser.one("[name=tag]").click()
    browser.press("Save")
    browser.press("Delete this order")

    # One card has all that the request did, and leads to its undo, by the keyboard.
    browser.visit("/history/")
    assert browser.headings()[0] == "ada deleted Order, Item (2), Tag on an order"
    browser.go(lambda: browser.one("a[href$='/undo']").send_keys(Keys.ENTER))
    undo = browser.driver.current_url
    assert browser.texts("h1") == ["Undo what was changed together"]
    assert browser.rows("main > table") == {
        "Order": ["create", "1"],
        "Tag on an order": ["create", "1"],
        "Item": ["create", "2"],
    }
    assert f"created {order}" in browser.texts("h3")
    take_picture(browser, "undo", SCREEN)
    assert browser.violations(axe) == []
    button = browser.one("main form button")
    browser.go(lambda: button.send_keys(Keys.ENTER))
    assert browser.texts("[role=status]")[0].startswith("4 rows are as before.")
    assert browser.headings()[0].startswith("ada undid what was changed together: ")
    assert browser.violations(axe) == []

    # It is back, and what undid it could be undone as well.
    browser.visit(path)
    assert browser.one("[name=customer]").get_attribute("value") == "Ida Frost"
    assert len(browser.all("[aria-label^='Delete item']")) == 2
    assert browser.one("[name=tag]").is_selected()
    browser.open(undo)
    assert browser.texts("h2")[0] == "What prevents it"
    assert len(browser.texts(".conflicts li")) == 4
    assert browser.violations(axe) == []
    browser.follow("Back without a change")
    assert browser.headings() == ["ada deleted Order, Item (2), Tag on an order"]


STATES = {
    "all events": "/history/",
    "filtered": "/history/?table=orders_event&user=ada&period=month",
    "nothing found": "/history/?text=no%20such%20text",
    "wrong filters": "/history/?since=x&until=x&context=x&period=x&table=x&text=y",
    "chart": "/history/chart",
    "chart of nothing": "/history/chart?user=nobody",
    "chart with wrong filters": "/history/chart?since=x",
    "sizes": "/history/size?keep=1+year",
    "sizes for a wrong time": "/history/size?keep=x",
    "an object": "/history/objects/orders_event/1",
    "an object at a wrong time": "/history/objects/orders_event/1?at=then",
    "an object long ago": "/history/objects/orders_event/1?at=2001-01-01",
    "an object today": "/history/objects/orders_event/1?at=2999-01-01",
    "not found": "/history/nowhere",
    "what cannot be undone": "/history/transactions/1/undo",
    "not understood": "/history/?before=x",
    "not to be restored": "/history/restore/orders_event/1",
}


PREVIEWS = {
    "what an undo would write": "a[href$='/undo']",
    "what a restore would write": "a[href*='/restore/']",
}
"""The links that lead to them from a list."""


@pytest.mark.parametrize(
    ("scheme", "screen"), [("light", SCREEN), ("dark", PHONE)], ids=["screen", "phone"]
)
def test_nothing_keeps_anybody_from_using_a_page(
    scheme: str, screen: dict[str, Any], axe: str, browser: Browser
) -> None:
    browser.show(screen, prefers_color_scheme=scheme)
    browser.visit("/history/?table=orders_event")
    previews = {
        name: str(browser.all(css)[-1].get_attribute("href"))
        for name, css in PREVIEWS.items()
    }
    found = {}
    for name, path in {**STATES, **previews}.items():
        go = browser.open if name in previews else browser.visit
        go(path)
        assert browser.one("h1").text
        found[name] = browser.violations(axe)
        wide = "const page = document.documentElement; return page.scrollWidth"
        assert (name, browser.driver.execute_script(wide)) == (name, screen["width"])
        for summary in browser.all(".fold a, summary"):
            if summary.is_displayed():
                summary.click()
        found[f"{name}, unfolded"] = browser.violations(axe)
    assert not {name: rules for name, rules in found.items() if rules}


def test_who_is_turned_away_is_led_back(axe: str, browser: Browser) -> None:
    browser.driver.delete_all_cookies()
    try:
        browser.visit("/login")
        browser.log_in("ben", browser.password)
        browser.visit("/history/")
        assert browser.one("h1").text == "Not allowed"
        assert browser.violations(axe) == []
        browser.follow("Back to the application")
        assert browser.one("h1").text == "Orders"
    finally:
        browser.driver.delete_all_cookies()
        browser.visit("/login")
        browser.log_in(browser.admin, browser.password)


def test_filters_are_folded_on_a_phone(browser: Browser) -> None:
    assert browser.is_shown("[name=user]")
    assert not browser.is_shown(".fold a")
    browser.show(PHONE)
    assert not browser.is_shown("[name=user]")
    browser.one(".fold a").send_keys(Keys.ENTER)
    browser.fill(user="ada")
    browser.press("Filter")
    assert browser.texts(".fold a") == ["Filters (1)"]
    assert not browser.is_shown("[name=user]")
    browser.visit("/history/?since=x")
    assert browser.is_shown("[name=since][aria-invalid]")


def test_the_chart_filters_by_a_click_or_by_the_keyboard(browser: Browser) -> None:
    browser.fill(table="Order")
    browser.press("Filter")
    browser.follow("Changes a day")
    (title,) = browser.texts(".chart h2")
    bars = browser.all(".chart a")
    heights = [float(b.get_attribute("height")) for b in browser.all(".bar")]
    assert title.startswith("Order: ")
    assert max(heights) == 40
    label = bars[-1].get_attribute("aria-label")
    browser.go(bars[-1].find_element(By.CSS_SELECTOR, ".bar").click)
    number = int(label.rpartition(": ")[2].split()[0].replace(",", ""))
    assert len(browser.events()) == min(number, 25)
    assert all(" Order " in heading for heading in browser.headings())
    address = browser.driver.current_url

    browser.follow("Changes a day")
    browser.visit("/history/chart?table=orders_event")
    browser.one("main > details > summary").send_keys(Keys.ENTER)
    browser.go(lambda: browser.all("td a")[-1].send_keys(Keys.ENTER))
    assert browser.driver.current_url == address


def test_events_lead_into_the_application_and_to_files(browser: Browser) -> None:
    browser.visit("/history/?table=orders_event")
    link = browser.driver.find_element(By.PARTIAL_LINK_TEXT, "in the application")
    number = link.text.split()[2]
    browser.go(link.click)
    assert browser.one("h1").text == f"Order {number}"
    browser.visit("/history/?user=ben")
    for link in browser.all("[download]"):
        assert "user=ben" in link.get_attribute("href")


def test_a_printed_page_has_the_events_and_no_forms(browser: Browser) -> None:
    browser.visit("/history/chart")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert browser.is_shown(".chart svg")
        assert not browser.is_shown(".fold")
        assert not browser.is_shown(".tools")
        browser.visit("/history/")
        assert browser.is_shown("article h2")
        for form in browser.all("form"):
            assert not form.is_displayed()
        browser.visit("/history/objects/orders_event/1")
        height = "return document.querySelector('details td').clientHeight"
        assert browser.driver.execute_script(height) > 0
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
