#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Our wg(8) beside the stock one: the same arguments, files and interfaces, and the same behaviour.

conform.py OURS STOCK batch...     runs batches; prints how many comparisons each made, and all that differed

Both are run as "wg", so that messages have the same name in them. Standard output and exit status are compared byte
for byte, standard error too, and what was asked of the interface: a server here plays it and keeps the requests. The
batch "wgd" has a real interface instead. What differs on purpose (contrib/wireguard-tools/DIFFERENCES.md) is in the
batch "differences"; other batches do not touch it, or say which texts they take for equal.

Everything random comes from numbers that are the same at every run.
"""

import base64
import ipaddress
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

# From this version on, stock wg(8) does what the first part of `differences` is about.
NEW = 20260223
SOCKETS = Path("/var/run/wireguard")
FIELDS = (
    "public-key private-key listen-port fwmark peers preshared-keys endpoints allowed-ips latest-handshakes transfer"
    " persistent-keepalive dump"
).split()


class Interface(threading.Thread):
    """A server that plays an interface: answers as it is told, and keeps what it is asked."""

    def __init__(self, name):
        super().__init__(daemon=True)
        SOCKETS.mkdir(exist_ok=True)
        self.path = SOCKETS / f"{name}.sock"
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen(16)
        self.get = b"errno=0\n\n"
        self.set = b"errno=0\n\n"
        self.requests = []
        self.start()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                request = b""
                while not request.endswith(b"\n\n"):
                    chunk = connection.recv(1 << 16)
                    if not chunk:
                        break
                    request += chunk
                if request:
                    self.requests.append(request)
                    connection.sendall(self.get if request.startswith(b"get=1") else self.set)


class Batch:
    """Runs both programs and compares."""

    def __init__(self, name, ours, stock):
        self.name, self.ours, self.stock = name, ours, stock
        self.made, self.differ = 0, 0
        self.folder = Path(tempfile.mkdtemp(prefix="conform-"))
        self.random = random.Random(name)
        said = subprocess.run([stock, "--version"], capture_output=True, text=True, check=True).stdout
        self.version = int(re.search(r"v1\.0\.(\d+)", said)[1])

    def run(self, program, arguments, given=b"", environment=None, interfaces=()):
        for interface in interfaces:
            interface.requests.clear()
        # A name that no server answers for is not tried again, unless a batch says so.
        settings = {"PATH": os.environ["PATH"], "LC_ALL": "C", "WG_ENDPOINT_RESOLUTION_RETRIES": "0"} | (environment or {})
        done = subprocess.run(
            ["wg", *arguments], executable=program, input=given, capture_output=True, env=settings, cwd=self.folder, timeout=60
        )
        return done.returncode, done.stdout, done.stderr, [list(i.requests) for i in interfaces]

    def same(self, arguments, what="", adapt=None, **options):
        """Compares one call. `adapt` is given what stock did and returns what we should do."""
        expected = clear(*self.run(self.stock, arguments, **options))
        if adapt:
            expected = adapt(*expected)
        found = self.run(self.ours, arguments, **options)
        self.check(found == expected, f"wg {' '.join(map(repr, arguments))} {what}", expected, found)
        return found

    def check(self, good, what, expected=None, found=None):
        self.made += 1
        if good:
            return
        self.differ += 1
        print(f"{self.name}: {what}")
        if expected is not None:
            print(f"    expected {expected}\n    found    {found}")

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)


def bits(text):
    """All zero bits of the last character but one are free in sloppy base64, and must be zero here."""
    return text[:42] + chr(ord(text[42]) + 1) + "="


def key(number):
    return base64.b64encode(random.Random(f"key {number}").randbytes(32)).decode()


# --- configurations ---------------------------------------------------------------------------------

HOSTILE_KEYS = [
    "A", "=", "abc=", key(1)[:43], key(1)[:43] + "A", key(1) + "=", key(1) + "A", " " + key(1)[:-1], key(1)[1:], bits(key(1)),
    key(1)[:20] + "!" + key(1)[21:], key(1)[:20] + "-" + key(1)[21:], key(1)[:20] + "_" + key(1)[21:],
    "=" * 44, "A" * 44, "A" * 42 + "==", "A" * 43 + "=", key(1)[:10] + "=" + key(1)[11:], key(1).lower()[:43] + "=",
    key(1)[:20] + "ä" + key(1)[22:], "0" * 64, "A" * 88, key(1) + key(2),
]  # fmt: skip
HOSTILE_PORTS = ["-1", "99999999999999999999", "x", "0x50", "1e3", "1.0", "no-such-service", "51820x", "٣", "'1'", "1,2", "0b1"]
HOSTILE_MARKS = [
    "x", "-1", "+1", "0x", "0xg", "0X10", "4294967296", "0x100000000", "0x1ffffffff", "99999999999999999999999", "1x", "0x1x",
    "of", "offf", "on", "0x0x1", "1.5", "٣",
]  # fmt: skip
HOSTILE_SECONDS = ["x", "-1", "+1", "65536", "0x10", "1x", "99999999999999999999999", "of", "offf", "on", "25s", "٣"]
HOSTILE_IPS = [
    "x", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/x", "1.2.3.4/-1", "1.2.3.4/3x", "1.2.3.4/+3",
    "1.2.3.4//24", "1.2.3.4/24/24", "/24", "/", ",", "1.2.3.4,", ",1.2.3.4", "1.2.3.4,,1.2.3.5", "01.2.3.4", "1.2.3.04",
    "0x1.2.3.4", "1.2.3.4/0x8", "1.2.3.4/99999999999999999999", "1.2.3.4/255.255.255.0", "::g", ":::", "1::2::3", "::/129",
    "::/", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "12345::", "fe80::1%lo", "[::1]",
    "[::1]/128", "::1.2.3", "::1.2.3.256", "::1.2.3.4.5", "::ffff:1.2.3.04", "1.2.3.4:5", "host.example", "10/8", "1.2.3.4;",
    "default", "any", "0", "::1/128/1", ":", "1:", ":1", "1:2", "::00001", "1.2.3.4/256", "1.2.3.4/032x",
]  # fmt: skip
FINE_IPS = [
    "0.0.0.0/0", "::/0", "1.2.3.4", "1.2.3.4/32", "10.1.2.3/8", "1.2.3.4/0", "1.2.3.4/08", "1.2.3.4/032", "255.255.255.255",
    "::", "::1", "::2", "::1:0", "::1.2.3.4", "::ffff:1.2.3.4", "::ffff:0:0/96", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "1::8/1",
    "::2:3:4:5:6:7:8", "FE80::ABCD/64", "fd00:0:0:1::/64", "1:0:0:2:0:0:0:3/127", "1:0:0:0:2:0:0:3", "64:ff9b::1.2.3.4", "0::0/127",
    "8000::/1", "c000::/1", "2001:db8::/33", "2001:db8:8000::/33", "::8000:0:0:0/65", "::8000:0:0:0/64", "1.2.3.4/31", "1.2.3.5/31",
]  # fmt: skip
HOSTILE_ENDPOINTS = [
    "x", "1.2.3.4", "1.2.3.4:", ":", ":1", "[::1]", "[::1", "[::1]1", "[::1]:", "::1]:1", "[]:1", "[1.2.3.4:1", "1.2.3.4:x",
    "1.2.3.4:no-such-service", "[::g]:1", "256.1.1.1:1", "[::1]]:1", "[[::1]]:1", "1.2.3.4:1x", "[::1]:1:", "host name:1:",
    "[1:2:3:4:5:6:7]:1", "..:1", "-:", "ä:1", "1.2.3.4.5:1", "[fe80::1%no-such-zone]:1", "1.2.3.4:0x50", "[::1] :",
]  # fmt: skip
FINE_ENDPOINTS = [
    "192.0.2.1:51820", "[2001:db8::1]:51820", "2001:db8::1:51820", "1.2.3.4:1", "1.2.3.4:65535", "127.1:1", "0x7f.1:1",
    "010.0.0.1:1", "[::ffff:1.2.3.4]:9", "[::1.2.3.4]:9", "[::]:1", "0.0.0.0:1", "[1.2.3.4]:5", "1.2.3.4:domain", "1.2.3.4:0",
    "[fe80::1%lo]:7", "[fe80::1%1]:7", "fe80::1%lo:7", "localhost:7", "1.2.3.4:007",
]  # fmt: skip
HOSTILE_LINES = [
    "x", "=", "[Interface", "Interface]", "[]", "[Interfaces]", "[Peer][Peer]", "[Peer]x", "[Interface]ListenPort=1", "ListenPort",
    "ListenPort=", "ListenPort =", "ListenPort 1", "FwMark=", "PrivateKey=", "PrivateKey", "Address=10.0.0.1/24", "DNS=1.1.1.1",
    "Listen-Port=1", "ListenPorts=1", "ListenPor=1", "=1", "[Interface]#[Peer]x]", "x[Interface]", "\\[Interface]", ";comment",
    "//comment", "ListenPort:1", "MTU=1420", "PublicKey=", "AllowedIPs=", "Endpoint=", "PersistentKeepalive=", "PresharedKey=",
    "PersistentKeepAlives=1", "AllowedIP=1.2.3.4", "\x1b[31m", "ä=1", "\u00a0", "[Peer]\u00a0", "ListenPort=\u00a01", "\ufeff[Interface]", "\u200bListenPort=1", f"PublicKey: {key(1)}", f"PublicKey {key(1)}",
    f"PrivateKey: {key(1)}", f"PresharedKey {key(1)}", f"Public-Key = {key(1)}",
]  # fmt: skip


def spoil(r, name, value):
    """A line that means the same: other case, whitespace anywhere, a comment."""
    if r.random() < 0.3:
        name = "".join(r.choice([c.lower(), c.upper()]) for c in name)
    text = f"{name} = {value}" if value is not None else f"[{name}]"
    if r.random() < 0.2:
        at = r.randrange(len(text) + 1)
        text = text[:at] + r.choice(["\t", "  ", "\v", "\f", "\r"]) + text[at:]
    if r.random() < 0.1:
        text += r.choice(["#", " # note", "# [Peer]", "#PublicKey = x"])
    return text + r.choice(["\n"] * 8 + ["\r\n", " \n", "\n\n"])


def configuration(r, wrong):
    """A file; `wrong` is the chance of each value to be a bad one."""

    def pick(fine, bad):
        return r.choice(bad) if r.random() < wrong else fine

    out = []
    for _ in range(r.choice([1, 1, 1, 2])):
        if r.random() < 0.95:
            out.append(spoil(r, "Interface", None))
        for _ in range(r.randrange(4)):
            out.append(r.choice([
                lambda: spoil(r, "ListenPort", pick(r.choice(["51820", "0", "65535", "domain", "00080", "+80"]), HOSTILE_PORTS)),
                lambda: spoil(r, "FwMark", pick(r.choice(["0", "off", "OFF", "0xca6c", "4294967295", "0xFFFFFFFF", "007"]), HOSTILE_MARKS)),
                lambda: spoil(r, "PrivateKey", pick(key(r.random()), HOSTILE_KEYS)),
            ])())  # fmt: skip
        for _ in range(r.randrange(4)):
            out.append(spoil(r, "Peer", None))
            if r.random() > wrong:
                out.append(spoil(r, "PublicKey", pick(key(r.randrange(6)), HOSTILE_KEYS)))
            for _ in range(r.randrange(5)):
                out.append(r.choice([
                    lambda: spoil(r, "PresharedKey", pick(key(r.random()), HOSTILE_KEYS)),
                    lambda: spoil(r, "AllowedIPs", ", ".join(pick(r.choice(FINE_IPS), HOSTILE_IPS) for _ in range(r.randrange(1, 4)))),
                    lambda: spoil(r, "Endpoint", pick(r.choice(FINE_ENDPOINTS), HOSTILE_ENDPOINTS)),
                    lambda: spoil(r, "PersistentKeepalive", pick(r.choice(["25", "0", "off", "Off", "65535"]), HOSTILE_SECONDS)),
                    lambda: spoil(r, "PublicKey", pick(key(r.randrange(6)), HOSTILE_KEYS)),
                ])())  # fmt: skip
        if r.random() < wrong:
            out.insert(r.randrange(len(out) + 1), r.choice(HOSTILE_LINES) + "\n")
    text = "".join(out)
    return text.removesuffix("\n") if r.random() < 0.1 else text


def visible(text):
    """Bytes as our messages have them: nothing that cannot be seen, or that a terminal would obey."""
    special = {"\t": "\\t", "\r": "\\r", "\0": "\\0"}
    chars = text.decode(errors="surrogateescape")
    shown = (c if c.isprintable() or c == "\n" else special.get(c, f"\\u{{{ord(c):x}}}") for c in chars)
    return "".join(shown).encode(errors="surrogateescape")


def clear(status, out, said, requests):
    """Stock's messages where ours are meant for people: see DIFFERENCES.md."""
    said = visible(said)
    said = re.sub(rb"(?m)^Servname not supported for ai_socktype: ", PORT + b": ", said)
    # Of this kernel, which has no WireGuard. That an interface exists is not asked here but for lo.
    said = said.replace(b"Unable to access interface: Protocol not supported", b"Unable to access interface: No such device")
    said = said.replace(b"Unable to modify interface: Protocol not supported", b"Unable to modify interface: No such device")
    said = re.sub(rb"(interface configuration): Protocol not supported", rb"\1: No such device", said)
    return status, out, said, requests


