#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""fuzz.py [target ...]: every parser's fuzz target for a minute (FUZZ_SECONDS), as many at a time as processors.

The bodies of the targets are in fuzz/targets, what they begin with in fuzz/corpus. What a run finds new stays in
build/fuzz/corpus, so that the next run goes on from there. An input that breaks a target is kept in
build/fuzz/crashes, and the exit status is 1.

With a nightly toolchain the programs are built with AddressSanitizer, without one they are not.
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
FUZZ = TOP / "fuzz"
WORK = TOP / "build" / "fuzz"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")) / "fuzz"
SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))


def main():
    every = sorted(file.stem for file in (FUZZ / "fuzz_targets").glob("*.rs"))
    targets = sys.argv[1:] or every
    if unknown := set(targets) - set(every):
        sys.exit(f"fuzz: no such target: {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    folder = build()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda name: run(folder, name), targets))
    failed = results.count(False)
    print(f"{len(results) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def build():
    """Builds all targets; returns the folder with the programs."""
    said = subprocess.run(["rustup", "run", "nightly", "rustc", "-vV"], capture_output=True, text=True, check=False)
    toolchain, sanitizer = (["+nightly"], "address") if said.returncode == 0 else ([], "none")
    if not toolchain:
        print("fuzz: no nightly toolchain here, so no AddressSanitizer either", flush=True)
        said = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True)
    host = re.search(r"^host: (.*)$", said.stdout, re.MULTILINE)[1]
    environment = os.environ | {"CARGO_TARGET_DIR": str(TARGET)}
    command = ["cargo", *toolchain, "fuzz", "build", "--fuzz-dir", str(FUZZ), "--sanitizer", sanitizer]
    if subprocess.run(command, cwd=FUZZ, env=environment, check=False).returncode:
        sys.exit("fuzz: the targets could not be built")
    return TARGET / host / "release"


def run(folder, name):
    """Runs one target, prints one line, and more if it broke."""
    found = WORK / "corpus" / name
    crashes = WORK / "crashes"
    for place in (found, crashes):
        place.mkdir(parents=True, exist_ok=True)
    log = WORK / f"{name}.log"
    options = [
        f"-max_total_time={SECONDS}", f"-artifact_prefix={crashes}/{name}-",
        "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1",
    ]  # fmt: skip
    # One that is new comes first: there libFuzzer writes what it finds.
    command = [str(folder / name), *options, str(found), str(FUZZ / "corpus" / name)]
    with log.open("w") as out:
        status = subprocess.run(command, cwd=WORK, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
    text = log.read_text(errors="replace")
    covered = re.findall(r"cov: (\d+)", text)
    executed = re.search(r"stat::number_of_executed_units: (\d+)", text)
    count = int(executed[1]) if executed else 0
    # A program that ran nothing has tested nothing.
    good = status == 0 and count > 0
    print(f"{name}: {count} runs, {covered[-1] if covered else 0} edges, {'ok' if good else 'FAILED'}", flush=True)
    if not good:
        panic = re.search(r"^thread .*panicked at.*(?:\n.+){0,6}", text, re.MULTILINE)
        print(panic[0] if panic else "\n".join(text.splitlines()[-20:]))
        kept = re.search(r"Test unit written to (.*)", text)
        print(f"input: {kept[1] if kept else 'none'}; all that was said: {log.relative_to(TOP)}", flush=True)
    return good


if __name__ == "__main__":
    main()
