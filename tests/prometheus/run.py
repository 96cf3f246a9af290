#!/usr/bin/env python3
"""A real Prometheus scrapes a real gateway: faults fire the right alerts and no others; the dashboard's queries answer.

    tests/prometheus/run.py [--framegate PATH]

Rules, scrape configuration and probe modules are the shipped ones in config/. Only their times are scaled: 30 times
shorter (scale.py), and so are the scrapes, so that `for: 5m` is 10 s. Expressions and thresholds stay as they are.
Needs Debian's prometheus and prometheus-blackbox-exporter, and openssl.
"""

import argparse
import asyncio
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import queries
import scale
from ends import Backend, Client
from processes import Gateway, Process, http_json, http_text, is_ready, until

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "config" / "prometheus"
FACTOR = 30
RULE_FILES = ("rules.yml", "alerts.yml")


class Monitoring:
    """Prometheus and the exporter, with the shipped files adapted to this machine."""

    def __init__(self, folder, gateway):
        self.folder = folder
        self.gateway = gateway
        self.targets = {}
        self.prometheus_port, self.exporter_port = free_ports(2)
        self.api = f"http://127.0.0.1:{self.prometheus_port}/api/v1"

    async def start(self, certificate):
        self.write_configuration(certificate)
        self.exporter = await Process.start(
            "prometheus-blackbox-exporter",
            f"--config.file={self.folder / 'blackbox.yml'}",
            f"--web.listen-address=127.0.0.1:{self.exporter_port}",
            log=self.folder / "exporter.log",
        )
        self.prometheus = await Process.start(
            "prometheus",
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.prometheus_port}",
            log=self.folder / "prometheus.log",
        )
        for url in (f"http://127.0.0.1:{self.exporter_port}/", f"http://127.0.0.1:{self.prometheus_port}/-/ready"):
            await until(lambda: is_ready(url), 30, f"{url} answers")

    async def stop(self):
        for process in (self.prometheus, self.exporter):
            await process.stop()

    def write_configuration(self, certificate):
        """The shipped files with other times and addresses; each must have what is replaced, exactly once."""
        for name in RULE_FILES:
            text = scale.scale((SHIPPED / name).read_text(), FACTOR)
            (self.folder / name).write_text(text)
        self.write_targets(a=self.gateway.admin)
        targets = self.folder / "targets.json"
        text = replaced(
            (SHIPPED / "prometheus.yml").read_text(),
            ("scrape_interval: 15s", f"scrape_interval: {15 * 1000 // FACTOR}ms"),
            ("evaluation_interval: 15s", f"evaluation_interval: {15 * 1000 // FACTOR}ms"),
            (
                'static_configs:\n      - targets: ["127.0.0.1:9901"]\n',
                f'file_sd_configs:\n      - files: ["{targets}"]\n        refresh_interval: 1s\n',
            ),
            ('"https://chat.example.com/.framegate/health"', f'"http://{self.gateway.public}/.framegate/health"'),
            ('"chat.example.com:443"', f'"{self.gateway.public}"'),
            ("[framegate_websocket_tls]", "[framegate_websocket]"),
            ("replacement: 127.0.0.1:9115", f"replacement: 127.0.0.1:{self.exporter_port}"),
            # A probe is a handshake: not 30 times as many of them. The exporter takes half a second off the timeout.
            slower("framegate-health", "2s"),
            slower("framegate-websocket", "5s"),
        )
        (self.folder / "prometheus.yml").write_text(text)
        modules = (SHIPPED / "blackbox.yml").read_text()
        trust = f"tls: true\n      tls_config:\n        ca_file: {certificate}\n"
        (self.folder / "blackbox.yml").write_text(replaced(modules, ("tls: true\n", trust)))

    def write_targets(self, **gateways):
        """What file_sd reads; whole at any moment."""
        groups = [{"targets": [address]} for address in gateways.values()]
        new = self.folder / "targets.new"
        new.write_text(json.dumps(groups))
        new.rename(self.folder / "targets.json")

    async def query(self, expression):
        answer = await http_json(f"{self.api}/query", query=expression)
        return answer["data"]["result"]

    async def value(self, expression):
        """The one value of an expression, or None."""
        result = await self.query(expression)
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    async def firing(self):
        """Alert name and instance of what fires now."""
        return names(await self.query('ALERTS{alertstate="firing"}'))

    async def fired_since(self, start):
        """The same, of what has fired at any time since."""
        milliseconds = round((time.time() - start) * 1000)
        return names(await self.query(f'last_over_time(ALERTS{{alertstate="firing"}}[{milliseconds}ms])'))

    async def evaluated_without_error(self):
        """The number of rules, if all have been evaluated and none failed."""
        answer = await http_json(f"{self.api}/rules")
        rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
        failed = [rule for rule in rules if rule["health"] == "err"]
        assert not failed, failed
        return len(rules) if all(rule["health"] == "ok" for rule in rules) else 0

    async def probe_state(self):
        """What Prometheus knows of its targets and the probes' results."""
        answer = await http_json(f"{self.api}/targets")
        errors = [(target["scrapeUrl"], target["lastError"]) for target in answer["data"]["activeTargets"]]
        return errors, await self.query("probe_success")

    async def probe(self, module, target):
        """What the exporter says of one target, and how it came to that."""
        url = f"http://127.0.0.1:{self.exporter_port}/probe"
        text = await http_text(url, module=module, target=target, debug="true")
        return "\nprobe_success 1\n" in text, text


