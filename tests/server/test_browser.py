"""The dashboard in a browser: an order is watched, approved, and seen to finish."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parent.parent.parent
ARTIFACTS = ROOT / "artifacts"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# Without these it asks the network for updates and the like, and waits.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ORDER = {"customer": "ada", "item": "tea", "total": 42}
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}

if CHROMIUM is None and os.environ.get("CI"):
    pytest.fail("CI has no Chromium: install Debian's package `chromium`", pytrace=False)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The example, served by the command; its address."""
    journal = f"sqlite:///{tmp_path_factory.mktemp('approval')}/orders.db"
    code = "from plait.cli import main; main()"
    targets = ["orders:orders", "orders:refund"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", *targets, "--journal", journal, "--port", "0"],
        cwd=ROOT / "examples" / "approval",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process.stdout.readline().split()[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, server):
    """A page, whose console is to stay silent and whose requests are to stay at home."""
    contexts, wrong = [], []

    def open_page(path, **options):
        context = browser.new_context(viewport=options.pop("viewport", DESK), **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith(server) or wrong.append(request.url),
        )
        page.goto(f"{server}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def test_an_order_is_watched_approved_and_seen_to_finish(server, visit):
    answer = httpx.post(
        f"{server}/api/workflows/orders/runs", json=ORDER, headers={"Idempotency-Key": "order-42"}
    )
    assert answer.status_code == 202
    page = visit("/runs/order-42")
    approve = page.get_by_role("button", name="Approve")
    expect(approve).to_be_visible(timeout=15_000)  # it comes by itself, once the run waits
    picture(page, "run-waiting")
    check_accessibility(page)
    watching = visit("/runs/order-42")
    approve.click()
    expect(page.get_by_text("The signal was sent.")).to_be_visible()
    for seen in (page, watching):
        expect(seen.locator("[data-live=status]")).to_contain_text("completed", timeout=15_000)
        expect(seen.get_by_role("heading", name="Result")).to_be_visible()
    expect(page.get_by_text("ada paid 42").first).to_be_visible()
    check_bars(page)
    picture(page, "run-completed")
    check_accessibility(page)


def test_an_order_is_started_rejected_and_resumed_by_keyboard(visit):
    page = visit("/workflows")
    check_accessibility(page)
    picture(page, "workflows")
    page.get_by_label("Input, as JSON").first.focus()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text('{"customer": "grace", "item": "salt", "total": 7}')
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    reject = page.get_by_role("button", name="Reject")
    expect(reject).to_be_visible(timeout=15_000)
    reject.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="PermissionError")).to_be_visible(timeout=15_000)
    picture(page, "run-failed")
    check_accessibility(page)
    resume = page.get_by_role("button", name="Resume from what failed")
    resume.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("The run goes on from what failed.")).to_be_visible()


def test_a_form_that_was_begun_is_not_taken_away(server, visit):
    httpx.post(
        f"{server}/api/workflows/refund/runs", json=ORDER, headers={"Idempotency-Key": "refund-1"}
    )
    page = visit("/runs/refund-1")
    box = page.get_by_label("What it brings, as JSON").first
    expect(box).to_be_visible(timeout=15_000)
    expect(box).to_have_value('{\n  "is_accepted": true,\n  "reviewer": ""\n}')
    box.fill('{"is_accepted": true, "reviewer": "grace"}')
    page.get_by_role("button", name="Send review").click()
    expect(page.get_by_text("accepted by grace").first).to_be_visible(timeout=15_000)


@pytest.mark.parametrize(
    ("name", "viewport", "scheme"), [("desk", DESK, "light"), ("phone", PHONE, "dark")]
)
def test_it_is_readable_on_every_screen(server, visit, name, viewport, scheme):
    run_id = f"order-for-the-{name}-{'0123456789abcdef' * 4}"
    httpx.post(
        f"{server}/api/workflows/orders/runs", json=ORDER, headers={"Idempotency-Key": run_id}
    )
    httpx.post(f"{server}/api/runs/{run_id}/signals/approval", json=name == "desk")
    httpx.get(f"{server}/api/runs/{run_id}", headers={"Prefer": "wait=20"}, timeout=60)
    page = visit("/", color_scheme=scheme, viewport=viewport)
    for path, what in (("/", "runs"), (f"/runs/{run_id}", "run"), ("/workflows", "workflows")):
        page.goto(f"{server}{path}")
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) <= 0
        picture(page, f"{what}-{name}-{scheme}")
        check_accessibility(page)


def test_the_list_shows_new_runs_by_itself(server, visit):
    page = visit("/?workflow=refund")
    httpx.post(
        f"{server}/api/workflows/refund/runs", json=ORDER, headers={"Idempotency-Key": "refund-9"}
    )
    expect(page.get_by_role("link", name="refund-9")).to_be_visible(timeout=15_000)


def check_bars(page):
    """Each node has a bar inside of its lane, and what came later begins further right."""
    boxes = {}
    for row in page.locator("table.nodes tbody tr").all():
        lane, bar = row.locator("svg.bars").bounding_box(), row.locator(".fill").bounding_box()
        assert lane["x"] - 2 <= bar["x"]
        assert bar["x"] + bar["width"] <= lane["x"] + lane["width"] + 2
        boxes[row.locator(".label").inner_text()] = bar
    assert boxes["1:check_stock"]["x"] < boxes["3:approval"]["x"] < boxes["4:charge"]["x"]
    assert boxes["3:approval"]["width"] > 10


def check_accessibility(page):
    found = Axe().run(page).response["violations"]
    serious = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    assert serious == [], [
        (rule["id"], [node["html"] for node in rule["nodes"]]) for rule in serious
    ]


def picture(page, name):
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)