PORT = b"Port is neither a number up to 65535 nor the name of a UDP service"


def without_secrets(status, out, said, requests):
    """Stock's messages as we print them: no value that is, or may be meant as, a secret."""
    said = re.sub(rb"(?mi)^(Line unrecognized: `)(?!PublicKey)((?:PrivateKey|PresharedKey)?)[^=:']{40,}.*'$", rb"\1\2(hidden)'", said)
    said = re.sub(rb"(?mi)^(Line unrecognized: `(?!PublicKey[=:])[^=:']*[=:])[A-Za-z0-9+/=]{40,}'$", rb"\1(hidden)'", said)
    return status, out, said, requests


def hides(lines):
    """The same where a malformed key may be a secret one: `lines` is the file."""
    secret = {re.sub(rb"\s|#.*", b"", s).split(b"=", 1)[-1] for s in lines.split(b"\n") if re.match(rb"(?i)\s*p\s*r\s*[ie]", s)}

    def adapt(status, out, said, requests):
        status, out, said, requests = without_secrets(status, out, said, requests)
        found = re.search(rb"Key is not the correct length or format: `(.*)'", said)
        if found and found[1] in secret:
            said = said.replace(b"`" + found[1] + b"'", b"`(hidden)'")
        return status, out, said, requests

    return adapt


