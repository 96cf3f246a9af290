// Members of the chat in Node: `ws`, which offers permessage-deflate, and Socket.IO's own client on top of it.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { io } from "socket.io-client";
import WebSocket from "ws";

import { answerLines } from "./lines.mjs";
import { Members, tokenProtocols } from "./members.mjs";

function connect(url, { source, token, origin, ca }) {
  const protocols = token && source === "subprotocol" ? tokenProtocols(token) : [];
  const headers = token && source === "header" ? { Authorization: `Bearer ${token}` } : {};
  return new WebSocket(url, protocols, {
    perMessageDeflate: true, headers, origin, ca: readFileSync(ca),
  });
}

function options({ origin, ca }) {
  return { perMessageDeflate: { threshold: 0 }, ca: readFileSync(ca), extraHeaders: origin ? { Origin: origin } : {} };
}

const require = createRequire(import.meta.url);
const version = (name) => `${name} ${require(`${name}/package.json`).version}`;
const members = new Members({ connect, io, options });
await answerLines(
  { version: `Node ${process.versions.node}, ${version("ws")}, ${version("socket.io-client")}` },
  async (command) => members[command.do](command),
);
process.exit(0);
