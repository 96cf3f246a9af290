// Hostile backends as a browser sees them: a raw TCP backend in this process behind a gateway of its
// own, and `event.code` of a WebSocket in Chromium for each thing it does.
//
// The same rows over raw sockets, with what is logged: tests/gateway/hostile_backend.rs.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer as createPage } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { DEADLINE, deadline } from "./demo.mjs";

/** What must never become an element or run, whoever writes it where. */
export const MARKUP = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** A frame, legal or not. */
function frame(first, payload = "", mask = false) {
  const bytes = Buffer.from(payload);
  const extended = bytes.length < 126 ? Buffer.alloc(0) : Buffer.alloc(bytes.length < 65536 ? 2 : 8);
  if (extended.length === 2) extended.writeUInt16BE(bytes.length);
  if (extended.length === 8) extended.writeBigUInt64BE(BigInt(bytes.length));
  const short = [bytes.length, 0, 126, 0, 0, 0, 0, 0, 127][extended.length];
  const key = mask ? Buffer.alloc(4) : Buffer.alloc(0);
  return Buffer.concat([Buffer.from([first, (mask ? 0x80 : 0) | short]), extended, key, bytes]);
}

function close(code, reason = "") {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(code);
  return frame(0x88, Buffer.concat([bytes, Buffer.from(reason)]));
}

const bytes = (...values) => Buffer.from(values);
const head = (first, ...lines) => `${first}\r\n${lines.map((line) => `${line}\r\n`).join("")}\r\n`;
const SWITCHING = "HTTP/1.1 101 Switching Protocols";
const GOOD = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: ACCEPT"];

/** Handshakes: what is answered, then `end` (FIN), `reset` (RST) or `stay`; the code a page sees. */
const answer = (what, code, reason, text, then = "end") => ({ what, code, reason, text, then });
const protocol = (what, text) => answer(what, 1014, "upstream_protocol", text);
const refused = (status, code) => answer(`an answer of ${status}`, code, "upstream_refused", head(`HTTP/1.1 ${status} x`));
const unreachable = (what, text, then) => answer(what, 1014, "upstream_unreachable", text, then);

