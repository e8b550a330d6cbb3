#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""An attacker on the network.

forge.py source target port                     WireGuard messages of every type and many lengths with
                                                plausible headers and random contents
forge.py --record source                        writes the UDP payloads that arrive from source to
                                                standard output (4-byte length before each) until killed
forge.py --replay file source target port       sends them again, from another address
"""

import os
import random
import signal
import socket
import struct
import sys


def sender(source, target, port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((source, 0))
    sock.connect((target, port))
    return sock


def send(sock, payload):
    try:
        sock.send(payload)
    except ConnectionRefusedError:
        pass


def forge(source, target, port):
    sock = sender(source, target, port)
    rng = random.Random(1)
    for kind, length in ((1, 148), (2, 92), (3, 64), (4, 32), (4, 112), (4, 1452)):
        for _ in range(100):
            index = struct.pack("<I", rng.getrandbits(32))
            send(sock, struct.pack("<I", kind) + index + rng.randbytes(length - 8))
    for length in range(0, 200):
        send(sock, rng.randbytes(length))
        send(sock, struct.pack("<I", 4)[:length].ljust(length, b"\0"))


def record(source):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    print("ready", file=sys.stderr, flush=True)
    while True:
        packet = sock.recv(1 << 16)
        header = (packet[0] & 15) * 4
        if packet[9] == socket.IPPROTO_UDP and packet[12:16] == socket.inet_aton(source):
            payload = packet[header + 8 : struct.unpack("!H", packet[2:4])[0]]
            os.write(1, struct.pack("<I", len(payload)) + payload)


def replay(file, source, target, port):
    sock = sender(source, target, port)
    with open(file, "rb") as recorded:
        payloads = []
        while head := recorded.read(4):
            payloads.append(recorded.read(struct.unpack("<I", head)[0]))
    if not payloads:
        sys.exit("nothing was recorded")
    for payload in payloads * 3:
        send(sock, payload)
    print(f"replayed {len(payloads)} messages")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--record", source]:
            record(source)
        case ["--replay", file, source, target, port]:
            replay(file, source, target, int(port))
        case [source, target, port]:
            forge(source, target, int(port))
