// The table of sessions: search, details, kick.

/** Keeps one row per item in `body`, by key, so that what has the focus keeps it. */
function keyed(body, items, key, make, fill) {
  const before = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const rows = items.map((item) => {
    const row = before.get(String(key(item))) ?? set(make(), { data: { key: key(item) } });
    fill(row, item);
    return row;
  });
  const same = rows.length === body.children.length && rows.every((row, at) => body.children[at] === row);
  if (!same) body.replaceChildren(...rows);
}

/** Fills the cells of a row with texts. */
function cells(row, texts) {
  texts.forEach((text, at) => tell(row.children[at], text));
}

class Sessions {
  #ask; #kind = "open"; #shown = []; #doomed = null; #asked = 0;

  /** `ask(path, options)` asks the gateway; resolves to its JSON, or rejects with what it said. */
  constructor(ask) {
    this.#ask = ask;
    let typing;
    byId("search").addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.refresh(), 200);
    });
    byId("limit").addEventListener("change", () => this.refresh());
    for (const button of byId("kinds").children) button.addEventListener("click", () => this.#choose(button.dataset.kind));
    byId("kick-no").addEventListener("click", () => byId("kick-dialog").close());
    byId("details-close").addEventListener("click", () => byId("details-dialog").close());
    byId("kick-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#kick();
    });
    // What was refused is no longer what stands there.
    byId("kick-form").addEventListener("input", () => tell(byId("kick-problem"), ""));
    this.#head();
  }

  #choose(kind) {
    this.#kind = kind;
    for (const button of byId("kinds").children) button.setAttribute("aria-pressed", button.dataset.kind === kind);
    byId("sessions-body").replaceChildren();
    this.#head();
    this.refresh();
  }

  #columns() {
    return this.#kind === "open" ? OPEN : ENDED;
  }

  #head() {
    byId("sessions-head").replaceChildren(...this.#columns().map(({ name, hidden, kind }) =>
      el("th", { scope: "col", class: kind ?? null }, hidden ? el("span", { class: "silent", text: name }) : name)));
  }

  /** Asks again and shows what there is. */
  async refresh() {
    const [kind, turn, limit] = [this.#kind, this.#asked += 1, Number(byId("limit").value)];
    const words = byId("search").value.trim();
    try {
      const query = new URLSearchParams({ limit: kind === "open" ? limit : 1000 });
      if (words && kind === "open") query.set("q", words);
      const answer = await this.#ask(kind === "open" ? `/api/sessions?${query}` : `/api/sessions/recent?${query}`);
      // An answer to an older question must not take the place of a newer one.
      if (turn !== this.#asked) return;
      const all = kind === "open" ? answer.sessions : answer.sessions.filter((session) => fits(session, words));
      this.#shown = all.slice(0, limit);
      const matching = kind === "open" ? answer.matching : all.length;
      const of = kind === "open" && words ? ` of ${number(answer.open)} open` : "";
      tell(byId("matching"), matching > this.#shown.length
        ? `the youngest ${number(this.#shown.length)} of ${number(matching)}${of && ` found${of}`}` : `${number(matching)}${of}`);
      this.#problem(null);
      this.#show();
    } catch (error) {
      if (turn === this.#asked) this.#problem(error);
    }
  }

  #problem(error) {
    byId("sessions-problem").hidden = error === null;
    tell(byId("sessions-problem"), error === null ? "" : `The sessions cannot be shown: ${error.message}`);
  }

  #show() {
    const columns = this.#columns();
    const make = () => el("tr", {}, ...columns.map(({ kind, head }) => el(head ? "th" : "td", { class: kind ?? null, scope: head ? "row" : null })));
    keyed(byId("sessions-body"), this.#shown, ({ id, state }) => `${id} ${state}`, make, (row, session) => {
      columns.forEach(({ fill, text }, at) => (fill ? fill(row.children[at], session, this) : tell(row.children[at], text(session))));
    });
    if (this.#shown.length === 0) {
      byId("sessions-body").replaceChildren(el("tr", {}, el("td", { colspan: columns.length, class: "none", text: "None." })));
    }
  }

  /** Shows all that is known of a session. */
  async details(session) {
    let known = session;
    try {
      known = await this.#ask(`/api/sessions/${encodeURIComponent(session.id)}`);
    } catch { /* what the table says is known all the same */ }
    tell(byId("details-title"), `Session ${known.id}`);
    tell(byId("details-sentence"), visible(known.sentence ?? ""));
    byId("details-steps").replaceChildren(...steps(known.steps ?? []));
    const skipped = ["id", "sentence", "steps"];
    const facts = Object.entries(known).filter(([name, value]) => value !== null && !skipped.includes(name));
    byId("details").replaceChildren(...facts.flatMap(([name, value]) => [
      el("dt", { text: name.replace(/_s$/, "").replaceAll("_", " ") }), el("dd", { text: name.endsWith("_s") ? duration(value) : words(value) }),
    ]));
    byId("details-dialog").showModal();
    byId("details-title").focus();
  }

  /** Asks whether a session is to be ended. */
  askToKick(session) {
    this.#doomed = session;
    const user = () => (session.user === null ? ["Somebody"] : ["“", peer(session.user), "”"]);
    byId("kick-whom").replaceChildren(...user(), ", from ", peer(session.client), `, on ${visible(session.route)}, for ${duration(session.age_s)}.`);
    byId("kick-all-label").hidden = session.user === null;
    byId("kick-all").checked = false;
    byId("kick-all-text").replaceChildren("All sessions of ", ...user());
    for (const id of ["kick-code", "kick-reason"]) byId(id).value = "";
    tell(byId("kick-problem"), "");
    byId("kick-dialog").showModal();
    byId("kick-no").focus();
  }

  async #kick() {
    const { id, user } = this.#doomed;
    const query = new URLSearchParams();
    for (const name of ["code", "reason"]) {
      const value = byId(`kick-${name}`).value.trim();
      if (value) query.set(name, value);
    }
    const all = byId("kick-all").checked;
    const whom = all ? `/api/users/${encodeURIComponent(user)}/sessions` : `/api/sessions/${encodeURIComponent(id)}`;
    try {
      const { kicked } = await this.#ask(`${whom}${query.size > 0 ? `?${query}` : ""}`, { method: "DELETE" });
      byId("kick-dialog").close();
      tell(byId("said"), `${number(kicked)} ${kicked === 1 ? "session" : "sessions"} of ${visible(user ?? id)} told to end.`);
      this.refresh();
    } catch (error) {
      tell(byId("kick-problem"), error.message);
    }
  }
}

