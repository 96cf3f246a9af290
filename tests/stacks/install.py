"""Installs each stack and the clients into `.cache`, each with its own package manager.

What was installed is remembered by what names it (lock file, requirements, sources), so a second run installs nothing.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE / ".cache"
DEADLINE = 300
GOCODE = "/usr/share/gocode"


def npm(name):
    """The folder with a copy of `name` and its node_modules."""
    folder = copied(name)
    once(folder, ["package-lock.json"], lambda: run(["npm", "ci", "--no-audit", "--no-fund"], folder))
    return folder


def pip(name):
    """The interpreter of a virtual environment with what `name` requires, and the folder of the copy."""
    folder = copied(name)
    python = folder / "venv" / "bin" / "python"

    def install():
        run([sys.executable, "-m", "venv", "--clear", folder / "venv"], folder)
        quiet = ["--quiet", "--disable-pip-version-check"]
        run([python, "-m", "pip", "install", *quiet, "-r", "requirements.txt"], folder)

    once(folder, ["requirements.txt"], install)
    return python, folder


def go(name):
    """The program built from `name` with Debian's Go packages, without a network."""
    folder = copied(name)
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": f"{folder / 'path'}:{GOCODE}",
        "GOCACHE": str(folder / "build"),
        "CGO_ENABLED": "0",
    }
    program = folder / "chat"
    once(folder, ["server.go"], lambda: run(["go", "build", "-o", program, "server.go"], folder, environment))
    return program, folder


def copied(name):
    """A copy of the stack's folder in the cache: packages are installed beside what uses them."""
    folder = CACHE / name
    shutil.copytree(HERE / name, folder, dirs_exist_ok=True)
    return folder


def once(folder, inputs, install):
    """Runs `install` unless it ran for these inputs before."""
    digest = hashlib.sha256(b"".join((folder / name).read_bytes() for name in inputs)).hexdigest()
    stamp = folder / f"installed.{inputs[0]}"
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"installing {folder.name}", flush=True)
        install()
        stamp.write_text(digest)


def run(command, folder, environment=None):
    if not shutil.which(str(command[0])):
        raise SystemExit(f"{command[0]} is not installed")
    done = subprocess.run(
        command, cwd=folder, env=environment, timeout=DEADLINE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
