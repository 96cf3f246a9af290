"""A chat on Django Channels with channels_redis, served by uvicorn. What each room does: see ../README.md.

    server.py REDIS_PORT
"""

import json
import socket
import sys

import django
import uvicorn
from django.conf import settings

settings.configure(
    SECRET_KEY="only for this test",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [("127.0.0.1", int(sys.argv[1]))]},
        }
    },
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path


class Member(AsyncWebsocketConsumer):
    room = None

    async def connect(self):
        name = self.scope["url_route"]["kwargs"]["room"]
        if name == "refused":
            return await self.close()
        await self.accept()
        if name == "locked":
            return await self.close(code=4401, reason="locked")
        self.room = f"room.{name}"
        await self.channel_layer.group_add(self.room, self.channel_name)
        headers = {name.decode(): value.decode() for name, value in self.scope["headers"]}
        await self.send(
            text_data=json.dumps(
                {"extensions": headers.get("sec-websocket-extensions"), "user": headers.get("x-auth-user")}
            )
        )

    async def receive(self, text_data=None, bytes_data=None):
        if text_data is not None and text_data.startswith("!close "):
            return await self.close(code=int(text_data.split()[1]), reason="asked")
        said = {"type": "said", "by": self.channel_name, "text": text_data, "bytes": bytes_data}
        await self.channel_layer.group_send(self.room, said)

    async def said(self, event):
        if event["by"] != self.channel_name:
            await self.send(text_data=event["text"], bytes_data=event["bytes"])

    async def disconnect(self, code):
        if self.room:
            await self.channel_layer.group_discard(self.room, self.channel_name)


application = ProtocolTypeRouter({"websocket": URLRouter([path("ws/<room>", Member.as_asgi())])})


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off", ws="websockets"))
    server.run(sockets=[listener])


main()
