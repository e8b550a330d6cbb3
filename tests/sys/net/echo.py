#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""UDP datagrams there and back, compared byte by byte.

echo.py serve address port                  sends every datagram back to where it came from
echo.py ask address port size [size ...]    sends random payloads of these sizes and waits for each echo
"""

import os
import socket
import sys
import time


def serve(address, port):
    sock = bound(address, port)
    while True:
        payload, sender = sock.recvfrom(1 << 16)
        sock.sendto(payload, sender)


def bound(address, port):
    """A socket on the address; it may have been configured only a moment ago."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, port))
    return sock


def ask(address, port, sizes):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.connect((address, port))
    for size in sizes:
        payload = os.urandom(size)
        if not echoed(sock, payload):
            sys.exit(f"{size} bytes did not come back from {address}")
        print(f"{size} bytes there and back", flush=True)


def echoed(sock, payload):
    """Sends until the same bytes come back, for at most 10 s: loss is no error, a changed byte is."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            sock.send(payload)
            sock.settimeout(0.5)
            answer = sock.recv(1 << 16)
        except (TimeoutError, ConnectionRefusedError):
            time.sleep(0.05)
            continue
        if answer == payload:
            return True
        if len(answer) == len(payload) and payload:
            sys.exit(f"{len(payload)} bytes came back changed")
    return False


if __name__ == "__main__":
    mode, host, number, *rest = sys.argv[1:]
    if mode == "serve":
        serve(host, int(number))
    else:
        ask(host, int(number), [int(size) for size in rest])