class Expectation:
    """While a fault lasts: what has to fire does, and nothing else."""

    def __init__(self, monitoring, name, *expected, resolves=True):
        self.monitoring, self.name, self.expected, self.resolves = monitoring, name, set(expected), resolves

    async def __aenter__(self):
        self.start = time.time()
        print(f"== {self.name}", flush=True)
        return self

    async def fires(self, seconds):
        async def all_fire():
            return self.expected <= await self.monitoring.firing()

        await until(all_fire, seconds, f"{self.name}: firing {self.expected}", self.monitoring.firing)
        print(f"   fires after {time.time() - self.start:.1f} s: {sorted(self.expected)}", flush=True)

    async def __aexit__(self, kind, *_):
        if kind is not None:
            return
        if self.resolves:
            await until(self.silent, 60, f"{self.name}: no alert any more", self.monitoring.firing)
        fired = await self.monitoring.fired_since(self.start)
        assert fired == self.expected, f"{self.name}: fired {fired}, expected {self.expected}"
        print(f"   over after {time.time() - self.start:.1f} s", flush=True)

    async def silent(self):
        return not await self.monitoring.firing()


async def healthy(monitoring, gateway):
    """Traffic and no fault: every rule is evaluated, nothing fires for longer than the longest `for`."""
    async with Expectation(monitoring, "all is well"):
        rules = await until(monitoring.evaluated_without_error, 30, "every rule evaluated")
        clients = [(await Client.open(gateway.public, "/ws"))[1] for _ in range(5)]

        async def scraped_for_long():
            for client in clients:
                await client.echo(b"hello")
            # `for: 10m` is 20 s: 40 scrapes.
            return (await monitoring.value('min(count_over_time(up{job="framegate"}[5m]))') or 0) > 44

        await until(scraped_for_long, 60, "scraped for 22 s")
        for client in clients:
            await client.close()
        print(f"   {rules} rules", flush=True)


