// What a person sees in the demo's page, named as facts.

import assert from "node:assert/strict";

import { Demo, DEADLINE } from "./demo.mjs";

/** One tab with the chat page. */
class Tab {
  constructor(page) {
    this.page = page;
  }

  static async open({ demo, context }, query) {
    const tab = new Tab(await context.newPage());
    await tab.page.goto(`${demo.facts.page}?${new URLSearchParams({ auto: "1", ...query })}`);
    return tab;
  }

  /** Opens a tab and waits until the room has answered. */
  static async join(setting, query) {
    const tab = await Tab.open(setting, query);
    await tab.connected();
    return tab;
  }

  async connected() {
    await this.page.locator('#status[data-state="open"]').waitFor();
  }

  async say(text) {
    await this.page.fill("#text", text);
    await this.page.press("#text", "Enter");
  }

  /** Waits until the last message is `text` of `from`. */
  async hears(from, text) {
    await this.until(([name, said]) => {
      const last = document.querySelector("#messages > li:last-child");
      return last?.querySelector(".bubble")?.textContent === said
        && last.querySelector(".meta b").textContent === name;
    }, [from, text]);
  }

  /** Waits until exactly these are here, as the page words it. */
  async sees(...people) {
    await this.until((expected) => {
      const here = [...document.querySelectorAll("#who li > span:nth-child(2)")].map((e) => e.textContent);
      return here.join("|") === expected;
    }, people.join("|"));
  }

  /** Waits for an ending to be shown; returns its reason. */
  async ending(code) {
    const { reason } = await this.endingAndNext(code);
    return reason;
  }

  /** The same with what the page will do next, both read at the same moment. */
  async endingAndNext(code) {
    const handle = await this.until((expected) => {
      const text = (id) => document.getElementById(id).textContent;
      const shown = !document.getElementById("ending").hidden && text("ending-code") === String(expected);
      return shown && { reason: text("ending-reason"), next: text("ending-next") };
    }, code);
    return handle.jsonValue();
  }

  /** Waits until an ending is in the page's log, where it stays when the page has come back; returns its reason. */
  async logged(code) {
    const handle = await this.until((expected) => {
      const line = [...document.querySelectorAll("#log .bad")].find((it) => it.querySelector(".code")?.textContent === expected);
      return line && line.lastChild.textContent.split(": ")[0];
    }, String(code));
    return handle.jsonValue();
  }

  /** Close codes in the page's log, oldest first. */
  async codes() {
    const lines = await this.page.locator("#log .bad .code").allTextContents();
    return lines.reverse();
  }

  async state() {
    return this.page.getAttribute("#status", "data-state");
  }

  async until(condition, argument) {
    return this.page.waitForFunction(condition, argument, { timeout: DEADLINE });
  }
}

/** Opens a bare WebSocket in the page; resolves to its subprotocol and first message, or its end. */
const bareSocket = (tab, url, protocols) => tab.page.evaluate(([where, offered]) => new Promise((resolve) => {
  const socket = new WebSocket(where, offered);
  socket.onmessage = ({ data }) => {
    resolve({ protocol: socket.protocol, first: JSON.parse(data).type });
    socket.close();
  };
  socket.onclose = ({ code, reason }) => resolve({ code, reason });
}), [url, protocols]);

const tokenEntry = (token) => `base64url.bearer.authorization.framegate.${Buffer.from(token).toString("base64url")}`;

