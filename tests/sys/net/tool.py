#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What our wg(8) has beyond the stock one, and how it keeps secrets.

tool.py OURS STOCK batch...     as conform.py, whose servers and counting it uses
"""

import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import time

import conform
from conform import Interface, key


def base64_of(number):
    return key(number)


def hex_of(number):
    import base64

    return base64.b64decode(key(number)).hex()


def show_json(batch):
    """--json says what dump says, in the documented schema."""
    wg0 = Interface("wg0")
    for n in range(40):
        wg0.get = conform.reply(batch.random)
        for setting in ({}, {"WG_HIDE_KEYS": "never"}):
            for arguments in (["show", "wg0", "--json"], ["show", "--json"], ["show", "all", "--json"], ["show", "--json", "wg0"]):
                status, out, said, _ = batch.run(batch.ours, arguments, environment=setting)
                dump = batch.run(batch.stock, ["show", "wg0", "dump"])[1].decode()
                found = json.loads(out)
                expected = {"version": 1, "interfaces": [from_dump(dump, bool(setting))]}
                batch.check(status == 0 and not said and found == expected, f"{n} {arguments}", expected, found)
    wg0.path.unlink()
    status, out, said, _ = batch.run(batch.ours, ["show", "--json"])
    batch.check(status == 0 and json.loads(out) == {"version": 1, "interfaces": []}, "no interfaces", found=out)
    status, out, said, _ = batch.run(batch.ours, ["show", "wg0", "--json"])
    batch.check(status == 1 and out == b"" and said.startswith(b"Unable to access interface: "), "no interface", found=(out, said))
    for arguments in (["show", "wg0", "dump", "--json"], ["show", "interfaces", "--json"], ["show", "--json", "--watch"], ["show", "--json", "--json"]):
        status, out, said, _ = batch.run(batch.ours, arguments)
        batch.check(status == 1 and out == b"" and said.startswith(b"Usage: wg show"), f"{arguments}", found=(out, said))


def from_dump(dump, keys):
    """The schema's form of what `wg show IF dump` prints."""

    def secret(text):
        return None if text == "(none)" else text if keys else "(hidden)"

    def maybe(text):
        return None if text in ("(none)", "off", "0") else text

    def number(text):
        return None if maybe(text) is None else int(text, 0)

    first, *rest = dump.splitlines()
    private, public, port, mark = first.split("\t")
    peers = []
    for line in rest:
        peer, psk, endpoint, allowed, handshake, rx, tx, keepalive = line.split("\t")
        peers.append({
            "public_key": peer, "preshared_key": secret(psk), "endpoint": maybe(endpoint),
            "allowed_ips": [] if allowed == "(none)" else allowed.split(","), "latest_handshake": number(handshake),
            "rx_bytes": int(rx), "tx_bytes": int(tx), "persistent_keepalive": number(keepalive),
        })  # fmt: skip
    return {"name": "wg0", "public_key": maybe(public), "private_key": secret(private), "listen_port": number(port),
            "fwmark": number(mark), "peers": peers}  # fmt: skip


class Growing(Interface):
    """A peer that receives 1000 bytes more, and sends 3000 more, every time that somebody looks."""

    def run(self):
        self.seen = 0
        super().run()

    @property
    def get(self):
        self.seen += 1
        return (
            f"public_key={hex_of(1)}\nrx_bytes={1000 * self.seen}\ntx_bytes={3000 * self.seen}\nlast_handshake_time_sec=7\n"
            f"last_handshake_time_nsec=0\nerrno=0\n\n"
        ).encode()

    @get.setter
    def get(self, _):
        pass


