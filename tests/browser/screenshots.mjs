// Makes pictures of both pages, both themes, 1280 and 360 pixels wide, to be looked at.
//
//   node screenshots.mjs PATH_TO_FRAMEGATE FOLDER [NAME_PART]
//
// The pages are the gateway's own; the dashboard's numbers are made up (night.mjs), the tester's connections are real.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";

import { Demo, DEADLINE } from "./demo.mjs";
import { launch } from "./launch.mjs";
import { overview, sessions } from "./night.mjs";

const [binary, folder, only = ""] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node screenshots.mjs PATH_TO_FRAMEGATE FOLDER [NAME_PART]");
  process.exit(64);
}

const json = (route, body) => route.fulfill({ contentType: "application/json", body: JSON.stringify(body) });

async function dashboard(page, { admin }) {
  await page.route("**/api/overview*", (route) => json(route, overview(Number(new URL(route.request().url()).searchParams.get("since")))));
  await page.route("**/api/sessions?*", (route) => json(route, sessions(new URL(route.request().url()).searchParams.get("q") ?? "")));
  await page.goto(admin);
  await page.locator("#sessions-body tr").nth(5).waitFor();
}

async function allIsWell(page, facts) {
  await dashboard(page, facts);
  await page.unroute("**/api/overview*");
  await page.route("**/api/overview*", (route) => {
    const night = overview(0);
    for (const { endpoints } of night.upstreams) endpoints.forEach((endpoint) => Object.assign(endpoint, { healthy: true, last_error: null }));
    night.limits[0].limit = 10_000;
    night.certificates[0].days_left = 80;
    night.config.last_reload_successful = true;
    return json(route, night);
  });
  await page.locator('#attention[data-state="ok"]').waitFor();
}

async function kick(page, facts) {
  await dashboard(page, facts);
  await page.locator("#sessions-body .kick").nth(6).click();
}

async function details(page, facts) {
  await dashboard(page, facts);
  await page.route("**/api/sessions/*", (route) => json(route, { ...sessions().sessions[2], sentence: "Open for 4 minutes; 12 messages from the client, 80 from the upstream." }));
  await page.locator("#sessions-body .details").nth(2).click();
  await page.locator("#details dt").first().waitFor();
}

async function tester(page, { admin, ws, tokens }, token) {
  await page.goto(`${admin}doctor`);
  await page.fill("#url", ws.replace("{room}", "lobby"));
  await page.fill("#token", tokens[token]);
  await page.check("#again");
  await page.click("#go");
}

async function open(page, facts) {
  await tester(page, facts, "alice");
  await page.locator('#result[data-state="ok"]').waitFor();
  await page.locator("#log tr").nth(2).waitFor();
}

async function refused(page, facts) {
  await tester(page, facts, "expired");
  await page.locator('#result[data-state="bad"]').waitFor();
}

async function nobody(page, { admin }) {
  await page.goto(`${admin}doctor`);
  await page.fill("#url", "wss://127.0.0.1:1/ws");
  await page.click("#go");
  await page.locator('#result[data-state="bad"]').waitFor();
}

const PICTURES = { dashboard, "all-is-well": allIsWell, kick, details, "tester-open": open, "tester-refused": refused, "tester-1006": nobody };

await mkdir(folder, { recursive: true });
const [demo, browser] = await Promise.all([Demo.start(binary), launch()]);
for (const [name, prepare] of Object.entries(PICTURES)) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 360]) {
      const file = `${name}-${colorScheme}-${width}.png`;
      if (!file.includes(only)) continue;
      const context = await browser.newContext({ colorScheme, viewport: { width, height: width === 360 ? 740 : 900 }, reducedMotion: "reduce" });
      context.setDefaultTimeout(DEADLINE);
      const page = await context.newPage();
      await prepare(page, demo.facts);
      // Over the whole page, but for dialogs.
      const isDialog = await page.locator("dialog[open]").count() > 0;
      await page.screenshot({ path: join(folder, file), fullPage: !isDialog });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      console.log(`${file}${overflow > 0 ? `: ${overflow} px too wide` : ""}`);
      await context.close();
    }
  }
}
await browser.close();
await demo.stop();
