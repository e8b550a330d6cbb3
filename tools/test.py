#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""test.py [stage ...]: the project's tests in their order, with times and one count at the end.

  lint   formatting, clippy, rustdoc, shellcheck, rules of the house      tools/lint.sh
  unit   vectors, models, handshakes: every crate's own tests             cargo test
  sim    scenarios in virtual time on a virtual network, many seeds       tests/sim
  loom   every interleaving of the lock-free parts                        sys/kpi/tests/loom_lockfree
  kmod   the kernel module's object: relocations, imports, registers     tests/kmod
  ko     the scenarios once more, over that very object                   tests/sim
  net    wgd in network namespaces against other implementations          tests/sys/net
  pkg    installation, packages, manuals, completions                     tests/pkg
  miri   undefined behaviour in wg, nv and what of kpi it can run         cargo miri

The quick ones come first. A stage that fails does not keep the others from running. What the stages say
goes to build/test/<stage>.log; a failure's part of it is shown. The last line is "N passed, N failed",
with the skipped ones when there are any, and the exit status is 0 only if nothing failed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LOGS = TOP / "build" / "test"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
# All that a host can have; --all-features would include what is for the kernel module alone.
HOST = ("--features", os.environ["HOST_FEATURES"])
# What Miri runs.
MIRI = ("nv", "wg", "kpi-alloc", "kpi")
COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


@dataclass
class Outcome:
    """Counts of one stage and, when it failed, what to show."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    show: list[str] = field(default_factory=list)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", nargs="*", help=f"one of {', '.join(STAGES)} (all of them)")
    parser.add_argument("-v", "--verbose", action="store_true", help="show everything the stages say")
    options = parser.parse_args()
    stages = options.stage or list(STAGES)
    if unknown := set(stages) - set(STAGES):
        parser.error(f"no such stage: {', '.join(unknown)}")

    LOGS.mkdir(parents=True, exist_ok=True)
    total = Outcome()
    begin = time.monotonic()
    for name in stages:
        start = time.monotonic()
        print(f"{bold(name):<6} ", end="\n" if options.verbose else "", flush=True)
        outcome = STAGES[name](Stage(name, options.verbose))
        for line in outcome.show:
            print(f"\n{line}" if line is outcome.show[0] else line)
        print(f"{'' if not outcome.show else bold(name) + ' '}{counts(outcome)}  ({time.monotonic() - start:.0f} s)")
        total.passed += outcome.passed
        total.failed += outcome.failed
        total.skipped += outcome.skipped
    print(f"\nin {time.monotonic() - begin:.0f} s; logs are in build/test")
    print(counts(total))
    sys.exit(1 if total.failed else 0)


class Stage:
    """Runs commands and keeps what they say."""

    def __init__(self, name, verbose):
        self.log = LOGS / f"{name}.log"
        self.log.write_text("")
        self.verbose = verbose

    def run(self, *command, **environment):
        """Exit status and output of a command."""
        process = subprocess.Popen(
            command, cwd=TOP, env=os.environ | environment, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        shown = f"$ {' '.join(f'{k}={v}' for k, v in environment.items())} {' '.join(command)}"
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if self.verbose:
                print(line, end="", flush=True)
        with self.log.open("a") as log:
            log.write("\n".join([shown, *lines, ""]))
        return process.wait(), lines


def counted(stage, *command):
    """A command whose last line is "N passed, N failed"."""
    status, lines = stage.run(*command)
    found = re.fullmatch(r"(\d+) passed, (\d+) failed", lines[-1]) if lines else None
    if not found:
        return Outcome(failed=1, show=lines[-60:])
    return Outcome(int(found[1]), int(found[2]), show=lines if status else [])


def lint(stage):
    return counted(stage, "tools/lint.sh")


def kmod(stage):
    return counted(stage, "make", "--no-print-directory", "kmod")


def cargo_test(stage, *arguments, **environment):
    """Runs `cargo ... test`; a test binary or a compilation that dies without a result counts as one failure."""
    status, lines = stage.run("cargo", *arguments, "--no-fail-fast", **environment)
    outcome = Outcome()
    for line in lines:
        if found := re.match(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", line):
            outcome.passed += int(found[1])
            outcome.failed += int(found[2])
            outcome.skipped += int(found[3])
    if status and not outcome.failed:
        outcome.failed = 1
    if status:
        outcome.show = failures(lines)
    return outcome


def failures(lines):
    """The parts of cargo's output that say what failed: errors of the compiler, output of failed tests."""
    shown, keep = [], False
    for line in lines:
        if re.match(r"error|---- .* ----$|failures:", line):
            keep = True
        elif re.match(r"warning|test result:| *Running | *Compiling |test .* ok$", line):
            keep = False
        if keep:
            shown.append(line)
    return (shown or lines)[-150:]


def unit(stage):
    return cargo_test(stage, "test", "--workspace", "--exclude", "wgsim-tests", *HOST)


def sim(stage):
    return cargo_test(stage, "test", "-p", "wgsim-tests")


def loom(stage):
    # Its own folder: the flag would make cargo compile everything else anew, here and afterwards.
    return cargo_test(
        stage, "test", "-p", "kpi", "--test", "loom_lockfree", "--release",
        RUSTFLAGS="--cfg loom", CARGO_TARGET_DIR=str(TARGET / "loom"),
    )  # fmt: skip


