// What both pages share. What a peer wrote only ever becomes a text node: there is no other way in here.

/** Sets a node's properties: `text`, `data` (an object), listeners (`onclick`), and attributes. */
function set(node, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") node.textContent = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === null || value === false) node.removeAttribute(name);
    else node.setAttribute(name, value === true ? "" : value);
  }
  return node;
}

/** A new element with properties and children (nodes and texts). */
function el(tag, properties = {}, ...children) {
  const node = set(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

const byId = (id) => document.getElementById(id);

/** Changes text only where it is another: what has not changed is not announced again. */
function tell(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The same for our own sentences: what stands between backquotes is code. */
function prose(node, text) {
  if (node.textContent === text.replaceAll("`", "")) return;
  node.replaceChildren(...text.split("`").map((part, at) => (at % 2 === 1 ? el("code", { text: part }) : part)));
}

/** The same for labels: a narrow column breaks them at their underscores. */
function tellLabel(node, label) {
  if (node.textContent === label) return;
  node.replaceChildren(...label.split("_").flatMap((part, at) => (at > 0 ? ["_", el("wbr"), part] : [part])));
}

const UNSEEN = /(?! )[\p{Cc}\p{Cf}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]|^ | $| (?= )|\\(?=u\{)/gu;

/**
 * What a peer wrote, with all that nobody sees written out as `\u{200b}`: what turns, hides or joins, controls, and blanks but
 * for single ones within. Two texts that differ in such a thing never look the same.
 */
const visible = (text) => String(text).replace(UNSEEN, (unseen) => `\\u{${unseen.codePointAt(0).toString(16)}}`);

/** The same within a sentence, whose order it must not change. */
const peer = (text) => el("bdi", { class: "peer", text: visible(text) });

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** `1 234` as 1,234; small ones with a digit. */
function number(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) < 10 && !Number.isInteger(value) ? value.toFixed(1) : whole.format(value);
}

/** Where it may be long: from a million on, 1.80 M. */
function short(value) {
  return value >= 1e6 ? `${value >= 1e9 ? (value / 1e9).toFixed(2) : (value / 1e6).toFixed(2)} ${value >= 1e9 ? "G" : "M"}` : number(value);
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at += 1) value /= 1024;
  return `${at === 0 || value >= 100 ? whole.format(value) : value.toFixed(1)} ${units[at]}`;
}

function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 ms";
  if (value >= 1000) return `${(value / 1000).toFixed(value >= 10_000 ? 0 : 1)} s`;
  return `${value >= 10 ? value.toFixed(0) : value.toFixed(1)} ms`;
}

/** `75` as `1 min 15 s`. */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

const clock = (date) => date.toLocaleTimeString([], { hour12: false });

/** The switch between light and dark; without a choice the system's holds. */
function themeSwitch(button) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => tell(button, isDark() ? "Light" : "Dark");
  const kept = () => {
    try { return localStorage.getItem("framegate-theme"); } catch { return null; }
  };
  if (["light", "dark"].includes(kept())) root.dataset.theme = kept();
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("framegate-theme", root.dataset.theme); } catch { /* it is kept for this page alone */ }
    show();
  });
  system.addEventListener("change", show);
  show();
}