/** Whether an ended session has these words anywhere. */
function fits(session, wanted) {
  const said = [session.id, session.user, session.route, session.client, session.path, session.label, session.by, session.detail];
  return said.some((text) => String(text ?? "").toLowerCase().includes(wanted.toLowerCase()));
}

/** A value of the API in words, a peer's made visible. */
function words(value) {
  if (typeof value !== "object") return visible(value);
  return Object.entries(value).map(([name, of]) => `${name.replaceAll("_", " ")} ${typeof of === "number" ? whole.format(of) : visible(of)}`).join(", ");
}

/** Where the time went: a bar for each step, beginning where the one before ended. */
function steps(list) {
  const all = list.filter(({ name }) => name !== "relay");
  const sum = all.reduce((total, { ms }) => total + ms, 0);
  if (sum === 0) return [];
  let before = 0;
  return [el("ol", {}, ...all.map(({ name, ms }) => {
    const bar = svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": true });
    bar.append(svg("rect", { x: (100 * before) / sum, y: 0, width: Math.max(0.6, (100 * ms) / sum), height: 10 }));
    before += ms;
    return el("li", {}, name.replaceAll("_", " "), bar, el("span", { class: "number", text: milliseconds(ms) }));
  }))];
}

/** Who it is and where: two lines of a cell. */
function person(cell, { user, route }) {
  if (!cell.firstChild) cell.append(el("span", { class: "peer" }), el("span", { class: "route peer" }));
  tell(cell.firstChild, visible(user ?? "(no user)"));
  tell(cell.lastChild, visible(route ?? "(no route)"));
}

function acts(cell, session, table) {
  cell.session = session;
  if (cell.firstChild) return;
  const named = (verb) => `${verb} ${visible(session.user ?? session.id)}`;
  const act = (text, kind, does) => el("button", { type: "button", class: kind, text, "aria-label": named(text), onclick: () => does(cell.session) });
  const kick = session.state === "open" ? [act("Kick", "danger kick", (one) => table.askToKick(one))] : [];
  cell.append(el("div", { class: "acts" }, act("Details", "details", (one) => table.details(one)), ...kick));
}

function outcome(cell, { label, state, by }) {
  if (!cell.firstChild) cell.append(el("span", { class: "peer" }), el("span", { class: "who route" }));
  tell(cell.firstChild, `${visible(label ?? state)}${state === "refused" ? " (refused)" : ""}`);
  set(cell.lastChild, { text: `by ${by}`, data: { who: by } });
}

const both = (pair, format) => (pair ? `${format(pair.from_client)} / ${format(pair.from_upstream)}` : "–");
const WHO = { name: "User and route", head: true, fill: person };
const FROM = { name: "Client", kind: "line wide", text: ({ client }) => visible(client) };
const ACTS = { name: "Actions", hidden: true, fill: acts };
const OPEN = [
  WHO, FROM,
  { name: "Open for", kind: "number", text: ({ age_s: age }) => duration(age) },
  { name: "Silent for", kind: "number wide", text: ({ idle_s: idle }) => duration(idle) },
  { name: "Messages from client / upstream", kind: "number wide", text: ({ messages }) => both(messages, number) },
  { name: "Bytes from client / upstream", kind: "number wide", text: ({ bytes: of }) => both(of, bytes) },
  { name: "Endpoint", kind: "line wide", text: ({ endpoint }) => visible(endpoint ?? "–") },
  ACTS,
];
const ENDED = [
  { name: "Ended", kind: "number wide", text: ({ ended }) => (ended ? clock(new Date(ended)) : "–") },
  WHO,
  { name: "How", fill: outcome },
  { name: "Client was told", kind: "wide", text: ({ status, client_close: close }) => [status && status !== 101 ? `HTTP ${status}` : null, close ? `Close ${close}` : null].filter(Boolean).join(", ") || "nothing" },
  { name: "Why", kind: "peer wide", text: ({ sentence, detail }) => visible(sentence ?? detail ?? "") },
  ACTS,
];
