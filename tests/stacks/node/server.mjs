// A chat on `ws` with perMessageDeflate on. What each room does: see ../README.md.

import { createServer } from "node:http";

import { WebSocketServer } from "ws";

const rooms = new Map();
const chat = new WebSocketServer({ noServer: true, perMessageDeflate: { threshold: 0 } });
const server = createServer((_, response) => response.writeHead(426).end());

server.on("upgrade", (request, socket, head) => {
  const room = new URL(request.url, "http://chat").pathname.split("/").pop();
  if (room === "refused") {
    socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    return;
  }
  chat.handleUpgrade(request, socket, head, (member) => join(member, room, request.headers));
});

function join(member, room, headers) {
  if (room === "locked") return member.close(4401, "locked");
  const others = rooms.get(room) ?? new Set();
  rooms.set(room, others.add(member));
  member.send(JSON.stringify({
    extensions: headers["sec-websocket-extensions"] ?? null, user: headers["x-auth-user"] ?? null,
  }));
  member.on("message", (data, isBinary) => {
    const order = !isBinary && /^!close (\d+)$/.exec(data.toString());
    if (order) return member.close(Number(order[1]), "asked");
    for (const other of others) {
      if (other !== member) other.send(data, { binary: isBinary });
    }
  });
  member.on("close", () => others.delete(member));
}

server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
