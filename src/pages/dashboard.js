// The live dashboard: asks /api/overview again and again, keeps the hour of history, and shows it.

const POLL = 2500;
const HISTORY = 720;
const state = { token: null, rows: [], next: 0, started: null, span: 3600, overview: null, paused: false, asking: false, failedAt: null, answeredAt: null };

/** Asks the gateway. Rejects with what it said; a missing token is asked for. */
async function ask(path, options = {}) {
  const headers = {};
  if (state.token !== null) headers.Authorization = `Bearer ${state.token}`;
  if (options.method) headers["X-Framegate"] = "1";
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  if (response.status === 401) askForToken();
  throw Object.assign(new Error(answer?.error ?? `the gateway answered ${response.status}`), { status: response.status });
}

function askForToken() {
  const dialog = byId("token-dialog");
  if (dialog.open) return;
  tell(byId("token-problem"), state.token === null ? "" : "This token is not the right one.");
  state.token = null;
  dialog.showModal();
}

byId("token-dialog").addEventListener("cancel", (event) => event.preventDefault());
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = byId("token").value.trim();
  byId("token").value = "";
  byId("token-dialog").close();
  refresh();
});

const sessions = new Sessions(ask);

// ---- Charts -------------------------------------------------------------------------------------------------------

const perSecond = (name) => (row) => (row.step_s > 0 ? row[name] / row.step_s : 0);
const perMinute = (name) => (row) => (row.step_s > 0 ? (row[name] * 60) / row.step_s : 0);
const line = (name, color, value, dash) => ({ name, color, value, dash });
const charts = [
  new Chart(byId("chart-sessions"), {
    title: "Sessions", unit: "open now", format: number,
    series: [line("sessions", "c-plain", (row) => row.sessions), line("connections", "c-soft", (row) => row.connections, "2 4")],
  }),
  new Chart(byId("chart-handshakes"), {
    title: "Handshakes", unit: "per second", format: number, stacked: true,
    series: [line("accepted", "c-ok", perSecond("accepted")), line("refused", "c-bad", perSecond("refused"), "5 3")],
  }),
  new Chart(byId("chart-latency"), {
    title: "Handshake time", unit: "accepted ones", format: milliseconds, lowest: 1,
    series: [line("p50", "c-soft", (row) => row.p50_ms, "2 4"), line("p99", "c-plain", (row) => row.p99_ms)],
  }),
  new Chart(byId("chart-messages"), {
    title: "Messages", unit: "per second", format: number,
    series: [line("from clients", "c-client", perSecond("messages_from_client")), line("from upstreams", "c-upstream", perSecond("messages_from_upstream"), "5 3")],
  }),
  new Chart(byId("chart-bytes"), {
    title: "Payload", unit: "per second", format: bytes, base: 1024,
    series: [line("from clients", "c-client", perSecond("bytes_from_client")), line("from upstreams", "c-upstream", perSecond("bytes_from_upstream"), "5 3")],
  }),
  new Chart(byId("chart-endings"), {
    title: "Sessions ended", unit: "per minute, by whom", format: number, stacked: true,
    series: [
      line("client", "c-client", perMinute("ended_by_client")), line("upstream", "c-upstream", perMinute("ended_by_upstream"), "5 3"),
      line("gateway", "c-gateway", perMinute("ended_by_gateway"), "1 4"), line("admin", "c-admin", perMinute("ended_by_admin"), "8 3 1 3"),
    ],
  }),
];

function drawCharts() {
  if (state.overview) for (const chart of charts) chart.show(state.rows, state.overview.up_s, state.span);
}

for (const button of byId("spans").children) {
  button.addEventListener("click", () => {
    state.span = Number(button.dataset.span);
    for (const other of byId("spans").children) other.setAttribute("aria-pressed", other === button);
    drawCharts();
  });
}

// ---- What needs attention -----------------------------------------------------------------------------------------

