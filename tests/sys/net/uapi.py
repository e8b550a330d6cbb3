#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A client of an interface's control socket.

uapi.py interface              sends standard input, prints all that comes back
uapi.py interface refused      standard input has one `set` request a line, its own lines separated by "|":
                               each must be answered with an errno and leave what `get` shows as it was
uapi.py interface idle count   that many connections say nothing until SIGUSR1, and then make a request each
"""

import signal
import socket
import sys


def exchange(interface, request):
    """Half-closes after sending, so the answer to the last request is complete when the peer closes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(30)
        sock.connect(f"/var/run/wireguard/{interface}.sock")
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := sock.recv(1 << 16):
            answer += chunk
        return answer


def refused(interface, requests):
    wrong = 0
    for request in requests:
        before = exchange(interface, b"get=1\n\n")
        lines = b"".join(line + b"\n" for line in request.split(b"|"))
        answer = exchange(interface, b"set=1\n" + lines + b"\n")
        if not answer.startswith(b"errno=") or answer.startswith(b"errno=0"):
            print(f"answered with {answer!r}: {request!r}")
            wrong += 1
        after = exchange(interface, b"get=1\n\n")
        if before != after:
            print(f"changed the state: {request!r}\n--- before\n{before.decode()}--- after\n{after.decode()}")
            wrong += 1
    sys.exit(f"{wrong} of {len(requests)} requests were not refused as they should be" if wrong else 0)


def idle(interface, count):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    socks = []
    for _ in range(count):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(30)
        sock.connect(f"/var/run/wireguard/{interface}.sock")
        socks.append(sock)
    print("connected", flush=True)
    signal.sigwait([signal.SIGUSR1])
    served = sum(asked(sock) for sock in socks)
    sys.exit(0 if served == count else f"{served} of {count} idle connections are served")


def asked(sock):
    try:
        sock.sendall(b"get=1\n\n")
        return sock.recv(1 << 16).endswith(b"errno=0\n\n")
    except OSError:
        return False


if __name__ == "__main__":
    if sys.argv[2:] == ["refused"]:
        refused(sys.argv[1], sys.stdin.buffer.read().splitlines())
    elif sys.argv[2:3] == ["idle"]:
        idle(sys.argv[1], int(sys.argv[3]))
    else:
        sys.stdout.buffer.write(exchange(sys.argv[1], sys.stdin.buffer.read()))