def grammar(batch):
    """Files, well and badly formed."""
    wg0 = Interface("wg0")
    for n in range(600):
        text = configuration(batch.random, [0, 0, 0.05, 0.3][n % 4]).encode()
        path = batch.file("wg0.conf", text)
        command = "addconf" if n % 5 == 0 else "setconf"
        batch.same([command, "wg0", path], f"{n}: {text!r}", adapt=hides(text), interfaces=[wg0])


def hostile(batch):
    """Every malformed key, port, mark, interval, address and line, each alone in an otherwise good file."""
    wg0 = Interface("wg0")
    peer = f"[Peer]\nPublicKey = {key(1)}\n"
    files = [f"[Interface]\nListenPort = {v}\n" for v in HOSTILE_PORTS]
    files += [f"[Interface]\nFwMark = {v}\n" for v in HOSTILE_MARKS]
    files += [f"[Interface]\nPrivateKey = {v}\n" for v in HOSTILE_KEYS]
    files += [f"[Peer]\nPublicKey = {v}\n" for v in HOSTILE_KEYS]
    files += [f"{peer}PresharedKey = {v}\n" for v in HOSTILE_KEYS]
    files += [f"{peer}AllowedIPs = {v}\n" for v in HOSTILE_IPS]
    files += [f"{peer}AllowedIPs = 10.0.0.0/8, {v}, fd00::/8\n" for v in HOSTILE_IPS + FINE_IPS]
    files += [f"{peer}Endpoint = {v}\n" for v in HOSTILE_ENDPOINTS + FINE_ENDPOINTS]
    files += [f"{peer}PersistentKeepalive = {v}\n" for v in HOSTILE_SECONDS]
    files += [f"{head}{v}\n{tail}" for v in HOSTILE_LINES for head in ("", "[Interface]\n", peer) for tail in ("", peer)]
    files += [
        "", "\n", "#", "# nothing\n", "[Interface]", "[Peer]", "[Peer]\n[Peer]\n", f"{peer}[Peer]\n", f"[Peer]\n{peer}",
        peer + peer, "[Interface]\n" * 3, "[Interface]\nListenPort=1\n[Interface]\nListenPort=2\nListenPort=3\n",
        f"{peer}PublicKey={key(2)}\n", f"{peer}AllowedIPs=1.2.3.4\nAllowedIPs=1.2.3.5\n", "\0", "[Interface]\0x\n",
        "[Interface]\nListenPort=1\0 2\nFwMark=3", f"{peer}Endpoint=1.2.3.4:5\nEndpoint=1.2.3.4:6\n", "\xff\n", "[Interface]\r\n",
        f"{peer}PersistentKeepalive=1\nPersistentKeepalive=off\n", f"[Interface]\nPrivateKey={key(1)}\nPrivateKey={key(2)}",
        "[Interface]\nAllowedIPs=1.2.3.4\n", f"{peer}ListenPort=1\n", "A" * 5000, "[Interface]\n" + " " * 70000 + "FwMark=1\n",
        f"{peer}AllowedIPs={','.join(FINE_IPS * 200)}\n",
    ]  # fmt: skip
    for text in files:
        raw = text.encode()
        path = batch.file("wg0.conf", raw)
        for command in ("setconf", "addconf", "syncconf"):
            batch.same([command, "wg0", path], repr(text[:300]), adapt=hides(raw), interfaces=[wg0])


