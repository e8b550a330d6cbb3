#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Large configurations in the form that wg(8) reads.

gen.py peers number       peers with one IPv4 and one IPv6 allowed IP each
gen.py prefixes number    two peers that share so many allowed IPs of both families

Any 32 bytes are a public key, so these are hashes of numbers: the same at every run.
"""

import base64
import hashlib
import ipaddress
import sys


def key(number):
    return base64.b64encode(hashlib.sha256(f"peer {number}".encode()).digest()).decode()


def peers(count):
    for n in range(count):
        print(f"[Peer]\nPublicKey = {key(n)}")
        print(f"AllowedIPs = {address4(n)}/32, {address6(n)}/128")
        print(f"Endpoint = 192.0.2.{n % 250 + 3}:{1024 + n % 60000}")


def prefixes(count):
    for peer in range(2):
        print(f"[Peer]\nPublicKey = {key(peer)}")
        for n in range(peer, count, 2):
            print(f"AllowedIPs = {address4(n)}/32" if n % 4 < 2 else f"AllowedIPs = {address6(n)}/128")


def address4(n):
    return ipaddress.IPv4Address(0x0B000000 + n)


def address6(n):
    return ipaddress.IPv6Address((0xFD99 << 112) + n)


if __name__ == "__main__":
    {"peers": peers, "prefixes": prefixes}[sys.argv[1]](int(sys.argv[2]))
