// The live dashboard in Chromium: its numbers beside /metrics, kicks seen by their clients, and what peers write.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFile, mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

import { faults } from "./contrast.mjs";
import { DEADLINE, deadline } from "./demo.mjs";
import { Backend, Gateway, MARKUP, emptyPage } from "./hostile.mjs";

const run = promisify(execFile);

/** Series of /metrics whose name and labels fit, added up. */
async function metric(admin, name, labels = {}) {
  const text = await (await fetch(new URL("/metrics", admin))).text();
  const fits = (line) => line.startsWith(`framegate_${name}{`) && Object.entries(labels).every(([key, value]) => line.includes(`${key}="${value}"`));
  return text.split("\n").filter(fits).reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

/** A page elsewhere that holds WebSockets through the gateway. */
class Clients {
  static async start({ demo, context }) {
    const clients = Object.assign(new Clients(), await emptyPage(context), { demo });
    await clients.page.evaluate(() => { window.sockets = []; });
    return clients;
  }

  /** Opens one; returns its number when it is open or has ended. */
  async connect(token, path = "/chat/lobby/ws") {
    const url = new URL(path, this.demo.facts.ws).href;
    const entries = ["framegate", `base64url.bearer.authorization.framegate.${Buffer.from(token).toString("base64url")}`];
    return this.page.evaluate(([where, offered]) => new Promise((resolve) => {
      const socket = new WebSocket(where, offered);
      const number = window.sockets.push(socket) - 1;
      socket.ended = new Promise((over) => {
        socket.onclose = ({ code, reason }) => { over({ code, reason }); resolve(number); };
      });
      // Only what the backend says proves that it was no refusal.
      socket.onmessage = () => resolve(number);
    }), [url, entries]);
  }

  say(number, text) {
    return this.page.evaluate(([at, what]) => window.sockets[at].send(what), [number, text]);
  }

  end(number) {
    return deadline(this.page.evaluate((at) => window.sockets[at].ended, number), DEADLINE, `socket ${number} does not end`);
  }

  close(number) {
    return this.page.evaluate((at) => window.sockets[at].close(1000), number);
  }

  isOpen(number) {
    return this.page.evaluate((at) => window.sockets[at].readyState === WebSocket.OPEN, number);
  }

  async stop() {
    await this.page.close();
    this.server.close();
  }
}

/** A token of the demo's issuer for any user. */
async function tokenFor({ facts, binary }, user) {
  const key = join(dirname(facts.config), "jwt-key.pem");
  const { stdout } = await run(binary, ["token", "--key", key, "--algorithm", "ES256", "--user", user, "--issuer", "framegate-demo", "--audience", "chat", "--claim", "token_use=access"]);
  return stdout.trim();
}

async function openDashboard({ context }, admin) {
  const page = await context.newPage();
  await page.goto(admin);
  await page.locator('main[data-stale="false"]').waitFor();
  return page;
}

/** Names that look like another one, and how they are shown. */
const LOOK_ALIKE = [
  ["alice", "alice"], ["\u202eecila", "\\u{202e}ecila"], ["al\u200bice", "al\\u{200b}ice"], ["alice ", "alice\\u{20}"], [" alice", "\\u{20}alice"],
  ["alice\ufe0f", "alice\\u{fe0f}"], ["al ice", "al ice"], ["al  ice", "al\\u{20} ice"], ["al\u00a0ice", "al\\u{a0}ice"],
  ["al\\u{200b}ice", "al\\u{5c}u{200b}ice"], ["a\\lice", "a\\lice"],
];

const until = (page, condition, argument) => page.waitForFunction(condition, argument, { timeout: DEADLINE });

/** Waits until a row of a table says so since the start. */
const sinceStart = (page, table, key, count) => until(page, ([id, of, expected]) => {
  const row = [...document.getElementById(id).children].find((one) => one.dataset.key === of);
  return Number(row?.lastElementChild.dataset.value ?? 0) === expected;
}, [table, key, count]).catch(async () => assert.fail(`${key} is not ${count}: ${await page.locator(`#${table}`).innerText()}`));

/** Waits until the sessions shown are of these users, the youngest first. */
const shows = (page, users) => until(page, (expected) => {
  const shown = [...document.querySelectorAll("#sessions-body th > .peer:first-child")].map((cell) => cell.textContent);
  return shown.join("|") === expected;
}, users.join("|"));

/** That nothing a peer wrote has become more than text. */
async function isOnlyText(page) {
  assert.equal(await page.locator("body :is(img, iframe, object, embed, base, form[action])").count(), 0);
  assert.equal(await page.locator("script").count() <= 2, true);
  assert.equal(await page.evaluate(() => document.title.includes("owned")), false);
}

/** A request as no browser makes it. */
function rawUpgrade(url, headers, path) {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const asked = request({ hostname, port, path, headers: {
      Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", ...headers,
    } });
    asked.on("error", reject);
    asked.on("response", (response) => { response.resume(); resolve(response.statusCode); });
    asked.on("upgrade", (response, socket) => { socket.destroy(); resolve(response.statusCode); });
    asked.end();
  });
}

/** What is answered to bytes that are no request. */
function rawAnswer(url, sent) {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect({ host: hostname, port: Number(port) }, () => socket.write(sent));
    socket.on("data", (data) => { text += data; });
    socket.on("error", reject);
    socket.on("close", () => resolve(text));
  });
}