def arguments(batch):
    """`wg set`, in and out of order, with everything that a file can hold."""
    wg0 = Interface("wg0")
    files = {
        "good": key(1) + "\n", "bare": key(1), "spaces": key(1) + " \t\n\n", "empty": "", "short": key(1)[:43], "newline": "\n",
        "trailing": key(1) + "x", "second": key(1) + "\n" + key(2), "sloppy": bits(key(1)), "nul": key(1) + "\0",
    }  # fmt: skip
    paths = [batch.file(name, text) for name, text in files.items()] + ["/dev/null", "missing", "/proc/self/mem", "."]
    peer = ["peer", key(1)]
    calls = [["listen-port", v] for v in HOSTILE_PORTS + ["1", "0", "65535", "domain", ""]]
    calls += [["fwmark", v] for v in HOSTILE_MARKS + ["0", "off", "0xff", "", " 1"]]
    calls += [["private-key", v] for v in paths] + [[*peer, "preshared-key", v] for v in paths]
    calls += [["peer", v] for v in [*HOSTILE_KEYS, "", key(1)]]
    calls += [[*peer, "endpoint", v] for v in [*HOSTILE_ENDPOINTS, *FINE_ENDPOINTS, ""]]
    calls += [[*peer, "persistent-keepalive", v] for v in [*HOSTILE_SECONDS, "0", "off", "25", "", " 1"]]
    calls += [[*peer, "allowed-ips", v] for v in [*HOSTILE_IPS, *FINE_IPS, "", " ", "1.2.3.4, ::1/64", "1.2.3.4 /\t24"]]
    calls += [
        [*peer, "remove"], [*peer, "remove", "remove"], [*peer, "remove", "allowed-ips", "1.2.3.4"], [*peer, *peer],
        [*peer, "listen-port", "1"], [*peer, "fwmark", "1"], ["remove"], ["allowed-ips", "1.2.3.4"], ["endpoint", "1.2.3.4:5"],
        ["peer"], ["listen-port"], ["fwmark"], ["private-key"], [*peer, "endpoint"], [*peer, "allowed-ips"], [*peer, "preshared-key"],
        [*peer, "persistent-keepalive"], ["x"], [""], ["PEER", key(1)], [*peer, "allowed-ips", "1.2.3.4", "allowed-ips", "1.2.3.5"],
        ["listen-port", "1", "listen-port", "2"], [*peer, "allowed-ips", "", "allowed-ips", "::1"], ["listen-port", "1", "x"],
        ["listen-port", "1", "fwmark", "2", *peer, "endpoint", "1.2.3.4:5", "peer", key(2), "remove"], ["update-only"],
    ]  # fmt: skip
    for call in calls:
        batch.same(["set", "wg0", *call], adapt=hide_file(call), interfaces=[wg0])
    for given in (key(3), key(3) + "\n", "", key(3)[:-1], "x" * 50, key(3) + "x"):
        for call in (["private-key", "/dev/stdin"], [*peer, "preshared-key", "/dev/stdin"]):
            batch.same(["set", "wg0", *call], given=given.encode(), adapt=hide_file(call), interfaces=[wg0])
    for _ in range(200):
        r, words = batch.random, []
        for _ in range(r.randrange(1, 7)):
            words += r.choice(calls[: len(calls) // 2] if r.random() < 0.2 else [
                ["listen-port", "7"], ["fwmark", "9"], ["private-key", paths[0]], peer, ["peer", key(2)], ["remove"],
                ["endpoint", "1.2.3.4:5"], ["allowed-ips", "10.0.0.0/8,fd00::/8"], ["persistent-keepalive", "25"],
                ["preshared-key", paths[1]],
            ])  # fmt: skip
        batch.same(["set", "wg0", *words], adapt=hide_file(words), interfaces=[wg0])
    # A name is cut to what the kernels take; the server below has the short one.
    short = Interface("a-name-of-15-ch")
    batch.same(["set", "a-name-of-15-characters", "fwmark", "1"], interfaces=[short])


def hide_file(words):
    """A malformed key of a file is not shown; one of the arguments is."""

    def adapt(status, out, said, requests):
        found = re.search(rb"Key is not the correct length or format: `(.*)'\n", said, re.S)
        if found and found[1].decode() not in words:
            said = said.replace(b"`" + found[1] + b"'", b"`(hidden)'")
        return status, out, said, requests

    return adapt


# --- what interfaces report -------------------------------------------------------------------------


def reply(r):
    """An answer to `get`."""
    lines = []
    if r.random() < 0.8:
        lines.append(f"private_key={r.randbytes(32).hex()}")
    if r.random() < 0.8:
        lines.append(f"listen_port={r.choice([0, 1, 51820, 65535])}")
    if r.random() < 0.5:
        lines.append(f"fwmark={r.choice([0, 1, 51820, 4294967295])}")
    for _ in range(r.choice([0, 1, 2, 5, 12])):
        lines.append(f"public_key={r.randbytes(32).hex()}")
        if r.random() < 0.9:
            lines.append(f"preshared_key={r.choice([bytes(32), r.randbytes(32)]).hex()}")
        lines.append("protocol_version=1")
        if r.random() < 0.8:
            host = r.choice(["192.0.2.1", "[2001:db8::1]", "[::]", "[fe80::1%lo]", "[::ffff:1.2.3.4]", "[::1.2.3.4]", "[fe80::2%1]"])
            lines.append(f"endpoint={host}:{r.choice([1, 51820, 65535])}")
        # Times that do not pass a limit between the calls of the two programs, as the words for them would.
        second = r.choice([0, 0, 1, 1000, 4000000000 + r.randrange(100)])
        lines.append(f"last_handshake_time_sec={second}\nlast_handshake_time_nsec={r.choice([0, 1, 999999999])}")
        for name in ("tx_bytes", "rx_bytes"):
            lines.append(f"{name}={r.choice([0, 1, 1023, 1024, 1536, 10**6, 2**30 - 1, 2**30, 10**13, 2**64 - 1, r.getrandbits(44)])}")
        lines.append(f"persistent_keepalive_interval={r.choice([0, 1, 25, 60, 61, 3600, 3661, 65535])}")
        for _ in range(r.choice([0, 1, 1, 3, 20])):
            address = r.choice([ipaddress.IPv4Address(r.getrandbits(32)), ipaddress.IPv6Address(r.getrandbits(128)),
                                ipaddress.IPv6Address(r.getrandbits(r.randrange(1, 128))),
                                ipaddress.IPv6Address(r.getrandbits(128) & r.getrandbits(128) << r.randrange(128) & (1 << 128) - 1)])  # fmt: skip
            lines.append(f"allowed_ip={address.exploded if r.random() < 0.1 else address}/{r.randrange(address.max_prefixlen + 1)}")
        if r.random() < 0.1:
            lines.append(r.choice(["unknown=1", "private_key=x", "listen_port=x", "fwmark=", "replace_peers=true"]))
    return ("\n".join([*lines, "errno=0"]) + "\n\n").encode()


