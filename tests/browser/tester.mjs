// The connection tester in Chromium: what it shows of openings, messages and ends, against the gateway's own tables.

import assert from "node:assert/strict";
import { dirname, join } from "node:path";

import { faults } from "./contrast.mjs";
import { DEADLINE } from "./demo.mjs";
import { Backend, Gateway, MARKUP, SESSIONS } from "./hostile.mjs";

class Tester {
  static async open(context, url) {
    const tester = new Tester();
    tester.page = await context.newPage();
    await tester.page.goto(url);
    tester.tables = JSON.parse(await tester.page.locator("#tables").textContent());
    return tester;
  }

  /** Fills the form in and connects. */
  async connect({ url, token = "", where = "entry", name = "", subprotocols = "" }) {
    await this.page.fill("#url", url);
    await this.page.fill("#token", token);
    await this.page.selectOption("#where", where);
    if (await this.page.locator("#name").isVisible()) await this.page.fill("#name", name);
    await this.page.fill("#subprotocols", subprotocols);
    await this.page.click("#go");
  }

  text(id) {
    return this.page.locator(`#${id}`).innerText();
  }

  until(condition, argument) {
    return this.page.waitForFunction(condition, argument, { timeout: DEADLINE });
  }

  /** Waits for the end; what is shown of it. */
  async closed() {
    await this.until(() => document.getElementById("result-head").textContent.startsWith("Closed: "));
    return { head: await this.text("result-head"), meaning: await this.text("result-meaning"), cure: await this.text("result-cure"), next: await this.text("result-next") };
  }

  /** That an end is shown as this code and reason, with the sentences of this row. */
  async endsWith(told, row) {
    const shown = await this.closed();
    assert.equal(shown.head, `Closed: ${told}`);
    assert.deepEqual([shown.meaning, shown.cure], [row.meaning, row.cure].map((text) => text.replaceAll("`", "")));
    return shown;
  }

  label(name) {
    return this.tables.labels.find(({ label }) => label === name) ?? assert.fail(name);
  }

  code(number) {
    return this.tables.codes.find(({ code }) => code === String(number)) ?? assert.fail(number);
  }
}

const roomOf = ({ facts }, room = "lobby") => facts.ws.replace("{room}", room);

/** The backend's row that does this. */
const deed = (what) => SESSIONS.findIndex((row) => row.what === what && (what !== "a legal Close of 4000" || row.reason === MARKUP));

