#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""remote.py address port: has the shell that listens there run the script on standard input.

Prints what it prints; the exit status is the script's.
"""

import re
import socket
import sys

script = sys.stdin.read()
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as sock:
    # A long script is the test case's to limit.
    sock.settimeout(300)
    sock.sendall(f'exec 2>&1\n(\n{script}\n)\ns=$?\necho\necho "status=$s"\nexit\n'.encode())
    sock.shutdown(socket.SHUT_WR)
    output = b""
    while chunk := sock.recv(1 << 16):
        output += chunk
text, _, status = output.decode(errors="replace").rpartition("\nstatus=")
sys.stdout.write(text)
sys.exit(int(status) if re.fullmatch(r"\d+\n?", status) else 255)