def steady(status, out, said, requests):
    """Words for times that are moving on, without their numbers."""
    return status, re.sub(rb"(?m)^(.*latest handshake.*: ).*$", rb"\1", out), said, requests


def show(batch):
    """Every way to show an interface."""
    wg0, wg1 = Interface("wg0"), Interface("wg1")
    settings = [{"WG_COLOR_MODE": c, "WG_HIDE_KEYS": k} for c in ("always", "never", "auto") for k in ("never", "always", "")]
    for n in range(60):
        wg0.get, wg1.get = reply(batch.random), reply(batch.random)
        for field in FIELDS:
            batch.same(["show", "wg0", field], f"{n}")
            if field != "endpoints":
                batch.same(["show", "all", field], f"{n}")
        batch.same(["showconf", "wg0"], f"{n}")
        batch.same(["show", "interfaces"], f"{n}")
        for arguments in ([], ["show"], ["show", "all"], ["show", "wg0"]):
            setting = batch.random.choice(settings)
            found, expected = (batch.run(p, arguments, environment=setting) for p in (batch.ours, batch.stock))
            batch.check(steady(*found) == steady(*expected), f"{n}: {arguments} {setting} {wg0.get} {wg1.get}", expected, found)
    # What is shown can be set, and gives the same again.
    for n in range(40):
        wg0.get = reply(batch.random)
        _, conf, _, _ = batch.run(batch.ours, ["showconf", "wg0"])
        path = batch.file("shown.conf", conf)
        batch.same(["setconf", "wg0", path], f"{n}: {conf}", adapt=hides(conf), interfaces=[wg0])


def times(batch):
    """The words for the time since a handshake, with a clock that stands still (faketime is not needed: each program
    is asked until both were within the same second)."""
    wg0 = Interface("wg0")
    import time

    for age in (0, 1, 59, 60, 61, 3599, 3600, 3661, 86399, 86400, 90061, 365 * 86400, 400 * 86400, 40 * 365 * 86400 + 1, -5, -100000):
        for _ in range(50):
            now = int(time.time())
            wg0.get = f"public_key={'11' * 32}\nlast_handshake_time_sec={now - age}\nlast_handshake_time_nsec=1\nerrno=0\n\n".encode()
            found = [batch.run(p, ["show", "wg0"], environment={"WG_COLOR_MODE": "always"}) for p in (batch.stock, batch.ours)]
            if int(time.time()) == now:
                batch.check(found[0] == found[1], f"a handshake {age} s ago", *found)
                break
        else:
            batch.check(False, f"never twice within a second, {age}")


def replies(batch):
    """Answers that are not as they should be."""
    wg0 = Interface("wg0")
    peer = f"public_key={'11' * 32}\n"
    gets = [
        "", "\n", "errno=0\n", "errno=0", "errno=1\n\n", "errno=2\n\n", "errno=-1\n\n", "errno=x\n\n", "errno=\n\n", "x\n\n", "x=1\n\n",
        "private_key=\nerrno=0\n\n", "private_key=12\nerrno=0\n\n", f"private_key={'1g' * 32}\nerrno=0\n\n", f"private_key={'Ab' * 32}\nerrno=0\n\n",
        "listen_port=\nerrno=0\n\n", "listen_port=65536\nerrno=0\n\n", "listen_port=-1\nerrno=0\n\n", "listen_port=1x\nerrno=0\n\n",
        "fwmark=4294967296\nerrno=0\n\n", "fwmark=0x10\nerrno=0\n\n", "public_key=1\nerrno=0\n\n", f"{peer}preshared_key=1\nerrno=0\n\n",
        f"{peer}endpoint=\nerrno=0\n\n", f"{peer}endpoint=1.2.3.4\nerrno=0\n\n", f"{peer}endpoint=[::1\nerrno=0\n\n",
        f"{peer}endpoint=[::1]\nerrno=0\n\n", f"{peer}endpoint=1.2.3.4:\nerrno=0\n\n", f"{peer}allowed_ip=\nerrno=0\n\n",
        f"{peer}allowed_ip=1.2.3.4\nerrno=0\n\n", f"{peer}allowed_ip=1.2.3.4/33\nerrno=0\n\n", f"{peer}allowed_ip=::/129\nerrno=0\n\n",
        f"{peer}allowed_ip=x/1\nerrno=0\n\n", f"{peer}allowed_ip=1.2.3.4/x\nerrno=0\n\n", f"{peer}rx_bytes=x\nerrno=0\n\n",
        f"{peer}tx_bytes=-1\nerrno=0\n\n", f"{peer}last_handshake_time_sec=x\nerrno=0\n\n", f"{peer}persistent_keepalive_interval=65536\nerrno=0\n\n",
        f"{peer}x\nerrno=0\n\n", f"{peer}=\nerrno=0\n\n", f"errno=0\n{peer}\n", f"{peer}errno=5\n\n", "errno=0\nerrno=13\n\n", "errno=99999\n\n",
    ]  # fmt: skip
    for get in gets:
        wg0.get = get.encode()
        for arguments in (["show", "wg0"], ["show"], ["show", "wg0", "dump"], ["showconf", "wg0"]):
            batch.same(arguments, repr(get))
    conf = batch.file("wg0.conf", f"[Peer]\nPublicKey={key(1)}\n")
    wg0.get = b"errno=1\n\n"
    batch.same(["syncconf", "wg0", conf])
    sets = ["", "\n", "errno=0\n", "errno=0", "x\n\n", "errno=x\n\n", "errno=\n\n", "errno=-1\n\n", "errno=-22\n\n", "errno=-98\n\n", "errno=0x1\n\n",
            "errno=-1x\n\n", "x=1\nerrno=0\n\n", "errno=99999999999\n\n", "errno=-0\n\n"]  # fmt: skip
    for answer in sets:
        wg0.set = answer.encode()
        batch.same(["set", "wg0", "fwmark", "1"], repr(answer), interfaces=[wg0])
    # Sockets that nobody listens on, and files that are no sockets.
    for name in ("stale", "file"):
        for arguments in (["show", name], ["showconf", name], ["set", name, "fwmark", "1"], ["show", "interfaces"], ["show"]):
            for program in (batch.stock, batch.ours):
                path = SOCKETS / f"{name}.sock"
                if name == "stale":
                    with socket.socket(socket.AF_UNIX) as s:
                        path.unlink(missing_ok=True)
                        s.bind(str(path))
                else:
                    path.write_text("")
                found = batch.run(program, arguments)
                if program == batch.stock:
                    expected = (*clear(*found), path.exists())
            found = (*found, path.exists())
            batch.check(found == expected, f"{arguments} with a {name} socket", expected, found)


