"""What stands between the two ends: framegate, or a plain tunnel (nginx, HAProxy) to compare it with."""

import asyncio
import contextlib
import json
import pathlib
import shutil
import socket
import tempfile

START_DEADLINE = 20

FRAMEGATE = """
[[listener]]
bind = "127.0.0.1:0"
[admin]
bind = ""
[upstreams.end]
endpoints = ["http://127.0.0.1:{upstream}"]
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

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
  access_log off; tcp_nodelay on; proxy_buffering off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_set_header Host $host;
    }}
  }}
}}
"""

HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  timeout tunnel 5m
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  server one 127.0.0.1:{upstream}
"""


@contextlib.asynccontextmanager
async def proxy(name, program, upstream):
    """The proxy `name` in front of 127.0.0.1:`upstream`; gives its own port. `program` is framegate's path."""
    with tempfile.TemporaryDirectory() as folder:
        start = {"framegate": start_framegate, "nginx": start_nginx, "haproxy": start_haproxy}[name]
        process, port = await asyncio.wait_for(start(program, pathlib.Path(folder), upstream), START_DEADLINE)
        drain = asyncio.create_task(process.stdout.read())
        try:
            yield port
        finally:
            process.kill()
            await process.wait()
            await drain


async def spawn(*command):
    return await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, limit=1 << 20
    )


async def start_framegate(program, folder, upstream):
    config = folder / "framegate.toml"
    config.write_text(FRAMEGATE.format(upstream=upstream))
    process = await spawn(program, "run", "--config", config)
    while line := await process.stdout.readline():
        event = json.loads(line)
        if event.get("message") == "listening":
            return process, int(event["address"].rsplit(":", 1)[1])
    raise SystemExit(f"framegate ended at once with {await process.wait()}")


async def start_nginx(_, folder, upstream):
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, upstream=upstream))
    process = await spawn(program_of("nginx"), "-c", config, "-p", folder, "-e", folder / "error.log")
    await listening(process, port)
    return process, port


async def start_haproxy(_, folder, upstream):
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, upstream=upstream))
    process = await spawn(program_of("haproxy"), "-db", "-f", config)
    await listening(process, port)
    return process, port


def program_of(name):
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if not found:
        raise SystemExit(f"{name} is not installed")
    return found


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def listening(process, port):
    """Waits until something accepts on `port`; the caller sets the deadline."""
    while process.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise SystemExit(f"the proxy ended at once with {process.returncode}")


async def version(name, program):
    """The first line of what the proxy says of its version."""
    command = {"framegate": (program, "--version"), "nginx": ("nginx", "-v"), "haproxy": ("haproxy", "-v")}[name]
    process = await asyncio.create_subprocess_exec(
        command[0] if name == "framegate" else program_of(name),
        command[1],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), START_DEADLINE)
    return output.decode().splitlines()[0].removeprefix("nginx version: ").split(" - ")[0]
