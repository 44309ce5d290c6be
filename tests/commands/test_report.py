"""`fusion-train report` as a user enters it, and its page in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.chromium import Browser, browser, find_chromium
from helpers.clip_store import shards, ucf_specs, write_clip_store
from helpers.command import fusion_train
from helpers.html_page import Page
from helpers.run_folder import write_run

from fusion_train.report import write_report

PHONE, DESK, A4 = 390, 1280, 718  # paper of 210 mm without its margins, at 96 pixels an inch
CLASSES = [f"Class{name}WithALongName" for name in "ABCDEFGHIJKL"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a made-up run of twelve classes, whose videos are those of a store."""
    folder = tmp_path_factory.mktemp("pages")
    specs = ucf_specs(6, 4)
    store = write_clip_store(folder / "flow", shards(), specs)
    write_run(folder / "run", CLASSES, ids=[spec.id for spec in specs], data=store)
    done = fusion_train("report", folder / "run")
    assert done.stdout.strip() == str(folder / "run" / "report.html")
    assert (
        done.stderr.strip()
        == f"The store {store} is not as it was when the networks were trained; its videos may be others."
    )
    return folder / "run" / "report.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium; `apt-get install chromium`")
    with browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def test_the_page_is_whole_and_alone(page: Path) -> None:
    parsed = Page(page)
    parsed.check()
    assert len(parsed.all("img")) > 50
    assert {path.name for path in page.parent.iterdir()} == {"report.html", "run.json", "split_1"}


def test_an_error_is_one_sentence(tmp_path: Path) -> None:
    done = fusion_train("report", tmp_path, expect=2)
    assert done.stderr.startswith(f"Error: {tmp_path} is not the folder of a run; give what")
    assert done.stdout == ""


@pytest.mark.parametrize("width", [PHONE, 768, DESK])
def test_a_browser_shows_it_without_complaint_and_without_scrolling_sideways(
    page: Path, chromium: Browser, width: int
) -> None:
    chromium.open(page, width=width)
    assert chromium.problems == []
    assert [request for request in chromium.requests if not request.startswith("data:")] == [page.resolve().as_uri()]
    assert chromium.evaluate("document.documentElement.scrollWidth") == width
    assert chromium.evaluate("document.body.scrollWidth") <= width
    # What is wider than the screen is in a box that scrolls by itself.
    beyond = """[...document.querySelectorAll('main *')]
        .filter(one => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('.scroll'))
        .map(one => one.outerHTML.slice(0, 80))"""
    assert chromium.evaluate(beyond) == []
    broken = "[...document.images].filter(one => !one.complete || !one.naturalWidth).length"
    assert chromium.evaluate(broken) == 0


@pytest.mark.parametrize("dark", [False, True])
def test_a_screenshot_is_not_blank_and_follows_the_system_colours(page: Path, chromium: Browser, dark: bool) -> None:
    chromium.open(page, width=DESK, dark=dark)
    image = cv2.imdecode(np.frombuffer(chromium.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    assert image.shape[1] == DESK
    assert (np.median(image) < 60) == dark
    assert (np.abs(image.astype(int) - np.median(image)) > 60).mean() > 0.01


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_what_is_behind_it(page: Path, chromium: Browser, dark: bool) -> None:
    """4.5 to 1, as WCAG 2 asks for; SVG texts are on the paper."""
    chromium.open(page, width=DESK, dark=dark)
    found = chromium.evaluate(_CONTRASTS)
    assert len(found) > 100
    assert [one for one in found if one[0] < 4.5] == []


_CONTRASTS = """(() => {
  const parsed = text => text.match(/[\\d.]+/g).map(Number);
  const light = rgb => rgb.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = one => {
    for (; one; one = one.parentElement) {
      const colour = parsed(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || one.closest('title, script, .count, .hidden')) continue;
    const style = getComputedStyle(one);
    const [a, b] = [light(parsed(one.closest('svg') ? style.fill : style.color)), light(behind(one))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.outerHTML.slice(0, 80)]);
  }
  return found;
})()"""


def test_heads_sort_the_classes(page: Path, chromium: Browser) -> None:
    chromium.open(page, width=DESK)
    table = "document.querySelector('#class-table')"
    names: list[str] = chromium.evaluate(f"[...{table}.tHead.rows[0].cells].map(cell => cell.textContent)")
    gain = names.index("gain over late fusion")

    def column(number: int) -> list[str]:
        value = f"row => row.cells[{number}].dataset.value ?? row.cells[{number}].textContent"
        found: list[str] = chromium.evaluate(f"[...{table}.tBodies[0].rows].map({value})")
        return found

    def clicked(number: int) -> list[str]:
        """The direction that each head has afterwards."""
        heads = f"[...{table}.tHead.rows[0].cells]"
        chromium.evaluate(f"{heads}[{number}].querySelector('button').click()")
        found: list[str] = chromium.evaluate(f"{heads}.map(head => head.getAttribute('aria-sort') ?? '')")
        assert [k for k, direction in enumerate(found) if direction] == [number]
        return found

    assert column(gain) == sorted(column(gain), key=float, reverse=True)  # as it comes
    assert len(set(column(gain))) >= 3
    for number in (names.index("spatial"), gain):
        assert clicked(number)[number] == "descending"
        assert column(number) == sorted(column(number), key=float, reverse=True)
        assert clicked(number)[number] == "ascending"
        assert column(number) == sorted(column(number), key=float)
    assert clicked(0)[0] == "ascending"
    assert column(0) == sorted(CLASSES)
    assert clicked(0)[0] == "descending"
    assert column(0) == sorted(CLASSES, reverse=True)


def test_it_can_be_printed(page: Path, chromium: Browser) -> None:
    chromium.open(page, width=A4, printed=True)
    assert chromium.evaluate("document.documentElement.scrollWidth") <= A4
    printed = chromium.pdf()
    assert printed.startswith(b"%PDF")
    assert 2 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 40


def test_its_own_script_is_the_only_one_that_runs(page: Path, chromium: Browser, tmp_path: Path) -> None:
    """What the policy is for: a text that was not escaped would still do nothing."""
    harmed = page.read_text("utf-8").replace(
        "<main>", "<main><script>window.harm = 1</script><img src=x onerror='window.harm = 2' alt=x>"
    )
    (tmp_path / "harmed.html").write_text(harmed)
    chromium.open(tmp_path / "harmed.html", width=DESK)
    assert chromium.evaluate("window.harm ?? 0") == 0
    assert any("Content Security Policy" in problem for problem in chromium.problems)


def test_a_matrix_of_a_hundred_classes_is_scrolled_by_itself(chromium: Browser, tmp_path: Path) -> None:
    write_run(tmp_path / "run", [f"Class{k:03d}" for k in range(101)], num_a_class=2)
    write_report(tmp_path / "run", tmp_path / "page.html")
    chromium.open(tmp_path / "page.html", width=PHONE)
    assert chromium.evaluate("document.documentElement.scrollWidth") == PHONE
    box = "document.querySelector('details[open] svg.heat').parentElement"
    assert chromium.evaluate(f"{box}.scrollWidth > 2 * {box}.clientWidth")
    cell = "document.querySelector('details[open] svg.heat rect.right').getBoundingClientRect()"
    assert chromium.evaluate(f"[{cell}.width, {cell}.height]") == pytest.approx([9, 9], abs=0.01)