export const tests = [
  {
    name: "two tabs talk both ways, and see who is here",
    async body(setting) {
      const alice = await Tab.join(setting, { user: "alice", room: "tea" });
      await alice.sees("alice (you)");
      const bob = await Tab.join(setting, { user: "bob", room: "tea" });
      await alice.sees("alice (you)", "bob");
      await bob.sees("alice", "bob (you)");
      await alice.say("hello bob");
      await bob.hears("alice", "hello bob");
      await bob.say("grüß dich, alice \u{1f375}");
      await alice.hears("bob", "grüß dich, alice \u{1f375}");
      await bob.page.click("#disconnect");
      await alice.sees("alice (you)");
      assert.equal(await bob.state(), "idle");
    },
  },
  {
    name: "who joins is told what was said, and rooms are apart",
    async body(setting) {
      const alice = await Tab.join(setting, { user: "alice", room: "tea" });
      for (const text of ["one", "two", "three"]) {
        await alice.say(text);
        await alice.hears("alice", text);
      }
      const bob = await Tab.join(setting, { user: "bob", room: "tea" });
      await bob.hears("alice", "three");
      assert.deepEqual(await bob.page.locator(".bubble").allTextContents(), ["one", "two", "three"]);
      const elsewhere = await Tab.join(setting, { user: "bob", room: "coffee" });
      assert.equal(await elsewhere.page.locator(".bubble").count(), 0);
    },
  },
  {
    name: "a bad token is shown as 4401 with its reason, not as 1006, and not tried again",
    async body(setting) {
      for (const [user, reason] of [
        ["expired", "token_expired"], ["refresh", "token_kind"], ["garbage", "token_malformed"],
      ]) {
        const tab = await Tab.open(setting, { user });
        assert.equal(await tab.ending(4401), reason);
        assert.equal(await tab.state(), "stopped");
        assert.deepEqual(await tab.codes(), ["4401"]);
      }
    },
  },
  {
    name: "no token at all, and a room of the wrong form, are told apart",
    async body(setting) {
      const tab = await Tab.join(setting, { user: "bob" });
      const url = setting.demo.facts.ws.replace("{room}", "tea");
      const none = await bareSocket(tab, url, ["framegate"]);
      assert.deepEqual(none, { code: 4401, reason: "token_missing" });
      const lost = await Tab.open(setting, { user: "alice", room: "no.such.room" });
      assert.equal(await lost.ending(4404), "no_route");
      assert.equal(await lost.state(), "stopped");
    },
  },
  {
    name: "an eleventh tab replaces the first: 4409, which does not fight back",
    async body(setting) {
      const tabs = [];
      for (let count = 0; count < 11; count += 1) tabs.push(await Tab.join(setting, { user: "alice" }));
      const [first, ...others] = tabs;
      assert.equal(await first.ending(4409), "replaced");
      assert.equal(await first.state(), "stopped");
      for (const tab of others) assert.equal(await tab.state(), "open");
      assert.deepEqual(await first.codes(), ["4409"]);
    },
  },
  {
    name: "the page's ten more connections replace its own",
    async body(setting) {
      const tab = await Tab.join(setting, { user: "bob" });
      await tab.page.click("#more");
      assert.equal(await tab.ending(4409), "replaced");
      await tab.page.click("#more");
      await tab.page.click("#again");
      await tab.connected();
    },
  },
  {
    name: "a killed backend is shown as 1011, then 1014, and the page comes back by itself",
    async body(setting) {
      const alice = await Tab.join(setting, { user: "alice" });
      const bob = await Tab.join(setting, { user: "bob" });
      await alice.say("before");
      await bob.hears("alice", "before");
      await alice.page.click("#stop");
      // The page tries again after a quarter of a second: what it says of this end may be gone before it is read.
      assert.equal(await alice.logged(1011), "upstream_lost");
      assert.equal(await bob.logged(1011), "upstream_lost");
      assert.equal(await alice.ending(1014), "upstream_unreachable");
      await alice.page.click("#start");
      await alice.connected();
      await bob.connected();
      await alice.sees("alice (you)", "bob");
      await alice.say("after");
      await bob.hears("alice", "after");
      assert.ok(!(await alice.codes()).includes("1006"), "never a silent 1006");
    },
  },
  {
    name: "a token as subprotocol works before a backend that selects none, and in the query",
    async body(setting) {
      const tab = await Tab.join(setting, { user: "bob" });
      const { ws, tokens } = setting.demo.facts;
      const url = ws.replace("{room}", "tea");
      const entry = tokenEntry(tokens.alice);
      for (const [where, offered, protocol] of [
        [url, ["framegate", entry], "framegate"],
        [url, [entry, "framegate"], "framegate"],
        [url, [entry], entry],
        [`${url}?token=${tokens.alice}`, [], ""],
      ]) {
        assert.deepEqual(await bareSocket(tab, where, offered), { protocol, first: "history" });
      }
    },
  },
  {
    name: "wss works once the certificate is accepted",
    ignoreCertificates: true,
    async body(setting) {
      const alice = await Tab.join(setting, { user: "alice", transport: "wss" });
      const bob = await Tab.join(setting, { user: "bob", transport: "ws" });
      await alice.say("over TLS");
      await bob.hears("alice", "over TLS");
      const health = await setting.context.newPage();
      const answer = await health.goto(await alice.page.getAttribute("#accept", "href"));
      assert.equal(answer.status(), 200);
    },
  },
  {
    name: "wss before that explains itself and offers the address to accept it at",
    async body(setting) {
      const tab = await Tab.open(setting, { user: "alice", transport: "wss" });
      await tab.ending(1006);
      await tab.page.locator("#certificate").waitFor();
      assert.match(await tab.page.textContent("#ending-words"), /accepted the demo's certificate/);
      assert.equal(await tab.page.getAttribute("#accept", "href"), setting.demo.facts.https);
    },
  },
  {
    name: "markup in a message is shown as text",
    async body(setting) {
      const markup = "<img src=x onerror=\"document.title='owned'\"><b>bold</b><script>1</script>&amp;";
      const alice = await Tab.join(setting, { user: "alice", room: "tea" });
      const bob = await Tab.join(setting, { user: "bob", room: "tea" });
      await alice.say(markup);
      await bob.hears("alice", markup);
      const later = await Tab.join(setting, { user: "bob", room: "tea" });
      await later.hears("alice", markup);
      for (const tab of [alice, bob, later]) {
        assert.equal(await tab.page.locator("#messages :is(img, b, script):not(.meta b)").count(), 0);
        assert.notEqual(await tab.page.title(), "owned");
      }
    },
  },
  {
    name: "when the demo ends, the page is told 1012 and waits as long as it was asked to",
    async body(setting) {
      const tab = await Tab.join(setting, { user: "alice" });
      setting.demo.terminate();
      const { reason, next } = await tab.endingAndNext(1012);
      const asked = Number(/^drained;retry=(\d+)s$/.exec(reason)?.[1]);
      assert.ok(asked > 0, `a retry hint in "${reason}"`);
      const [, waits] = /Coming back in (\d+) s/.exec(next) ?? assert.fail(next);
      assert.ok(Number(waits) >= asked - 1 && Number(waits) <= asked + 2, `${waits} s for ${reason}`);
    },
  },
  {
    name: "the greeting's address opens a connected page",
    async body({ demo: { binary }, context }) {
      const demo = await Demo.startForPeople(binary, "alice");
      try {
        const page = await context.newPage();
        await page.goto(demo.facts.url);
        const tab = new Tab(page);
        await tab.connected();
        await tab.sees("alice (you)");
        await page.close();
      } finally {
        await demo.stop();
      }
    },
  },
];
