#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""bench.py: speed of wgd beside other WireGuard implementations, in one run on one machine.

Between two network namespaces joined by a veth pair, the same implementation on both ends, over an IPv4
tunnel with MTU 1420:

  tcp      one TCP flow, Mb/s received
  udp      1372-byte datagrams sent as fast as the sender can: Mb/s received
  rtt      round trip of a small ping on an idle tunnel, microseconds: median and 99th percentile

The implementations take turns, round after round, so that a machine that becomes slower or faster in the
meantime does so for all of them; each figure is the median over the rounds. Ratios of one run mean
something, absolute figures of two machines do not.

  peers    resident memory per idle peer with two allowed IPs, and seconds to configure the peers over
           the control socket
  crypto   seal and open of each backend of the protocol crate, GB/s
  wg       processor time of wg(8), ours and the stock one, for large configurations of a wgd

Every part can be had alone: bench.py net|peers|crypto|wg. Options: bench.py --help.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
WGD = os.environ.get("WGD", str(TARGET / "release" / "wgd"))

# How each implementation runs in the foreground; the interface's name follows.
IMPLEMENTATIONS = {
    "wgd": [WGD, "-f"],
    "wireguard-go": ["env", "WG_PROCESS_FOREGROUND=1", "wireguard-go", "-f"],
    "boringtun-cli": ["boringtun-cli", "-f", "--disable-drop-privileges"],
    "gotatun": ["gotatun", "-f", "--disable-drop-privileges"],
}
SIDES = {"left": ("wg0", "192.0.2.1", "10.77.0.1"), "right": ("wg1", "192.0.2.2", "10.77.0.2")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("part", nargs="*", choices=["net", "peers", "crypto", "wg", []], default=[])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the network part (3)")
    parser.add_argument("--seconds", type=int, default=5, help="length of each stream (5)")
    parser.add_argument("--peers", type=int, default=5000, help="idle peers of the memory part (5000)")
    parser.add_argument("--only", nargs="+", choices=IMPLEMENTATIONS, help="only these implementations")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:
        enter_sandbox()

    kinds = [kind for kind in options.only or IMPLEMENTATIONS if installed(kind)]
    parts = options.part or ["net", "peers", "crypto", "wg"]
    figures = {}
    if "net" in parts:
        figures["net"] = network(kinds, options.rounds, options.seconds)
    if "peers" in parts:
        figures["peers"] = idle_peers(kinds, options.peers)
    if "crypto" in parts:
        figures["crypto"] = crypto()
    if "wg" in parts:
        figures["wg"] = clients()
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def enter_sandbox():
    """Runs this program again in a sandbox of its own, where it may make hosts and interfaces."""
    sandbox = TOP / "tools" / "sandbox"
    if subprocess.run([sandbox, "--check"]).returncode:
        sys.exit("bench: no sandbox, no network to measure in")
    os.execv(sandbox, [sandbox, sys.executable, __file__, "--inside", *sys.argv[1:]])


def installed(kind):
    program = next(word for word in IMPLEMENTATIONS[kind] if "=" not in word and word != "env")
    if shutil.which(program):
        return True
    print(f"bench: {kind} is not installed and is left out", file=sys.stderr)
    return False


def version(kind):
    program = next(word for word in IMPLEMENTATIONS[kind] if "=" not in word and word != "env")
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"v?(\d[\w.]*)", said)
    return found.group(1) if found else "?"


# --- network -----------------------------------------------------------------------------------------