const LIMITS = {
  connections: ["Connections of the process", "Raise limits.connections (and LimitNOFILE), or add a gateway.", number],
  connections_per_address: ["Connections of the busiest address", "Many users behind one address? Raise it, or set trusted_proxies if it is your balancer.", number],
  pending_bytes: ["Memory for slow readers", "Clients or backends read too slowly; past the limit the slowest are ended (slow_consumer).", bytes],
  open_files: ["Open files", "Raise LimitNOFILE (ulimit -n): without a free descriptor nobody can connect.", number],
};
const FAULTS = ["upstream_lost", "upstream_stalled", "upstream_violation", "internal"];
const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);
const percent = (share) => `${share > 0 && share < 0.1 ? (100 * share).toFixed(1) : Math.round(100 * share)} %`;
const most = (counts) => Object.entries(counts).sort(([, a], [, b]) => b - a)[0];

function problemsOf(overview) {
  const problems = [];
  const bad = (what, cure) => problems.push({ state: "bad", what, cure });
  const warn = (what, cure) => problems.push({ state: "warn", what, cure });
  for (const reason of overview.unready) {
    if (reason === "draining") bad("The gateway is going down: it takes nobody new and closes every session.", "Nothing to do if that was wanted; its successor takes over.");
    else bad(`Not ready: ${reason}.`, "Balancers that ask /readyz send nobody here.");
  }
  for (const { name, endpoints } of overview.upstreams) {
    const down = endpoints.filter(({ healthy }) => healthy === false);
    for (const { endpoint, last_error: error } of down) {
      const rest = endpoints.length - down.length;
      (rest === 0 ? bad : warn)(`Upstream ${name}: ${endpoint} is down${error ? `: ${visible(error)}` : ""}.`,
        rest === 0 ? "No endpoint of this upstream is left: its clients are refused. Look at the backend." : `${rest} of ${endpoints.length} still work and get all sessions.`);
    }
  }
  for (const { name, used, limit } of overview.limits) {
    if (!limit || used / limit < 0.8) continue;
    const [title, cure, format] = LIMITS[name];
    (used / limit < 0.95 ? warn : bad)(`${title}: ${percent(used / limit)} of the limit (${format(used)} of ${format(limit)}).`, cure);
  }
  for (const { name, days_left: days } of overview.certificates) {
    if (days < 0) bad(`The certificate of ${name} has expired.`, "Put a renewed one in its place: it is found within ten seconds.");
    else if (days < 14) (days < 3 ? bad : warn)(`The certificate of ${name} ends in ${days} days.`, "Renew it; a renewed one is found within ten seconds.");
  }
  if (!overview.config.last_reload_successful) warn("The last reload failed; the configuration before it is in force.", "The log names every problem; framegate check does too.");
  problems.push(...faultsOf(overview.windows[0]));
  return problems.sort((a, b) => (a.state === b.state ? 0 : a.state === "bad" ? -1 : 1));
}

/** What went wrong with connections within a window. */
function faultsOf({ accepted, dropped, refused, ended, stages }) {
  const problems = [];
  const refusedInAll = sum(refused);
  if (dropped > 0) problems.push({ state: "bad", what: `${number(dropped)} connections were dropped unanswered in 5 minutes.`, cure: "Every place is taken, those for refusals too: a flood, or limits.connections is too low." });
  const handshakes = refusedInAll + accepted;
  const share = refusedInAll / Math.max(1, handshakes);
  const isBad = refusedInAll >= 3 && share >= 0.5;
  if (isBad || (handshakes >= 10 && share >= 0.2)) {
    const [label, count] = most(refused);
    problems.push({ state: isBad ? "bad" : "warn", what: `${percent(share)} of handshakes were refused in 5 minutes, mostly ${label} (${number(count)}).`, cure: `Search ${label} among “Ended and refused” below: it says why.` });
  }
  const faults = Object.fromEntries(FAULTS.filter((label) => ended[label]).map((label) => [label, ended[label]]));
  const faulty = sum(faults);
  if (faulty >= 5 && faulty / sum(ended) >= 0.1) {
    const [label, count] = most(faults);
    problems.push({ state: "warn", what: `${number(faulty)} sessions ended by a fault behind the gateway in 5 minutes, mostly ${label} (${number(count)}).`, cure: "Look at the backend: it was restarted, crashed, hangs, or breaks the protocol." });
  }
  if (stages.total.p99_ms > 1000) problems.push({ state: "warn", what: `Handshakes are slow: p99 ${milliseconds(stages.total.p99_ms)} in 5 minutes.`, cure: "The table of stages shows where the time goes." });
  return problems;
}