export const HANDSHAKES = [
  answer("hangs", 1013, "upstream_timeout", "", "stay"),
  answer("drips", 1013, "upstream_timeout", `${SWITCHING}\r\nX: `, "drip"),
  protocol("garbage", "\0\u{1}garbage"),
  refused(200, 1014),
  refused(302, 1014),
  refused(401, 4401),
  refused(403, 4403),
  refused(404, 4404),
  refused(429, 4429),
  refused(500, 1014),
  protocol("a wrong accept", head(SWITCHING, GOOD[0], GOOD[1], "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
  protocol("no accept", head(SWITCHING, GOOD[0], GOOD[1])),
  protocol("another Upgrade", head(SWITCHING, "Upgrade: h2c", GOOD[1], GOOD[2])),
  protocol("compression nobody offered", head(SWITCHING, ...GOOD, "Sec-WebSocket-Extensions: permessage-deflate")),
  protocol("a subprotocol nobody offered", head(SWITCHING, ...GOOD, "Sec-WebSocket-Protocol: graphql-ws")),
  protocol("two subprotocols", head(SWITCHING, ...GOOD, "Sec-WebSocket-Protocol: chat, other")),
  protocol("an immense header", head(SWITCHING, ...GOOD, `X: ${"x".repeat(1 << 20)}`)),
  answer("403 behind 100", 4403, "upstream_refused", `${head("HTTP/1.1 100 Continue")}${head("HTTP/1.1 403 x")}`),
  unreachable("FIN", ""),
  unreachable("FIN within the head", "HTTP/1.1 101 Swi"),
  unreachable("RST", "", "reset"),
];

/** Sessions: what is sent behind a good 101 and a message; the code and reason a page sees. */
const deed = (what, code, reason, sent, then = "stay") => ({ what, code, reason, sent, then, opens: true });
const breach = (what, ...sent) => deed(what, 1011, "upstream_violation", Buffer.concat(sent));
const illegal = (code) => deed(`a Close of ${code}`, 1011, "upstream_closed", close(code));
const legal = (code, reason) => deed(`a legal Close of ${code}`, code, reason, close(code, reason));
const lost = (what, sent, then) => deed(what, 1011, "upstream_lost", sent, then);

export const SESSIONS = [
  breach("RSV1", frame(0xc1, "hi")),
  breach("RSV2", frame(0xa1, "hi")),
  breach("RSV3", frame(0x91, "hi")),
  breach("a masked message", frame(0x81, "hi", true)),
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => breach(`opcode ${opcode}`, frame(0x80 | opcode))),
  breach("a Close of one byte", frame(0x88, bytes(3))),
  breach("a Close with a reason that is no text", frame(0x88, bytes(3, 0xe8, 0xff))),
  breach("a Ping in fragments", frame(0x09, "hi")),
  breach("a Close in fragments", frame(0x08, bytes(3, 0xe8))),
  breach("a Ping of 126 bytes", frame(0x89, Buffer.alloc(126))),
  breach("a continuation of nothing", frame(0x80, "hi")),
  breach("a message within a message", frame(0x01, "a"), frame(0x81, "b")),
  breach("text that is none", frame(0x81, bytes(0xff))),
  breach("text cut in a character", frame(0x81, bytes(0xe2, 0x82))),
  breach("a length not in its shortest form", bytes(0x82, 126, 0, 5)),
  breach("a length of 2^63", bytes(0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0)),
  breach("a message too large", bytes(0x82, 127, 0, 0, 0, 0, 2, 0, 0, 0)),
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535].map(illegal),
  legal(1000, "bye"),
  legal(1001, ""),
  legal(1012, "restart"),
  legal(3000, ""),
  legal(4999, "own"),
  legal(4000, MARKUP),
  deed("an empty Close", 1005, "", frame(0x88)),
  lost("FIN without a Close", bytes(), "end"),
  lost("RST", bytes(), "reset"),
  lost("half a frame, then FIN", frame(0x81, "x".repeat(4000)).subarray(0, 2000), "end"),
  lost("half a header, then RST", bytes(0x82, 126, 1), "reset"),
  deed("silence, and no Pong", 1011, "upstream_stalled", bytes(), "freeze"),
  // The one ending that cannot be told: half of a large frame has passed, and no Close can follow it.
  deed("half a large frame, then FIN", 1006, "", frame(0x82, Buffer.alloc(100_000)).subarray(0, 50_000), "end"),
];

/** A backend whose request's path says which row it plays. */
export class Backend {
  #sockets = new Set();

  static async start() {
    const backend = new Backend();
    backend.server = createServer((socket) => backend.#serve(socket));
    await new Promise((resolve) => { backend.server.listen(0, "127.0.0.1", resolve); });
    return backend;
  }

  get port() {
    return this.server.address().port;
  }

  #serve(socket) {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.once("close", () => this.#sockets.delete(socket));
    let request = "";
    const read = (data) => {
      request += data.toString("latin1");
      if (!request.includes("\r\n\r\n")) return;
      socket.off("data", read);
      socket.resume();
      this.#play(socket, request);
    };
    socket.on("data", read);
  }

  #play(socket, request) {
    const [, list, index] = /^GET \/ws\/(\w+)\/(\d+) /.exec(request);
    const row = (list === "handshake" ? HANDSHAKES : SESSIONS)[Number(index)];
    const [, key] = /sec-websocket-key: (\S+)/i.exec(request);
    const accept = createHash("sha1").update(key + GUID).digest("base64");
    const good = head(SWITCHING, ...GOOD, "Sec-WebSocket-Protocol: chat").replace("ACCEPT", accept);
    const sent = row.opens
      ? Buffer.concat([Buffer.from(good), frame(0x81, "before"), row.sent])
      : Buffer.from(row.text.replace("ACCEPT", accept), "latin1");
    // FIN or RST come when the bytes are on their way.
    socket.write(sent, () => this.#finish(socket, row.then));
  }

  #finish(socket, then) {
    if (then === "end") socket.end();
    if (then === "reset") socket.resetAndDestroy();
    if (then === "freeze") socket.pause();
    if (then === "drip") {
      const drip = setInterval(() => socket.write("x"), 20);
      socket.once("close", () => clearInterval(drip));
    }
  }

  async stop() {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => { this.server.close(resolve); });
  }
}

