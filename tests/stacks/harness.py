"""Processes with deadlines: a line-speaking child, the gateway, and the client drivers.

A driver takes one JSON object a line and answers each with one that has the same `id`, in any order:
    {"id": 1, "do": "open", "name": N, "url": U, "token": T, "source": "header" | "subprotocol" | "query", ...}
        -> {"id": 1, "open": true, "extensions": "..."} or {"open": false, "status": 403 or null}
    {"do": "send", "name": N, "text": ... | "binary": base64}    -> {}
    {"do": "next", "name": N}    -> {"text": ...} | {"binary": base64} | {"close": code, "reason": ...}
    {"do": "close", "name": N, "code": C}    -> {"close": code}
"""

import contextlib
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
DEADLINE = 20


class Failed(Exception):
    """What a check found wrong."""


class Child:
    """A process whose standard output is read line by line; it is killed when the block ends."""

    def __init__(self, name, command, cwd=None, env=None):
        self.name = name
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self.lines = queue.Queue()
        self.tail = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def object(self, wanted, deadline=DEADLINE):
        """The next line that is a JSON object `wanted` accepts; other lines are kept for complaints."""
        until = time.monotonic() + deadline
        while True:
            try:
                line = self.lines.get(timeout=max(0, until - time.monotonic()))
            except queue.Empty:
                raise Failed(f"{self.name} did not answer in {deadline} s; it said {self.said()}") from None
            if line is None:
                raise Failed(f"{self.name} has ended ({self.process.wait()}): {self.said()}")
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            if isinstance(found, dict) and wanted(found):
                return found
            self.tail = [*self.tail, line.rstrip()][-12:]

    def said(self):
        return " | ".join(self.tail) or "nothing"

    def recent(self):
        """The last lines it wrote that nobody asked for."""
        while not self.lines.empty():
            self.tail = [*self.tail, (self.lines.get() or "(ended)").rstrip()][-12:]
        return self.tail[-3:]

    def kill(self):
        """SIGKILL to it and what it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Driver:
    """A process with chat members of one kind of client."""

    def __init__(self, name, command, cwd):
        self.child = Child(name, command, cwd)
        ready = self.child.object(lambda line: line.get("ready"), 2 * DEADLINE)
        self.version = ready["version"]
        # Pages have an origin of their own; programs borrow one when they are to pass for a page.
        self.origin = ready.get("origin", "https://chat.example.com")
        self.count = 0

    def do(self, **command):
        self.count += 1
        number = self.count
        print(json.dumps({"id": number, **command}), file=self.child.process.stdin, flush=True)
        answer = self.child.object(lambda line: line.get("id") == number)
        del answer["id"]
        if "error" in answer:
            raise Failed(f"{self.child.name}, {command['do']}: {answer['error']}")
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Ends it by the end of its input, so that a browser is closed too."""
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            self.child.process.stdin.close()
            self.child.process.wait(DEADLINE)
        self.child.kill()


CONFIG = """
[[listener]]
bind = "127.0.0.1:0"
[listener.tls]
certificates = [{{ chain = "dev.pem", key = "dev-key.pem" }}]
[[listener]]
bind = "127.0.0.1:0"
[admin]
bind = ""
[verifiers.users]
keys = [{{ algorithm = "ES256", file = "jwt.pub.pem" }}]
issuers = ["https://id.example.com"]
audiences = ["chat"]
sources = ["header", "subprotocol", "query:token"]
[upstreams.chat]
endpoints = ["http://127.0.0.1:{backend}"]
[[route]]
path = "/{{*rest}}"
upstream = "chat"
verifier = "users"
origins = ["{origin}"]
[log]
format = "json"
"""


class Keys:
    """A folder with a certificate and token keys, made by the repository's own script, and tokens signed with them."""

    def __init__(self, folder, framegate):
        self.folder = folder
        self.framegate = framegate
        shutil.copy(HERE.parent.parent / "certs" / "make-dev.sh", folder)
        subprocess.run(["bash", folder / "make-dev.sh"], check=True, timeout=DEADLINE, capture_output=True)

    def token(self, ttl="5m"):
        made = subprocess.run(
            [self.framegate, "token", "--key", self.folder / "jwt-key.pem", "--algorithm", "ES256", "--user", "ann"]
            + ["--issuer", "https://id.example.com", "--audience", "chat", f"--ttl={ttl}"],
            check=True,
            timeout=DEADLINE,
            capture_output=True,
            text=True,
        )
        return made.stdout.strip()


class Gateway(Child):
    """framegate with a TLS and a plain listener in front of one backend."""

    def __init__(self, keys, backend, origin):
        config = keys.folder / "framegate.toml"
        config.write_text(CONFIG.format(backend=backend, origin=origin))
        self.origin = origin
        super().__init__("framegate", [keys.framegate, "run", "--config", config])
        listeners = [self.object(lambda line: line.get("message") == "listening") for _ in range(2)]
        # They are announced in the order of the configuration.
        self.tls, self.plain = (int(listener["address"].rsplit(":", 1)[1]) for listener in listeners)
