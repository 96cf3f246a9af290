#!/usr/bin/env python3
"""Chat backends of five ecosystems behind framegate, with real clients in front.

    tests/stacks/run.py [STACK...] [--framegate PATH] [--client NAME]... [--out FILE]

Stacks: django, go, node, socketio, python; all unless named. Clients: python, node, chromium. Installs what is
missing into `.cache` with each ecosystem's own package manager. Prints a table of stack x client x check;
exits 1 if anything failed. README.md beside this file says what is needed and what is shown.
"""

import argparse
import contextlib
import datetime
import pathlib
import subprocess
import sys
import tempfile
import time

from checks import CHECKS, Scene
from harness import HERE, Failed, Gateway, Keys
from stacks import CLIENTS, STACKS, clients


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", nargs="*", metavar="STACK", help=", ".join(STACKS))
    default = HERE.parent.parent / "target" / "release" / "framegate"
    parser.add_argument("--framegate", type=pathlib.Path, default=default, help="path of the binary")
    parser.add_argument("--client", action="append", choices=CLIENTS, help="all unless named")
    parser.add_argument("--out", metavar="FILE", type=pathlib.Path, help="write the result as Markdown")
    args = parser.parse_args()
    unknown = [name for name in args.stacks if name not in STACKS]
    if unknown:
        parser.error(f"no stack is called {', '.join(unknown)}; there are {', '.join(STACKS)}")
    args.stacks = args.stacks or list(STACKS)
    args.framegate = args.framegate.resolve()
    if not args.framegate.exists():
        parser.error(f"{args.framegate} does not exist; name the binary with --framegate")
    return args


def run_pair(stack, client, folder, framegate):
    """All checks of one stack with one client: {check: None or what is wrong}."""
    results = dict.fromkeys(CHECKS, "not reached")
    with contextlib.ExitStack() as holder:
        try:
            keys = Keys(folder, framegate)
            stack.start(holder)
            gateway = holder.enter_context(Gateway(keys, stack.port, client.driver.origin))
            scene = Scene(stack, client, gateway, keys)
        except Failed as wrong:
            return dict.fromkeys(CHECKS, complain(stack, client, "start", wrong))
        for name, check in CHECKS.items():
            try:
                check(scene)
                results[name] = None
            except (Failed, OSError, LookupError, ValueError) as wrong:
                results[name] = complain(stack, client, name, wrong)
                print(*gateway.recent(), sep="\n", flush=True)
    return results


def complain(stack, client, step, wrong):
    text = str(wrong) if isinstance(wrong, Failed) else repr(wrong)
    print(f"FAILED {stack.name} x {client.name}, {step}: {text}", flush=True)
    return text


def table(results):
    """Rows of stack x client with a mark for each check."""
    rows = [["stack", "client", *CHECKS]]
    for (stack, client), found in results.items():
        rows.append([stack, client, *("ok" if found[check] is None else "FAILED" for check in CHECKS)])
    return rows


def aligned(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def markdown(results, versions, took):
    rows = table(results)
    checks = sum(len(found) for found in results.values())
    failed = sum(wrong is not None for found in results.values() for wrong in found.values())
    lines = ["# Backends of several ecosystems behind framegate", ""]
    lines += [f"{datetime.date.today()}, {took:.0f} s with everything installed: {checks} checks, {failed} failed.", ""]
    lines += [f"- {name}: {version}" for name, version in versions.items()]
    lines += ["", *("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]), ""]
    lines += [f"**{name}**: {check.__doc__}  " for name, check in CHECKS.items()]
    return "\n".join(line.rstrip() if not line.startswith("**") else line for line in lines) + "\n"


def main():
    args = arguments()
    wanted = args.client or [name for name in CLIENTS if any(name in STACKS[one].clients for one in args.stacks)]
    found = subprocess.run([args.framegate, "--version"], capture_output=True, text=True, check=True, timeout=10)
    versions = {"gateway": found.stdout.strip()}
    versions |= {f"stack {name}": STACKS[name].version() for name in args.stacks}
    results = {}
    with contextlib.ExitStack() as holder:
        folder = pathlib.Path(holder.enter_context(tempfile.TemporaryDirectory()))
        started_clients = clients(wanted, holder)
        versions |= {f"client {name}": client.driver.version for name, client in started_clients.items()}
        started = time.monotonic()
        for name in args.stacks:
            for client in started_clients.values():
                if client.name not in STACKS[name].clients:
                    continue
                begun = time.monotonic()
                results[name, client.name] = run_pair(STACKS[name], client, folder, args.framegate)
                print(f"{name} x {client.name}: {time.monotonic() - begun:.1f} s", flush=True)
        took = time.monotonic() - started
    print("\n" + aligned(table(results)))
    if args.out:
        args.out.write_text(markdown(results, versions, took))
    failed = sum(wrong is not None for found in results.values() for wrong in found.values())
    print(f"\n{sum(map(len, results.values()))} checks, {failed} failed")
    return 1 if failed or not results else 0


sys.exit(main())
