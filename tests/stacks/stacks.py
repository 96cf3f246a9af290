"""The stacks and the clients: how each is installed and started."""

import contextlib
import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

import install
from harness import DEADLINE, Child, Driver, Failed


class Stack:
    """A chat backend. `refusal`: the status and close code by which its own refusal reaches the clients."""

    socketio = False
    clients = ("python", "node", "chromium")
    refusal = (403, 4403)

    def start(self, holder):
        """Starts it; `holder` (an ExitStack) ends it, and its helpers."""
        command, folder = self.command(holder)
        self.process = holder.enter_context(Child(self.name, command, folder))
        self.port = self.process.object(lambda line: "port" in line)["port"]

    def python_packages(self, *names):
        python, _ = install.pip(self.name)
        code = "import json, sys; from importlib.metadata import version; print(json.dumps([version(n) for n in sys.argv[1:]]))"
        found = json.loads(output([python, "-c", code, *names]))
        return ", ".join(f"{name} {version}" for name, version in zip(names, found))

    def node_package(self, name):
        manifest = install.npm(self.name) / "node_modules" / name / "package.json"
        return f"{name} {json.loads(manifest.read_text())['version']}, Node {output(['node', '--version'])[1:]}"


class Python(Stack):
    name = "python"

    def command(self, _):
        python, folder = install.pip(self.name)
        return [python, "server.py"], folder

    def version(self):
        return self.python_packages("websockets")


class Node(Stack):
    name = "node"

    def command(self, _):
        return ["node", "server.mjs"], install.npm(self.name)

    def version(self):
        return self.node_package("ws")


class SocketIo(Stack):
    name = "socketio"
    socketio = True
    clients = ("node", "chromium")
    # Socket.IO answers every refused upgrade with 400, which is none a client can act on.
    refusal = (502, 1014)

    def command(self, _):
        return ["node", "server.mjs"], install.npm(self.name)

    def version(self):
        return self.node_package("socket.io")


class Go(Stack):
    name = "go"

    def command(self, _):
        program, folder = install.go(self.name)
        return [program], folder

    def version(self):
        install.go(self.name)
        package = "golang-github-gorilla-websocket-dev"
        debian = output(["dpkg-query", "-W", "-f", "${Version}", package])
        return f"gorilla/websocket {debian} (Debian), Go {output(['go', 'version']).split()[2][2:]}"


class Django(Stack):
    name = "django"

    def command(self, holder):
        python, folder = install.pip(self.name)
        return [python, "server.py", redis(holder)], folder

    def version(self):
        packages = self.python_packages("channels", "channels-redis", "uvicorn", "Django")
        return f"{packages}, redis-server {output(['redis-server', '--version']).split('v=')[1].split()[0]}"


def redis(holder):
    """A Redis of its own on a free port that keeps nothing; gives the port."""
    program = shutil.which("redis-server")
    if not program:
        raise SystemExit("redis-server is not installed")
    folder = holder.enter_context(tempfile.TemporaryDirectory())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", folder]
    child = holder.enter_context(Child("redis-server", [program, *options]))
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and child.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            if connection.recv(16).startswith(b"+PONG"):
                return port
        time.sleep(0.02)
    raise Failed("redis-server does not answer")


def output(command):
    return subprocess.run(command, check=True, timeout=DEADLINE, capture_output=True, text=True).stdout.strip()


class Client:
    """A kind of client and where it sends its token over TLS (over plain it is in the query)."""

    def __init__(self, name, source, command, folder):
        self.name, self.source = name, source
        self.driver = Driver(f"{name} client", command, folder)


def clients(names, holder):
    """The drivers of the named clients, started; `holder` ends them."""
    found = {}
    for name in names:
        if name == "python":
            python, folder = install.pip("clients")
            client = Client(name, "header", [python, "client.py"], folder)
        elif name == "node":
            client = Client(name, "header", ["node", "node.mjs"], install.npm("clients"))
        else:
            client = Client(name, "subprotocol", ["node", "chromium.mjs"], install.npm("clients"))
        found[name] = client
        holder.enter_context(client.driver)
    return found


STACKS = {stack.name: stack for stack in (Django(), Go(), Node(), SocketIo(), Python())}
CLIENTS = ("python", "node", "chromium")
