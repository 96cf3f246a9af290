// Starts and stops `framegate demo`, and waits for things.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** How long anything may take, ms. */
export const DEADLINE = 15_000;

/** `promise`, or an error saying `otherwise` after `time` ms. */
export async function deadline(promise, time, otherwise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(otherwise)), time);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A running demo on free ports. */
export class Demo {
  /** What `--json` printed: URLs and tokens; or, for a demo started for people, the lines printed. */
  facts;
  #child;
  #ended;

  /** Starts it and waits for its line of JSON. */
  static async start(binary) {
    return Demo.#launch(binary, ["--json"], (line) => {
      if (!line.startsWith("{")) return null;
      const facts = JSON.parse(line);
      return facts.tokens ? facts : null;
    });
  }

  /** Starts it as a person would and waits for a URL of the page for `user`. */
  static async startForPeople(binary, user) {
    return Demo.#launch(binary, [], (line) => {
      const url = line.match(/https?:\/\/\S+/)?.[0];
      return url?.includes(`user=${user}`) ? { url } : null;
    });
  }

  static async #launch(binary, extra, read) {
    const demo = new Demo();
    const ports = ["--port", "0", "--plain-port", "0", "--page-port", "0", "--admin-port", "0"];
    const child = spawn(binary, ["demo", ...ports, ...extra], { stdio: ["ignore", "pipe", "pipe"] });
    demo.binary = binary;
    demo.#child = child;
    let complaints = "";
    child.stderr.on("data", (text) => { complaints = (complaints + text).slice(-4000); });
    demo.#ended = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => resolve({ code, signal, complaints }));
    });
    demo.#ended.catch(() => {});
    const ready = new Promise((resolve) => {
      createInterface({ input: child.stdout }).on("line", (line) => {
        const facts = read(line);
        if (facts) resolve(facts);
      });
    });
    const early = demo.#ended.then(({ code, complaints: text }) => {
      throw new Error(`framegate demo ended with ${code} before it was ready:\n${text}`);
    });
    early.catch(() => {});
    try {
      demo.facts = await deadline(Promise.race([ready, early]), DEADLINE, "framegate demo is not ready");
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    }
    return demo;
  }

  /** Asks it to end, without waiting. */
  terminate() {
    this.#child.kill("SIGTERM");
  }

  /** Ends it; it must do so in time and with exit code 0. */
  async stop() {
    if (this.#child.exitCode === null) this.terminate();
    try {
      const { code, signal, complaints } = await deadline(this.#ended, DEADLINE, "framegate demo does not end");
      if (code !== 0) throw new Error(`framegate demo ended with ${code ?? signal}:\n${complaints}`);
    } finally {
      this.#child.kill("SIGKILL");
    }
  }
}
