// Drives the page of `framegate demo` in Debian's Chromium, through the gateway, as a person would; looks at hostile
// backends from there; and uses the gateway's own two pages, the dashboard and the connection tester.
//
//   npm ci && node run.mjs PATH_TO_FRAMEGATE [NAME_PART]
//
// Every test starts a demo and a browser profile of its own. Nothing sleeps: everything waits for a
// condition, with a deadline.

import { dashboardTests } from "./dashboard.mjs";
import { hostileTests } from "./hostile.mjs";
import { testerTests } from "./tester.mjs";
import { tests } from "./tests.mjs";
import { Demo, DEADLINE, deadline } from "./demo.mjs";
import { launch } from "./launch.mjs";

const [binary, only = ""] = process.argv.slice(2);
if (!binary) {
  console.error("usage: node run.mjs PATH_TO_FRAMEGATE [NAME_PART]");
  process.exit(64);
}

const browser = await launch();

/** Runs one test; the demo must end well too. Returns what went wrong. */
async function run(test) {
  const demo = await Demo.start(binary);
  const context = await browser.newContext({ ignoreHTTPSErrors: test.ignoreCertificates ?? false });
  context.setDefaultTimeout(DEADLINE);
  const complaints = [];
  context.on("page", (page) => {
    page.on("pageerror", (error) => complaints.push(`script error: ${error.message}`));
    page.on("console", (line) => {
      if (line.text().includes("Content Security Policy")) complaints.push(line.text());
    });
  });
  try {
    await deadline(test.body({ demo, context }), 4 * DEADLINE, "the test took too long");
    if (complaints.length > 0) throw new Error(complaints.join("\n"));
  } finally {
    await context.close();
    await demo.stop();
  }
}

let passed = 0;
let failed = 0;
for (const test of [...tests, ...hostileTests, ...dashboardTests, ...testerTests].filter(({ name }) => name.includes(only))) {
  try {
    await run(test);
    passed += 1;
    console.log(`ok      ${test.name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${test.name}\n${error.stack ?? error}`);
  }
}
await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
