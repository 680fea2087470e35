"""Every page, light and dark, as axe-core judges it, and on a phone. What axe calls moderate or minor is advice."""

import pkgutil

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from dashboard import views

PAGES = sorted(
    "" if name == "compare" else name.replace("_", "-") for _, name, _ in pkgutil.iter_modules(views.__path__)
)
PHONE = 390

JUDGED = """async () => {
  const said = await axe.run();
  const grave = said.violations.filter((fault) => ["serious", "critical"].includes(fault.impact));
  return { passed: said.passes.length, faults: grave.flatMap((fault) => fault.nodes.map((node) =>
    [fault.id, node.target.flat().join(" "), node.html.slice(0, 160), node.failureSummary])) }; }"""

WIDE = """(width) => { const found = []; const walk = (root) => root.querySelectorAll("*").forEach((e) => {
  if (e.shadowRoot) walk(e.shadowRoot);
  const box = e.getBoundingClientRect();
  if (box.right <= width + 1 || !box.width || !e.checkVisibility({ visibilityProperty: true })) return;
  if (e.matches("button, input:not([type=range]), figure, h1, h2, h3, svg.marks, p"))
    found.push([e.tagName, e.textContent.slice(0, 30), box.right]); });
  walk(document.querySelector("[data-testid=stMain]")); return found; }"""
"""Controls, writing and pictures that reach over the edge of the screen."""


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_no_grave_fault_and_nothing_is_wider_than_a_phone(visit, page, path):
    visit(f"/{path}")
    page.wait_for_timeout(500)  # charts draw themselves
    page.evaluate(AXE_SCRIPT + "; 0")
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)
        grounds.add(page.locator("[data-testid=stApp]").evaluate("app => getComputedStyle(app).backgroundColor"))
        said = page.evaluate(JUDGED)
        assert said["faults"] == [], scheme
        assert said["passed"] > 20, "axe looked at the page"
    assert len(grounds) == 2, "both themes were seen"
    page.set_viewport_size({"width": PHONE, "height": 844})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= PHONE
    assert page.evaluate(WIDE, PHONE) == []