def watch(batch):
    """--watch: rates in lines with tabs through a pipe, and a table on a terminal."""
    Growing("wg0")
    status, out, said, _ = batch.run(batch.ours, ["show", "wg0", "--watch=0.2", "--count=3"])
    rows = [line.split("\t") for line in out.decode().splitlines()]
    batch.check(status == 0 and not said and len(rows) == 3 and all(len(row) == 8 for row in rows), "three rounds", found=(status, out, said))
    for n, (now, interface, peer, rx_rate, tx_rate, rx, tx, handshake) in enumerate(rows):
        # However late a round is, what it says of the two directions is of the same time.
        right = 0 < int(rx_rate) <= 5000 and abs(3 * int(rx_rate) - int(tx_rate)) <= 3
        batch.check(
            right and abs(int(now) - time.time()) < 60 and (interface, peer, handshake) == ("wg0", key(1), "7")
            and (int(rx), int(tx)) == (int(rows[0][5]) + 1000 * n, int(rows[0][6]) + 3000 * n), "a line", found=rows[n],
        )  # fmt: skip
    # The reader leaves, and so does the program.
    process = subprocess.Popen([batch.ours, "show", "all", "--watch=0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    line = process.stdout.readline()
    process.stdout.close()
    batch.check(line.count(b"\t") == 7 and process.wait(30) == -signal.SIGPIPE and not process.stderr.read(), "the reader leaves", found=line)
    # On a terminal.
    process, master = on_terminal([batch.ours, "show", "--watch=0.1", "--count=3"])
    text = read_all(master)
    batch.check(
        process.wait(30) == 0 and text.count(b"\x1b[H") == 3 and text.count(key(1).encode()) == 3 and b"KiB" in text
        and b"received/s" in text, "a table", found=text,
    )  # fmt: skip
    for option in ("--watch=", "--watch=0", "--watch=-1", "--watch=x", "--watch=nan", "--count=0", "--count=1", "--watch=99999999"):
        status, out, said, _ = batch.run(batch.ours, ["show", option])
        batch.check(status == 1 and said.startswith(b"Usage: wg show"), option, found=(status, out, said))
    status, _, said, _ = batch.run(batch.ours, ["show", "none", "--watch"])
    batch.check(status == 1 and said.startswith(b"Unable to access interface"), "no interface", found=said)


def on_terminal(command):
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdout=slave, stderr=slave)
    os.close(slave)
    return process, master


def read_all(master):
    text = b""
    while select.select([master], [], [], 30)[0]:
        try:
            text += os.read(master, 1 << 16)
        except OSError:
            break
    return text


def terminal(batch):
    """Colours are for terminals."""
    wg0 = Interface("wg0")
    wg0.get = f"listen_port=7\npublic_key={hex_of(1)}\nallowed_ip=10.0.0.0/8\nerrno=0\n\n".encode()
    shown = []
    for program in (batch.stock, batch.ours):
        process, master = on_terminal([program, "show"])
        shown.append((read_all(master), process.wait(30)))
    batch.check(shown[0] == shown[1] and b"\x1b[32m" in shown[1][0], "on a terminal", *shown)


WRONG = f"""PrivateKey = {key(1)}
[Interface]
ListenPort = 65536
FwMark = x
Address = 10.0.0.1/24
PrivateKey = {key(1)[:43]}
[Peer]
AllowedIPs = 10.0.0.1/8, 10.0.0.0/33
Endpoint = host.example
PersistentKeepalive = 65536
[peer]   # the next one
publickey = {key(2)}
AllowedIPs = 1.2.3.4
AllowedIPs = 1.2.3.4.5
Endpoint = host.example:51820
What = 1
"""
FOUND = """wg0.conf:1: Line unrecognized: `PrivateKey=(hidden)'
wg0.conf:3: Port is neither a number up to 65535 nor the name of a UDP service: `65536'
wg0.conf:4: Fwmark is neither 0/off nor 0-0xffffffff: `x'
wg0.conf:5: Address is for wg-quick(8); `wg setconf' does not know it
wg0.conf:6: Key is not the correct length or format: `(hidden)'
wg0.conf:7: A peer is missing a public key
wg0.conf:8: Warning: AllowedIP has nonzero host part: 10.0.0.1/8
wg0.conf:8: AllowedIP is not in the correct format: `10.0.0.0/33'
wg0.conf:9: Unable to find port of endpoint: `host.example'
wg0.conf:10: Persistent keepalive interval is neither 0/off nor 1-65535: `65536'
wg0.conf:14: Unable to parse IP address: `1.2.3.4.5'
wg0.conf:16: Line unrecognized: `What=1'
"""
ODD = f"""[Peer]
PublicKey = {key(1)}
AllowedIPs = 10.0.0.0/8, ::/0
[Peer]
PublicKey = {key(2)}
AllowedIPs = 10.1.2.3/8
[Peer]
PublicKey = {key(1)}
AllowedIPs = ::/0
"""
NO_KEY = "Warning: there is no PrivateKey; `wg setconf' and `wg syncconf' take away the one that the interface has\n"
NOTED = f"""wg0.conf:1: {NO_KEY}wg0.conf:4: Warning: 10.0.0.0/8 is taken from the peer of line 1, which has it too
wg0.conf:6: Warning: AllowedIP has nonzero host part: 10.1.2.3/8
wg0.conf:7: Warning: peer {key(1)} is the one of line 1 again; this one is applied after it
"""


# What looks like something else, with what is said of it; and an interface without its key.
TYPED = f"""[Interface]
PrivateKey = \u201c{key(1)}\u201d
# \u201cquoted\u201d in a comment
[Peer]
PublicKey = "{key(1)}"
Endpoint = host.example:51820:51820
Endpoint = host\u2013a.example:51820
AllowedIPs\u00a0= ::/0
Public-Key: {key(1)}
PublicKey: {key(1)}
"""
SEEN = f"""wg0.conf:2: Key is not the correct length or format: `(hidden)'
wg0.conf:2: Warning: U+201C (\u201c) is in this line, which no setting wants
wg0.conf:5: Key is not the correct length or format: `"{key(1)}"'
wg0.conf:5: Warning: quotes have no meaning here; the " is part of the text
wg0.conf:4: A peer is missing a public key
""" + r"""wg0.conf:6: Host of endpoint is neither a name nor an IP address: `host.example:51820:51820'
wg0.conf:7: Warning: U+2013 (\u2013) is in this line, which no setting wants
wg0.conf:8: Line unrecognized: `AllowedIPs\u{a0}=::/0'
wg0.conf:8: Warning: U+00A0 (\u{a0}) is in this line, which no setting wants
wg0.conf:9: Line unrecognized: `Public-Key:(hidden)'
""".replace(r"\u2013", "\u2013") + f"""wg0.conf:10: Line unrecognized: `PublicKey:{key(1)}'
"""


def by_line(text):
    """Sorted by the line that each is about."""
    return "".join(sorted(text.splitlines(keepends=True), key=lambda line: int(line.split(":")[1])))


def check(batch):
    """`wg check`: all that is wrong, with lines; agreement with setconf about what is wrong at all."""
    for text, status, said in ((WRONG, 1, FOUND), (ODD, 0, NOTED), ("", 0, f"wg0.conf:1: {NO_KEY}"), (TYPED, 1, by_line(SEEN)),
                               ("#\n[Interface]\nListenPort=1\n", 0, f"wg0.conf:2: {NO_KEY}"), (f"[Interface]\nPrivateKey={key(1)}", 0, ""),
                               ("[Interface]\nPrivateKey=", 1, f"wg0.conf:1: {NO_KEY}wg0.conf:2: Line unrecognized: `PrivateKey='\n")):  # fmt: skip
        batch.file("wg0.conf", text)
        found = batch.run(batch.ours, ["check", "wg0.conf"])
        batch.check(found[:3] == (status, b"", said.encode()), "check", (status, said), found)
    for arguments in (["check", "--help"], ["check", "-h"], ["showconf", "--help"], ["showconf", "-h"]):
        found = batch.run(batch.ours, arguments)
        batch.check(found[:3] == (0, b"", found[2]) and found[2].startswith(b"Usage: wg %s <" % arguments[0].encode()), f"{arguments}", found=found)
    # What `check` refuses of an endpoint, no system understands.
    Interface("wg0")
    for endpoint in conform.HOSTILE_ENDPOINTS + conform.FINE_ENDPOINTS:
        batch.file("wg0.conf", f"[Peer]\nPublicKey={key(1)}\nEndpoint={endpoint}\n")
        checked = batch.run(batch.ours, ["check", "wg0.conf"])
        done = batch.run(batch.stock, ["setconf", "wg0", "wg0.conf"])
        batch.check(checked[0] <= done[0], f"{endpoint!r}", done, checked)
    for arguments, said in ((["check"], b"Usage: wg check"), (["check", "a", "b"], b"Usage: wg check"), (["check", "none"], b"none: No such file"),
                            (["check", "/"], b"/: Is a directory")):  # fmt: skip
        found = batch.run(batch.ours, arguments)
        batch.check(found[0] == 1 and found[2].startswith(said), f"{arguments}", found=found)
    Interface("wg0")
    for n in range(200):
        text = conform.configuration(batch.random, [0, 0.1][n % 2])
        # Names are not looked up by `check`.
        text = re.sub(r"(?im)^\s*e\s*n\s*d\s*p\s*o\s*i\s*n\s*t.*$", "", text)
        path = batch.file("wg0.conf", text)
        checked = batch.run(batch.ours, ["check", path])
        done = batch.run(batch.stock, ["setconf", "wg0", path])
        batch.check(checked[0] == done[0], f"{text!r}", done, checked)


def secrets(batch):
    """No core file, nobody who looks on, and no key where it has no business."""
    Interface("wg0")
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    private = batch.file("a.key", key(5))
    os.chmod(private, 0o644)
    batch.folder.chmod(0o755)
    process = subprocess.Popen(
        [batch.ours, "pubkey"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        preexec_fn=lambda: (resource.setrlimit(resource.RLIMIT_CORE, unlimited), os.setgid(65534), os.setuid(65534)),
    )  # fmt: skip
    process.stdin.write(key(5).encode())
    process.stdin.flush()
    # It reads on for what may follow the key, and has hardened itself before that.
    limits = f"/proc/{process.pid}/limits"
    deadline = time.monotonic() + 30
    while (core := re.search(r"Max core file size +(\S+) +(\S+)", open(limits).read())).groups() != ("0", "0") and time.monotonic() < deadline:
        time.sleep(0.01)
    batch.check(core.groups() == ("0", "0"), "core files", found=core.groups())
    while os.stat(f"/proc/{process.pid}/mem").st_uid != 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    batch.check(os.stat(f"/proc/{process.pid}/mem").st_uid == 0, "its memory belongs to its user")
    process.send_signal(signal.SIGQUIT)
    process.wait()
    batch.check(process.returncode == -signal.SIGQUIT and not list(batch.folder.glob("core*")), "killed")

    # The standard streams are open to it all the same.
    def as_nobody():
        os.setgid(65534)
        os.setuid(65534)

    os.chmod(conform.SOCKETS / "wg0.sock", 0o777)
    for program in (batch.stock, batch.ours):
        for script in (f"cat {private} | {program} set wg0 private-key /dev/stdin",
                       f"{program} addconf wg0 <(sed 's/^/[Interface]\\nPrivateKey=/' {private})"):  # fmt: skip
            done = subprocess.run(["bash", "-c", script], capture_output=True, preexec_fn=as_nobody)
            batch.check(done.returncode == 0, f"{script}, as another user", found=done)
    # What it hands on goes to the socket and nowhere else.
    trace = batch.folder / "trace"
    if subprocess.run(["sh", "-c", "command -v strace"], capture_output=True).returncode == 0:
        subprocess.run(["strace", "-f", "-s", "4096", "-o", trace, batch.ours, "set", "wg0", "private-key", private], check=True)
        lines = [line for line in trace.read_text().splitlines() if key(5) in line or hex_of(5) in line]
        calls = [re.sub(r"^\d+ +(\w+)\(.*", r"\1", line) for line in lines]
        batch.check(sorted(calls) in (["read", "sendto"], ["read", "write"]), "calls with the key", found=calls)


BATCHES = {f.__name__: f for f in (show_json, watch, terminal, check, secrets)}

if __name__ == "__main__":
    conform.BATCHES |= BATCHES
    conform.main()
