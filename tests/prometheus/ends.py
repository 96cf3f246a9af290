"""Both ends around the gateway: an echo backend that can be killed and brought back, and a WebSocket client."""

import asyncio
import base64
import hashlib
import os
import struct

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


async def read_frame(reader):
    """Opcode and payload of the next frame; only short frames in one piece are ever sent here."""
    first, second = await reader.readexactly(2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
    key = await reader.readexactly(4) if second & 0x80 else bytes(4)
    payload = await reader.readexactly(length)
    return first & 0x0F, bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


def frame(opcode, payload, masked, rsv=0):
    """A final frame of less than 126 bytes."""
    head = bytes([0x80 | rsv | opcode, (0x80 if masked else 0) | len(payload)])
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


class Backend:
    """Echoes text, on one port all its life."""

    def __init__(self):
        self.server = None
        self.writers = set()
        self.port = 0

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def kill(self):
        """Gone at once, as a killed process is: nothing listens, every connection is reset."""
        self.server.close()
        for writer in list(self.writers):
            writer.transport.abort()
        await self.server.wait_closed()

    async def serve(self, reader, writer):
        self.writers.add(writer)
        try:
            await self.echo(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # A health check, or a peer that left.
        finally:
            self.writers.discard(writer)
            writer.close()

    async def echo(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        key = next(head.split(b"\r\n")[at] for at, line in enumerate(lines) if line.startswith(b"sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key.split(b":")[1].strip() + GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        while True:
            opcode, payload = await read_frame(reader)
            if opcode == PING:
                writer.write(frame(PONG, payload, masked=False))
            elif opcode in (TEXT, CLOSE):
                writer.write(frame(opcode, payload, masked=False))
            await writer.drain()
            if opcode == CLOSE:
                return


class Client:
    """A client with its session open."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, address, path, token=None):
        """The status of the answer, and the client if it is 101."""
        host, port = address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        key = base64.b64encode(os.urandom(16)).decode()
        bearer = f"Authorization: Bearer {token}\r\n" if token else ""
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
            f"Sec-WebSocket-Key: {key}\r\n{bearer}\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            writer.close()
            return status, None
        return status, cls(reader, writer)

    async def message(self):
        """Opcode and payload of the next frame that is no ping; pings are answered."""
        while True:
            opcode, payload = await read_frame(self.reader)
            if opcode != PING:
                return opcode, payload
            self.writer.write(frame(PONG, payload, masked=True))

    async def echo(self, text):
        self.writer.write(frame(TEXT, text, masked=True))
        opcode, payload = await self.message()
        assert (opcode, payload) == (TEXT, text), (opcode, payload)

    async def break_protocol(self):
        """Sends a compressed frame that nobody negotiated; gives the close code that comes back."""
        self.writer.write(frame(TEXT, b"x", masked=True, rsv=0x40))
        opcode, payload = await self.message()
        assert opcode == CLOSE, opcode
        self.writer.close()
        return struct.unpack(">H", payload[:2])[0]

    async def close(self):
        self.writer.write(frame(CLOSE, struct.pack(">H", 1000), masked=True))
        while (await self.message())[0] != CLOSE:
            pass
        self.writer.close()
