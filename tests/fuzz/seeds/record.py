"""Records the seeds of the fuzz targets from real programs.

    python tests/fuzz/seeds/record.py [TARGET ...]

Needs the packages websockets and aiohttp, node with ws (NODE_PATH), chromium, nginx with its stream module, haproxy,
openssl, and a built framegate (FRAMEGATE, or target/debug/framegate). Every connection goes through a tap that
notes what each side sent; written by hand are only the requests of `answers`, which must have the key of RFC 6455's
example, and the claims that the target jwt signs itself.
The private keys of the tokens are thrown away; tests/fuzz/keys has the public ones.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import aiohttp.web
import websockets

SEEDS = Path(__file__).resolve().parent
ROOT = SEEDS.parents[2]
FRAMEGATE = os.environ.get("FRAMEGATE", str(ROOT / "target/debug/framegate"))
SAMPLE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3; the target upstream_answer expects it
LARGE = "\u00e9\U0001f600" * 1000  # past the size up to which a frame passes only as a whole


def save(target, name, data):
    """Writes one seed."""
    folder = SEEDS / target
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)


class Tap:
    """Stands between a client and a server and keeps what each sent on each connection."""

    def __init__(self, port=None):
        self.upstream, self.connections = port, []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def serve(self, reader, writer):
        sent = (bytearray(), bytearray())
        self.connections.append(sent)
        if self.upstream is None:
            with contextlib.suppress(ConnectionError):
                while not sent[0].endswith(b"Host: a\r\n\r\n") and (data := await reader.read(8192)):
                    sent[0].extend(data)
            writer.close()
            return
        to_server = await asyncio.open_connection("127.0.0.1", self.upstream)
        await asyncio.gather(
            pass_on(reader, to_server[1], sent[0]), pass_on(to_server[0], writer, sent[1])
        )

    async def finished(self, number=1):
        """Waits until so many connections have said something."""
        async with asyncio.timeout(30):
            while sum(1 for sent in self.connections if sent[0]) < number:
                await asyncio.sleep(0.05)


async def pass_on(reader, writer, note):
    """Copies until the end."""
    try:
        while data := await reader.read(65536):
            note.extend(data)
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def save_session(name, sent):
    """A whole session: the head for two targets, the frames of both directions for the inspector."""
    head, client = bytes(sent[0]).split(b"\r\n\r\n", 1)
    _, upstream = bytes(sent[1]).split(b"\r\n\r\n", 1)
    save("upgrade_request", name, head + b"\r\n\r\n")
    save("token", name, head + b"\r\n\r\n")
    # Switches of the target (0: from the client, 1: from the upstream; no limits), size of chunks.
    save("inspector", name + "-client", b"\0\x40" + client)
    save("inspector", name + "-upstream", b"\1\x07" + upstream)


async def echo(socket):
    """The backend of all sessions: echoes, and closes when told to."""
    await socket.ping(b"backend")
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in socket:
            if message == "bye":
                await socket.close(4401, "caf\u00e9")
            else:
                await socket.send(message)


def choose(_connection, offered):
    """Selects chat where it is offered."""
    return "chat" if "chat" in offered else None


def backend(**options):
    """A websockets server on a free port."""
    return websockets.serve(echo, "127.0.0.1", 0, select_subprotocol=choose, **options)


def port_of(server):
    return server.sockets[0].getsockname()[1]


NODE_CLIENT = """
const WebSocket = require('ws');
const options = { headers: { Authorization: 'Bearer aaa.bbb.ccc', Cookie: 'a=1; session="x.y.z"; b=2' },
                  perMessageDeflate: process.argv[2] === 'deflate' };
