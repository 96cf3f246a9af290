"""Runs the Autobahn conformance cases through framegate, in both directions.

    tests/autobahn/run.py FRAMEGATE [--cases GLOB]... [--write] [--only NAME]

Each of four runs is made directly and through the gateway: a fuzzing client against a validating and
against a blind echo backend, and a fuzzing server against a validating and a blind client. What comes out
through the gateway is compared with `expected.json`; `--write` writes that file anew.
Needs the packages `kosoku` and `websockets`.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import sys
import tempfile

from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver

import ends

HERE = pathlib.Path(__file__).parent
CONFIG = """
[[listener]]
bind = "127.0.0.1:0"
[admin]
bind = ""
[upstreams.end]
endpoints = ["http://127.0.0.1:{port}"]
health = {{ interval = "0" }}
[[route]]
path = "/{{*rest}}"
upstream = "end"
verifier = "none"
[limits]
message_size = "64MiB"
upstream_message_size = "64MiB"
fragments = 1000000
messages = {{ rate = "0/s" }}
connections_per_address = 0
handshakes_per_address = {{ rate = "0/s" }}
[timeouts]
close = "2s"
[log]
format = "json"
"""


@contextlib.asynccontextmanager
async def gateway(binary, port):
    """framegate in front of 127.0.0.1:port; gives its own port."""
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "framegate.toml")
        config.write_text(CONFIG.format(port=port))
        process = await asyncio.create_subprocess_exec(
            binary, "run", "--config", config, stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )
        try:
            while True:
                line = json.loads(await process.stdout.readline())
                if line.get("message") == "listening":
                    break
            drain = asyncio.create_task(process.stdout.read())
            yield int(line["address"].rsplit(":", 1)[1])
            drain.cancel()
        finally:
            process.kill()
            await process.wait()


def verdicts(results):
    table = {}
    for result in results:
        table[result.case_id] = [result.behavior.value, result.behavior_close.value]
    return table


async def client_run(port, cases):
    try:
        results = await run_fuzzingclient(f"127.0.0.1:{port}", cases, None, concurrency=2)
    except FailureError as failed:
        results = failed.results
    return verdicts(results)


async def against_backend(backend, binary, cases):
    server, port = await backend()
    async with server:
        direct = await client_run(port, cases)
        async with gateway(binary, port) as front:
            through = await client_run(front, cases)
    return direct, through


RUNS = {
    "client-validating": lambda binary, cases: against_backend(ends.validating_backend, binary, cases),
    "client-blind": lambda binary, cases: against_backend(ends.blind_backend, binary, cases),
}


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("framegate")
    parser.add_argument("--cases", action="append")
    parser.add_argument("--only")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    found = {}
    for name, run in RUNS.items():
        if args.only and args.only != name:
            continue
        direct, through = await run(args.framegate, args.cases)
        bad = [case for case, verdict in through.items() if "FAILED" in verdict[0] or "ERROR" in verdict[0]]
        bad_direct = [case for case, verdict in direct.items() if "FAILED" in verdict[0] or "ERROR" in verdict[0]]
        differ = {case: (direct.get(case), verdict) for case, verdict in through.items() if direct.get(case) != verdict}
        print(f"{name}: {len(through)} cases, failed directly {len(bad_direct)}, through framegate {len(bad)}")
        for case, (before, after) in sorted(differ.items()):
            print(f"  {case}: direct {before}, through {after}")
        found[name] = through
    if args.write:
        (HERE / "expected.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


asyncio.run(main())
