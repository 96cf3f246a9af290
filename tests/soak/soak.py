"""The long test: many sessions through the gateway while its endpoints are killed, stopped and restarted.

    python3 tests/soak/soak.py BINARY [--minutes 10] [--sessions 1000] [--seed N] [--out FILE]

Every client exchanges messages all the time, comes back whenever its session ends, and now and then
leaves in some rude way itself. At the end every gauge and every place must be back, no session may have
been stuck, every accepted connection must have its log line, and the memory must have no slope. Prints a
summary in Markdown; exit code 1 if something of that does not hold.
"""

import argparse
import asyncio
import collections
import json
import os
import pathlib
import random
import resource
import signal
import statistics
import sys
import tempfile
import time

from websocket import CLOSE, PING, PONG, TEXT, Lost, Refused, connect, frame, read_frame, token

SECRET = b"a soak secret of more than thirty-two bytes"
FOLDER = pathlib.Path(__file__).parent
# An echo takes this long only if its session is stuck: a frozen endpoint is found out in half of it.
STUCK = 30
ENDPOINTS = 3
# Room for connections whose closing is still under way when the client has come back already.
ROOM = 200
GAUGES = ("connections", "sessions_active", "upstream_sessions", "pending_bytes")


class Tally:
    """What all clients have seen."""

    def __init__(self):
        self.messages = 0
        self.stuck = 0
        self.wrong = 0
        self.times = []
        self.endings = collections.Counter()
        self.faults = collections.Counter()
        self.samples = []

    def answered(self, seconds):
        """Counts an echo; one of ten is kept for the percentiles."""
        self.messages += 1
        if self.messages % 10 == 0:
            self.times.append(seconds)


class Endpoint:
    """A backend process on a port of its own, which can be replaced by another."""

    process = None

    async def start(self, port=0):
        """Starts it and waits until it listens."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(FOLDER / "backend.py"), str(port),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        self.port = int(await self.process.stdout.readline())

    async def kill(self):
        """Ends it as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def trouble(self, random, tally, over):
        """Kills or freezes it at random times until it is over."""
        while not await waits(over, random.uniform(5, 25)):
            if random.random() < 0.7:
                tally.faults["endpoint killed"] += 1
                await self.kill()
                await waits(over, random.uniform(0.2, 6))
                await self.start(self.port)
            else:
                tally.faults["endpoint frozen"] += 1
                self.process.send_signal(signal.SIGSTOP)
                await waits(over, random.uniform(1, 12))
                self.process.send_signal(signal.SIGCONT)


async def waits(event, seconds):
    """Whether the event came within this time."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
        return True
    except asyncio.TimeoutError:
        return False


class Gateway:
    """`framegate run` before the endpoints."""

    process = None

    async def start(self, binary, folder, endpoints, sessions):
        """Starts it and reads the addresses it listens on."""
        (folder / "secret").write_bytes(SECRET)
        (folder / "framegate.toml").write_text(configuration(endpoints, sessions))
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                str(binary), "run", "--config", str(folder / "framegate.toml"), stdout=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            lines = [json.loads(line) for line in self.log.read_text().splitlines(True)
                     if line.endswith("\n")]
            found = {line["listener"]: int(line["address"].rsplit(":", 1)[1])
                     for line in lines if line.get("message") == "listening"}
            if len(found) == 2:
                self.admin = found.pop("admin")
                (self.port,) = found.values()
                return
            await asyncio.sleep(0.05)
        raise SystemExit("framegate does not listen")

    async def metrics(self):
        """All series of /metrics."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        lines = text.split("\r\n\r\n", 1)[1].splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2}

    async def gauges(self):
        """The gauges that must come back to zero, each summed over its labels."""
        metrics = await self.metrics()
        return {name: sum(value for series, value in metrics.items()
                          if series.split("{")[0] == f"framegate_{name}") for name in GAUGES}

    async def stop(self):
        """Drains it; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 60)


def configuration(endpoints, sessions):
    """Short times, so that a soak of minutes sees what a day sees."""
    urls = json.dumps([f"http://127.0.0.1:{endpoint.port}" for endpoint in endpoints])
    return f"""
