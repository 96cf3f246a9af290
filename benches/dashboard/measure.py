#!/usr/bin/env python3
"""Measures what the live dashboard costs: CPU time of the gateway with many idle sessions, while nobody looks and while a page does.

    benches/dashboard/measure.py FRAMEGATE [--sessions 5000] [--seconds 60]

The page is played: /api/overview?since= every 2.5 s and /api/sessions?limit=25 every 5 s, over one connection each. The
difference between the two shares of a core is what looking costs; CPU time is the operating system's (/proc/PID/stat).
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
CONFIG = """
[[listener]]
bind = "127.0.0.1:0"
[admin]
bind = "127.0.0.1:0"
[upstreams.echo]
endpoints = ["http://127.0.0.1:{port}"]
health = {{ interval = "0" }}
[[route]]
path = "/ws"
upstream = "echo"
verifier = "none"
[limits]
connections_per_address = 0
handshakes_per_address = {{ rate = "0/s" }}
[keepalive]
client_ping = "0"
upstream_ping = "0"
[drain]
window = "0s"
[log]
format = "json"
access = false
"""


async def backend(reader, writer):
    """Accepts the handshake and says nothing more."""
    head = await reader.readuntil(b"\r\n\r\n")
    key = next(line.split(b":", 1)[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    await reader.read()
    writer.close()


async def session(host, port):
    """Opens a session and returns what keeps it open."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                 b"Sec-WebSocket-Key: " + KEY + b"\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return reader, writer


class Admin:
    """A kept connection to the admin listener."""

    async def open(self, host, port):
        self.reader, self.writer = await asyncio.open_connection(host, port)
        return self

    async def get(self, path):
        """The answer's JSON and its size."""
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 200 "), head
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        return json.loads(await self.reader.readexactly(length)), length


def cpu(pid):
    """CPU seconds the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    """KiB of memory in use."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


async def look(host, port, seconds):
    """Asks as the page does; bytes of the first answer, the largest of the others, and the slowest, s."""
    admin, since, sizes, slowest = await Admin().open(host, port), 0, [], 0.0
    end = time.monotonic() + seconds
    for turn in range(10**6):
        began = time.monotonic()
        answer, size = await admin.get(f"/api/overview?since={since}")
        slowest = max(slowest, time.monotonic() - began)
        since = answer["history"]["next"]
        sizes.append(size)
        if turn % 2 == 0:
            await admin.get("/api/sessions?limit=25")
        if time.monotonic() + 2.5 > end:
            await asyncio.sleep(max(0.0, end - time.monotonic()))
            return sizes[0], max(sizes[1:]), slowest
        await asyncio.sleep(2.5)


async def measured(pid, what):
    """Share of a core that the gateway uses while `what` is done, and its result."""
    before, began = cpu(pid), time.monotonic()
    result = await what
    return 100 * (cpu(pid) - before) / (time.monotonic() - began), result


async def start(binary, folder):
    """Starts backend and gateway; the gateway, its public and its admin address."""
    server = await asyncio.start_server(backend, "127.0.0.1", 0, backlog=4096)
    file = Path(folder, "framegate.toml")
    file.write_text(CONFIG.format(port=server.sockets[0].getsockname()[1]))
    gateway = await asyncio.create_subprocess_exec(binary, "run", "--config", str(file), stdout=asyncio.subprocess.PIPE)
    addresses = {}
    while len(addresses) < 2:
        line = json.loads(await gateway.stdout.readline())
        if line.get("message") == "listening":
            host, port = line["address"].rsplit(":", 1)
            addresses[line["listener"] == "admin"] = (host, int(port))
    return server, gateway, addresses[False], addresses[True]


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framegate")
    parser.add_argument("--sessions", type=int, default=5000)
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server, gateway, public, admin = await start(args.framegate, folder)
        try:
            held = []
            while len(held) < args.sessions:
                held += await asyncio.gather(*(session(*public) for _ in range(min(100, args.sessions - len(held)))))
            print(f"{len(held)} sessions, {resident(gateway.pid)} KiB resident")
            alone, _ = await measured(gateway.pid, asyncio.sleep(args.seconds))
            print(f"nobody looks: {alone:.2f} % of a core")
            looked, (first, next_ones, slowest) = await measured(gateway.pid, look(*admin, args.seconds))
            print(f"a page looks: {looked:.2f} % of a core; answers of {first} B, then at most {next_ones} B; the slowest took {1000 * slowest:.1f} ms")
            print(f"{resident(gateway.pid)} KiB resident at the end")
        finally:
            gateway.kill()
            await gateway.wait()
            server.close()


asyncio.run(main())
