// Charts over time, drawn as SVG. A chart has a legend with the numbers of the moment pointed at (or of now), can be
// read with the arrow keys, and says in words what it shows.

function svg(tag, properties = {}) {
  return set(document.createElementNS("http://www.w3.org/2000/svg", tag), properties);
}

/** The next of 1, 2, 5, 10, 20, 50… that is not below `value`; in units of `base`, where a kilo is not 1000. */
function niceAbove(value, base = 0) {
  if (base > 0 && value > base) return base * niceAbove(value / base, base);
  if (base > 0 && value > 500) return base;
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999_999);
}

class Chart {
  #host; #options; #rows = []; #now = 0; #span = 3600; #pointed = null;
  #picture; #values; #when; #lowest;

  /** `series`: [{ name, color, value: (row) => number | null, dash }]; `format` words a value; `stacked` adds them up. */
  constructor(host, options) {
    this.#host = host;
    this.#options = { lowest: 1, ...options };
    this.#lowest = this.#options.lowest;
    this.#picture = svg("svg", { role: "img", tabindex: 0 });
    this.#when = el("span", { class: "when" });
    this.#values = options.series.map(() => el("b"));
    const legend = el("ul", { class: "legend" }, ...options.series.map(({ name, color, dash }, at) => {
      const line = svg("svg", { width: 18, height: 8, "aria-hidden": true });
      line.append(svg("path", { d: "M0 4H18", class: `line ${color}`, "stroke-dasharray": dash ?? "none" }));
      return el("li", {}, line, `${name} `, this.#values[at]);
    }));
    host.append(el("div", { class: "head" }, el("h3", { text: options.title }), this.#when), legend, this.#picture);
    this.#picture.addEventListener("pointermove", (event) => this.#pointAt(event));
    this.#picture.addEventListener("pointerleave", () => this.#point(null));
    this.#picture.addEventListener("blur", () => this.#point(null));
    this.#picture.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.draw()).observe(this.#picture);
  }

  /** Shows `rows` (oldest first, `at_s` each) of the last `span` seconds before `now`. */
  show(rows, now, span) {
    const begin = now - span - 10;
    this.#rows = rows.filter((row) => row.at_s > begin);
    [this.#now, this.#span] = [now, span];
    if (this.#pointed !== null) this.#pointed = Math.min(this.#pointed, this.#rows.length - 1);
    this.draw();
  }

  #tops(row) {
    let sum = 0;
    return this.#options.series.map(({ value }) => {
      const own = value(row);
      if (!this.#options.stacked) return own;
      sum += own ?? 0;
      return sum;
    });
  }

  #x(row, width) {
    return AXIS + (1 - (this.#now - row.at_s) / this.#span) * (width - AXIS);
  }

  draw() {
    const width = Math.max(120, Math.round(this.#picture.clientWidth));
    this.#picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const tops = this.#rows.map((row) => this.#tops(row));
    const highest = Math.max(this.#lowest, ...tops.flat().filter((value) => value !== null));
    const top = niceAbove(highest, this.#options.base);
    const y = (value) => PAD + (1 - value / top) * (HEIGHT - PAD - FOOT);
    const parts = this.#frame(width, top, y);
    const count = this.#options.series.length;
    // The last one lies undermost: what is stacked on others would hide them.
    for (let at = count - 1; at >= 0; at -= 1) parts.push(...this.#series(at, tops, width, y));
    if (this.#pointed !== null && this.#rows[this.#pointed]) {
      const x = this.#x(this.#rows[this.#pointed], width);
      parts.push(svg("path", { d: `M${x} ${PAD}V${HEIGHT - FOOT}`, class: "cursor" }));
    }
    this.#picture.replaceChildren(...parts);
    this.#tellValues(top);
  }

  #frame(width, top, y) {
    const parts = [];
    for (const value of [0, top / 2, top]) {
      parts.push(svg("path", { d: `M${AXIS} ${y(value)}H${width}`, class: "grid" }));
      parts.push(svg("text", { x: AXIS - 6, y: y(value) + 4, "text-anchor": "end", text: this.#options.format(value) }));
    }
    for (const [share, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
      const back = this.#span * (1 - share);
      const text = back === 0 ? "now" : `−${back >= 60 ? `${back / 60} min` : `${back} s`}`;
      parts.push(svg("text", { x: AXIS + share * (width - AXIS), y: HEIGHT - 3, "text-anchor": anchor, text }));
    }
    return parts;
  }

  /** The line of a series, with the area below it where series are stacked; where nothing is known, it has a gap. */
  #series(at, tops, width, y) {
    const { color, dash } = this.#options.series[at];
    let line = "";
    let area = "";
    let open = false;
    this.#rows.forEach((row, index) => {
      const value = tops[index][at];
      if (value === null) { open = false; return; }
      const point = `${this.#x(row, width).toFixed(1)} ${y(value).toFixed(1)}`;
      line += `${open ? "L" : "M"}${point}`;
      if (!open) line += "h.1";
      open = true;
      area += `${area ? "L" : "M"}${point}`;
    });
    const parts = [];
    if (this.#options.stacked && area) {
      const [first, last] = [this.#rows[0], this.#rows.at(-1)].map((row) => this.#x(row, width).toFixed(1));
      parts.push(svg("path", { d: `${area}L${last} ${y(0)}L${first} ${y(0)}Z`, class: `area ${color}` }));
    }
    parts.push(svg("path", { d: line || "M0 0", class: `line ${color}`, "stroke-dasharray": dash ?? "none" }));
    return parts;
  }

  #tellValues(top) {
    const row = this.#rows[this.#pointed ?? this.#rows.length - 1];
    const words = this.#options.series.map(({ value }) => (row ? this.#options.format(value(row)) : "–"));
    words.forEach((word, at) => tell(this.#values[at], word));
    const pointed = this.#pointed !== null && row;
    tell(this.#when, pointed ? clock(new Date(Date.now() - (this.#now - row.at_s) * 1000)) : this.#options.unit);
    const said = this.#options.series.map(({ name }, at) => `${name} ${words[at]}`).join(", ");
    const moment = pointed ? this.#when.textContent : "now";
    this.#picture.setAttribute("aria-label", `${this.#options.title}: ${moment} ${said}; scale to ${this.#options.format(top)}`);
  }

  #point(index) {
    this.#pointed = index;
    this.draw();
  }

  #pointAt(event) {
    if (this.#rows.length === 0) return;
    const box = this.#picture.getBoundingClientRect();
    const share = (event.clientX - box.left - AXIS) / (box.width - AXIS);
    const at = this.#now - (1 - share) * this.#span;
    const distance = (row) => Math.abs(row.at_s - at);
    this.#point(this.#rows.reduce((best, row, index) => (distance(row) < distance(this.#rows[best]) ? index : best), 0));
  }

  #key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -12, PageDown: 12, Home: -1e6, End: 1e6 };
    if (!(event.key in steps) || this.#rows.length === 0) return;
    event.preventDefault();
    const from = this.#pointed ?? this.#rows.length - 1;
    this.#point(Math.min(this.#rows.length - 1, Math.max(0, from + steps[event.key])));
  }
}

const HEIGHT = 132;
const PAD = 8;
const FOOT = 18;
const AXIS = 58;
