// A chat on Socket.IO, over its WebSocket transport, with perMessageDeflate on. What each room does: see ../README.md.

import { createServer } from "node:http";

import { Server } from "socket.io";

const server = createServer();
const chat = new Server(server, {
  transports: ["websocket"],
  perMessageDeflate: { threshold: 0 },
  allowRequest: (request, done) => done("refused", roomOf(request) !== "refused"),
});

function roomOf(request) {
  return new URL(request.url, "http://chat").searchParams.get("room");
}

chat.on("connection", (member) => {
  const { headers, query: { room } } = member.handshake;
  // Socket.IO itself only ever closes without a code; the WebSocket beneath can say why.
  const close = (code, reason) => member.conn.transport.socket.close(code, reason);
  if (room === "locked") return close(4401, "locked");
  member.join(room);
  member.emit("chat", JSON.stringify({
    extensions: headers["sec-websocket-extensions"] ?? null, user: headers["x-auth-user"] ?? null,
  }));
  member.on("chat", (data) => {
    const order = typeof data === "string" && /^!close (\d+)$/.exec(data);
    if (order) return close(Number(order[1]), "asked");
    member.to(room).emit("chat", data);
  });
});

server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
