"""What is shown of every stack with every client. Each check is a function of a `Scene`; what is wrong is raised."""

import base64
import json

from harness import Failed

EMOJI = "Grüße, мир, 世界 👩‍🚀🎉"
LARGE = "frame gate " * 9_310
BINARY = base64.b64encode(bytes(range(256)) * 8).decode()


class Scene:
    """One stack behind the gateway and one client in front of it."""

    def __init__(self, stack, client, gateway, keys):
        self.stack, self.client, self.gateway, self.keys = stack, client, gateway, keys
        self.do = client.driver.do
        good, expired = keys.token(), keys.token("-10m")
        # What the one says under the signature of the other.
        forged = good.rsplit(".", 1)[0] + "." + expired.rsplit(".", 1)[1]
        self.tokens = {"good": good, "expired": expired, "forged": forged, "none": None}
        self.opened = 0

    def open(self, room, token="good", over="tls", origin=None):
        """A new member: over TLS with the token where this client sends it, or over plain with it in the query."""
        self.opened += 1
        name = f"member {self.opened}"
        source = self.client.source if over == "tls" else "query"
        token = self.tokens[token]
        scheme, port = {
            "tls": ("wss", self.gateway.tls),
            "plain": ("ws", self.gateway.plain),
            "directly": ("ws", self.stack.port),
        }[over]
        command = {"name": name, "token": token, "source": source, "origin": origin, "room": room}
        command["ca"] = str(self.keys.folder / "dev.pem")
        command["socketio"] = self.stack.socketio
        base = f"{scheme}://127.0.0.1:{port}"
        query = f"?token={token}" if token and source == "query" else ""
        command["url"] = base if self.stack.socketio else f"{base}/ws/{room}{query}"
        return name, self.do(do="open", **command)

    def member(self, room, **how):
        """A member that must get in; gives its name, what its side saw and what the backend says it saw."""
        name, answer = self.open(room, **how)
        expect("the handshake", answer.get("open"), True)
        return name, answer, json.loads(self.next(name).get("text") or "null")

    def next(self, name):
        return self.do(do="next", name=name)

    def send(self, name, **data):
        self.do(do="send", name=name, **data)

    def leave(self, *names):
        """Members leave with 1000 and get it back. Socket.IO leaves in its own way, without a code."""
        for name in names:
            answer = self.do(do="close", name=name, code=1000)
            if not self.stack.socketio:
                expect("how leaving ends", answer["close"], 1000)


def expect(what, found, wanted):
    if found != wanted:
        raise Failed(f"{what}: {shortened(found)}, not {shortened(wanted)}")


def shortened(value):
    text = repr(value)
    return text if len(text) <= 120 else text[:110] + f"... ({len(text)})"


def chat(scene):
    """Two members, one over TLS and one over plain: each sees what the other says, as it was said."""
    ann, _, seen = scene.member("chat")
    ben, _, _ = scene.member("chat", over="plain")
    expect("the user the backend is told", seen["user"], "ann")
    says = [{"text": EMOJI}, {"text": ""}, {"text": LARGE}, {"binary": BINARY}, {"text": "bye"}]
    for speaker, listener in ((ann, ben), (ben, ann)):
        for said in says:
            scene.send(speaker, **said)
            expect("what the other member got", scene.next(listener), said)
    scene.leave(ann, ben)


def no_extension(scene):
    """No extension on the client's side, none offered to the backend."""
    for over in ("tls", "plain"):
        name, answer, seen = scene.member("extensions", over=over)
        expect("extensions of the client", answer["extensions"], "")
        expect("extensions offered to the backend", seen["extensions"], None)
        scene.leave(name)


def compression_directly(scene):
    """Without the gateway the same two ends do compress: the check above can fail."""
    name, answer, seen = scene.member("extensions", over="directly", token="none")
    expect("permessage-deflate of the client", answer["extensions"].split(";")[0], "permessage-deflate")
    expect("permessage-deflate offered", "permessage-deflate" in (seen["extensions"] or ""), True)
    scene.leave(name)


def bad_token(scene):
    """The gateway refuses an expired, a forged and a missing token: Close 4401 to a page, HTTP 401 to a program."""
    for token, reason in (("expired", "token_expired"), ("forged", "token_signature"), ("none", "token_missing")):
        refused(scene, {"room": "chat", "token": token}, 401, 4401, reason)


def refused_by_backend(scene):
    """The backend refuses in its handshake: Close 44xx to a page, its HTTP status to a program."""
    status, code = scene.stack.refusal
    refused(scene, {"room": "refused"}, status, code, "upstream_refused")


def refused(scene, how, status, code, reason):
    """As a page (with Origin) by Close, as a program (without) by status. A browser is always a page."""
    name, answer = scene.open(**how, origin=scene.gateway.origin)
    expect("the connection of a page", answer.get("open"), True)
    expect("how it ends", scene.next(name), {"close": code, "reason": reason})
    if scene.client.name != "chromium":
        _, answer = scene.open(**how)
        expect("the status a program gets", (answer.get("open"), answer.get("status")), (False, status))


def backend_4401(scene):
    """The backend accepts and closes at once with 4401."""
    name, answer = scene.open("locked")
    expect("the handshake", answer.get("open"), True)
    expect("how it ends", scene.next(name), {"close": 4401, "reason": "locked"})


def backend_closes(code):
    def check(scene):
        name, _, _ = scene.member("closing")
        scene.send(name, text=f"!close {code}")
        expect("how it ends", scene.next(name), {"close": code, "reason": "asked"})

    check.__doc__ = f"The backend closes with {code} in mid-session."
    return check


def backend_killed(scene):
    """SIGKILL to the backend gives its members 1011 (1006 without the gateway); whoever comes then is told 1014 or HTTP 502."""
    names = [scene.member("chat", over=over)[0] for over in ("tls", "plain")]
    bare, _, _ = scene.member("chat", over="directly", token="none")
    scene.stack.process.kill()
    expect("how it ends without the gateway", scene.next(bare).get("close"), 1006)
    for name in names:
        expect("how it ends", scene.next(name), {"close": 1011, "reason": "upstream_lost"})
    refused(scene, {"room": "chat"}, 502, 1014, "upstream_unreachable")


# In this order: the last one leaves no backend.
CHECKS = {
    "chat": chat,
    "no extension": no_extension,
    "(direct: deflate)": compression_directly,
    "bad token": bad_token,
    "refused": refused_by_backend,
    "4401": backend_4401,
    "4403": backend_closes(4403),
    "1011": backend_closes(1011),
    "killed": backend_killed,
}

