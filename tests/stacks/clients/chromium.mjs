// Members of the chat in a page in headless Chromium: its own WebSocket, and Socket.IO's client as the page loads it.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

import { answerLines } from "./lines.mjs";

const PAGE = `<!doctype html><meta charset="utf-8"><title>chat</title>
<script src="/socket.io.js"></script>
<script type="module">
  import { Members, tokenProtocols } from "/members.mjs";
  window.members = new Members({
    connect: (url, { source, token }) =>
      new WebSocket(url, token && source === "subprotocol" ? tokenProtocols(token) : []),
    io: window.io,
    options: () => ({}),
  });
</script>`;
const FILES = {
  "/members.mjs": fileURLToPath(new URL("./members.mjs", import.meta.url)),
  "/socket.io.js": fileURLToPath(new URL("./node_modules/socket.io-client/dist/socket.io.js", import.meta.url)),
};

const server = createServer(async (request, response) => {
  const file = FILES[request.url];
  response.setHeader("Content-Type", file ? "text/javascript" : "text/html");
  response.end(file ? await readFile(file) : PAGE);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${server.address().port}`;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true });
const page = await context.newPage();
await page.goto(origin);
await page.waitForFunction(() => window.members && window.io);

await answerLines(
  { version: `Chromium ${browser.version()}`, origin },
  (command) => page.evaluate((given) => window.members[given.do](given), command),
);
await browser.close();
process.exit(0);