/** `framegate run` before that backend. */
export class Gateway {
  /** `extra`: further lines of [[listener]] and of [admin]. */
  static async start(binary, backend, extra = {}) {
    const gateway = new Gateway();
    gateway.folder = await mkdtemp(join(tmpdir(), "framegate-"));
    const file = join(gateway.folder, "framegate.toml");
    await writeFile(file, `
      [[listener]]
      bind = "127.0.0.1:0"
      ${extra.listener ?? ""}
      [admin]
      bind = "127.0.0.1:0"
      ${extra.admin ?? ""}
      [upstreams.chat]
      endpoints = ["http://127.0.0.1:${backend.port}"]
      health = { interval = "0" }
      handshake_timeout = "500ms"
      retries = 0
      [[route]]
      path = "/ws/{*row}"
      upstream = "chat"
      verifier = "none"
      [limits]
      handshakes_per_address = { rate = "0/s" }
      [keepalive]
      upstream_ping = "1s"
      upstream_pong = "1s"
      [drain]
      window = "0s"
      [log]
      format = "json"
    `);
    gateway.child = spawn(binary, ["run", "--config", file], { stdio: ["ignore", "pipe", "inherit"] });
    gateway.ended = new Promise((resolve) => { gateway.child.once("exit", resolve); });
    const listening = new Promise((resolve, reject) => {
      gateway.child.once("error", reject);
      gateway.ended.then((code) => reject(new Error(`framegate ended with ${code} before it listened`)));
      createInterface({ input: gateway.child.stdout }).on("line", (line) => {
        const said = JSON.parse(line);
        if (said.message === "listening") gateway[said.listener === "admin" ? "admin" : "address"] = said.address;
        if (gateway.admin && gateway.address) resolve();
      });
    });
    await deadline(listening, DEADLINE, "framegate does not listen");
    return gateway;
  }

  async stop() {
    this.child.kill("SIGTERM");
    try {
      assert.equal(await deadline(this.ended, DEADLINE, "framegate does not end"), 0);
    } finally {
      this.child.kill("SIGKILL");
      await rm(this.folder, { recursive: true });
    }
  }
}

/** A page of some origin, without anything in it. */
export async function emptyPage(context) {
  const server = createPage((_, response) => response.end("<!doctype html><title>empty</title>"));
  await new Promise((resolve) => { server.listen(0, "127.0.0.1", resolve); });
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  return { page, server };
}

/** Opens a WebSocket in the page; what it got and how it ended. */
const meet = (page, url) => page.evaluate((where) => new Promise((resolve) => {
  const socket = new WebSocket(where, ["chat", "other"]);
  const messages = [];
  socket.onmessage = ({ data }) => messages.push(data);
  socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean, messages });
}), url);

/** Meets every row of a list, one after the other. */
async function meetAll({ demo, context }, list, rows) {
  const backend = await Backend.start();
  const gateway = await Gateway.start(demo.binary, backend);
  const { page, server } = await emptyPage(context);
  const wrong = [];
  try {
    for (const [index, { what, code, reason, opens }] of rows.entries()) {
      const url = `ws://${gateway.address}/ws/${list}/${index}`;
      const found = await deadline(meet(page, url), DEADLINE, `${what}: no end`);
      const expected = { code, reason, wasClean: code !== 1006, messages: opens ? ["before"] : [] };
      try {
        assert.deepEqual(found, expected);
      } catch {
        wrong.push(`${what}: ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`);
      }
    }
  } finally {
    await page.close();
    server.close();
    await backend.stop();
    await gateway.stop();
  }
  assert.deepEqual(wrong, []);
}

export const hostileTests = [
  {
    name: "a hostile backend's handshake is told by its code, never by 1006",
    body: (setting) => meetAll(setting, "handshake", HANDSHAKES),
  },
  {
    name: "a hostile backend's session ends with its code, and with 1006 only within a frame",
    body: (setting) => meetAll(setting, "session", SESSIONS),
  },
];