function showProblems(problems) {
  const worst = problems[0]?.state ?? "ok";
  byId("attention").dataset.state = worst;
  const words = { ok: "fine", warn: "look", bad: "act" };
  const shown = problems.length > 0 ? problems : [{ state: "ok", what: "Nothing needs attention.", cure: null }];
  const make = () => el("li", { class: "problem-row" }, el("span", { class: "state" }), el("span", { class: "what" }), el("span", { class: "cure soft" }));
  keyed(byId("problems"), shown, (problem) => shown.indexOf(problem), make, (row, { state: of, what, cure }) => {
    row.children[0].dataset.state = of;
    cells(row, [words[of], what, cure ?? ""]);
    row.children[2].hidden = cure === null;
  });
}

// ---- Numbers ------------------------------------------------------------------------------------------------------

function tile(id, value, unit, more) {
  const node = byId(`tile-${id}`);
  if (!node.lastElementChild) node.replaceChildren("", el("small"));
  tell(node.lastElementChild, unit);
  if (node.firstChild.data !== value) node.firstChild.data = value;
  tell(byId(`tile-${id}-more`), more);
}

function showTiles({ totals, windows: [recent] }) {
  const last = state.rows.at(-1);
  const counts = [...state.rows.map((row) => row.sessions), totals.sessions];
  tile("sessions", number(totals.sessions), "", `${number(Math.min(...counts))} to ${number(Math.max(...counts))} in the last hour`);
  const refused = sum(recent.refused) + recent.dropped;
  const share = refused / Math.max(1, refused + recent.accepted);
  tile("handshakes", number(last ? perSecond("accepted")(last) + perSecond("refused")(last) : 0), "/s", `${percent(share)} refused in 5 min (${number(refused)} of ${number(refused + recent.accepted)})`);
  tile("latency", milliseconds(recent.stages.total.p99_ms), "", `p50 ${milliseconds(recent.stages.total.p50_ms)}, in 5 min`);
  const pair = (name, format) => (last ? ["client", "upstream"].map((from) => format(perSecond(`${name}_from_${from}`)(last))) : ["–", "–"]);
  const both = (name) => (last ? perSecond(`${name}_from_client`)(last) + perSecond(`${name}_from_upstream`)(last) : 0);
  tile("messages", number(both("messages")), "/s", `${pair("messages", number)[0]} from clients, ${pair("messages", number)[1]} from upstreams`);
  tile("bytes", bytes(both("bytes")), "/s", `${pair("bytes", bytes)[0]} from clients, ${pair("bytes", bytes)[1]} from upstreams`);
  const ended = sum(recent.ended);
  tile("ended", number(ended), "in 5 min", ended > 0 ? `mostly ${most(recent.ended)[0]} (${number(most(recent.ended)[1])})` : "none");
}

const cell = (kind) => el("td", { class: kind ?? null });
const numbers = (count) => Array.from({ length: count }, () => cell("number"));
const head = () => el("th", { scope: "row" });

/** Says that there is nothing, in place of rows. */
function noneOr(body, items, columns, none, show) {
  if (items.length > 0) return show();
  body.replaceChildren(el("tr", {}, el("td", { colspan: columns, class: "none", text: none })));
}

function counted(row, from, counts) {
  counts.forEach((count, at) => {
    tell(row.children[from + at], short(count));
    set(row.children[from + at], { title: count >= 1e6 ? number(count) : null, data: { value: count } });
    row.children[from + at].classList.toggle("zero", count === 0);
  });
}

/** What happened at all, what happened most of late first. */
function ranked(total, [recent, hour]) {
  const rows = Object.keys(total).map((label) => ({ label, counts: [recent[label] ?? 0, hour[label] ?? 0, total[label]] }));
  return rows.filter(({ counts }) => counts[2] > 0).sort((a, b) => b.counts[0] - a.counts[0] || b.counts[1] - a.counts[1] || b.counts[2] - a.counts[2]);
}

