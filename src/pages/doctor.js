// The connection tester: opens a WebSocket as a page does, and says what every end means.

const TABLES = JSON.parse(byId("tables").textContent);
const LABELS = new Map(TABLES.labels.map((row) => [row.label, row]));
const CODES = new Map(TABLES.codes.map((row) => [row.code, row]));
const ENTRY = "base64url.bearer.authorization.framegate.";
/** Back-off: the first pause, the longest, and how long a connection must have lived to begin anew, s. */
const [FIRST, LONGEST, LIVED] = [1, 30, 10];
const LOG_ROWS = 500;
const SHOWN = 2000;
/** Before that no idle timeout has cut a connection, s. */
const SOON = 2;

const tester = { socket: null, began: 0, opened: null, attempt: 0, failures: 0, waited: 0, timer: null, until: 0 };

// ---- What is typed ------------------------------------------------------------------------------------------------

const base64url = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** What a page hands to `new WebSocket`; with `token` in the place of the real one. */
function wanted(token) {
  const where = byId("where").value;
  const name = byId("name").value.trim();
  const offered = byId("subprotocols").value.split(",").map((text) => text.trim()).filter(Boolean);
  let url = byId("url").value.trim();
  if (token && where === "entry") offered.unshift("framegate", `${ENTRY}${token === HIDDEN ? HIDDEN : base64url(token)}`);
  if (token && where === "pair") offered.unshift(name || "bearer", token);
  if (token && where === "query") {
    const mark = url.includes("?") ? "&" : "?";
    url = `${url}${mark}${encodeURIComponent(name || "token")}=${token === HIDDEN ? HIDDEN : encodeURIComponent(token)}`;
  }
  return { url, offered };
}

const HIDDEN = "TOKEN";
const NOTES = {
  entry: "Works everywhere with sources = [\"subprotocol\"], the default. The gateway selects “framegate”.",
  pair: "For sources = [\"subprotocol:NAME\"]: the entry behind the name is the token.",
  query: "For sources = [\"query:NAME\"]. Others in between may log URLs: short-lived tokens only.",
  cookie: "For sources = [\"cookie:NAME\"]. A page cannot set it for a connection: the browser sends the cookies it has for that host. Log in there first, in this browser; SameSite=Lax or Strict cookies go out only if this page is of the same site.",
  none: "Connects without a token.",
};

function showWanted() {
  const where = byId("where").value;
  tell(byId("where-note"), NOTES[where]);
  byId("name-label").hidden = !["pair", "query"].includes(where);
  tell(byId("name-text"), where === "pair" ? "Name before it" : "Name of the parameter");
  byId("name").placeholder = where === "pair" ? "bearer" : "token";
  const { url, offered } = wanted(byId("token").value.trim() ? HIDDEN : "");
  const list = offered.length > 0 ? `, ${JSON.stringify(offered)}` : "";
  tell(byId("snippet"), `new WebSocket(${JSON.stringify(url || "wss://…")}${list})`);
  showUrlNote(url);
}

function parsed(url) {
  try { return new URL(url); } catch { return null; }
}

const isLoopback = (host) => host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || host.startsWith("127.");

/** Why this page may not even try; null if it may. */
function mixedContent(url) {
  return location.protocol === "https:" && url?.protocol === "ws:" && !isLoopback(url.hostname)
    ? "Mixed content: this page came over https, so the browser will not open ws:// from it. Use wss://." : null;
}

function showUrlNote(text) {
  const url = parsed(text);
  const web = { "http:": "ws://", "https:": "wss://" }[url?.protocol];
  const note = text === "" ? null
    : web ? `A WebSocket's URL begins with ${web}, not ${url.protocol}//.`
      : url?.hash ? "A WebSocket's URL must not have a # part."
        : mixedContent(url) ?? (url?.protocol === "ws:" && !isLoopback(url.hostname) && byId("token").value ? "ws:// is not encrypted: the token can be read on the way." : null);
  byId("url-note").hidden = note === null;
  tell(byId("url-note"), note ?? "");
  const link = byId("certificate-link");
  link.hidden = url?.protocol !== "wss:";
  if (!link.hidden) set(link, { href: `https://${url.host}/.framegate/health`, text: `https://${url.host}/` });
}