def usage(batch):
    """Wrong calls, and calls for help."""
    conf = batch.file("wg0.conf", "[Interface]\n")
    for arguments in (
        ["showconf"], ["showconf", "a", "b"], ["setconf"], ["setconf", "a"],
        ["setconf", "a", conf, "c"], ["addconf"], ["syncconf"], ["genkey", "x"], ["genpsk", "x"], ["pubkey", "x"], ["genkey", "--help"],
        ["genpsk", "--help"], ["pubkey", "--help"], ["show", "none"], ["show", "none", "peers"], ["show", "all", "peers"], ["show"], [],
        ["show", "interfaces"], ["showconf", "none"], ["set", "none", "fwmark", "1"], ["setconf", "none", conf], ["addconf", "none", conf],
        ["syncconf", "none", conf], ["setconf", "none", "missing"], ["show", "a/b"], ["set", "a/b", "fwmark", "1"], ["show", "../x"],
        ["show", ""], ["set", "", "fwmark", "1"], ["show", "none", "x"],
    ):  # fmt: skip
        batch.same(arguments)
    # The newest version's, whatever is here.
    for arguments in (["--version"], ["-v"], ["version"]):
        batch.same(arguments, adapt=lambda s, o, e, r: (s, re.sub(rb"1\.0\.\d+", b"1.0.%d" % NEW, o), e, r))
    for name in ("a-name-of-more-than-15-characters", "a-name-of-16-ch."):
        batch.same(["show", name], adapt=lambda s, o, e, r: (s, o, b"Unable to access interface: File name too long\n", r))
    # Of a kernel without WireGuard this is all that can be said of an interface of another kind.
    for arguments in (["show", "lo"], ["set", "lo", "fwmark", "1"], ["showconf", "lo"]):
        found, expected = (batch.run(p, arguments) for p in (batch.ours, batch.stock))
        batch.check(found == expected, f"{arguments}", expected, found)
    known = Interface("wg0")
    known.get = b"errno=0\n\n"
    # Texts that tell of what is new differ there, and only there.
    new = [rb" \| --json \| --watch\[=<seconds>\] \[--count=<number>\]", rb"  check: .*\n"]
    if batch.version < NEW:
        new.append(rb"\[\+\|-\](?=<ip)")

    def old(text):
        for part in new:
            text = re.sub(part, b"", text)
        return text

    for arguments in (
        ["--help"], ["-h"], ["help"], ["--help", "x"], ["--version", "x"], ["nonsense"], [""], ["SHOW"], ["-x"], ["show", "--help"], ["show", "-h"],
        ["show", "help"], ["show", "a", "b", "c"], ["show", "interfaces", "x"], ["show", "wg0", "nonsense"], ["show", "all", "nonsense"],
        ["set"], ["set", "wg0"], ["set", "--help"], ["show", "all", "peers", "x"], ["show", "wg0", "interfaces"], ["show", "wg0", ""],
    ):  # fmt: skip
        (status, out, said, _), expected = (batch.run(p, arguments) for p in (batch.ours, batch.stock))
        found = (status, old(out), old(said), [])
        batch.check(found == expected, f"{arguments}", expected, found)


def keys(batch):
    """Keys made, and made public."""
    for n in range(40):
        batch.same(["pubkey"], given=key(n).encode() + [b"", b"\n", b" \n\t", b"\0", b"\n\0\n"][n % 5])
    for text in HOSTILE_KEYS + ["", "\n", key(1) + "\nx", key(1) + "x", "\n" + key(1), key(1) + "\n" + key(2)]:
        batch.same(["pubkey"], given=text.encode())
    for command, clamped in (("genkey", True), ("genpsk", False)):
        seen = set()
        for _ in range(20):
            status, out, said, _ = batch.run(batch.ours, [command])
            raw = base64.b64decode(out)
            batch.check(status == 0 and not said and len(out) == 45 and len(raw) == 32, command)
            batch.check(not clamped or (raw[0] & 7 == 0 and raw[31] & 0xC0 == 0x40), f"{command} {out}")
            seen.add(raw)
        batch.check(len(seen) == 20 and (clamped or any(k[0] & 7 for k in seen)), command)
        for mode in (0o600, 0o640, 0o644, 0o602, 0o601):
            said = []
            for program in (batch.stock, batch.ours):
                path = batch.file("out", "")
                os.chmod(path, mode)
                with open(path, "w") as out:
                    done = subprocess.run(["wg", command], executable=program, stdout=out, stderr=subprocess.PIPE)
                said.append((done.returncode, done.stderr, os.path.getsize(path)))
            batch.check(said[0] == said[1], f"{command} into a file of mode {mode:o}", *said)


def resolver(batch):
    """Names, of which some are in the file of hosts."""
    wg0 = Interface("wg0")
    none = {"WG_ENDPOINT_RESOLUTION_RETRIES": "0"}
    names = ["four.example:1", "six.example:2", "[six.example]:2", "both.example:3", "four.example:domain", "four.example:no-such-service",
             "unknown.example:1", "unknown.example:domain", "localhost:5", "x_y:1", "a" * 300 + ":1", "four.example:99x"]  # fmt: skip
    for name in names:
        batch.same(["set", "wg0", "peer", key(1), "endpoint", name], environment=none, interfaces=[wg0])
        path = batch.file("wg0.conf", f"[Peer]\nPublicKey={key(1)}\nEndpoint={name}\n")
        batch.same(["setconf", "wg0", path], environment=none, interfaces=[wg0])
    for retries in ("", "x", "1x", "-1", "2147483648", "infinit", "99999999999999999999", " 1 ", "0x1"):
        setting = {"WG_ENDPOINT_RESOLUTION_RETRIES": retries}
        for name in ("unknown.example:1", "192.0.2.1:5") if retries else ("unknown.example:1",):
            batch.same(["set", "wg0", "peer", key(1), "endpoint", name], retries, environment=setting, interfaces=[wg0])
            path = batch.file("wg0.conf", f"[Peer]\nPublicKey={key(1)}\nEndpoint={name}\n")
            batch.same(["setconf", "wg0", path], retries, environment=setting, interfaces=[wg0])
        path = batch.file("wg0.conf", f"[Peer]\nPublicKey={key(1)}\n")
        batch.same(["setconf", "wg0", path], retries, environment=setting, interfaces=[wg0])
    twice = {"WG_ENDPOINT_RESOLUTION_RETRIES": "2"}
    batch.same(["set", "wg0", "peer", key(1), "endpoint", "unknown.example:1"], environment=twice, interfaces=[wg0])