function showHandshakes({ totals, windows }) {
  const of = (name) => ({ label: name, counts: [...windows.map((window) => window[name]), totals[name]] });
  const some = (row) => (row.counts[2] > 0 ? [row] : []);
  const rows = [of("accepted"), ...ranked(totals.refused, windows.map((window) => window.refused)), ...some(of("dropped")), ...some({ ...of("unanswered"), label: "no readable request, or gone before an answer" })];
  keyed(byId("handshakes"), rows, ({ label }) => label, () => el("tr", {}, head(), ...numbers(3)), (row, { label, counts }) => {
    tellLabel(row.firstChild, label);
    counted(row, 1, counts);
  });
}

function showEndings({ totals, windows, who }) {
  const rows = ranked(totals.ended, windows.map((window) => window.ended));
  const byWhom = ["client", "upstream", "gateway", "admin"].map((by) => ({
    label: "in all", by, counts: [0, 1, 2].map((at) => rows.filter(({ label }) => who[label] === by).reduce((total, { counts }) => total + counts[at], 0)),
  }));
  const all = [...rows.map((row) => ({ ...row, by: who[row.label] })), ...byWhom.filter(({ counts }) => counts[2] > 0)];
  const make = () => el("tr", {}, head(), el("td", {}, el("span", { class: "who" })), ...numbers(3));
  noneOr(byId("endings"), all, 5, "No session has ended yet.", () => keyed(byId("endings"), all, ({ label, by }) => `${label} ${by}`, make, (row, { label, by, counts }) => {
    row.classList.toggle("head-row", label === "in all");
    tellLabel(row.firstChild, label);
    set(row.children[1].firstChild, { text: by, data: { who: by } });
    counted(row, 2, counts);
  }));
}

function showStages({ windows }) {
  const names = { tls: "TLS", admission: "admission", upstream_connect: "upstream: connect", upstream_handshake: "upstream: answer", total: "all together" };
  keyed(byId("stages"), Object.keys(names), (name) => name, () => el("tr", {}, head(), ...numbers(4)), (row, name) => {
    cells(row, [names[name], ...windows.flatMap(({ stages }) => [stages[name].p50_ms, stages[name].p99_ms].map(milliseconds))]);
  });
}

function showUpstreams({ upstreams }) {
  const all = upstreams.flatMap(({ name, endpoints }) => endpoints.map((endpoint) => ({ name, ...endpoint })));
  const make = () => el("tr", {}, el("th", { scope: "row", class: "peer" }, el("span"), el("span", { class: "reason" })), el("td", {}, el("span", { class: "state" }), el("span", { class: "error" }), el("span", { class: "reason" })), ...numbers(1));
  keyed(byId("upstreams"), all, ({ name, endpoint }) => `${name} ${endpoint}`, make, (row, { name, endpoint, healthy, draining, sessions: count, latency_ms: latency, last_error: error }) => {
    tell(row.children[0].firstChild, endpoint);
    tell(row.children[0].lastChild, name);
    const of = draining ? ["warn", "draining"] : healthy === null ? ["unknown", "not checked"] : healthy ? ["ok", "healthy"] : ["bad", "down"];
    set(row.children[1].firstChild, { text: of[1], data: { state: of[0] } });
    tell(row.children[1].children[1], visible(error ?? ""));
    tell(row.children[1].children[2], healthy && latency !== null ? `connects in ${milliseconds(latency)}` : "");
    counted(row, 2, [count]);
  });
}

function showLimits({ limits }) {
  const make = () => el("tr", {}, head(), el("td", {}, el("div", { class: "meter" }, el("meter", { min: 0, max: 1, low: 0.8, high: 0.95, optimum: 0 }), el("span", { class: "share" }))), ...numbers(1));
  keyed(byId("limits"), limits, ({ name }) => name, make, (row, { name, used, limit }) => {
    const [title, , format] = LIMITS[name] ?? [name, "", number];
    tell(row.children[0], title);
    const [meter, share] = row.children[1].firstChild.children;
    meter.value = limit && used !== null ? used / limit : 0;
    meter.setAttribute("aria-label", title);
    meter.hidden = !limit;
    tell(share, limit && used !== null ? percent(used / limit) : "");
    tell(row.children[2], `${format(used)} of ${limit ? format(limit) : "any number"}`);
    set(row, { data: { used: used ?? "", limit: limit ?? "" } });
  });
}

