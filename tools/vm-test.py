#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Boots a FreeBSD for amd64 under QEMU, with if_wg.ko and the tests of tests/sys/net/kmod in it, and runs them.

  vm-test.py --kernel KERNEL --root TREE    a kernel file, and a directory tree with the base system and the kernel's
                                            modules (/boot/kernel); an image is made of it with makefs(8)
  vm-test.py --image IMAGE                  a disk image that boots and has a login prompt on its serial console, where
                                            root has no password; it is not changed

A line is printed for each test, with a total at the end. The exit status is 0 if every test passed, and nothing else
went wrong: 1 for a failed test, a leak at unload or a report of WITNESS or INVARIANTS, 97 for a panic, 98 when it hung,
99 when the machine ended without a word, 2 when it could not be started. No network is needed, or given to the machine.
"""

import argparse
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
TESTS = TOP / "tests/sys/net/kmod"
INSIDE = "wg-tests"

TROUBLE = re.compile(
    r"lock order reversal|acquiring duplicate lock|with the following non-sleepable|^Sleeping (thread|on)"
    r"|^uma_zalloc_debug|Memory modified after free"
)
PANIC = re.compile(r"^(panic: |Fatal (double fault|trap )|\S*KDB: enter: panic)")


def arguments():
    parser = argparse.ArgumentParser(description="Runs the kernel tests in a virtual machine.")
    parser.add_argument("--kernel", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--module", type=Path, default=TOP / "build/kmod/amd64/if_wg.ko")
    parser.add_argument("--tests", default="", help="names of programs, all when empty")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", type=int, default=1024, help="MiB")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds for everything")
    parser.add_argument("--case-timeout", type=int, default=300)
    parser.add_argument("--verbose", action="store_true", help="print the whole console")
    parser.add_argument("--log", type=Path, default=TOP / "build/vm-test/console.log")
    found = parser.parse_args()
    if bool(found.image) == bool(found.kernel and found.root):
        parser.error("either --kernel with --root, or --image (make: KERNEL= and ROOT=, or IMAGE=)")
    return found


def die(text):
    print(f"vm-test: {text}", file=sys.stderr)
    sys.exit(2)


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        die(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def zig():
    for python in (TOP / "build/venv/bin/python3", "python3"):
        try:
            if not subprocess.run([python, "-c", "import ziglang"], capture_output=True).returncode:
                return [python, "-m", "ziglang"]
        except OSError:
            pass
    return ["zig"] if shutil.which("zig") else None


def put_tests(folder, module):
    """Module and tests below `folder`."""
    (folder / "boot/modules").mkdir(parents=True, exist_ok=True)
    target = folder / "boot/modules/if_wg.ko"
    target.unlink(missing_ok=True)
    shutil.copy(module, target)
    tests = folder / INSIDE
    tests.mkdir()
    for file in TESTS.iterdir():
        if file.suffix in (".sh", ".subr") or file.name == "Kyuafile":
            shutil.copy(file, tests)
    compiler = zig()
    if compiler:
        run(*compiler, "cc", "-target", "x86_64-freebsd.14.2-none", "-O2", TESTS / "probe.c", "-o", tests / "probe")
    else:
        print("vm-test: no zig, so the tests that need the program probe are skipped", file=sys.stderr)


def make_image(folder, image):
    size = int(run("du", "-sm", folder).split()[0]) + 128
    run("makefs", "-t", "ffs", "-o", "version=1,optimization=time", "-M", f"{size}m", "-f", "5000", image, folder)


def accelerators():
    # A host may have /dev/kvm and no way to run a 64-bit guest with it; QEMU then stops at once, and emulates instead.
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        yield ["-accel", "kvm", "-cpu", "host"]
    yield ["-accel", "tcg,thread=multi", "-cpu", "max,-la57"]


class Machine:
    """QEMU with a serial console."""

    def __init__(self, options, accelerator, extra):
        command = [
            "qemu-system-x86_64", *accelerator, "-smp", options.cpus, "-m", options.memory, "-nodefaults",
            "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
            "-device", "virtio-rng-pci", *extra,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            [str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.rest = ""

    def lines(self, deadline):
        """Lines of the console; None when the deadline has passed. What has no end yet is in `rest`."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                yield None
                return
            ready, _, _ = select.select([self.process.stdout], [], [], min(left, 1))
            if ready:
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    return
                *whole, self.rest = (self.rest + data.decode(errors="replace").replace("\r", "")).split("\n")
                yield from whole
            yield ""

    def say(self, text):
        self.process.stdin.write(text.encode() + b"\r")
        self.process.stdin.flush()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def watch(machine, options, log, login):
    """Reads the console to the end. Returns the exit status and whether the machine ever said anything."""
    status, panic, trouble, spoke = 99, False, [], False
    command = f"sh /mnt/{INSIDE}/guest.sh {options.tests}"
    steps = [("login: ", "root"), ("# ", f"mount -t ufs -o ro /dev/vtbd1 /mnt; cp /mnt/boot/modules/if_wg.ko /boot/modules/; {command}; poweroff")]
    if not login:
        steps = []
    for line in machine.lines(time.monotonic() + options.timeout):
        if line is None:
            print(f"vm-test: hung: not done after {options.timeout} s", flush=True)
            return 98, spoke
        if steps and machine.rest.endswith(steps[0][0]):
            machine.say(steps.pop(0)[1])
        if not line:
            continue
        log.write(line + "\n")
        spoke = spoke or "FreeBSD" in line
        found = re.match(r"VM-TEST-EXIT (\d+)", line)
        if found:
            status = int(found[1])
        panic = panic or bool(PANIC.search(line))
        if TROUBLE.search(line):
            trouble.append(line)
        if options.verbose or panic or re.match(r"TEST |LEAK |REPORT |TOTAL |    ", line):
            print(line, flush=True)
    if panic:
        return 97, spoke
    if trouble:
        print("vm-test: reports of the kernel:", *trouble, sep="\n    ", flush=True)
        status = status or 1
    return status, spoke