/** What the token says of itself, read here; nothing is checked. */
function showClaims() {
  const token = byId("token").value.trim();
  const rows = token ? claimsOf(token) : [];
  byId("claims").hidden = rows.length === 0;
  byId("claims").replaceChildren(...rows.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })]));
}

function claimsOf(token) {
  let head;
  let claims;
  try {
    [head, claims] = token.split(".").slice(0, 2).map((part) => JSON.parse(new TextDecoder().decode(
      Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (byte) => byte.charCodeAt(0)))));
  } catch { return [["form", "no JWT: the gateway will call it token_malformed"]]; }
  const now = Date.now() / 1000;
  const ago = (at, past, ahead) => (at <= now ? `${past} ${duration(now - at)} ago` : `${ahead} ${duration(at - now)}`);
  const rows = [["algorithm", visible(head?.alg)]];
  if (Number.isFinite(claims?.exp)) rows.push(["exp", ago(claims.exp, "EXPIRED", "good for")]);
  if (Number.isFinite(claims?.nbf) && claims.nbf > now) rows.push(["nbf", `NOT VALID YET, for ${duration(claims.nbf - now)}`]);
  for (const name of ["sub", "iss", "aud", "token_use", "typ"]) {
    const value = claims?.[name] ?? (name === "typ" ? head?.typ : undefined);
    if (value !== undefined) rows.push([name, visible(typeof value === "string" ? value : JSON.stringify(value))]);
  }
  return rows;
}

// ---- What happens -------------------------------------------------------------------------------------------------

function log(what, details) {
  byId("log-none").hidden = true;
  const at = clock(new Date());
  byId("log").prepend(el("tr", {}, el("td", { class: "mono", text: at }), el("td", { text: what }), el("td", { text: details })));
  while (byId("log").children.length > LOG_ROWS) byId("log").lastChild.remove();
}

function status(of, text) {
  set(byId("status"), { data: { state: of } });
  tell(byId("status"), text);
}

function result(of, head, meaning = "", cure = "", next = "") {
  byId("result").dataset.state = of;
  tell(byId("result-head"), head);
  prose(byId("result-meaning"), meaning);
  prose(byId("result-cure"), cure);
  tell(byId("result-next"), next);
}

function causes(list) {
  byId("causes").hidden = list.length === 0;
  byId("causes").replaceChildren(...list.map(([title, text]) => {
    const why = el("span");
    prose(why, text);
    return el("li", {}, el("b", { text: title }), why);
  }));
}

function connect() {
  cancelWait();
  const token = byId("token").value.trim();
  const { url, offered } = wanted(token);
  tell(byId("form-problem"), "");
  let socket;
  try {
    // Newer browsers would take anything else for a path of this page's own host.
    if (parsed(url) === null) throw new SyntaxError("not absolute");
    socket = new WebSocket(url, offered);
  } catch (error) {
    const why = mixedContent(parsed(url)) ?? (error.name === "SecurityError" ? "The browser does not allow this page to connect there." : explainSyntax(url, offered));
    result("bad", "The browser did not even try", why);
    causes([]);
    tell(byId("form-problem"), why);
    if (mixedContent(parsed(url))) byId("about-mixed").open = true;
    return;
  }
  socket.binaryType = "arraybuffer";
  Object.assign(tester, { socket, began: performance.now(), opened: null });
  tester.attempt += 1;
  causes([]);
  status("warn", "connecting");
  result("idle", "Connecting …", "", "", "");
  log("connecting", `${tester.attempt > 1 ? `attempt ${tester.attempt}, ` : ""}from ${location.origin}`);
  socket.addEventListener("open", () => isCurrent(socket) && opened(socket));
  socket.addEventListener("message", ({ data }) => isCurrent(socket) && log("received", shown(data)));
  socket.addEventListener("close", (event) => isCurrent(socket) && closed(event));
  buttons();
}

const isCurrent = (socket) => tester.socket === socket;

