// Takes commands as lines of JSON and answers each with one (see harness.py), until the input ends.

import { createInterface } from "node:readline";

export async function answerLines(ready, answer) {
  console.log(JSON.stringify({ ready: true, ...ready }));
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    answer(command).then(
      (found) => console.log(JSON.stringify({ id: command.id, ...found })),
      (error) => console.log(JSON.stringify({ id: command.id, error: String(error.stack ?? error) })),
    );
  }
}