def network(kinds, rounds, seconds):
    samples = {kind: {"tcp": [], "udp": [], "p50": [], "p99": []} for kind in ["bare veth", *kinds]}
    for turn in range(rounds):
        for kind in samples:
            note(f"round {turn + 1} of {rounds}: {kind}")
            with hosts():
                target = "192.0.2.2"
                daemons = contextlib.nullcontext()
                if kind != "bare veth":
                    target = "10.77.0.2"
                    daemons = tunnel(kind)
                with daemons:
                    measure(samples[kind], target, seconds)
    note("")

    medians = {
        kind: {name: statistics.median(values) for name, values in of_kind.items()}
        for kind, of_kind in samples.items()
    }
    base = medians.get("wgd")
    print(f"\nBetween two namespaces, both ends alike; median of {rounds} rounds, taken in turns.")
    print("A ratio above 1 means that wgd does better.\n")
    rows = [["", "TCP Mb/s", "wgd is", "UDP Mb/s", "wgd is", "RTT p50 us", "p99 us", "wgd is"]]
    for kind, m in medians.items():
        name = kind if kind == "bare veth" else f"{kind} {version(kind)}"
        compare = base and kind not in ("wgd", "bare veth")
        rows.append([
            name,
            f"{m['tcp']:.0f}", f"{base['tcp'] / m['tcp']:.2f} x" if compare else "",
            f"{m['udp']:.0f}", f"{base['udp'] / m['udp']:.2f} x" if compare else "",
            f"{m['p50']:.0f}", f"{m['p99']:.0f}", f"{m['p50'] / base['p50']:.2f} x" if compare else "",
        ])  # fmt: skip
    table(rows)
    return samples


@contextlib.contextmanager
def hosts():
    """left and right with a cable, as in tools/run-demo.sh."""
    for name in SIDES:
        ip("netns", "add", name)
    ip("link", "add", "eth0", "netns", "left", "type", "veth", "peer", "name", "eth0", "netns", "right")
    for name, (_, outer, _) in SIDES.items():
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "addr", "add", f"{outer}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
    try:
        yield
    finally:
        for name in SIDES:
            ip("netns", "del", name)


@contextlib.contextmanager
def tunnel(kind):
    keys = {name: new_key() for name in SIDES}
    with contextlib.ExitStack() as stack:
        for name, (interface, _, inner) in SIDES.items():
            stack.enter_context(daemon(kind, name, interface))
            other = "right" if name == "left" else "left"
            _, other_outer, other_inner = SIDES[other]
            subprocess.run(
                ["wg", "set", interface, "listen-port", "51820", "private-key", "/dev/stdin"]
                + ["peer", keys[other][1], "endpoint", f"{other_outer}:51820"]
                + ["allowed-ips", f"{other_inner}/32"],
                input=keys[name][0], text=True, check=True,
            )  # fmt: skip
            ip("-n", name, "link", "set", interface, "mtu", "1420", "up")
            ip("-n", name, "addr", "add", f"{inner}/24", "dev", interface)
        yield