function explainSyntax(url, offered) {
  const parts = parsed(url);
  if (!parts) return "That is no URL. It must look like wss://chat.example.com/ws.";
  if (parts.hash) return "A WebSocket's URL must not have a # part.";
  if (!["ws:", "wss:", "http:", "https:"].includes(parts.protocol)) return "A WebSocket's URL begins with ws:// or wss://.";
  if (new Set(offered).size < offered.length) return "A subprotocol is offered twice.";
  return "A subprotocol has a character that is not allowed there (blanks, commas, slashes, brackets, @, quotes).";
}

function opened(socket) {
  tester.opened = performance.now();
  const chosen = socket.protocol ? `, subprotocol “${socket.protocol.startsWith(ENTRY) ? `${ENTRY}…` : visible(socket.protocol)}”` : ", no subprotocol";
  status("ok", "open");
  result("ok", "Open", `The handshake took ${milliseconds(tester.opened - tester.began)}${chosen}.`, "", "A refusal that is told by Close looks like this for a moment, too.");
  log("open", `after ${milliseconds(tester.opened - tester.began)}${chosen}`);
  buttons();
}

function shown(data) {
  if (typeof data === "string") return data.length > SHOWN ? `${visible(data.slice(0, SHOWN))}… (${number(data.length)} characters)` : visible(data);
  const head = [...new Uint8Array(data.slice(0, 32))].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return `binary, ${bytes(data.byteLength)}: ${head}${data.byteLength > 32 ? " …" : ""}`;
}

/** What a Close means: by its reason, if that is a label of the gateway, else by its code. */
function meaningOf(code, reason) {
  const label = LABELS.get(reason.split(";")[0]);
  if (label) return { ...label, name: label.label, isLabel: true };
  const known = CODES.get(String(code));
  if (known) return known;
  const range = code >= 4000 ? "This code is private: the backend's own, its documentation says what it means."
    : code >= 3000 ? "This code is one of a library or framework (registered with IANA)." : "This code is not assigned.";
  return { name: "", meaning: range, cure: "Look it up in what the backend is made with.", retry: "later" };
}

function closed({ code, reason, wasClean }) {
  const now = performance.now();
  const { opened: at } = tester;
  const after = at === null ? `never open, after ${milliseconds(now - tester.began)}` : `open for ${now - at < 1000 ? milliseconds(now - at) : duration((now - at) / 1000)}`;
  const found = meaningOf(code, reason);
  const told = `${code}${reason ? ` ${visible(reason)}` : found.name ? ` (${found.name})` : ""}`;
  const isDone = code === 1000 || (code === 1005 && wasClean);
  const state = isDone ? "ok" : found.retry === "no" || code === 1006 ? "bad" : "warn";
  status(isDone ? "idle" : state, `closed ${code}`);
  log("closed", `${told}, ${wasClean ? "with a Close from both sides" : "without a clean end"}, ${after}`);
  result(state, `Closed: ${told}`, found.meaning, found.cure, `${after}; ${found.retry === "no" ? "a client should not reconnect by itself." : "a client should reconnect, with back-off."}`);
  causes(code === 1006 ? causesOf1006(at, now) : []);
  if (code === 1006) byId("about-1006").open = true;
  byId("tries-card").hidden = false;
  byId("tries").prepend(el("tr", {}, el("td", { class: "number", text: tester.attempt }), el("td", { class: "number", text: `${tester.waited.toFixed(1)} s` }),
    el("td", { class: "peer", text: told }), el("td", { text: after })));
  tester.socket = null;
  tester.failures = at !== null && now - at > LIVED * 1000 ? 0 : tester.failures;
  buttons();
  if (byId("again").checked && !isDone) comeBack(found, reason);
}

