"""A chat on Python's `websockets`, compression left on. What each room does: see ../README.md."""

import asyncio
import collections
import json

import websockets

ROOMS = collections.defaultdict(set)


def room_of(request):
    return request.path.split("?")[0].rsplit("/", 1)[1]


def refuse(connection, request):
    if room_of(request) == "refused":
        return connection.respond(403, "refused\n")


async def member(ws):
    room = room_of(ws.request)
    if room == "locked":
        return await ws.close(4401, "locked")
    ROOMS[room].add(ws)
    headers = ws.request.headers
    await ws.send(
        json.dumps(
            {"extensions": headers.get("Sec-WebSocket-Extensions"), "user": headers.get("X-Auth-User")}
        )
    )
    try:
        async for message in ws:
            if isinstance(message, str) and message.startswith("!close "):
                await ws.close(int(message.split()[1]), "asked")
            else:
                websockets.broadcast(ROOMS[room] - {ws}, message)
    finally:
        ROOMS[room].discard(ws)


async def main():
    async with websockets.serve(member, "127.0.0.1", 0, process_request=refuse) as server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await server.serve_forever()


asyncio.run(main())
