"""Automatic checks of what people need who use a keyboard, a screen reader or large contrast.

They are a part of WCAG 2.2 at level AA that a script can decide: names of controls and pictures,
roles and references, headings, tables, the contrast of texts, and the order of the focus.
"""

from __future__ import annotations

from playwright.sync_api import Page

NAMES = """() => {
  const problems = [];
  const report = (what, node) => problems.push(`${what}: ${node.outerHTML.slice(0, 120)}`);
  const shown = node => node.checkVisibility({visibilityProperty: true});
  const all = selector => [...document.querySelectorAll(selector)].filter(shown);
  const text = node => (node?.textContent ?? "").trim();
  const referred = node => (node.getAttribute("aria-labelledby") ?? "").split(/\\s+/)
    .map(id => text(document.getElementById(id))).join("");
  const named = node => referred(node) || node.getAttribute("aria-label")?.trim()
    || [...node.labels ?? []].map(text).join("") || node.getAttribute("title")
    || (node.matches("input, select, textarea") ? "" : text(node))
    || [...node.querySelectorAll?.("img[alt]") ?? []].map(image => image.alt).join("");
  if (!document.documentElement.lang) problems.push("the page has no language");
  if (!document.title.trim()) problems.push("the page has no title");
  const viewport = document.querySelector("meta[name=viewport]")?.content ?? "";
  if (/user-scalable=(no|0)|maximum-scale=1(\\D|$)/.test(viewport)) problems.push("no zoom");
  const controls = "a[href], button, select, textarea, summary, [role=button], [role=slider], " +
    "[role=tab], [role=radio], [role=combobox], [role=switch], input:not([type=hidden])";
  for (const node of all(controls)) if (!named(node)) report("no name", node);
  for (const node of all("img, svg[role=img], [role=img]"))
    if (!node.closest("[aria-hidden=true]") && node.getAttribute("alt") === null && !named(node))
      report("no alternative text", node);
  for (const node of all("[role=region], [role=group], dialog[open], nav"))
    if (node.matches("[role], dialog") && !named(node)) report("no name", node);
  for (const name of ["aria-labelledby", "aria-describedby", "aria-controls"])
    for (const node of all(`[${name}]`))
      if (node.getAttribute("aria-expanded") !== "false")
        for (const id of node.getAttribute(name).split(/\\s+/).filter(Boolean))
          if (!document.getElementById(id)) report(`${name} without target`, node);
  const regions = all("section[aria-labelledby], [role=region]").map(named);
  for (const name of regions)
    if (regions.indexOf(name) !== regions.lastIndexOf(name)) problems.push(`two regions: ${name}`);
  const ids = [...document.querySelectorAll("[id]:not([id=''])")].map(node => node.id);
  for (const id of new Set(ids.filter((id, index) => ids.indexOf(id) !== index)))
    problems.push(`id used twice: ${id}`);
  let level = 0;
  for (const node of all("h1, h2, h3, h4, h5, h6")) {
    if (Number(node.tagName[1]) > level + 1) report("a level of headings is left out", node);
    level = Number(node.tagName[1]);
  }
  if (!all("main, [role=main]").length) problems.push("no main landmark");
  for (const table of all("table"))
    if (!table.querySelector("th[scope]")) report("table without headers", table);
  for (const node of all("[aria-hidden=true]"))
    if ([...node.querySelectorAll("a[href], button, input, select")].some(at => at.tabIndex >= 0))
      report("hidden from screen readers, not from the keyboard", node);
  for (const node of all("[tabindex]")) if (node.tabIndex > 0) report("order of focus", node);
  for (const node of all("body *")) {
    const style = getComputedStyle(node);
    const scrolls = /auto|scroll/.test(style.overflowX + style.overflowY) &&
      (node.scrollWidth > node.clientWidth + 1 || node.scrollHeight > node.clientHeight + 1);
    if (scrolls && node.tabIndex < 0 && !node.querySelector("a, button, input, [tabindex='0']"))
      report("scrolls, but not with the keyboard", node);
  }
  return problems;
}"""

CONTRAST = """() => {
  const problems = new Set();
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const colour = (css) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, bottom, alpha) => top.map((c, i) => alpha * c + (1 - alpha) * bottom[i]);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (style.backgroundImage !== "none") return null;
      const painted = colour(style.backgroundColor);
      layers.push(painted);
      if (painted[3] > 0.99) break;
    }
    let below = getComputedStyle(document.documentElement).colorScheme === "dark"
      ? [18, 18, 18] : [255, 255, 255];
    for (const [r, g, b, a] of layers.reverse()) below = over([r, g, b], below, a);
    return below;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || node.matches("script, style, noscript")) continue;
    if (!node.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    if (node.closest("[disabled], .sr-only, .skip")) continue;
    const style = getComputedStyle(node);
    const below = ground(node);
    if (below === null) continue;
    let alpha = 1;
    for (let at = node; at; at = at.parentElement) alpha *= Number(getComputedStyle(at).opacity);
    const ink = colour(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(over(ink.slice(0, 3), below, ink[3] * alpha)), light(below)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const big = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (big ? 3 : 4.5))
      problems.add(`contrast ${ratio.toFixed(2)}: ${node.textContent.trim().slice(0, 60)}`);
  }
  return [...problems];
}"""

SETTLE = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  for (let i = 0; i < 3; i++) await frame();  // a script of the page may react to the new scheme
  for (const animation of document.getAnimations())
    if (animation instanceof CSSTransition) animation.finish();
  await frame();
}"""

FOCUS = """() => {
  const node = document.activeElement;
  if (!node || node === document.body) return null;
  const style = getComputedStyle(node);
  const ring = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0)
    || style.boxShadow !== "none" || node.matches("input[type=file]");
  const box = node.getBoundingClientRect();
  const number = window.focusNumber = (window.focusNumber ?? 0) + 1;
  node.dataset.focused ??= number;
  return {ring, again: Number(node.dataset.focused) !== number,
          hidden: box.width * box.height === 0, what: node.outerHTML.slice(0, 120)};
}"""

REACHED = """() => [...document.querySelectorAll(
    "a[href], button, select, summary, input:not([type=hidden]):not([type=radio])")]
  .filter(node => node.checkVisibility({visibilityProperty: true, opacityProperty: true}))
  .filter(node => !node.disabled && node.tabIndex >= 0 && node.dataset.focused === undefined)
  .map(node => node.outerHTML.slice(0, 120))"""


def problems_of(page: Page) -> list[str]:
    """Return what is wrong in the page as it is shown now, in light and in dark colours."""
    found = list(page.evaluate(NAMES))
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.evaluate(SETTLE)
        found += [f"{scheme}: {problem}" for problem in page.evaluate(CONTRAST)]
    return found


def problems_of_keyboard(page: Page, most: int = 400) -> list[str]:
    """Return which controls the Tab key does not reach, and where the focus is invisible."""
    found = []
    page.evaluate("document.activeElement?.blur(); window.focusNumber = 0; scrollTo(0, 0)")
    for _ in range(most):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUS)
        if at is None:  # between the last element and the first
            continue
        if at["again"]:
            break
        if not at["ring"] or at["hidden"]:
            found.append(f"focus is invisible: {at['what']}")
    return [*found, *(f"not reached by Tab: {node}" for node in page.evaluate(REACHED))]