const socket = new WebSocket(process.argv[1], ['chat', 'v2'], options);
socket.on('open', () => {
  socket.send('one'); socket.send(Buffer.alloc(300, 7)); socket.ping('p');
  socket.send('par', { fin: false }); socket.send('ts', { fin: true });
  setTimeout(() => socket.send('bye'), 300);
});
socket.on('close', () => process.exit(0));
"""

NODE_SERVER = """
const { WebSocketServer } = require('ws');
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: (s) => s.has('chat') ? 'chat' : false });
server.on('connection', (socket) => socket.on('message', (m, binary) => { socket.send(m, { binary }); socket.close(1000, 'done'); }));
server.on('listening', () => console.log(server.address().port));
"""

PAGE = """<script>
const token = 'base64url.bearer.authorization.framegate.ZXlKaGJHY2lPaUpJVXpJMU5pSjkuZTMwLnNpZw';
document.cookie = 'session=cookie.of.page; SameSite=Strict'; document.cookie = 'theme=dark';
const socket = new WebSocket('ws://127.0.0.1:PORT/api/v1/chats/4f2c%20a/ws?token=abc%2Bd&lang=de', ['framegate', token, 'chat']);
socket.onopen = () => { socket.send('hello'); socket.send(new Uint8Array(130)); socket.send('LARGE'); setTimeout(() => socket.send('bye'), 300); };
</script>"""


async def sessions():
    """Sessions of three clients, with and without permessage-deflate, and through two proxies."""
    for name, options in [("websockets", {"compression": None}), ("websockets-deflate", {})]:
        async with backend(**options) as server, Tap(port_of(server)) as tap:
            url = f"ws://127.0.0.1:{tap.port}/ws?token=q.u.ery&x=%C3%A9"
            async with websockets.connect(
                url, subprotocols=["bearer", "to.k.en", "chat"], origin="https://chat.example.com", **options
            ) as client:
                await client.send("hello \u00e9")
                await client.recv()
                await client.send([b"frag", b"ments", bytes(200)])
                await client.recv()
                await client.send(LARGE)
                await client.recv()
                await client.send("bye")
                await client.wait_closed()
            save_session(name, tap.connections[0])
    for name in ["node", "node-deflate"]:
        async with backend() as server, Tap(port_of(server)) as tap:
            await node(NODE_CLIENT, f"ws://127.0.0.1:{tap.port}/node", name.partition("-")[2])
            save_session(name, tap.connections[0])
    await chromium()
    await through_proxies()


async def node(script, *arguments):
    process = await asyncio.create_subprocess_exec("node", "-e", script, "--", *arguments)
    await asyncio.wait_for(process.wait(), 30)


async def chromium():
    """A page that sends its token as a subprotocol, and cookies."""
    async with backend() as server, Tap(port_of(server)) as tap:
        page = PAGE.replace("PORT", str(tap.port)).replace("LARGE", LARGE)

        async def index(_):
            return aiohttp.web.Response(text=page, content_type="text/html")

        application = aiohttp.web.Application()
        application.router.add_get("/", index)
        runner = aiohttp.web.AppRunner(application)
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            browser = await asyncio.create_subprocess_exec(
                "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
                "--remote-debugging-port=0", f"http://127.0.0.1:{port}/",
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            await tap.finished()
            async with asyncio.timeout(30):
                while b"caf" not in tap.connections[0][1][-20:]:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
            browser.terminate()
            await browser.wait()
        await runner.cleanup()
        save_session("chromium", tap.connections[0])


NGINX = """
daemon off; pid {folder}/pid; error_log stderr error; load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{}}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{http}; location / {{ proxy_pass http://127.0.0.1:{tap}; proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Real-IP $remote_addr; }} }} }}
stream {{ server {{ listen 127.0.0.1:{stream}; listen [::1]:{stream}; proxy_protocol on; proxy_pass 127.0.0.1:{raw}; }} }}
"""

HAPROXY = """
defaults
  timeout connect 5s
  timeout client 5s
  timeout server 5s
  mode tcp
frontend h
  mode http
  option forwardfor
  bind 127.0.0.1:{http}
  default_backend h
backend h
  mode http
  http-request set-header X-Forwarded-Proto http
  server s 127.0.0.1:{tap}
listen v1
  bind 127.0.0.1:{v1}
  bind [::1]:{v1}
  server s 127.0.0.1:{raw} send-proxy
listen v2
  bind 127.0.0.1:{v2}
  bind [::1]:{v2}
  server s 127.0.0.1:{raw} send-proxy-v2
listen v2tlv
  mode http
  unique-id-format %rt-%ci
  bind 127.0.0.1:{v2tlv}
  bind [::1]:{v2tlv}
  server s 127.0.0.1:{raw} send-proxy-v2 proxy-v2-options crc32c,unique-id,authority
listen check
  server s 127.0.0.1:{raw} send-proxy-v2 check inter 200ms
"""


async def free_ports(names):
    """Free ports; nobody takes them before the proxy does."""
    servers = [await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0) for _ in names]
    ports = {name: port_of(server) for name, server in zip(names, servers)}
    for server in servers:
        server.close()
        await server.wait_closed()
    return ports


class Proxy:
    """nginx or HAProxy with a configuration, until the block ends."""

    def __init__(self, program, template, ports):
        self.program, self.template, self.ports = program, template, ports

    async def __aenter__(self):
        self.folder = tempfile.mkdtemp()
        path = Path(self.folder) / "conf"
        path.write_text(self.template.format(folder=self.folder, **self.ports))
        flag = "-c" if self.program == "nginx" else "-f"
        self.process = await asyncio.create_subprocess_exec(self.program, flag, str(path))
        async with asyncio.timeout(15):
            while not await can_connect(self.ports["http"]):
                await asyncio.sleep(0.05)

    async def __aexit__(self, *_):
        self.process.terminate()
        await self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


async def can_connect(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def through_proxies():
    """What nginx and HAProxy make of a handshake, and the PROXY headers they send."""
    for program, template in [("nginx", NGINX), ("haproxy", HAPROXY)]:
        async with backend() as server, Tap(port_of(server)) as tap, Tap() as raw:
            ports = await free_ports(["http", "stream", "v1", "v2", "v2tlv"])
            async with Proxy(program, template, ports | {"tap": tap.port, "raw": raw.port}):
                async with websockets.connect(f"ws://127.0.0.1:{ports['http']}/through") as client:
                    await client.send("hello")
                    await client.recv()
                    await client.send("bye")
                    await client.wait_closed()
                save_session(program, next(sent for sent in tap.connections if sent[0]))
                if program == "haproxy":
                    await raw.finished()
                    save("proxy_header", "haproxy-check", bytes(raw.connections[-1][0]))
                names = ["stream"] if program == "nginx" else ["v1", "v2", "v2tlv"]
                for name in names:
                    for family, host in {"ipv4": "127.0.0.1", "ipv6": "::1"}.items():
                        await proxy_header(f"{program}-{name}-{family}", host, ports[name], raw)


async def proxy_header(name, host, port, raw):
    """The first bytes of a connection through a proxy that announces it."""
    _, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    async with asyncio.timeout(10):
        while True:
            found = [bytes(sent[0]) for sent in raw.connections if name.encode() in sent[0]]
            if found:
                break
            await asyncio.sleep(0.05)
    save("proxy_header", name, found[0])
    writer.close()


REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n"
)


async def ask(port, path="/", version=13, more=""):
    """The answer to a handshake with the sample key, and the first frame behind it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST.format(path=path, version=version, key=SAMPLE_KEY, more=more).encode())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    try:
        answer += await asyncio.wait_for(reader.read(300), 0.5)
    except TimeoutError:
        pass
    writer.close()
    return answer


async def answers():
    """Real 101s and refusals: websockets, aiohttp, ws, and each through nginx."""
    chat = "Sec-WebSocket-Protocol: v2, chat\r\n"
    deflate = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

    async def handle(request):
        socket = aiohttp.web.WebSocketResponse(protocols=["chat"])
        await socket.prepare(request)
        await socket.send_str("welcome")
        return socket

    application = aiohttp.web.Application()
    application.router.add_get("/", handle)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    process = await asyncio.create_subprocess_exec("node", "-e", NODE_SERVER, stdout=subprocess.PIPE)
    async with backend() as server:
        ports = {
            "websockets": port_of(server),
            "aiohttp": runner.addresses[0][1],
            "node": int(await process.stdout.readline()),
        }
        for name, port in ports.items():
            save("upstream_answer", name, await ask(port))
            save("upstream_answer", name + "-chat", await ask(port, more=chat))
            save("upstream_answer", name + "-deflate", await ask(port, more=chat + deflate))
            save("upstream_answer", name + "-version", await ask(port, version=12))
            save("upstream_answer", name + "-path", await ask(port, path="/nowhere"))
        free = await free_ports(["http", "stream"])
        async with Proxy("nginx", NGINX, free | {"tap": ports["node"], "raw": 9}):
            save("upstream_answer", "nginx-node-chat", await ask(free["http"], more=chat))
    process.terminate()
    await process.wait()
    await runner.cleanup()


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def tokens():
    """Tokens minted by framegate itself, of every family of keys, and headers and claims to sign."""
    kinds = {
        "es256": (["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "ES256", []),
        "rs256": (["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "RS256", []),
        "eddsa": (["genpkey", "-algorithm", "ED25519"], "EdDSA", ["--kid", "ed-1"]),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (generate, algorithm, more) in kinds.items():
            key = f"{folder}/{name}.pem"
            openssl(*generate, "-out", key)
            openssl("pkey", "-in", key, "-pubout", "-out", str(SEEDS.parent / f"keys/{name}.pub.pem"))
            save("jwt", name, mint(key, algorithm, more))
        save("jwt", "ps256", mint(f"{folder}/rs256.pem", "PS256", []))
        secret = Path(folder) / "secret"
        secret.write_text("a secret of the fuzz target's own")
        save("jwt", "hs256", mint(str(secret), "HS256", ["--kid", "mine"]))
        save("jwt", "hs256-other-key", mint(f"{folder}/rs256.pem", "RS512", ["--kid", "mine"]))
    header = {"alg": "HS256", "kid": "mine", "typ": "JWT"}
    claims = {
        "aud": "chat", "exp": 1900000000, "iat": 1700000000, "iss": "https://id.example.com",
        "nbf": 1700000000.5, "sub": "ann", "token_use": "access",
    }
    variants = {
        "claims": {}, "claims-audiences": {"aud": ["a", "chat"]}, "claims-expired": {"exp": 1.5e9},
        "claims-user": {"sub": "a\u0000b"}, "claims-kind": {"token_use": "refresh", "roles": [{"a": None}]},
    }
    for name, change in variants.items():
        lines = [json.dumps(part, sort_keys=True, separators=(",", ":")) for part in (header, claims | change)]
        save("jwt", name, "\n".join(lines).encode())


def mint(key, algorithm, more):
    """A token that is valid at the time of the target jwt."""
    command = [FRAMEGATE, "token", "--key", key, "--algorithm", algorithm, "--user", "ann"]
    command += ["--issuer", "https://id.example.com", "--audience", "chat", "--claim", "token_use=access"]
    command += ["--claim", "iat=1700000000", "--claim", "exp=1900000000", *more]
    return subprocess.run(command, check=True, capture_output=True).stdout.strip()


def configurations():
    """The files of config/, and what the README shows of one."""
    for file in sorted((ROOT / "config").glob("*.toml")):
        save("config", file.name, file.read_bytes())


async def main():
    wanted = sys.argv[1:]
    steps = {"sessions": sessions, "answers": answers, "tokens": tokens, "configurations": configurations}
    for name, step in steps.items():
        if not wanted or name in wanted:
            result = step()
            if result is not None:
                await result
            print("recorded", name)


if __name__ == "__main__":
    asyncio.run(main())