async def probes(monitoring, gateway, tls):
    """Each module says yes where it should; the probes of the shipped jobs arrive in Prometheus."""
    print("== blackbox_exporter", flush=True)
    rows = [
        ("framegate_health", f"http://{gateway.public}/.framegate/health", True),
        ("framegate_needs_token", f"http://{gateway.public}/chat", True),
        ("framegate_needs_token", f"http://{gateway.public}/.framegate/health", False),
        ("framegate_websocket", gateway.public, True),
        ("framegate_websocket_tls", tls.public.replace("127.0.0.1", "localhost"), True),
        ("framegate_websocket_tls", gateway.public, False),
    ]
    for module, target, expected in rows:
        good, text = await monitoring.probe(module, target)
        assert good == expected, f"{module} {target}: {text}"
    await until(lambda: probed(monitoring, 1), 20, "probe_success 1 of both jobs", monitoring.probe_state)
    closed = {"host": "chat.example.com", "status": 101, "label": "client_closed", "client_close": "1000"}
    await until(lambda: gateway.logged(**closed), 20, "a probe's session, orderly closed")


async def probed(monitoring, success):
    """Whether the probes of both jobs have this result."""
    results = await monitoring.query("probe_success")
    return [float(probe["value"][1]) for probe in results] == [success, success]


async def reconnect_storm(monitoring, gateway, tokens):
    """Ten users, each back as soon as it has left, a few times a second."""
    stop = asyncio.Event()

    async def user(token):
        while not stop.is_set():
            status, client = await Client.open(gateway.public, "/chat", token)
            assert status == 101, status
            await client.echo(b"back again")
            await client.close()
            await asyncio.sleep(0.3)  # The pace of the storm.

    async with Expectation(monitoring, "reconnect storm", ("ReconnectStorm", gateway.admin)) as expectation:
        async with asyncio.TaskGroup() as group:
            for token in tokens:
                group.create_task(user(token))
            await expectation.fires(60)
            stop.set()


async def backend_killed(monitoring, gateway, backend):
    """Its sessions are told 1011, new ones 502; the alert goes when it is back."""
    clients = [(await Client.open(gateway.public, "/ws"))[1] for _ in range(5)]
    async with Expectation(monitoring, "backend killed", ("NoHealthyUpstream", gateway.admin)) as expectation:
        await backend.kill()
        for client in clients:
            opcode, payload = await client.message()
            assert (opcode, payload[:2]) == (8, b"\x03\xf3"), (opcode, payload)
            client.writer.close()
        status, _ = await Client.open(gateway.public, "/ws")
        assert status == 502, status
        await expectation.fires(30)
        what = "both probes fail: no upstream has a healthy endpoint"
        await until(lambda: probed(monitoring, 0), 20, what, monitoring.probe_state)
        await backend.start()
    await until(lambda: probed(monitoring, 1), 20, "probe_success 1 again")


async def certificate_near_its_end(monitoring, gateway, other):
    """A second instance appears, and its certificate has two days left."""
    async with Expectation(
        monitoring, "certificate near its end", ("CertificateExpiringSoon", other.admin), resolves=False
    ) as expectation:
        monitoring.write_targets(a=gateway.admin, b=other.admin)
        await expectation.fires(30)

        async def both():
            found = await monitoring.query('ALERTS{alertname="CertificateExpiringSoon", alertstate="firing"}')
            return {alert["metric"]["severity"] for alert in found} == {"critical", "warning"}

        await until(both, 60, "both severities")


async def instance_gone(monitoring, gateway, other):
    """The second instance stops, and with it its other alert; the new one goes when it is no target any more."""
    await other.stop()

    async def forgotten():
        return ("CertificateExpiringSoon", other.admin) not in await monitoring.firing()

    await until(forgotten, 30, "CertificateExpiringSoon gone with its instance", monitoring.firing)
    async with Expectation(monitoring, "an instance is gone", ("TargetDown", other.admin)) as expectation:
        await expectation.fires(30)
        monitoring.write_targets(a=gateway.admin)


async def clients_insist(monitoring, gateway, backend):
    """The backend is down, and clients go on trying."""
    async with Expectation(
        monitoring,
        "backend down while clients try",
        ("NoHealthyUpstream", gateway.admin),
        ("HandshakeErrorBudgetBurn", gateway.admin),
        resolves=False,
    ) as expectation:
        await backend.kill()
        for _ in range(12):
            status, _ = await Client.open(gateway.public, "/ws")
            assert status == 502, status
        await expectation.fires(30)