# --- a real interface -------------------------------------------------------------------------------


def wgd(batch):
    """wg0 is wgd's: both programs bring it into the same state, and see the same in it."""

    def state(program):
        return [batch.run(program, a)[:3] for a in (["show", "wg0", "dump"], ["showconf", "wg0"], ["show", "wg0"])]

    def clean():
        batch.run(batch.stock, ["setconf", "wg0", "/dev/null"])
        batch.run(batch.stock, ["set", "wg0", "listen-port", "7000"])

    r = batch.random
    for n in range(60):
        text = configuration(r, [0, 0, 0.1][n % 3])
        # A port that the kernel chooses would differ, and one for each of these may be taken.
        text = re.sub(r"(?im)^.*l\s*i\s*s\s*t\s*e\s*n\s*p\s*o\s*r\s*t.*$", f"ListenPort = {7001 + n % 3}" if n % 2 else "", text)
        text = re.sub(r"(?im)^\s*\[\s*interface\s*\]", f"[Interface]\nListenPort = {7001 + n % 3}\n", text)
        if "[Interface]" not in text:
            text = f"[Interface]\nListenPort = {7001 + n % 3}\n" + text
        path = batch.file("wg0.conf", text)
        command = ("setconf", "addconf", "setconf")[n % 3]
        results = []
        for program in (batch.stock, batch.ours):
            clean()
            first = batch.run(program, [command, "wg0", path])
            results.append((hides(text.encode())(*first), state(batch.stock)))
        batch.check(results[0] == results[1], f"{command} {text!r}", *results)
        ours = state(batch.ours)
        batch.check(ours == results[1][1], f"shown after {command} {text!r}", results[1][1], ours)
    for n in range(40):
        results = []
        before = batch.file("before.conf", peers(r, [0, 1, 2, 3]))
        after = batch.file("after.conf", peers(r, r.choice([[0, 1], [2, 3, 4, 5], [], [0, 1, 2, 3], [5]])))
        for program in (batch.stock, batch.ours):
            clean()
            batch.run(batch.stock, ["setconf", "wg0", before])
            done = batch.run(program, ["syncconf", "wg0", after])
            results.append((done, state(batch.stock)))
        batch.check(results[0] == results[1], f"syncconf {n}", *results)


def peers(r, numbers):
    """A file with these peers. All of them have a preshared key and an interval, since syncconf takes away what a file
    lacks (see `differences`)."""
    out = ["[Interface]\nListenPort = 7000\n"]
    for n in numbers:
        out.append(f"[Peer]\nPublicKey = {key(n)}\nPresharedKey = {key(n + 100 * r.randrange(2))}\nPersistentKeepalive = {r.choice([0, 25])}\n")
        out.append(f"AllowedIPs = 10.{n}.{r.randrange(3)}.0/24\nEndpoint = 192.0.2.{n + 1}:{r.randrange(1, 9)}\n")
    return "".join(out)


# --- what differs on purpose ------------------------------------------------------------------------


