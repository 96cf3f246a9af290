"""Just enough WebSocket for the soak: a client, an echoing server, tokens. Standard library only."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import struct
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Refused(Exception):
    """The handshake was answered with another status than 101."""

    def __init__(self, status):
        super().__init__(f"HTTP {status}")
        self.status = status


class Lost(Exception):
    """The connection ended without a Close."""


def token(user, secret):
    """A good HS256 token, an hour long."""
    def encode(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    claims = {"sub": user, "exp": int(time.time()) + 3600}
    signed = encode({"alg": "HS256"}) + b"." + encode(claims)
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")).decode()


def frame(opcode, payload, masked):
    """One whole frame."""
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes([0x80 | opcode, bit | len(payload)])
    else:
        head = bytes([0x80 | opcode, bit | 126]) + struct.pack("!H", len(payload))
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + unmask(payload, key)


def unmask(payload, key):
    """XOR with the key repeated, as one large number."""
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return number.to_bytes(len(payload), "big")


async def read_frame(reader):
    """Opcode and payload of the next frame."""
    try:
        first, second = await reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await reader.readexactly(8))
        key = await reader.readexactly(4) if second & 0x80 else None
        payload = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise Lost(str(error)) from error
    return first & 0x0F, unmask(payload, key) if key else payload


async def connect(port, bearer):
    """Reader and writer of a session; `Refused` or `Lost` otherwise."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        raise Lost(str(error)) from error
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /ws HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {bearer}\r\n\r\n".encode()
    )
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, OSError) as error:
        writer.transport.abort()
        raise Lost(str(error)) from error
    status = int(head.split(b" ", 2)[1])
    if status != 101:
        writer.close()
        raise Refused(status)
    return reader, writer


async def echo(reader, writer):
    """Serves one session: echoes texts, answers Pings and Closes."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        key = next(line.split(b":", 1)[1].strip() for line in head.split(b"\r\n")
                   if line.lower().startswith(b"sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        while True:
            opcode, payload = await read_frame(reader)
            if opcode == PING:
                writer.write(frame(PONG, payload, masked=False))
            elif opcode != PONG:
                writer.write(frame(opcode, payload, masked=False))
                await writer.drain()
            if opcode == CLOSE:
                return
    except (Lost, StopIteration, asyncio.IncompleteReadError, OSError):
        # A health check, or the gateway's own end.
        pass
    finally:
        writer.close()