/** What may be behind a 1006, the likelier first as far as this page can know. */
function causesOf1006(at, now) {
  const { url, offered } = wanted(byId("token").value.trim() ? HIDDEN : "");
  const parts = parsed(url);
  if (!navigator.onLine) return [["This device is offline.", "The browser says there is no network."]];
  if (at !== null) {
    const lasted = (now - at) / 1000;
    return [
      ["The connection broke.", "A network change, a device that slept, a process that was killed."],
      lasted < SOON ? ["A frame that the browser does not accept.", "Masked, with reserved bits, or text that is no UTF-8: its console names it; `framegate doctor URL` too."]
        : [`It was cut after ${duration(lasted)}.`, "If it is the same time again and again, a proxy or balancer in between has an idle timeout (60 s is usual): let the gateway ping more often than that."],
      ["A backend or proxy that drops connections without Close.", "Behind framegate this would be 1011 upstream_lost: is the gateway really on this way?"],
    ];
  }
  const took = now - tester.began;
  const list = [];
  if (mixedContent(parts)) list.push(["Mixed content.", "This page came over https: the browser does not open ws://."]);
  if (parts?.protocol === "wss:") list.push(["A certificate that this browser does not trust.", "Open the same host in a tab (see below) and look for a warning; or TLS is not spoken on that port at all."]);
  if (parts?.protocol === "ws:") list.push(["The port speaks TLS only.", "Try wss://."]);
  list.push(took > 5000 ? [`No answer for ${milliseconds(took)}.`, "A firewall that swallows packets, or a wrong address."] : ["Nothing listens there.", "Wrong host or port, or the service is down."]);
  list.push(["The handshake was refused by HTTP status.", "A proxy in between, or the gateway for load (429, 503) or with refuse = \"http\". The network tab shows the status; the gateway's log and dashboard the reason."]);
  if (offered.length > 0) list.push(["No offered subprotocol was selected.", "Then Chromium ends the connection; a server must select one, or none must be offered."]);
  return list;
}

// ---- Coming back --------------------------------------------------------------------------------------------------

function comeBack({ retry, isLabel, name }, reason) {
  if (retry === "no") {
    tell(byId("result-next"), `Not reconnecting: ${isLabel ? name : "this code"} would end the next attempt in the same way.`);
    return;
  }
  const asked = Number(/(?:^|;)retry=(\d{1,5})s$/.exec(reason)?.[1] ?? 0);
  const most = Math.min(LONGEST, FIRST * 2 ** tester.failures);
  tester.failures += 1;
  // Half of it is by chance, so that clients that were ended together do not come back together.
  tester.waited = asked + (asked > 0 ? Math.random() : most / 2 + (Math.random() * most) / 2);
  tester.until = performance.now() + tester.waited * 1000;
  tell(byId("result-next"), `Reconnecting in ${tester.waited.toFixed(1)} s: ${asked > 0 ? `${asked} s as the reason asks, and a little by chance.` : `half to all of ${most} s, by chance; the pause doubles up to ${LONGEST} s.`}`);
  log("waiting", `${tester.waited.toFixed(1)} s before attempt ${tester.attempt + 1}`);
  byId("countdown").hidden = false;
  tester.timer = setInterval(tick, 200);
  buttons();
}

function tick() {
  const left = (tester.until - performance.now()) / 1000;
  if (left <= 0) return connect();
  tell(byId("countdown"), `Attempt ${tester.attempt + 1} in ${Math.ceil(left)} s`);
}

function cancelWait() {
  clearInterval(tester.timer);
  tester.timer = null;
  byId("countdown").hidden = true;
}

function buttons() {
  const isOpen = tester.socket?.readyState === WebSocket.OPEN;
  byId("go").disabled = tester.socket !== null;
  byId("stop").disabled = tester.socket === null && tester.timer === null;
  for (const id of ["text", "send"]) byId(id).disabled = !isOpen;
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (tester.socket !== null) return;
  Object.assign(tester, { attempt: 0, failures: 0, waited: 0 });
  byId("tries").replaceChildren();
  connect();
});
byId("stop").addEventListener("click", () => {
  if (tester.timer !== null) log("stopped", "no further attempt");
  cancelWait();
  byId("again").checked = false;
  tester.socket?.close(1000, "tester");
  buttons();
});
byId("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  if (tester.socket?.readyState !== WebSocket.OPEN) return;
  tester.socket.send(byId("text").value);
  log("sent", shown(byId("text").value));
  byId("text").value = "";
});
for (const id of ["url", "token", "where", "name", "subprotocols"]) byId(id).addEventListener("input", showWanted);
byId("token").addEventListener("input", showClaims);

// On a public listener the page is of the gateway's own origin; on the admin listener the dashboard is next door.
if (location.pathname.startsWith("/.framegate/")) byId("url").value = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/`;
else byId("dashboard").hidden = false;
themeSwitch(byId("theme"));
showWanted();
buttons();
