#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""notices.py TARGET:CRATE...: licences of other people's code in programs of these crates, as their authors demand.

Every such crate is named with its licence; then comes each licence text once, with the crates that it is from. Of a
crate that may be used under one of several licences it is MIT's where that is among them, so only its text is shown.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
TEXTS = re.compile(r"(LICEN[SC]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE).*", re.I)


def cargo(*arguments):
    done = subprocess.run(["cargo", *arguments], cwd=TOP, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"notices: cargo failed:\n{done.stderr}")
    return done.stdout


def linked(target, crate):
    """Name and version of what gets into a program: no macros, no build scripts, nothing of this tree."""
    tree = cargo(
        "tree", "--edges=normal,no-proc-macro", "--prefix=none", f"--target={target}", "--format={p}", "-p", crate
    )
    found = (re.match(r"(\S+) v(\S+)( \(\*\))?$", line) for line in tree.splitlines())
    return {(match[1], match[2]) for match in found if match}


def licence_files(folder, licence):
    files = sorted(f for f in folder.iterdir() if f.is_file() and TEXTS.fullmatch(f.name))
    if re.search(r"\bOR\b|/", licence) and re.search(r"\bMIT\b", licence):
        return [f for f in files if "MIT" in f.name.upper()] or files
    return files


def text(*programs):
    """What to put beside these programs, each a pair of target and crate."""
    known = {(p["name"], p["version"]): p for p in json.loads(cargo("metadata", "--format-version=1"))["packages"]}
    lines, texts = [], {}
    for key in sorted(set().union(*(linked(*program) for program in programs))):
        package = known[key]
        licence = package["license"] or "see below"
        lines.append(f"    {package['name']} {package['version']}: {licence}")
        for file in licence_files(Path(package["manifest_path"]).parent, licence):
            body = "\n".join(line.rstrip() for line in file.read_text(errors="replace").strip().splitlines())
            texts.setdefault(body, []).append(package["name"])
    parts = [
        "The programs contain the Rust standard library (MIT OR Apache-2.0) and these libraries:\n\n" + "\n".join(lines)
    ]
    parts += [f"{'-' * 72}\n{', '.join(dict.fromkeys(names))}:\n\n{body}" for body, names in texts.items()]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(text(*(word.split(":") for word in sys.argv[1:])), end="")