[[listener]]
bind = "127.0.0.1:0"
[admin]
bind = "127.0.0.1:0"
[verifiers.users]
keys = [{{ algorithm = "HS256", file = "secret" }}]
[upstreams.chat]
endpoints = {urls}
connect_timeout = "1s"
handshake_timeout = "5s"
health = {{ interval = "1s", timeout = "1s", probe = "tcp", fall = 2 }}
[[route]]
path = "/ws"
upstream = "chat"
verifier = "users"
[limits]
connections = {4 * sessions + 1000}
connections_per_address = {sessions + ROOM}
connections_per_user = 2
when_user_full = "refuse"
handshakes_per_address = {{ rate = "0/s" }}
[timeouts]
close = "1s"
write_stall = "5s"
[keepalive]
client_ping = "10s"
client_pong = "5s"
upstream_ping = "5s"
upstream_pong = "5s"
[drain]
window = "0s"
grace = "5s"
[log]
format = "json"
level = "info"
"""


async def live(gateway, number, random, tally, over):
    """One client for the whole time: sessions one after the other."""
    bearer = token(f"user {number // 2}", SECRET)
    await waits(over, random.uniform(0, 5))
    while not over.is_set():
        try:
            reader, writer = await connect(gateway.port, bearer)
        except Refused as refused:
            tally.endings[f"refused with {refused.status}"] += 1
            await waits(over, random.uniform(0.5, 2))
            continue
        except Lost:
            tally.endings["refused without an answer"] += 1
            await waits(over, random.uniform(0.5, 2))
            continue
        tally.endings[await session(reader, writer, random, tally, over)] += 1
        writer.transport.abort() if random.random() < 0.1 else writer.close()
        await waits(over, random.uniform(0, 0.5))


async def session(reader, writer, random, tally, over):
    """Exchanges messages until it ends; says how."""
    stays = random.expovariate(1 / 60)
    began = time.monotonic()
    sequence = 0
    try:
        while not over.is_set() and time.monotonic() - began < stays:
            text = f"{sequence} ".encode() + b"x" * random.randrange(1, 2000)
            sent = time.monotonic()
            writer.write(frame(TEXT, text, masked=True))
            ended = await asyncio.wait_for(hears(reader, writer, text, tally), STUCK)
            if ended:
                return ended
            tally.answered(time.monotonic() - sent)
            sequence += 1
            await waits(over, random.uniform(0.5, 1.5))
        return await leave(reader, writer, random, tally)
    except asyncio.TimeoutError:
        tally.stuck += 1
        return "stuck"
    except (Lost, OSError):
        return "ended without a Close"


async def hears(reader, writer, text, tally):
    """Waits for the echo; returns how the session ended if it did instead."""
    while True:
        opcode, payload = await read_frame(reader)
        if opcode == PING:
            writer.write(frame(PONG, payload, masked=True))
        elif opcode == CLOSE:
            writer.write(frame(CLOSE, payload, masked=True))
            code = int.from_bytes(payload[:2], "big")
            return f"told {code} {payload[2:].decode()}"
        elif payload == text:
            return None
        else:
            tally.wrong += 1
            return "a wrong echo"


async def leave(reader, writer, random, tally):
    """Ends a session from here, mostly politely."""
    way = random.choice(["close", "close", "close", "vanish", "reset", "breach"])
    if way == "vanish":
        return "left without a Close"
    if way == "reset":
        writer.transport.abort()
        return "left by RST"
    payload = (4000).to_bytes(2, "big")
    # RSV1 without an extension is a breach.
    writer.write(frame(CLOSE, payload, masked=True) if way == "close"
                 else b"\xc1\x80\0\0\0\0")
    while True:
        opcode, payload = await asyncio.wait_for(read_frame(reader), STUCK)
        if opcode == CLOSE:
            return f"left by {way}, told {int.from_bytes(payload[:2], 'big')}"


async def watch(gateway, tally, over):
    """Samples the memory and the number of sessions until it is over."""
    while not await waits(over, 5):
        metrics = await gateway.metrics()
        active = sum(value for series, value in metrics.items()
                     if series.startswith("framegate_sessions_active"))
        tally.samples.append((metrics["process_resident_memory_bytes"], active))


async def back_at_zero(gateway, seconds):
    """The gauges, as soon as they are all zero or after this time."""
    deadline = time.monotonic() + seconds
    while True:
        gauges = await gateway.gauges()
        if not any(gauges.values()) or time.monotonic() > deadline:
            return gauges
        await asyncio.sleep(0.1)


async def all_places(gateway, sessions):
    """Takes every place of the address, two of each user; how many were given, and what one more is told."""
    number = sessions + ROOM
    opened = []
    for start in range(0, number, 50):
        bearers = [token(f"place {n // 2}", SECRET) for n in range(start, min(start + 50, number))]
        opened += await asyncio.gather(*(connect(gateway.port, bearer) for bearer in bearers),
                                       return_exceptions=True)
    writers = [pair[1] for pair in opened if isinstance(pair, tuple)]
    try:
        await connect(gateway.port, token("one more", SECRET))
        more = 101
    except Refused as refused:
        more = refused.status
    for writer in writers:
        writer.close()
    return len(writers), more


def halves(samples):
    """Medians of the memory in both halves, the first tenth left out: until then it fills."""
    resident = [memory for memory, _ in samples[len(samples) // 10:]]
    middle = len(resident) // 2
    return statistics.median(resident[:middle]), statistics.median(resident[middle:])


async def soak(arguments, folder):
    """The whole of it; the summary, and whether everything holds."""
    seeds = random.Random(arguments.seed)
    tally, over = Tally(), asyncio.Event()
    endpoints = [Endpoint() for _ in range(ENDPOINTS)]
    gateway = Gateway()
    try:
        for endpoint in endpoints:
            await endpoint.start()
        await gateway.start(arguments.binary, folder, endpoints, arguments.sessions)
        return await run(arguments, (gateway, endpoints), seeds, tally, over)
    finally:
        # Whatever went wrong, nothing of it goes on.
        for started in [gateway, *endpoints]:
            if started.process and started.process.returncode is None:
                started.process.kill()
                await started.process.wait()


async def run(arguments, started, seeds, tally, over):
    """The clients and the trouble, then what must hold afterwards."""
    gateway, endpoints = started

    def derived():
        return random.Random(seeds.random())

    tasks = [live(gateway, n, derived(), tally, over) for n in range(arguments.sessions)]
    tasks += [endpoint.trouble(derived(), tally, over) for endpoint in endpoints]
    tasks = [asyncio.ensure_future(task) for task in [*tasks, watch(gateway, tally, over)]]
    await asyncio.sleep(arguments.minutes * 60)
    over.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 120)
    gauges = await back_at_zero(gateway, 60)
    places = await all_places(gateway, arguments.sessions)
    again = await back_at_zero(gateway, 60)
    metrics = await gateway.metrics()
    code = await gateway.stop()
    return report(arguments, tally, [gauges, again], places, metrics, (code, gateway.log))


def report(arguments, tally, gauges, places, metrics, ended):
    """The summary in Markdown, and whether everything holds."""
    code, log = ended
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    logged = sum(line.get("outcome") == "accepted" for line in lines)
    accepted = sum(value for series, value in metrics.items()
                   if series.startswith("framegate_handshakes_total{result=\"accepted\""))
    first, second = halves(tally.samples)
    active = [sessions for _, sessions in tally.samples]
    checks = {
        "no session was stuck, no echo was wrong": tally.stuck == 0 and tally.wrong == 0,
        "every client was told why its session ended": not tally.endings["ended without a Close"],
        "every gauge came back to zero": not any(value for round in gauges for value in round.values()),
        "every place of the address and of each user came back":
            places == (arguments.sessions + ROOM, 429),
        "every accepted connection has one log line": logged == accepted,
        "memory has no slope": second < first * 1.1 + (2 << 20),
        "SIGTERM ended it with 0": code == 0,
        "most clients had a session at any time": statistics.median(active) > arguments.sessions / 2,
    }
    text = summary(arguments, tally, (first, second, active), (gauges, places, logged, accepted))
    verdicts = "\n".join(f"- {'yes' if holds else '**NO**'}: {what}" for what, holds in checks.items())
    return f"{text}\n## What had to hold\n\n{verdicts}\n", all(checks.values())


def summary(arguments, tally, memory, ends):
    """Figures without a verdict."""
    first, second, active = memory
    gauges, (given, more), logged, accepted = ends
    times = sorted(tally.times)
    endings = "\n".join(f"| {what} | {count} |" for what, count in tally.endings.most_common())
    faults = ", ".join(f"{what}: {count}" for what, count in sorted(tally.faults.items()))
    mib = 1 << 20
    return f"""# Soak: {arguments.sessions} sessions for {arguments.minutes:g} minutes

