"""Processes under test, questions over HTTP, and waiting for a condition with a deadline."""

import asyncio
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request

CONFIG = """
[[listener]]
bind = "127.0.0.1:0"
{tls}
[admin]
bind = "127.0.0.1:0"
[verifiers.users]
keys = [{{ algorithm = "HS256", file = "secret" }}]
issuers = ["https://id.example.com"]
audiences = ["chat"]
[upstreams.chat]
endpoints = ["http://127.0.0.1:{port}"]
health = {{ interval = "250ms", timeout = "1s", fall = 3 }}
[[route]]
path = "/ws"
upstream = "chat"
verifier = "none"
[[route]]
path = "/chat"
upstream = "chat"
verifier = "users"
[limits]
connections = 1000
connections_per_address = 0
handshakes_per_address = {{ rate = "0/s" }}
[keepalive]
client_ping = "500ms"
upstream_ping = "500ms"
[timeouts]
close = "2s"
[drain]
window = "0s"
[log]
format = "json"
"""


async def until(condition, seconds, what, state=None):
    """Waits until the condition gives something true, and gives that; says what it waited for if it never does."""
    deadline = time.monotonic() + seconds
    while True:
        found = await condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}; now: {await state() if state else found}")
        await asyncio.sleep(0.1)


async def http_text(url, **parameters):
    """The body of the answer, also of one that says no."""
    return await asyncio.to_thread(fetch, f"{url}?{urllib.parse.urlencode(parameters)}")


async def http_json(url, **parameters):
    """The answer of Prometheus' API, which has to be a success."""
    answer = json.loads(await http_text(url, **parameters))
    assert answer["status"] == "success", (answer, parameters)
    return answer


async def is_ready(url):
    """Whether something answers 200 there."""
    try:
        with await asyncio.to_thread(urllib.request.urlopen, url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=15) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.read().decode()


class Process:
    """A program that is ended by its own handle, never by name."""

    def __init__(self, process):
        self.process = process

    @classmethod
    async def start(cls, *command, log):
        with open(log, "wb") as output:
            return cls(await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output))

    async def stop(self):
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 10)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()


class Gateway(Process):
    """framegate in front of a backend."""

    @classmethod
    async def start(cls, binary, folder, port, certificate=None):
        folder.mkdir()
        (folder / "secret").write_bytes(os.urandom(48))
        tls = ""
        if certificate:
            chain, key = certificate
            tls = f'[listener.tls]\ncertificates = [{{ chain = "{chain}", key = "{key}" }}]'
        config = folder / "framegate.toml"
        config.write_text(CONFIG.format(port=port, tls=tls))
        log = folder / "log"
        process = await Process.start(binary, "run", "--config", config, log=log)
        gateway = cls(process.process)
        gateway.binary, gateway.folder, gateway.log = binary, folder, log
        admin = await until(lambda: gateway.logged(message="listening", listener="admin"), 10, f"listening: {log}")
        public = await gateway.logged(message="listening", listener="127.0.0.1:0")
        gateway.admin, gateway.public = admin["address"], public["address"]
        return gateway

    async def logged(self, **fields):
        """The first log line with these fields, or None."""
        for line in self.log.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                entry = json.loads(line)
                if fields.items() <= entry.items():
                    return entry
        return None

    async def token(self, user):
        command = f"token --key {self.folder / 'secret'} --algorithm HS256 --user {user} --ttl 1h"
        claims = ["--issuer", "https://id.example.com", "--audience", "chat"]
        process = await asyncio.create_subprocess_exec(
            self.binary, *command.split(), *claims, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        return output.decode().strip()
