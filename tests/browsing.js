// What is wrong with the page that is open: each check returns a list of texts, empty where all is well.
({
  // Nothing sticks out of the page sideways, unless it lies in a box that scrolls.
  overflow() {
    const scrolls = (e) => {
      for (let each = e; each; each = each.parentElement) {
        if (/auto|scroll|hidden/.test(getComputedStyle(each).overflowX)) return true;
      }
      return false;
    };
    return [...document.querySelectorAll("body *")]
      .filter((e) => e.getBoundingClientRect().width && e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e.parentElement))
      .map((e) => `${e.tagName} ${(e.textContent || "").trim().slice(0, 40)}`);
  },

  // What scrolls sideways shows that it does: by a shadow at its edge, which nothing in it covers.
  without_hint() {
    const opaque = (e) => {
      const style = getComputedStyle(e);
      return e.tagName === "image" || /^rgb\(/.test(e.ownerSVGElement ? style.fill : style.backgroundColor);
    };
    const covered = (e) => {
      e.scrollIntoView({ block: "center", behavior: "instant" });
      const box = e.getBoundingClientRect(), inside = (e.querySelector("svg") || e).getBoundingClientRect();
      const [top, bottom] = [Math.max(inside.top, 0), Math.min(inside.bottom, innerHeight)];
      return [...Array(9).keys()].every((step) => document
        .elementsFromPoint(box.left + e.clientWidth - 4, top + ((step + 0.5) * (bottom - top)) / 9)
        .some((each) => each !== e && e.contains(each) && opaque(each)));
    };
    return [...document.querySelectorAll("body *")]
      .filter((e) => {
        const style = getComputedStyle(e);
        const hides = e.scrollWidth > e.clientWidth + 1 && /auto|scroll|hidden/.test(style.overflowX);
        return hides && (!style.backgroundImage.includes("gradient") || covered(e));
      })
      .map((e) => `${e.tagName}.${e.className} ${e.scrollWidth} > ${e.clientWidth}`);
  },

  // Texts of a chart do not lie over each other.
  overlaps() {
    const found = [];
    for (const svg of document.querySelectorAll("svg")) {
      const boxes = [...svg.querySelectorAll("text")]
        .filter((text) => text.textContent.trim())
        .map((text) => [text.textContent, text.getBoundingClientRect()]);
      boxes.forEach(([a, one], index) => boxes.slice(index + 1).forEach(([b, two]) => {
        const x = Math.min(one.right, two.right) - Math.max(one.left, two.left);
        const y = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
        if (x > 2 && y > Math.min(one.height, two.height) * 0.45) found.push(`${a} | ${b}`);
      }));
    }
    return found;
  },

  // Charts and images have a text for those who do not see them, controls have a name, tables have heads.
  nameless() {
    const named = (e) => (e.getAttribute("aria-labelledby") || "").split(" ")
      .some((id) => id && document.getElementById(id)?.textContent.trim());
    const lacks = (e) => {
      if (e.tagName === "svg") return e.getAttribute("role") === "img" && !named(e);
      if (e.tagName === "IMG") return !e.hasAttribute("alt");
      if (e.tagName === "INPUT") return !(e.labels?.length || e.getAttribute("aria-label") || e.type === "hidden");
      if (e.tagName === "TABLE") return !e.querySelector("th");
      if (e.tagName === "FIGURE") return !e.querySelector("figcaption")?.textContent.trim();
      return !(e.textContent.trim() || e.title || e.getAttribute("aria-label"));
    };
    return [...document.querySelectorAll("body :is(svg, img, input, button, a[href], summary, table, figure)")]
      .filter((e) => !e.closest("[aria-hidden=true]") && lacks(e))
      .map((e) => e.outerHTML.slice(0, 120));
  },

  // Every text stands out from what is behind it, by WCAG's ratio of at least 4.5; 3 for large ones.
  faint() {
    const parsed = (text) => (text.match(/[\d.]+/g) || []).map(Number);
    const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const behind = (e) => {
      for (let each = e; each; each = each.parentElement) {
        const text = getComputedStyle(each).backgroundColor;
        const colour = parsed(text);
        if (text.startsWith("rgb") && (colour.length === 3 || colour[3] === 1)) return colour;
      }
      return [255, 255, 255];
    };
    const found = new Set();
    const walker = document.createTreeWalker(document.querySelector("main") || document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const e = walker.currentNode.parentElement;
      if (!walker.currentNode.textContent.trim() || !e.getClientRects().length || e.closest("svg, script, style")) continue;
      const style = getComputedStyle(e);
      const [a, b] = [light(parsed(style.color)), light(behind(e))].sort((x, y) => y - x);
      const least = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
      const ratio = (a + 0.05) / (b + 0.05);
      if (ratio < least) found.add(`${ratio.toFixed(2)} ${style.color} ${walker.currentNode.textContent.trim().slice(0, 40)}`);
    }
    return [...found];
  },
})
