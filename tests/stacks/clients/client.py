"""Members of the chat on Python's `websockets`, which offers permessage-deflate. Takes commands as lines of JSON
and answers each with one (see harness.py)."""

import asyncio
import base64
import json
import ssl
import sys

import websockets

MEMBERS = {}


async def open_(command):
    context = None
    if command["url"].startswith("wss:"):
        context = ssl.create_default_context(cafile=command["ca"])
    headers = {}
    if command["token"] and command["source"] == "header":
        headers["Authorization"] = f"Bearer {command['token']}"
    try:
        ws = await websockets.connect(
            command["url"],
            ssl=context,
            origin=command.get("origin"),
            additional_headers=headers,
            proxy=None,
        )
    except websockets.InvalidStatus as refused:
        return {"open": False, "status": refused.response.status_code}
    MEMBERS[command["name"]] = ws
    return {"open": True, "extensions": ws.response.headers.get("Sec-WebSocket-Extensions", "")}


async def send(command):
    binary = command.get("binary")
    await MEMBERS[command["name"]].send(command["text"] if binary is None else base64.b64decode(binary))
    return {}


async def next_(command):
    ws = MEMBERS[command["name"]]
    try:
        message = await ws.recv()
    except websockets.ConnectionClosed:
        return {"close": ws.close_code, "reason": ws.close_reason}
    if isinstance(message, str):
        return {"text": message}
    return {"binary": base64.b64encode(message).decode()}


async def close(command):
    ws = MEMBERS.pop(command["name"])
    await ws.close(command["code"])
    return {"close": ws.close_code}


COMMANDS = {"open": open_, "send": send, "next": next_, "close": close}


async def answer(command):
    try:
        found = await COMMANDS[command["do"]](command)
    except Exception as error:  # the harness reports whatever went wrong
        found = {"error": repr(error)}
    print(json.dumps({"id": command["id"], **found}), flush=True)


async def main():
    print(json.dumps({"ready": True, "version": f"websockets {websockets.__version__}"}), flush=True)
    running = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        task = asyncio.create_task(answer(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())