export const dashboardTests = [
  {
    name: "the dashboard's numbers are those of /metrics",
    async body(setting) {
      const { facts } = setting.demo;
      const clients = await Clients.start(setting);
      const page = await openDashboard(setting, facts.admin);
      const open = [];
      for (const user of ["alice", "alice", "bob"]) open.push(await clients.connect(facts.tokens[user]));
      for (const token of ["expired", "expired", "expired", "refresh", "garbage"]) await clients.end(await clients.connect(facts.tokens[token]));
      for (const path of ["/nowhere", "/chat/a.b/ws"]) await clients.end(await clients.connect(facts.tokens.bob, path));
      for (let said = 0; said < 7; said += 1) await clients.say(open[0], JSON.stringify({ type: "message", text: `number ${said}` }));
      await clients.close(open[2]);
      await clients.end(open[2]);
      assert.match(await deadline(rawAnswer(facts.ws, "no request\r\n\r\n"), DEADLINE, "no end of it"), /^HTTP\/1\.1 400 /);
      const results = { accepted: 3, token_expired: 3, token_kind: 1, token_malformed: 1, no_route: 2 };
      for (const [result, count] of Object.entries(results)) {
        assert.equal(await metric(facts.admin, "handshakes_total", { result }), count, result);
        await sinceStart(page, "handshakes", result, count);
      }
      await sinceStart(page, "handshakes", "no readable request, or gone before an answer", 1);
      await sinceStart(page, "endings", "client_closed client", await metric(facts.admin, "endings_total", { label: "client_closed" }));
      await sinceStart(page, "endings", "in all client", 1);
      assert.equal(await metric(facts.admin, "sessions_active"), 2);
      await until(page, () => document.getElementById("tile-sessions").textContent === "2");
      const connections = await metric(facts.admin, "connections");
      await until(page, (count) => document.querySelector('#limits [data-key="connections"]').dataset.used === String(count), connections);
      // The backend answers each with a message to everybody.
      const overview = await (await fetch(new URL("/api/overview", facts.admin))).json();
      const texts = async (direction) => metric(facts.admin, "messages_total", { direction, kind: "text" });
      assert.deepEqual(overview.totals.messages, { from_client: await texts("to_upstream"), from_upstream: await texts("to_client") });
      assert.ok(overview.totals.messages.from_client >= 7, JSON.stringify(overview.totals.messages));
      const sums = async (direction) => metric(facts.admin, "message_bytes_total", { direction });
      assert.deepEqual(overview.totals.bytes, { from_client: await sums("to_upstream"), from_upstream: await sums("to_client") });
      await until(page, () => /now sessions 2, connections \d/.test(document.querySelector("#chart-sessions > svg").getAttribute("aria-label")));
      // The steps of the history add up to what was counted, as soon as the last of them is over.
      const counted = async () => {
        const { history } = await (await fetch(new URL("/api/overview", facts.admin))).json();
        const column = history.columns.indexOf("accepted");
        const sum = history.rows.reduce((total, row) => total + row[column], 0);
        return sum < 3 ? page.waitForResponse((response) => response.url().includes("/api/overview")).then(counted) : sum;
      };
      assert.equal(await deadline(counted(), DEADLINE, "the history does not add up"), 3);
      const { history: { next } } = await (await fetch(new URL("/api/overview", facts.admin))).json();
      const { history: { rows } } = await (await fetch(new URL(`/api/overview?since=${next}`, facts.admin))).json();
      assert.ok(rows.length <= 1, `${rows.length} steps again`);
      await shows(page, ["alice", "alice"]);
      assert.deepEqual(await faults(page), []);
      await clients.stop();
    },
  },
  {
    name: "what needs attention is said, and that nothing does",
    async body(setting) {
      const { facts } = setting.demo;
      const page = await openDashboard(setting, facts.admin);
      await page.locator('#attention[data-state="ok"]').waitFor();
      await fetch(new URL("/backend/stop", facts.page), { method: "POST", headers: { "X-Framegate": "1" } });
      await page.locator('#attention[data-state="bad"]').waitFor();
      const said = await page.locator("#problems").innerText();
      assert.match(said, /Upstream chat: http:\/\/127\.0\.0\.1:\d+ is down/);
      assert.match(said, /Not ready: no upstream has a healthy endpoint/);
      assert.equal(await page.locator("#ready").innerText(), "not ready");
      await fetch(new URL("/backend/start", facts.page), { method: "POST", headers: { "X-Framegate": "1" } });
      await page.locator('#attention[data-state="ok"]').waitFor();
      await setting.demo.stop();
      await until(page, () => document.getElementById("problems").textContent.includes("does not answer"));
    },
  },
  {
    name: "refused handshakes need attention, however few there are",
    async body(setting) {
      const { facts } = setting.demo;
      const clients = await Clients.start(setting);
      const page = await openDashboard(setting, facts.admin);
      for (let refusals = 0; refusals < 3; refusals += 1) {
        assert.equal(await page.locator("#attention").getAttribute("data-state"), "ok", `${refusals} refusals`);
        await clients.end(await clients.connect(facts.tokens.expired));
        await sinceStart(page, "handshakes", "token_expired", refusals + 1);
      }
      await page.locator('#attention[data-state="bad"]').waitFor();
      assert.match(await page.locator("#problems").innerText(), /100 % of handshakes were refused in 5 minutes, mostly token_expired \(3\)/);
      let counts;
      await page.route("**/api/overview*", async (route) => {
        const overview = await (await route.fetch()).json();
        Object.assign(overview.windows[0], { accepted: counts[0], refused: counts[1] > 0 ? { no_route: counts[1] } : {} });
        await route.fulfill({ json: overview });
      });
      for (const [accepted, refused, expected] of [[0, 2, "ok"], [2, 2, "ok"], [3, 3, "bad"], [6, 3, "ok"], [8, 2, "warn"], [7, 2, "ok"], [900, 100, "ok"], [60, 40, "warn"], [0, 9, "bad"]]) {
        counts = [accepted, refused];
        // The tiles are shown behind the problems.
        await until(page, (text) => document.getElementById("tile-handshakes-more").textContent.endsWith(text), `(${refused} of ${accepted + refused})`.replace("1000", "1,000"));
        assert.equal(await page.locator("#attention").getAttribute("data-state"), expected, `${refused} refused, ${accepted} accepted`);
      }
      await clients.stop();
    },
  },
  {
    name: "a session is kicked through the page, after a question, and its client is told 4403",
    async body(setting) {
      const { facts } = setting.demo;
      const clients = await Clients.start(setting);
      const [alice, bob] = [await clients.connect(facts.tokens.alice), await clients.connect(facts.tokens.bob)];
      const page = await openDashboard(setting, facts.admin);
      await shows(page, ["bob", "alice"]);
      const kick = page.getByRole("button", { name: "Kick bob" });
      await kick.click();
      assert.match(await page.locator("#kick-whom").innerText(), /^“bob”, from 127\.0\.0\.1:\d+, on \/chat\/\{room\}\/ws/);
      await page.click("#kick-no");
      await kick.press("Enter");
      await page.keyboard.press("Escape");
      assert.equal(await page.locator("dialog[open]").count(), 0);
      assert.equal(await clients.isOpen(bob), true);
      await kick.press("Enter");
      await page.getByRole("button", { name: "End it" }).press("Enter");
      assert.deepEqual(await clients.end(bob), { code: 4403, reason: "kicked" });
      await shows(page, ["alice"]);
      assert.equal(await clients.isOpen(alice), true);
      await sinceStart(page, "endings", "kicked admin", 1);
      assert.equal(await metric(facts.admin, "endings_total", { label: "kicked" }), 1);

      const second = await clients.connect(facts.tokens.alice);
      await shows(page, ["alice", "alice"]);
      await page.getByRole("button", { name: "Kick alice" }).first().click();
      await page.check("#kick-all");
      await page.fill("#kick-code", "1005");
      await page.click("#kick-yes");
      await until(page, () => document.getElementById("kick-problem").textContent !== "");
      assert.equal(await clients.isOpen(alice), true);
      await page.fill("#kick-code", "4900");
      assert.equal(await page.textContent("#kick-problem"), "", "what was said of another code");
      await page.fill("#kick-reason", "house closes");
      await page.click("#kick-yes");
      for (const client of [alice, second]) assert.deepEqual(await clients.end(client), { code: 4900, reason: "house closes" });
      await until(page, () => document.getElementById("said").textContent === "2 sessions of alice told to end.");
      await clients.stop();
    },
  },
  {
    name: "sessions are found by what is typed, open ones and ended ones",
    async body(setting) {
      const { facts } = setting.demo;
      const clients = await Clients.start(setting);
      await clients.connect(facts.tokens.alice);
      await clients.connect(facts.tokens.bob, "/chat/kitchen/ws");
      await clients.end(await clients.connect(facts.tokens.expired));
      const page = await openDashboard(setting, facts.admin);
      await shows(page, ["bob", "alice"]);
      await page.fill("#search", "ALI");
      await shows(page, ["alice"]);
      assert.equal(await page.locator("#matching").innerText(), "1 of 2 open");
      await page.fill("#search", "kitchen");
      await shows(page, ["bob"]);
      await page.getByRole("button", { name: "Details bob" }).click();
      await page.locator("#details dt").first().waitFor();
      assert.match(await page.locator("#details").innerText(), /\/chat\/kitchen\/ws/);
      await page.click("#details-close");
      await page.fill("#search", "token_expired");
      await page.getByRole("button", { name: "Ended and refused" }).click();
      await until(page, () => document.querySelector("#sessions-body tr")?.textContent.includes("token_expired (refused)"));
      assert.equal(await page.locator("#sessions-body tr").count(), 1);
      await page.locator("#sessions-body .details").click();
      await page.locator("#details dt").first().waitFor();
      assert.match(await page.locator("#details-sentence").innerText(), /\w+ \w+ \w+/);
      assert.deepEqual(await faults(page), []);
      await clients.stop();
    },
  },
  {
    name: "nothing a peer writes becomes markup in the dashboard",
    async body(setting) {
      const { facts } = setting.demo;
      const clients = await Clients.start(setting);
      const evil = await clients.connect(await tokenFor(setting.demo, MARKUP), "/chat/lobby/ws");
      await rawUpgrade(facts.ws, { Origin: "http://x.example.com", Host: "x.example.com", "Sec-WebSocket-Protocol": "a'b,`c&lt;" }, `/no/${MARKUP.replaceAll(" ", "")}`.replace(/["<>]/g, encodeURIComponent));
      await rawUpgrade(facts.ws, { Origin: MARKUP.replaceAll(" ", "") }, "/no/where");
      const page = await openDashboard(setting, facts.admin);
      await shows(page, [MARKUP]);
      await page.locator("#sessions-body .details").click();
      await page.locator("#details dt").first().waitFor();
      assert.match(await page.locator("#details").innerText(), /<img src=x onerror=/);
      await isOnlyText(page);
      await page.click("#details-close");
      await page.locator("#sessions-body .kick").click();
      assert.match(await page.locator("#kick-dialog").innerText(), /<script>/);
      await page.fill("#kick-reason", MARKUP);
      await page.click("#kick-yes");
      assert.deepEqual(await clients.end(evil), { code: 4403, reason: MARKUP });
      await page.getByRole("button", { name: "Ended and refused" }).click();
      await until(page, () => document.querySelectorAll("#sessions-body tr").length === 3);
      for (const details of await page.locator("#sessions-body .details").all()) {
        await details.click();
        await page.locator("#details dt").first().waitFor();
        await isOnlyText(page);
        await page.click("#details-close");
      }
      await isOnlyText(page);
      await clients.stop();
    },
  },
  {
    name: "nothing a peer writes passes for another name in the dashboard",
    async body(setting) {
      const { facts } = setting.demo;
      const clients = await Clients.start(setting);
      const open = [];
      for (const [user] of LOOK_ALIKE) open.push(await clients.connect(await tokenFor(setting.demo, user)));
      const page = await openDashboard(setting, facts.admin);
      await shows(page, LOOK_ALIKE.map(([, shown]) => shown).reverse());
      for (const [at, [user, shown]] of LOOK_ALIKE.entries()) {
        await page.getByRole("button", { name: `Details ${shown}`, exact: true }).click();
        await page.locator("#details dt").first().waitFor();
        const value = page.locator("#details dt", { hasText: /^user$/ }).locator("+ dd");
        assert.equal(await value.textContent(), shown);
        await page.click("#details-close");
        await page.getByRole("button", { name: `Kick ${shown}`, exact: true }).click();
        assert.equal(await page.locator("#kick-whom bdi.peer").first().textContent(), shown);
        assert.ok((await page.locator("#kick-whom").textContent()).startsWith(`“${shown}”, from 127.0.0.1:`));
        assert.equal(await page.locator("#kick-all-text").textContent(), `All sessions of “${shown}”`);
        await page.check("#kick-all");
        await page.click("#kick-yes");
        assert.deepEqual(await clients.end(open[at]), { code: 4403, reason: "kicked" }, user);
        await until(page, (said) => document.getElementById("said").textContent === said, `1 session of ${shown} told to end.`);
      }
      await clients.stop();
    },
  },
  {
    name: "where there is a token the page asks for it and forgets it",
    async body({ demo, context }) {
      const folder = await mkdtemp(join(tmpdir(), "framegate-"));
      const file = join(folder, "token");
      await writeFile(file, "open-sesame-4711\n");
      const backend = await Backend.start();
      const gateway = await Gateway.start(demo.binary, backend, { admin: `token_file = "${file}"` });
      try {
        const page = await context.newPage();
        const answers = [];
        page.on("response", (response) => answers.push([new URL(response.url()).pathname, response.status()]));
        await page.goto(`http://${gateway.admin}/`);
        await page.locator("#token-dialog[open]").waitFor();
        assert.deepEqual(answers.filter(([path]) => path !== "/").map(([path, code]) => `${path} ${code}`).slice(0, 1), ["/api/overview 401"]);
        assert.equal(await page.locator("#tile-sessions").innerText(), "–");
        await page.fill("#token", "wrong");
        await page.press("#token", "Enter");
        await until(page, () => document.getElementById("token-problem").textContent === "This token is not the right one.");
        await page.fill("#token", "open-sesame-4711");
        await page.press("#token", "Enter");
        await until(page, () => document.getElementById("tile-sessions").textContent === "0");
        const kept = await page.evaluate(async () => JSON.stringify([
          { ...localStorage }, { ...sessionStorage }, document.cookie, location.href, document.documentElement.outerHTML,
          [...document.querySelectorAll("input")].map(({ value }) => value), await indexedDB.databases(), await caches?.keys(),
        ]));
        assert.ok(!kept.includes("open-sesame"), kept);
        assert.deepEqual(await context.cookies(), []);
        await page.reload();
        await page.locator("#token-dialog[open]").waitFor();
      } finally {
        await backend.stop();
        await gateway.stop();
        await rm(folder, { recursive: true });
      }
    },
  },
];