async def varied_traffic(gateway, tokens):
    """Something of everything the dashboard shows; gives clients that stay."""
    for path, token, expected in [("/nowhere", None, 404), ("/chat", None, 401), ("/chat", "x.y.z", 401)]:
        status, _ = await Client.open(gateway.public, path, token)
        assert status == expected, (path, status)
    _, breaker = await Client.open(gateway.public, "/ws")
    assert await breaker.break_protocol() == 1002
    _, writer = await asyncio.open_connection(*gateway.public.rsplit(":", 1))
    writer.close()
    clients = [(await Client.open(gateway.public, "/chat", token))[1] for token in tokens[:3]]
    for client in clients:
        await client.echo(b"hello")
    return clients


async def dashboard(monitoring, gateway, tokens):
    """Every query of the dashboard parses and, after traffic, yields series with numbers."""
    print("== dashboard", flush=True)
    clients = await varied_traffic(gateway, tokens)
    readers = [asyncio.create_task(client.message()) for client in clients]  # They answer pings.

    async def pinged():
        count = f'framegate_ping_rtt_seconds_count{{instance="{gateway.admin}"}}'
        return (await monitoring.value(f"min({count})") or 0) > 3

    async def counted():
        return await monitoring.value('sum(rate(framegate_protocol_errors_total{kind="rsv"}[30s]))')

    await until(pinged, 30, "pings answered")
    await until(counted, 30, "the breach of the protocol has been scraped")
    count, empty = await queries.check(monitoring.api, ROOT / "config" / "grafana" / "framegate.json")
    print(f"   {count} queries, {empty} of them empty, as listed", flush=True)
    for reader in readers:
        reader.cancel()
    for client in clients:
        client.writer.close()


def names(result):
    return {(alert["metric"]["alertname"], alert["metric"].get("instance")) for alert in result}


def replaced(text, *pairs):
    for old, new in pairs:
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    return text


def slower(job, interval):
    """A job scraped at its own interval."""
    name = f"- job_name: {job}\n"
    return name, f"{name}    scrape_interval: {interval}\n    scrape_timeout: {interval}\n"


def free_ports(count):
    """Ports nobody has now. Neither program says which port it was given."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def make_certificate(folder):
    """One that ends in two days; it signs itself, so it is also what to trust."""
    chain, key = folder / "soon.pem", folder / "soon-key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=soon.example.com"
    extra = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", chain]
    subprocess.run([*command.split(), *extra], check=True, capture_output=True)
    return chain, key


async def run(binary, folder):
    backend = Backend()
    await backend.start()
    certificate = make_certificate(folder)
    gateway = await Gateway.start(binary, folder / "a", backend.port)
    tls = await Gateway.start(binary, folder / "b", backend.port, certificate)
    monitoring = Monitoring(folder, gateway)
    await monitoring.start(certificate[0])
    try:
        tokens = [await gateway.token(f"user{at}") for at in range(10)]
        await healthy(monitoring, gateway)
        await probes(monitoring, gateway, tls)
        await reconnect_storm(monitoring, gateway, tokens)
        await backend_killed(monitoring, gateway, backend)
        await certificate_near_its_end(monitoring, gateway, tls)
        await dashboard(monitoring, gateway, tokens)
        await instance_gone(monitoring, gateway, tls)
        await clients_insist(monitoring, gateway, backend)
    finally:
        await monitoring.stop()
        await gateway.stop()
        await tls.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framegate", default=ROOT / "target" / "release" / "framegate", type=pathlib.Path)
    binary = parser.parse_args().framegate.resolve()
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(asyncio.wait_for(run(binary, pathlib.Path(folder)), 480))
    print(f"all passed in {time.time() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