def boot(options, folder, log):
    drive = "if=none,format={},cache=unsafe,snapshot=on,file={},id={}"
    if options.kernel:
        tree = folder / "root"
        run("cp", "-a", options.root, tree)
        put_tests(tree, options.module)
        script = tree / INSIDE / "init.sh"
        case = f"TIMEOUT={options.case_timeout} "
        script.write_text(f"#!/bin/sh\n{case}sh /{INSIDE}/guest.sh {options.tests} </dev/console >/dev/console 2>&1\nhalt -p\n")
        make_image(tree, folder / "root.img")
        # init(8) runs the script first and nothing else, whatever /etc/rc of this tree is.
        settings = {
            "hw.uart.console": "io:0x3f8", "boot_serial": 1, "vfs.root.mountfrom": "ufs:/dev/vtbd0",
            "init_script": f"/{INSIDE}/init.sh", "kern.panic_reboot_wait_time": 0, "debug.debugger_on_panic": 0,
            "kern.msgbufsize": 1 << 20,
        }  # fmt: skip
        extra = ["-kernel", options.kernel, "-append", ",".join(f"{k}={v}" for k, v in settings.items())]
        extra += ["-drive", drive.format("raw", folder / "root.img", "d0"), "-device", "virtio-blk-pci,drive=d0"]
    else:
        put_tests(folder / "disk", options.module)
        make_image(folder / "disk", folder / "tests.img")
        kind = "qcow2" if options.image.open("rb").read(4) == b"QFI\xfb" else "raw"
        extra = ["-drive", drive.format(kind, options.image, "d0"), "-device", "virtio-blk-pci,drive=d0,bootindex=0"]
        extra += ["-drive", drive.format("raw", folder / "tests.img", "d1"), "-device", "virtio-blk-pci,drive=d1"]
    for accelerator in accelerators():
        machine = Machine(options, accelerator, extra)
        try:
            status, spoke = watch(machine, options, log, login=bool(options.image))
        finally:
            machine.stop()
        if spoke or status != 99:
            return status
    return status


def main():
    options = arguments()
    for program in ("qemu-system-x86_64", "makefs"):
        if not shutil.which(program):
            die(f"{program} is missing (make setup installs it)")
    for path in (options.kernel, options.root, options.image, options.module):
        if path and not path.exists():
            die(f"there is no {path}")
    options.log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.log.parent) as folder, options.log.open("w") as log:
        status = boot(options, Path(folder), log)
    if status == 99:
        print(f"vm-test: the machine ended without a word; its console is in {options.log}")
    elif status == 97:
        print(f"vm-test: PANIC; the console is in {options.log}")
    sys.exit(status)


if __name__ == "__main__":
    main()