function showCertificates({ certificates }) {
  const make = () => el("tr", {}, head(), el("td", {}, el("span", { class: "state" })), el("td"));
  noneOr(byId("certificates"), certificates, 3, "No listener has TLS.", () => keyed(byId("certificates"), certificates, ({ name }) => name, make, (row, { name, days_left: days, not_after: until }) => {
    tell(row.children[0], name);
    set(row.children[1].firstChild, { text: days < 0 ? "expired" : `${number(days)} days`, data: { state: days < 3 ? "bad" : days < 14 ? "warn" : "ok" } });
    tell(row.children[2], until?.slice(0, 10) ?? "–");
  }));
}

// ---- Asking -------------------------------------------------------------------------------------------------------

/** Adds the new steps of the answer to the hour that is kept; another process begins anew. */
function keep(overview) {
  const { columns, rows, next } = overview.history;
  if (state.started !== null && state.started !== overview.started) {
    // What it has had before we asked is asked for next time.
    [state.rows, state.next, state.started] = [[], 0, overview.started];
    state.overview = overview;
    return false;
  }
  state.rows.push(...rows.map((row) => Object.fromEntries(columns.map((name, at) => [name, row[at]]))));
  state.rows.splice(0, Math.max(0, state.rows.length - HISTORY));
  [state.next, state.started, state.overview] = [next, overview.started, overview];
  return rows.length > 0;
}

function show(overview) {
  const isNew = keep(overview);
  tell(byId("version"), overview.version);
  set(byId("ready"), { data: { state: overview.ready ? "ok" : "bad" } });
  tell(byId("ready"), overview.ready ? "ready" : overview.draining ? "draining" : "not ready");
  tell(byId("up"), duration(overview.up_s));
  showProblems(problemsOf(overview));
  for (const part of [showTiles, showHandshakes, showEndings, showStages, showUpstreams, showLimits, showCertificates]) part(overview);
  if (isNew || overview.history.next <= 1) drawCharts();
  const mark = { bad: "✕ ", warn: "! ", undefined: "" }[problemsOf(overview)[0]?.state];
  document.title = `${mark}${number(overview.totals.sessions)} sessions · framegate`;
}

async function refresh() {
  // Two answers to the same question would keep the same steps twice.
  if (state.asking) return;
  state.asking = true;
  try {
    show(await ask(`/api/overview?since=${state.next}`));
    [state.failedAt, state.answeredAt] = [null, Date.now()];
    document.querySelector("main").dataset.stale = "false";
    tellAge();
  } catch (error) {
    if (error.status === 401) return;
    state.failedAt ??= Date.now();
    document.querySelector("main").dataset.stale = "true";
    set(byId("ready"), { data: { state: "bad" } });
    tell(byId("ready"), "no answer");
    const since = state.answeredAt === null ? "" : ` since ${clock(new Date(state.answeredAt))}: the numbers below are of then`;
    showProblems([{ state: "bad", what: `The gateway does not answer${since}.`, cure: `${error.message}. Is the process running, and the tunnel to it up?` }]);
    document.title = "✕ no answer · framegate";
  } finally {
    state.asking = false;
  }
}

function tellAge() {
  const age = state.answeredAt === null ? null : Math.round((Date.now() - state.answeredAt) / 1000);
  tell(byId("updated"), state.paused ? `paused ${age ?? 0} s ago` : age === null ? "no numbers yet" : age < 5 ? "live" : `${age} s old`);
}

const isLooking = () => !state.paused && !document.hidden && !byId("token-dialog").open;

/** One question at a time, whatever it takes. */
async function poll() {
  for (let turn = 0; ; turn += 1) {
    if (isLooking()) {
      await refresh();
      if (turn % 2 === 0 && state.failedAt === null && isLooking()) await sessions.refresh();
    }
    await new Promise((resolve) => { setTimeout(resolve, POLL); });
  }
}

byId("pause").addEventListener("click", () => {
  state.paused = !state.paused;
  byId("pause").setAttribute("aria-pressed", state.paused);
  tellAge();
  if (!state.paused) refresh();
});
document.addEventListener("visibilitychange", () => { if (isLooking()) refresh(); });
setInterval(tellAge, 1000);
themeSwitch(byId("theme"));
poll();