def differences(batch):
    """Each of them, as DIFFERENCES.md has it. `stock` is what it is a difference from, so that a stock program that
    has caught up is noticed."""
    wg0 = Interface("wg0")

    def differ(what, arguments, check, stock, given=b"", **options):
        ours = batch.run(batch.ours, arguments, given=given, interfaces=[wg0], **options)
        batch.check(check(*ours), f"{what}: we", "as documented", ours)
        theirs = batch.run(batch.stock, arguments, given=given, interfaces=[wg0], **options)
        batch.check((stock or check)(*theirs), f"{what}: stock", "as documented", theirs)

    def has(*lines):
        return lambda status, out, said, requests: status == 0 and requests[0] and all(line in requests[0][0][-1] for line in [line.encode() for line in lines])

    def fails(status, *_):
        return status == 1

    def since(check):
        """What stock does from NEW on is what we do; before, it is `check`."""
        return check if batch.version < NEW else None

    peer = ["peer", key(1)]
    # Signs in allowed IPs.
    request = b"\nallowed_ip=-10.0.0.0/8\nallowed_ip=::1/128\n\n"
    differ("signs", ["set", "wg0", *peer, "allowed-ips", "-10.0.0.0/8,+::1"],
           lambda s, o, e, r: s == 0 and r[0][-1].endswith(request) and b"replace_allowed_ips" not in r[0][-1], since(fails))  # fmt: skip
    conf = batch.file("sign.conf", f"[Peer]\nPublicKey={key(1)}\nAllowedIPs=10.0.0.0/8\nAllowedIPs=+1.2.3.4\nAllowedIPs=1.2.3.5\n")
    # The newest stock program lets the last line alone decide.
    def replaces(s, o, e, r):
        return s == 0 and b"replace_allowed_ips" in r[0][-1]

    differ("signs in a file", ["setconf", "wg0", conf], lambda s, o, e, r: s == 0 and b"replace_allowed_ips" not in r[0][-1], since(fails) or replaces)
    for bad in ("+", "-", "+-1.2.3.4", "1.2.3.4/+3", "-x"):
        unsigned = since(lambda s, o, e, r: (s, o, re.sub(rb"`[+-]", b"`", e, count=1), r))
        batch.same(["set", "wg0", *peer, "allowed-ips", bad], adapt=unsigned, interfaces=[wg0])
    # The interface's name on every line.
    wg0.get = f"public_key={'11' * 32}\npublic_key={'22' * 32}\nerrno=0\n\n".encode()
    differ("show all endpoints", ["show", "all", "endpoints"],
           lambda s, o, e, r: o.count(b"wg0\t") == 2 == o.count(b"\n"), since(lambda s, o, e, r: o.count(b"wg0\t") == 1))  # fmt: skip
    # syncconf takes away what the file lacks.
    wg0.get = f"public_key={base64.b64decode(key(1)).hex()}\npreshared_key={'11' * 32}\npersistent_keepalive_interval=5\nerrno=0\n\n".encode()
    conf = batch.file("sync.conf", f"[Peer]\nPublicKey={key(1)}\n")
    cleared = (f"preshared_key={'0' * 64}".encode(), b"persistent_keepalive_interval=0")
    differ("syncconf", ["syncconf", "wg0", conf], lambda s, o, e, r: s == 0 and all(c in r[0][-1] for c in cleared),
           since(lambda s, o, e, r: s == 0 and not any(c in r[0][-1] for c in cleared)))  # fmt: skip
    # Ports over 65535, of which glibc takes 16 bits.
    for port in ("65536", "70000", "+65537"):
        differ(f"port {port}", ["set", "wg0", "listen-port", port], lambda s, o, e, r: s == 1 and b"`%s'" % port.encode() in e and not r[0],
               lambda s, *_: s == 0)  # fmt: skip
        differ(f"port {port}", ["set", "wg0", *peer, "endpoint", f"1.2.3.4:{port}"],
               lambda s, o, e, r: s == 1 and port.encode() in e and not r[0], lambda s, *_: s == 0)  # fmt: skip
    # Secrets in messages.
    secret = key(9)[:43]
    for text in (f"[Interface]\nPrivateKey={secret}", f"[Peer]\nPresharedKey={secret}", f"[Interface]\nPrivateKay={secret}=", secret):
        path = batch.file("secret.conf", text)
        for command in ("setconf", "addconf", "syncconf"):
            differ("a secret", [command, "wg0", path], lambda s, o, e, r: s == 1 and secret.encode() not in e and b"(hidden)" in e,
                   lambda s, o, e, r: secret.encode() in e)  # fmt: skip
        status, _, said, _ = batch.run(batch.ours, ["check", path])
        batch.check(status == 1 and secret.encode() not in said, f"check {text!r}", found=said)
    path = batch.file("secret.key", bits(key(9)))
    differ("a secret", ["set", "wg0", "private-key", path], lambda s, o, e, r: s == 1 and b"(hidden)" in e,
           lambda s, o, e, r: bits(key(9)).encode() in e)  # fmt: skip
    # What cannot be read is not an empty configuration.
    differ("a folder", ["setconf", "wg0", "/"], lambda s, o, e, r: s == 1 and b"Is a directory" in e and not r[0], lambda s, o, e, r: s == 0 and bool(r[0]))
    # What cannot be written is an error.
    for program, status in ((batch.ours, 1), (batch.stock, 0)):
        with open("/dev/full", "w") as full:
            done = subprocess.run(["wg", "genkey"], executable=program, stdout=full, stderr=subprocess.PIPE)
        batch.check(done.returncode == status and (status == 0 or b"No space left" in done.stderr), f"/dev/full {program}", found=done)
    # What cannot be seen, and what getaddrinfo(3) says of a port.
    path = batch.file("bom.conf", "\ufeff[Interface]\n")
    differ("a byte order mark", ["setconf", "wg0", path], lambda s, o, e, r: s == 1 and rb"`\u{feff}[Interface]'" in e,
           lambda s, o, e, r: s == 1 and "`\ufeff[Interface]'".encode() in e)  # fmt: skip
    differ("a port's name", ["set", "wg0", "listen-port", "x"], lambda s, o, e, r: s == 1 and e == PORT + b": `x'\n",
           lambda s, o, e, r: s == 1 and e.startswith(b"Servname"))  # fmt: skip
    # Tried again, it would not become one.
    twice = {"WG_ENDPOINT_RESOLUTION_RETRIES": "2"}
    differ("a port's name", ["set", "wg0", *peer, "endpoint", "localhost:x"], lambda s, o, e, r: s == 1 and e == PORT + b": `localhost:x'\n",
           lambda s, o, e, r: s == 1 and e.count(b"Trying again") == 2, environment=twice)  # fmt: skip
    # An interface that does not exist, and one that its caller may not look for.
    differ("no interface", ["show", "none"], lambda s, o, e, r: s == 1 and e == b"Unable to access interface: No such device\n", fails)
    SOCKETS.chmod(0o700)
    for arguments in (["show", "wg0"], ["set", "wg0", "fwmark", "1"]):
        found = subprocess.run([batch.ours, *arguments], capture_output=True, user=65534, group=65534, extra_groups=[])
        batch.check(found.returncode == 1 and re.fullmatch(rb"Unable to \w+ interface: (Permission denied|Operation not permitted)\n", found.stderr) is not None,
                    f"{arguments} as another user", found=found)  # fmt: skip
    # Error numbers without a sign, and endpoints that make no sense here.
    wg0.set = b"errno=98\n\n"
    differ("errno", ["set", "wg0", "fwmark", "1"], lambda s, o, e, r: s == 1 and b"Address already in use" in e, lambda s, o, e, r: b"Unknown error" in e)
    wg0.get = f"public_key={'11' * 32}\nendpoint=[fe80::1%no-such-zone]:1\nerrno=0\n\n".encode()
    differ("an unknown zone", ["show", "wg0"], lambda s, o, e, r: s == 1 and b"Network is unreachable" in e, lambda s, *_: s < 0)


def offline():
    """Gives this sandbox a file of hosts of its own, and a name server that does not answer."""
    folder = Path(tempfile.mkdtemp(prefix="conform-"))
    for target, text in {
        "hosts": "127.0.0.1 localhost\n192.0.2.7 four.example\n2001:db8::7 six.example\n192.0.2.8 both.example\n2001:db8::8 both.example\n",
        "resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        "nsswitch.conf": "hosts: files dns\nservices: files\n",
    }.items():
        (folder / target).write_text(text)
        subprocess.run(["mount", "--bind", folder / target, f"/etc/{target}"], check=True)


BATCHES = {f.__name__: f for f in (grammar, hostile, arguments, show, times, replies, usage, keys, resolver, wgd, differences)}


def main():
    ours, stock, *names = sys.argv[1:]
    offline()
    failed = False
    for name in names:
        batch = Batch(name, ours, stock)
        BATCHES[name](batch)
        print(f"{name}: {batch.made} comparisons, {batch.differ} differ", flush=True)
        failed = failed or batch.differ or not batch.made
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
