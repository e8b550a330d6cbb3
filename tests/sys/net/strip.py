#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""strip.py OURS STOCK: compares `wg-quick strip` of two programs over files made of the oddest lines there are.

The stock one may keep a `#` in hooks or not: that is nothing that strip prints.
"""

import random
import subprocess
import sys
import tempfile
from pathlib import Path

KEYS = [b"Address", b"DNS", b"MTU", b"Table", b"PreUp", b"PostUp", b"PreDown", b"PostDown", b"SaveConfig", b"PrivateKey",
        b"ListenPort", b"AllowedIPs", b"Nonsense", b""]  # fmt: skip
HEADINGS = [b"[Interface]", b"[interface]", b"[ Interface ]", b"[Peer]", b"[INTERFACE] # x", b"[Interface]=x", b"[", b"[Interface"]
VALUES = [b"true", b"false", b"10.0.0.1/24", b"x # y", b"#", b"a=b", b"", b"\xff\xfe", b"back\\", b"%i", b"$HOME `id` *", b"-n", b"'\""]
BLANKS = [b"", b"", b" ", b"\t", b"  ", b"\x0b", b"\r", b"\x0c"]
FILES = 300


def line(dice):
    def pick(words):
        return dice.choice(words)

    kind = dice.random()
    if kind < 0.2:
        text = pick(HEADINGS)
    elif kind < 0.3:
        text = pick([b"", b"#", b"# Address = 1", b"=", b"= MTU", b"\\", b"-e", b"a\0b"])
    else:
        key = pick(KEYS)
        key = dice.choice([key, key.lower(), key.upper()])
        value = pick(VALUES)
        if key.lower() == b"saveconfig" and dice.random() < 0.95:
            value = pick([b"true", b"FALSE"])
        text = key + pick(BLANKS) + pick([b"=", b"=", b"=", b"", b"=="]) + pick(BLANKS) + value
    return pick(BLANKS) + text + pick(BLANKS)


def strip(program, path):
    done = subprocess.run([program, "strip", path], capture_output=True)
    return done.returncode, done.stdout


def main():
    ours, stock = sys.argv[1:]
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    wrong = refused = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wg0.conf"
        for _ in range(FILES):
            lines = [b"[Interface]"] + [line(dice) for _ in range(dice.randrange(12))]
            path.write_bytes(b"\n".join(lines) + dice.choice([b"", b"\n", b"\n\n"]))
            a, b = strip(ours, path), strip(stock, path)
            refused += b[0] != 0
            if a != b:
                wrong += 1
                print(f"seed {seed}: {path.read_bytes()!r}\n  ours  {a}\n  stock {b}")
    print(f"{FILES} files, {refused} refused by both, {wrong} differ")
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