export const testerTests = [
  {
    name: "the tester shows open, messages and a normal end",
    async body({ demo, context }) {
      const tester = await Tester.open(context, `${demo.facts.admin}doctor`);
      await tester.connect({ url: roomOf(demo), token: demo.facts.tokens.alice });
      await tester.page.locator('#result[data-state="ok"]').waitFor();
      assert.match(await tester.text("result-meaning"), /subprotocol “framegate”/);
      await tester.page.fill("#text", JSON.stringify({ type: "message", text: `${MARKUP}\u202e` }));
      await tester.page.press("#text", "Enter");
      await tester.until(() => [...document.querySelectorAll("#log tr")].some((row) => row.children[1].textContent === "received" && row.children[2].textContent.includes("onerror") && row.children[2].textContent.includes("\\u{202e}")));
      assert.equal(await tester.page.locator("#log :is(img, script)").count(), 0);
      await tester.page.click("#stop");
      await tester.endsWith("1000 tester", tester.code(1000));
      assert.deepEqual(await faults(tester.page), []);
    },
  },
  {
    name: "the tester gives every refusal its meaning and cure",
    async body({ demo, context }) {
      const { tokens } = demo.facts;
      const tester = await Tester.open(context, `${demo.facts.admin}doctor`);
      const url = roomOf(demo);
      for (const [what, told, label] of [
        [{ url, token: tokens.expired }, "4401 token_expired", "token_expired"],
        [{ url, token: tokens.refresh }, "4401 token_kind", "token_kind"],
        [{ url, token: tokens.garbage }, "4401 token_malformed", "token_malformed"],
        [{ url }, "4401 token_missing", "token_missing"],
        [{ url, token: tokens.expired, where: "query", name: "token" }, "4401 token_expired", "token_expired"],
        [{ url, token: tokens.alice, where: "cookie" }, "4401 token_missing", "token_missing"],
        [{ url: roomOf(demo, "a.b"), token: tokens.alice }, "4404 no_route", "no_route"],
      ]) {
        await tester.connect(what);
        const shown = await tester.endsWith(told, tester.label(label));
        assert.match(shown.next, /should not reconnect/);
        await tester.page.reload();
      }
      await fetch(new URL("/backend/stop", demo.facts.page), { method: "POST", headers: { "X-Framegate": "1" } });
      await tester.connect({ url, token: tokens.alice });
      await tester.endsWith("1014 upstream_unreachable", tester.label("upstream_unreachable"));
    },
  },
  {
    name: "the tester gives every ending its meaning, whatever the reason says",
    async body({ demo, context }) {
      const backend = await Backend.start();
      const gateway = await Gateway.start(demo.binary, backend);
      try {
        const tester = await Tester.open(context, `http://${gateway.admin}/doctor`);
        for (const [what, told, row] of [
          ["RSV1", "1011 upstream_violation", tester.label("upstream_violation")],
          ["RST", "1011 upstream_lost", tester.label("upstream_lost")],
          ["an empty Close", "1005 (no code)", tester.code(1005)],
          ["a legal Close of 1012", "1012 restart", tester.code(1012)],
          ["half a large frame, then FIN", "1006 (no Close at all)", tester.code(1006)],
        ]) {
          await tester.connect({ url: `ws://${gateway.address}/ws/session/${deed(what)}`, subprotocols: "chat, other" });
          await tester.endsWith(told, row);
          assert.match(await tester.text("log"), /received\s+before/);
          await tester.page.reload();
        }
        await tester.connect({ url: `ws://${gateway.address}/ws/session/${deed("a legal Close of 4000")}`, subprotocols: "chat" });
        const shown = await tester.closed();
        assert.equal(shown.head, `Closed: 4000 ${MARKUP}`);
        assert.match(shown.meaning, /private/);
        assert.equal(await tester.page.locator("body :is(img, iframe)").count(), 0);
        assert.notEqual(await tester.page.title(), "owned");
      } finally {
        await backend.stop();
        await gateway.stop();
      }
    },
  },
  {
    name: "the tester explains 1006, and what the browser will not even try",
    async body({ demo, context }) {
      const tester = await Tester.open(context, `${demo.facts.admin}doctor`);
      await tester.connect({ url: "ws://127.0.0.1:1/ws" });
      await tester.endsWith("1006 (no Close at all)", tester.code(1006));
      assert.match(await tester.text("causes"), /Nothing listens there/);
      assert.equal(await tester.page.locator("#about-1006").evaluate((details) => details.open), true);
      await tester.page.reload();
      // The demo's certificate is signed by nobody this browser knows.
      await tester.connect({ url: demo.facts.wss.replace("{room}", "lobby"), token: demo.facts.tokens.alice });
      await tester.endsWith("1006 (no Close at all)", tester.code(1006));
      assert.match(await tester.text("causes"), /A certificate that this browser does not trust/);
      assert.deepEqual(await faults(tester.page), []);
      await tester.connect({ url: "chat.example.com" });
      assert.match(await tester.text("result-head"), /did not even try/);
      assert.equal(await tester.page.locator("#causes").isVisible(), false);
      for (const [what, why] of [
        [{ url: "ws://127.0.0.1/#x" }, /# part/],
        [{ url: "chat.example.com" }, /no URL/],
        [{ url: "ws://127.0.0.1/", subprotocols: "a, a" }, /twice/],
        [{ url: "ws://127.0.0.1/", subprotocols: "a b" }, /not allowed there/],
      ]) {
        await tester.page.reload();
        await tester.connect(what);
        assert.match(await tester.text("form-problem"), why);
      }
    },
  },
  {
    name: "the tester tells a frame the browser does not accept from an idle timeout",
    async body({ context, demo }) {
      const backend = await Backend.start();
      try {
        const tester = await Tester.open(context, `${demo.facts.admin}doctor`);
        for (const what of ["RSV1", "a masked message", "text that is none"]) {
          await tester.connect({ url: `ws://127.0.0.1:${backend.port}/ws/session/${deed(what)}`, subprotocols: "chat" });
          await tester.endsWith("1006 (no Close at all)", tester.code(1006));
          assert.match(await tester.text("log"), /received\s+before/, what);
          assert.match(await tester.text("causes"), /A frame that the browser does not accept\.\nMasked.*; framegate doctor URL too/, what);
          assert.doesNotMatch(await tester.text("causes"), /idle timeout/, what);
          await tester.page.reload();
        }
        assert.deepEqual(await faults(tester.page), []);
      } finally {
        await backend.stop();
      }
    },
  },
  {
    name: "the tester comes back as it was asked to, and not where that is no use",
    async body({ demo, context }) {
      const tester = await Tester.open(context, `${demo.facts.admin}doctor`);
      await tester.page.check("#again");
      await tester.connect({ url: roomOf(demo), token: demo.facts.tokens.expired });
      assert.match((await tester.closed()).next, /^Not reconnecting: token_expired/);
      await tester.page.reload();
      await tester.page.check("#again");
      await fetch(new URL("/backend/stop", demo.facts.page), { method: "POST", headers: { "X-Framegate": "1" } });
      await tester.connect({ url: roomOf(demo), token: demo.facts.tokens.alice });
      await tester.until(() => document.querySelectorAll("#tries tr").length >= 3);
      const waits = (await tester.page.locator("#tries td:nth-child(2)").allInnerTexts()).reverse().map(parseFloat);
      assert.equal(waits[0], 0);
      assert.ok(waits[1] >= 0.5 && waits[1] <= 1 && waits[2] >= 1 && waits[2] <= 2, waits.join(", "));
      await fetch(new URL("/backend/start", demo.facts.page), { method: "POST", headers: { "X-Framegate": "1" } });
      await tester.page.locator('#status[data-state="ok"]').waitFor();
      // Going down, the gateway asks for a pause.
      demo.terminate();
      const shown = await tester.closed();
      const [, asked] = /^Closed: 1012 drained;retry=(\d+)s$/.exec(shown.head) ?? assert.fail(shown.head);
      const [, waited] = /^Reconnecting in ([\d.]+) s/.exec(await tester.text("result-next")) ?? assert.fail(shown.next);
      assert.ok(Number(waited) >= Number(asked) && Number(waited) <= Number(asked) + 1.1, `${waited} s for ${asked}`);
    },
  },
  {
    name: "on a public listener the tester is there if asked for, over TLS, and keeps no token",
    ignoreCertificates: true,
    async body({ demo, context }) {
      const folder = dirname(demo.facts.config);
      const [chain, key] = ["tls.pem", "tls-key.pem"].map((name) => join(folder, name));
      const backend = await Backend.start();
      const gateway = await Gateway.start(demo.binary, backend, {
        listener: `doctor = true\n      [listener.tls]\n      certificates = [{ chain = "${chain}", key = "${key}" }]`,
      });
      try {
        const tester = await Tester.open(context, `https://${gateway.address}/.framegate/doctor`);
        assert.equal(await tester.page.inputValue("#url"), `wss://${gateway.address}/`);
        assert.equal(await tester.page.locator("#dashboard").isVisible(), false);
        const token = demo.facts.tokens.alice;
        await tester.connect({ url: `wss://${gateway.address}/ws/session/${deed("RST")}`, token, subprotocols: "chat" });
        await tester.endsWith("1011 upstream_lost", tester.label("upstream_lost"));
        const kept = await tester.page.evaluate(async () => JSON.stringify([
          { ...localStorage }, { ...sessionStorage }, document.cookie, location.href, document.documentElement.outerHTML, await indexedDB.databases(), await caches.keys(),
        ]));
        for (const part of [token, Buffer.from(token).toString("base64url"), token.split(".")[2]]) assert.ok(!kept.includes(part), "the token is kept");
        await tester.page.fill("#url", "ws://192.0.2.1/ws");
        assert.match(await tester.text("url-note"), /Mixed content/);
        await tester.page.click("#go");
        assert.match(await tester.text("form-problem"), /Mixed content/);
      } finally {
        await backend.stop();
        await gateway.stop();
      }
    },
  },
];
