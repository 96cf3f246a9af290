// What of accessibility a machine can see: contrast of text (WCAG 2.2, 1.4.3), names of controls, headers of tables.

/** Runs in the page; returns what is wrong, one line each. */
function lookAtPage() {
  const wrong = [];
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color.slice(0, 3);
    }
    return rgba("Canvas").slice(0, 3);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const element = text.parentElement;
    const style = getComputedStyle(element);
    if (!text.data.trim() || !element.checkVisibility({ visibilityProperty: true }) || element.closest(":disabled, script, style, .silent, .skip")) continue;
    const color = style.getPropertyValue(element instanceof SVGElement ? "fill" : "color");
    const [a, b] = [luminance(rgba(color).slice(0, 3)), luminance(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const isLarge = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) wrong.push(`contrast ${ratio.toFixed(2)}: "${text.data.trim().slice(0, 40)}"`);
  }
  for (const control of document.querySelectorAll("button, input, select, textarea, a[href], [role=img], meter")) {
    const named = control.labels?.length > 0 || control.textContent.trim() || control.getAttribute("aria-label");
    if (!named) wrong.push(`no name: ${control.outerHTML.slice(0, 80)}`);
  }
  for (const table of document.querySelectorAll("table")) {
    if (table.querySelectorAll("thead th[scope]").length === 0) wrong.push(`no headers: ${table.outerHTML.slice(0, 80)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
  wrong.push(...ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `id twice: ${id}`));
  for (const node of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
    for (const name of ["aria-labelledby", "aria-describedby"]) {
      const id = node.getAttribute(name);
      if (id && !document.getElementById(id)) wrong.push(`${name} of nothing: ${id}`);
    }
  }
  return wrong;
}

/** Looks at a page in both themes. */
export async function faults(page) {
  const found = [];
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    found.push(...(await page.evaluate(lookAtPage)).map((fault) => `${colorScheme}: ${fault}`));
  }
  return found;
}
