"""The ends of the conformance runs: an echo backend that validates, one that checks nothing, and echo clients
of the same two kinds for the other direction."""

import asyncio
import base64
import hashlib
import os
import struct

# The library's default of 4096 fragments a message is below what cases 9.3 and 9.4 send. Read at its import.
os.environ["WEBSOCKETS_MAX_FRAGMENTS"] = "1000000"

import websockets

MAX = 64 * 1024 * 1024


async def validating_backend():
    """A backend on the `websockets` library: answers every breach itself."""

    async def echo(ws):
        try:
            async for message in ws:
                await ws.send(message)
        except websockets.ConnectionClosed:
            pass

    server = await websockets.serve(
        echo, "127.0.0.1", 0, max_size=MAX, compression=None, ping_interval=None
    )
    return server, server.sockets[0].getsockname()[1]


async def blind_backend():
    """A backend that echoes data frames as they come and checks nothing at all."""

    async def serve(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            key = next(
                line.split(b":", 1)[1].strip()
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"sec-websocket-key:")
            )
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept(key) + b"\r\n\r\n"
            )
            await blind_echo(reader, writer, masked=False)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=MAX)
    return server, server.sockets[0].getsockname()[1]


def accept(key):
    return base64.b64encode(
        hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    )


async def blind_echo(reader, writer, masked):
    """Sends every data frame back with the same first byte, Pings as Pongs, Closes as they are."""
    while True:
        first, second = await reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", await reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await reader.readexactly(8))
        key = await reader.readexactly(4) if second & 0x80 else None
        payload = await reader.readexactly(length)
        if key:
            payload = mask(payload, key)
        opcode = first & 0x0F
        if opcode == 10:
            continue
        if opcode == 9:
            first = (first & 0xF0) | 10
        writer.write(frame(first, payload, masked))
        await writer.drain()
        if opcode == 8:
            return


def mask(payload, key):
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return number.to_bytes(len(payload), "big")


def frame(first, payload, masked):
    bit = 0x80 if masked else 0
    length = len(payload)
    if length < 126:
        head = struct.pack(">BB", first, bit | length)
    elif length < 65536:
        head = struct.pack(">BBH", first, bit | 126, length)
    else:
        head = struct.pack(">BBQ", first, bit | 127, length)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + mask(payload, key)


async def validating_client(host, port, path):
    """Plays the part of a client under test once: connects and echoes until the end."""
    url = f"ws://{host}:{port}{path}"
    try:
        async with websockets.connect(
            url, max_size=MAX, compression=None, ping_interval=None, proxy=None
        ) as ws:
            async for message in ws:
                await ws.send(message)
    except (websockets.WebSocketException, OSError):
        pass


async def blind_client(host, port, path):
    """The same, checking nothing."""
    reader, writer = await asyncio.open_connection(host, port, limit=MAX)
    key = base64.b64encode(os.urandom(16))
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n\r\n".encode()
    )
    try:
        await reader.readuntil(b"\r\n\r\n")
        await blind_echo(reader, writer, masked=True)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def first_message(host, port, path):
    async with websockets.connect(f"ws://{host}:{port}{path}", compression=None, proxy=None) as ws:
        return await ws.recv()