def miri(stage):
    status, _ = stage.run("cargo", "+nightly", "miri", "--version")
    if status:
        print("\n*** SKIPPED: no nightly toolchain with Miri here (make setup tries to get one) ***", flush=True)
        return Outcome(skipped=1)
    environment = {"CARGO_TARGET_DIR": str(TARGET / "miri"), "MIRIFLAGS": "-Zmiri-disable-isolation"}
    command = ["+nightly", "miri", "test"]
    jobs = test_targets(MIRI)
    status, lines = stage.run("cargo", *command, "--no-run", *(w for job in jobs for w in job), **environment)
    if status:
        return Outcome(failed=1, show=failures(lines))
    # Miri interprets on one processor whatever the tests' threads, so as many targets run as there are.
    total = Outcome()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for outcome in pool.map(lambda job: cargo_test(stage, *command, *job, **environment), jobs):
            total.passed += outcome.passed
            total.failed += outcome.failed
            total.skipped += outcome.skipped
            total.show += outcome.show
    return total


def test_targets(packages):
    """Each test program of these packages, as cargo's arguments: -p package --test name."""
    said = subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout
    return [
        ("-p", package["name"], "--test", target["name"])
        for package in json.loads(said)["packages"] if package["name"] in packages
        for target in package["targets"] if "test" in target["kind"]
    ]  # fmt: skip


def ko(stage):
    """The scenarios again, over the module that `kmod` has built."""
    module = TOP / "build" / "kmod" / "amd64" / "if_wg.ko"
    packages = ["-p", "wgsim-tests", "-p", "kmod-loader", "--features", "kmod-loader/ko"]
    return cargo_test(stage, "test", *packages, IF_WG_KO=str(module))


def pkg(stage):
    """The packages are made of what other stages build; alone, this one builds it."""
    commands = [
        ("cargo", "build", "--release", "-p", "wgd", "-p", "wg-cli", "-p", "wg-quick"),
        ("tools/cross.py", "freebsd"), ("tools/cross.py", "static"),
    ]  # fmt: skip
    if not (TOP / "build/kmod/amd64/if_wg.ko").exists():
        commands.append(("sys/modules/wg/build.sh", "module", "build/kmod/amd64"))
    for command in commands:
        status, lines = stage.run(*command)
        if status:
            return Outcome(failed=1, show=failures(lines))
    status, lines = stage.run(sys.executable, "-m", "unittest", "discover", "--start-directory=tests/pkg", "--verbose")
    ran = next((int(found[1]) for line in lines if (found := re.match(r"Ran (\d+) tests? in", line))), 0)
    said = dict(re.findall(r"(failures|errors|skipped)=(\d+)", lines[-1] if lines else ""))
    failed = int(said.get("failures", 0)) + int(said.get("errors", 0))
    if not ran or status and not failed:
        return Outcome(failed=1, show=lines[-60:])
    skipped = int(said.get("skipped", 0))
    # One test may fail in several places, or a class before its tests.
    return Outcome(max(ran - failed - skipped, 0), failed, skipped, show=lines[-150:] if failed else [])


def net(stage):
    if os.environ.get("WGD_KIND", "wgd") == "wgd" and "WGD" not in os.environ:
        status, lines = stage.run("cargo", "build", "--release", "-p", "wgd", "-p", "wg-cli", "-p", "wg-quick")
        if status:
            return Outcome(failed=1, show=failures(lines))
    if "WG_STATIC" not in os.environ:
        status, lines = stage.run("tools/cross.py", "static")
        if status:
            return Outcome(failed=1, show=failures(lines))
    status, said = stage.run("tools/sandbox", "--check")
    if status:
        print(f"\n*** SKIPPED: {' '.join(said)} ***", flush=True)
        return Outcome(skipped=1)
    results = LOGS / "net.db"
    results.unlink(missing_ok=True)
    # Most of the time these tests wait for something, so more of them run than there are processors.
    kyua = ["kyua", "-v", f"parallelism={os.environ.get('NET_PARALLEL', 4)}"]
    status, lines = stage.run(
        *kyua, "test", "--kyuafile=tests/sys/net/Kyuafile", f"--results-file={results}",
        CARGO_TARGET_DIR=str(TARGET),
    )  # fmt: skip
    outcome = Outcome()
    for line in lines:
        found = re.search(r"  ->  (passed|skipped|failed|broken|expected_failure)", line)
        if not found:
            continue
        if found[1] in ("passed", "expected_failure"):
            outcome.passed += 1
        elif found[1] == "skipped":
            outcome.skipped += 1
        else:
            outcome.failed += 1
            outcome.show.append(line)
    if status and not outcome.failed:
        outcome.failed = 1
        outcome.show = lines[-20:]
    if outcome.failed:
        _, report = stage.run(
            "kyua", "report", f"--results-file={results}", "--verbose", "--results-filter=failed,broken"
        )
        outcome.show += without_environment(report)[-300:]
    return outcome


def without_environment(report):
    """kyua's report minus what is the same for every test."""
    shown, keep = [], False
    for line in report:
        if line.startswith("===> "):
            keep = not line.startswith(("===> Execution context", "===> Summary"))
        if line.startswith("Metadata:"):
            keep = False
        if line.startswith("Standard "):
            keep = True
        if keep:
            shown.append(line)
    return shown


STAGES = {"lint": lint, "unit": unit, "sim": sim, "loom": loom, "kmod": kmod, "ko": ko, "net": net, "pkg": pkg, "miri": miri}


def counts(outcome):
    text = f"{outcome.passed} passed, {outcome.failed} failed"
    if outcome.skipped:
        text += f", {outcome.skipped} skipped"
    if COLOUR:
        text = f"\033[3{'1' if outcome.failed else '2'}m{text}\033[m"
    return text


def bold(text):
    return f"\033[1m{text}\033[m" if COLOUR else text


if __name__ == "__main__":
    main()