@contextlib.contextmanager
def daemon(kind, host, interface):
    """The implementation on one host; yields its process once it can be configured."""
    path = Path(f"/var/run/wireguard/{interface}.sock")
    with open(f"/run/{interface}.log", "w") as log:
        process = subprocess.Popen(
            ["ip", "netns", "exec", host, *IMPLEMENTATIONS[kind], interface],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until(f"{kind} to start", lambda: path.exists() or process.poll() is not None)
        if process.poll() is not None:
            sys.exit(f"bench: {kind} did not start:\n" + Path(f"/run/{interface}.log").read_text())
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # The others leave their socket behind when they are terminated.
        path.unlink(missing_ok=True)


def measure(samples, target, seconds):
    on("left", "ping", "-q", "-c", "1", "-w", "10", target)
    server = subprocess.Popen(
        ["ip", "netns", "exec", "right", "iperf3", "-s", "-J"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until("iperf3", lambda: on("right", "ss", "-Hnlt", "sport", "=", "5201").strip())
        pings = on("left", "ping", "-n", "-i", "0.005", "-c", "400", target)
        times = sorted(float(ms) * 1000 for ms in re.findall(r"time=([\d.]+) ms", pings))
        samples["p50"].append(times[len(times) // 2])
        samples["p99"].append(times[len(times) * 99 // 100])
        samples["tcp"].append(stream(target, seconds, []))
        time.sleep(0.3)
        samples["udp"].append(stream(target, seconds, ["-u", "-b", "0", "-l", "1372"]))
    finally:
        server.kill()
        server.wait()


def stream(target, seconds, options):
    """Mb/s that arrive at the right, the first second not counted: from the receiver's own intervals."""
    for attempt in range(3):
        said = on(
            "left", "iperf3", "-J", "--get-server-output", "-O", "1", "-t", str(seconds), "-c", target, *options,
            check=False,
        )  # fmt: skip
        try:
            intervals = [i["sum"] for i in json.loads(said)["server_output_json"]["intervals"]]
            # The last ones are what trickles in after the sender's end.
            intervals = [i for i in intervals if not i["omitted"] and i["seconds"] > 0.5][:seconds]
            return sum(i["bytes"] for i in intervals) * 8 / sum(i["seconds"] for i in intervals) / 1e6
        except (ValueError, KeyError, ZeroDivisionError):
            time.sleep(1 + attempt)
    sys.exit(f"bench: iperf3 failed: {said}")


# --- idle peers --------------------------------------------------------------------------------------


def idle_peers(kinds, count):
    request = peers_request(count)
    results = {}
    for kind in kinds:
        note(f"{count} idle peers: {kind}")
        ip("netns", "add", "left")
        with daemon(kind, "left", "wg0") as process:
            configure("wg0", f"set=1\nprivate_key={'48' * 32}\nlisten_port=51820\n\n")
            time.sleep(0.5)
            before = resident(process.pid)
            start = time.monotonic()
            configure("wg0", request)
            took = time.monotonic() - start
            time.sleep(1)
            results[kind] = {"bytes": (resident(process.pid) - before) / count, "seconds": took}
        ip("netns", "del", "left")
    note("")
    base = results.get("wgd")
    print(f"\n{count} idle peers with two allowed IPs each. A ratio above 1 means that wgd needs less.\n")
    rows = [["", "bytes a peer", "wgd is", "configured in s", "wgd is"]]
    for kind, r in results.items():
        compare = base and kind != "wgd" and base["bytes"] > 0
        rows.append([
            f"{kind} {version(kind)}",
            f"{r['bytes']:.0f}", f"{r['bytes'] / base['bytes']:.2f} x" if compare else "",
            f"{r['seconds']:.3f}", f"{r['seconds'] / base['seconds']:.2f} x" if compare else "",
        ])  # fmt: skip
    table(rows)
    return results


def peers_request(count):
    lines = ["set=1"]
    for n in range(count):
        lines += [
            f"public_key={hashlib.sha256(str(n).encode()).hexdigest()}",
            f"endpoint=192.0.2.{n % 250 + 1}:{1024 + n}",
            f"allowed_ip=10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32",
            f"allowed_ip=fd77::{n:x}/128",
        ]
    return "\n".join(lines) + "\n\n"


def configure(interface, request):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"/var/run/wireguard/{interface}.sock")
        sock.sendall(request.encode())
        answer = b""
        while not answer.endswith(b"\n\n"):
            chunk = sock.recv(4096)
            if not chunk:
                break
            answer += chunk
    if b"errno=0" not in answer:
        sys.exit(f"bench: refused with {answer!r}")


def resident(pid):
    """Private resident bytes of a process and its children (`env` and `ip netns exec` replace themselves)."""
    total = 0
    for name in ("Private_Clean", "Private_Dirty"):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(rf"{name}: +(\d+) kB", rollup).group(1)) * 1024
    return total


# --- crypto ------------------------------------------------------------------------------------------


def crypto():
    """The library's own benchmark prints lines of: backend, seal or open, bytes, GB/s."""
    note("crypto backends")
    said = subprocess.run(
        ["cargo", "bench", "--quiet", "-p", "wg", "--features", "ring", "--bench", "aead"],
        cwd=TOP, capture_output=True, text=True,
    )  # fmt: skip
    note("")
    if said.returncode:
        sys.exit(f"bench: the crypto benchmark failed\n{said.stderr}")
    results = {}
    for line in said.stdout.splitlines():
        if found := re.fullmatch(r"(\S+) (seal|open) (\d+) ([\d.]+)", line.strip()):
            backend, what, size, rate = found.groups()
            results.setdefault(f"{backend} {what}", {})[int(size)] = float(rate)
    sizes = sorted({size for rates in results.values() for size in rates})
    print("\nChaCha20-Poly1305 in place, one core, GB/s by size of the message\n")
    table([["", *map(str, sizes)], *([name, *(f"{rates[s]:.2f}" for s in sizes)] for name, rates in results.items())])
    return results


# --- wg(8) -------------------------------------------------------------------------------------------

OUR_WG = os.environ.get("OUR_WG", str(TARGET / "release" / "wg"))
# What tests/sys/net/gen.py writes, and how many allowed IPs that is.
CONFIGURATIONS = {"5,000 peers": ("peers", 5000, 10000), "13,000 prefixes": ("prefixes", 13000, 13000),
                  "130,000 prefixes": ("prefixes", 130000, 130000)}  # fmt: skip


def clients():
    """The processes' own time; that of the interface, which is the same for both, is not in it."""
    if not shutil.which("wg") or not os.access(OUR_WG, os.X_OK):
        print("bench: no stock wg, or no wg of ours (make build); this part is left out", file=sys.stderr)
        return {}
    programs = {"stock": shutil.which("wg"), "ours": OUR_WG}
    samples = {}
    ip("netns", "add", "left")
    with daemon("wgd", "left", "wg0"):
        for name, (kind, count, prefixes) in CONFIGURATIONS.items():
            note(f"wg(8): {name}")
            file = Path("/run/many.conf")
            file.write_bytes(subprocess.run([TOP / "tests/sys/net/gen.py", kind, str(count)], capture_output=True, check=True).stdout)
            for words in (["setconf", "wg0", str(file)], ["show", "wg0", "dump"]):
                taken = {who: [] for who in programs}
                for _ in range(15):
                    for who, program in programs.items():
                        taken[who].append(processor_time([program, *words]))
                samples[f"{words[0]} {words[2] if words[0] == 'show' else ''}".strip() + f", {name}"] = (taken, prefixes)
    ip("netns", "del", "left")
    note("")
    print("\nProcessor time of wg(8), user and system; median of 15 runs taken in turns. A ratio above 1 means that ours needs less.\n")
    rows = [["", "stock ms", "ours ms", "ours is", "ours, ns an allowed IP"]]
    figures = {}
    for what, (taken, prefixes) in samples.items():
        stock, ours = (statistics.median(taken[who]) for who in ("stock", "ours"))
        rows.append([what, f"{stock * 1e3:.1f}", f"{ours * 1e3:.1f}", f"{stock / ours:.2f} x", f"{ours / prefixes * 1e9:.0f}"])
        figures[what] = {"stock": stock, "ours": ours}
    table(rows)
    return figures


def processor_time(command):
    """Seconds that a command needs, its own and the kernel's for it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"bench: {command} failed")
    return usage.ru_utime + usage.ru_stime


# --- helpers -----------------------------------------------------------------------------------------


def new_key():
    private = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout
    public = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout
    return private, public.strip()


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def on(host, *command, check=True):
    return subprocess.run(["ip", "netns", "exec", host, *command], capture_output=True, text=True, check=check).stdout


def wait_until(what, condition):
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"bench: waited in vain for {what}")
        time.sleep(0.02)


def note(text):
    """A line on the terminal that the next one replaces."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
    elif text:
        print(text, file=sys.stderr, flush=True)


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for n, row in enumerate(rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        print("  " + "  ".join(cells).rstrip())
        if n == 0:
            print("  " + "-" * (sum(widths) + 2 * (len(widths) - 1)))


if __name__ == "__main__":
    main()
