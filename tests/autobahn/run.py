#!/usr/bin/env python3
"""Runs the Autobahn conformance cases through framegate, in both directions.

    tests/autobahn/run.py FRAMEGATE [--fast] [--only RUN]... [--cases GLOB]... [--write] [--out FILE]
    tests/autobahn/run.py --proxy nginx [--fast]

Four runs (fuzzing.py): a fuzzing client in front of a validating and of a blind echo backend, and a fuzzing
server behind a validating and a blind client; each directly and through the gateway. Every outcome is
compared with expected.json; any difference fails, also one for the better, and so does a case that the gateway
changes without an explanation there. `--write` writes that file anew. `--fast` takes the blind ends and leaves out
the performance cases (9) and compression (12, 13), which no end here speaks. `--proxy` takes another proxy
(nginx, haproxy) in place of framegate and only counts.
Makes a virtual environment beside this file unless the interpreter has the packages of requirements.txt.
"""

import argparse
import asyncio
import datetime
import functools
import pathlib
import platform
import sys
import time

import environment

environment.enter()

import expected
import fuzzing
import proxies

FAST_EXCLUDED = ["9.*", "12.*", "13.*"]
FAST_RUNS = ["backend-blind", "client-blind"]
SHOWN = 40


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("framegate", nargs="?", help="path of the binary")
    parser.add_argument("--fast", action="store_true", help="the selection for every change")
    parser.add_argument("--only", action="append", choices=list(fuzzing.ENDS), help="one of the runs")
    parser.add_argument("--cases", action="append", metavar="GLOB", help="for example 7.*")
    parser.add_argument("--proxy", choices=["framegate", "nginx", "haproxy"], default="framegate")
    parser.add_argument("--write", action="store_true", help="write expected.json anew")
    parser.add_argument("--out", metavar="FILE", type=pathlib.Path, help="write the result as Markdown")
    args = parser.parse_args()
    if args.proxy == "framegate" and not args.framegate:
        parser.error("FRAMEGATE, the binary's path, is missing")
    if args.write and (args.fast or args.cases or args.proxy != "framegate"):
        parser.error("--write needs all the cases, through framegate")
    if args.framegate:
        args.framegate = pathlib.Path(args.framegate).resolve()
    return args


async def one_way(args, name, way):
    """One run directly or through the proxy: {case: outcome}."""
    between = fuzzing.directly
    if way != "direct":
        between = functools.partial(proxies.proxy, way, args.framegate)
    started = time.monotonic()
    excluded = FAST_EXCLUDED if args.fast else None
    outcomes = await fuzzing.run(name, args.cases, excluded, between)
    took = time.monotonic() - started
    print(f"{name:19} {way:10} {tally(outcomes)}  ({took:.0f} s)", flush=True)
    return outcomes


def counts(outcomes):
    """Cases, passed, failed, and those the ends do not implement (compression)."""
    first = [outcome.split("/")[0] for outcome in outcomes.values()]
    failed = sum(one in ("FAILED", "ERROR") for one in first)
    unimplemented = first.count("UNIMPLEMENTED")
    return len(first), len(first) - failed - unimplemented, failed, unimplemented


def tally(outcomes):
    total, passed, failed, unimplemented = counts(outcomes)
    return f"{total:4} cases, {passed:4} passed, {failed:4} failed, {unimplemented:4} not implemented"


def judge(found):
    """What keeps the runs from being accepted."""
    wrong = []
    for run, ways in found.items():
        for way, outcomes in ways.items():
            wrong += expected.complaints(run, way, outcomes)
        wrong += expected.unexplained(run, ways)
    return wrong


def markdown(args, proxy_version, found, took):
    packages = ", ".join(f"{name} {version}" for name, version in environment.pinned().items())
    shown = "expected.json" if args.proxy == "framegate" else "nothing (counts only)"
    lines = [
        f"# Autobahn cases through {args.proxy}",
        "",
        f"{datetime.date.today()}, {proxy_version}, {packages}, Python {platform.python_version()}; {took:.0f} s; "
        f"compared with {shown}.",
        "",
        "`backend-*`: a fuzzing client in front, that backend behind. `client-*`: that client in front, a fuzzing",
        "server behind. A blind end checks nothing of what it receives.",
        "",
        "| end | way | cases | passed | failed | not implemented (compression) |",
        "|---|---|---|---|---|---|",
    ]
    for run, ways in found.items():
        for way, outcomes in ways.items():
            lines.append(f"| {run} | {way} | " + " | ".join(map(str, counts(outcomes))) + " |")
    return "\n".join(lines) + "\n"


async def main():
    args = arguments()
    version = await proxies.version(args.proxy, args.framegate)
    runs = args.only or (FAST_RUNS if args.fast else list(fuzzing.ENDS))
    started = time.monotonic()
    found = {}
    for name in runs:
        found[name] = {way: await one_way(args, name, way) for way in ("direct", args.proxy)}
    took = time.monotonic() - started
    if args.out:
        args.out.write_text(markdown(args, version, found, took))
    if args.proxy != "framegate":
        return 0
    found = {run: {way: expected.settled(outcomes) for way, outcomes in ways.items()} for run, ways in found.items()}
    if args.write:
        expected.write(found)
    wrong = judge(found)
    print("\n".join(wrong[:SHOWN]))
    print(f"{len(wrong)} differences from expected.json" if wrong else "as expected")
    return 1 if wrong else 0


sys.exit(asyncio.run(main()))
