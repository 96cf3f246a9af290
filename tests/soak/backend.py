"""An echoing WebSocket backend on a port of loopback, which the soak kills and starts again.

It ends with its standard input: whatever becomes of the soak, no backend is left.
"""

import asyncio
import sys

from websocket import echo


async def main(port):
    """Listens until it is killed; says so on standard output."""
    server = await asyncio.start_server(echo, "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


asyncio.run(main(int(sys.argv[1])))
