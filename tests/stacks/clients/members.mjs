// Members of the chat in JavaScript; the same file runs in Node and in the browser. A member is a WebSocket or a
// Socket.IO socket; what it receives is queued until it is asked for.

/** `connect(url, command)` gives a WebSocket, `io` is Socket.IO's function, `options(command)` its extra options. */
export class Members {
  #connect;
  #io;
  #options;
  #members = new Map();

  constructor({ connect, io, options }) {
    this.#connect = connect;
    this.#io = io;
    this.#options = options;
  }

  open(command) {
    const member = command.socketio
      ? new SocketIoMember(this.#io, { ...this.#options(command) }, command)
      : new WebSocketMember(this.#connect(command.url, command));
    this.#members.set(command.name, member);
    return member.opened;
  }

  async send({ name, text, binary }) {
    this.#members.get(name).send(binary === undefined ? text : bytes(binary));
    return {};
  }

  next({ name }) {
    return this.#members.get(name).queue.next();
  }

  close({ name, code }) {
    const member = this.#members.get(name);
    this.#members.delete(name);
    return member.close(code);
  }
}

class WebSocketMember {
  queue = new Queue();
  #socket;

  constructor(socket) {
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    let complaint = "";
    socket.onerror = (event) => { complaint = event.message ?? ""; };
    socket.onmessage = ({ data }) => this.queue.add(received(data));
    this.opened = new Promise((resolve) => {
      socket.onopen = () => resolve({ open: true, extensions: socket.extensions });
      socket.onclose = ({ code, reason }) => {
        resolve({ open: false, status: statusIn(complaint), code });
        this.queue.add({ close: code, reason });
      };
    });
  }

  send(data) {
    this.#socket.send(data);
  }

  async close(code) {
    this.#socket.close(code);
    for (;;) {
      const event = await this.queue.next();
      if (event.close !== undefined) return event;
    }
  }
}

class SocketIoMember {
  queue = new Queue();
  #socket;

  constructor(io, options, { url, room, token }) {
    const query = token ? { room, token } : { room };
    const socket = io(url, { transports: ["websocket"], reconnection: false, forceNew: true, query, ...options });
    this.#socket = socket;
    socket.on("chat", (data) => this.queue.add(received(data)));
    const engine = socket.io.engine;
    this.opened = new Promise((resolve) => {
      socket.on("connect", () => resolve({ open: true, extensions: engine.transport.ws.extensions }));
      // Before Socket.IO's own handshake is done, an accepted connection that is closed shows here only.
      engine.transport.on("close", (details) => {
        const { code, reason } = details?.context ?? {};
        resolve(code === 1006 ? { open: false, code } : { open: true, extensions: engine.transport.ws.extensions });
        this.queue.add({ close: code, reason });
      });
      engine.transport.on("error", (error) => {
        resolve({ open: false, status: statusIn(error.description?.message ?? "") });
      });
    });
  }

  send(data) {
    this.#socket.emit("chat", data);
  }

  async close() {
    this.#socket.disconnect();
    return {};
  }
}

class Queue {
  #events = [];
  #waiting = [];

  add(event) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(event);
    else this.#events.push(event);
  }

  next() {
    if (this.#events.length > 0) return Promise.resolve(this.#events.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

function received(data) {
  if (typeof data === "string") return { text: data };
  const view = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
  return { binary: btoa(String.fromCharCode(...view)) };
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** The status in what the `ws` package says of an answer without 101; browsers say nothing. */
function statusIn(complaint) {
  const found = /server response: (\d+)/.exec(complaint);
  return found ? Number(found[1]) : null;
}

/** What carries a token as a subprotocol, in the order the gateway asks for. */
export function tokenProtocols(token) {
  const base64url = btoa(token).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return ["framegate", `base64url.bearer.authorization.framegate.${base64url}`];
}
