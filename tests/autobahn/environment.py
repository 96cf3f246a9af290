"""Sees to it that the packages of requirements.txt are there: in the interpreter that runs, else in a
virtual environment beside this file, which is made when needed."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
VENV = HERE / ".venv"
STAMP = VENV / "installed"
INSTALL_DEADLINE = 300


def pinned():
    """{package: version} of requirements.txt."""
    return dict(line.split("==") for line in REQUIREMENTS.read_text().split())


def has_packages():
    """Whether this interpreter has every package in its pinned version."""
    try:
        return all(importlib.metadata.version(name) == version for name, version in pinned().items())
    except importlib.metadata.PackageNotFoundError:
        return False


def enter():
    """Returns with the packages importable; otherwise starts the program anew in the virtual environment."""
    if has_packages():
        return
    if pathlib.Path(sys.prefix).resolve() == VENV:
        raise SystemExit(f"{VENV} lacks what requirements.txt names: remove it and start again")
    python = VENV / "bin" / "python"
    if not STAMP.exists() or STAMP.read_text() != REQUIREMENTS.read_text():
        install(python)
    os.execv(python, [str(python), *sys.argv])


def install(python):
    print(f"installing {', '.join(f'{name} {version}' for name, version in pinned().items())}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True, timeout=INSTALL_DEADLINE)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]
    subprocess.run(pip, check=True, timeout=INSTALL_DEADLINE)
    STAMP.write_text(REQUIREMENTS.read_text())