Seed {arguments.seed}, {os.cpu_count()} processors shared by the gateway, {ENDPOINTS} endpoints and all clients.
`tests/soak.sh {arguments.minutes:g} --sessions {arguments.sessions} --seed {arguments.seed}` runs it again.

| | |
|---|---|
| messages answered | {tally.messages} |
| round trip, median and p99 | {times[len(times) // 2] * 1000:.1f} ms, {times[len(times) * 99 // 100] * 1000:.1f} ms |
| faults | {faults} |
| sessions at a time, median, least and most | {statistics.median(active):.0f}, {min(active):.0f}, {max(active):.0f} |
| memory, median of the first and the second half | {first / mib:.1f} MiB, {second / mib:.1f} MiB ({(second / first - 1) * 100:+.1f} %) |
| memory, most | {max(memory for memory, _ in tally.samples) / mib:.1f} MiB |
| sessions accepted, log lines of them | {accepted:.0f}, {logged} |
| gauges afterwards | {", ".join(f"{name} {value:.0f}" for name, value in gauges[0].items())} |
| places given afterwards at once, one more | {given}, {more} |
| stuck, wrong | {tally.stuck}, {tally.wrong} |

The clients saw their sessions and handshakes end so:

| | |
|---|---|
{endings}
"""


def main():
    """Reads the arguments, runs it in a folder of its own, prints the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        text, holds = asyncio.run(soak(arguments, pathlib.Path(folder)))
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
