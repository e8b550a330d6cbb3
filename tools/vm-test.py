#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Boots a FreeBSD for amd64 under QEMU, with if_wg.ko and the tests of tests/sys/net/kmod in it, and runs them.

  vm-test.py --kernel KERNEL --root TREE    a kernel file, and a directory tree with the base system and the kernel's
                                            modules (/boot/kernel); an image is made of it with makefs(8)
  vm-test.py --image IMAGE                  a disk image that boots and has a login prompt on its serial console, where
                                            root has no password; it is not changed. At the end it is booted once more,
                                            with the module and a tunable of it in loader.conf(5)

  vm-test.py --kernel KERNEL --root TREE --peer-module MODULE [--peer-kernel KERNEL]
                                            two machines with a cable between them, ours and one with another driver of
                                            the same name: the program wg_other.sh

A line is printed for each test, with a total at the end. The exit status is 0 if every test passed, and nothing else
went wrong: 1 for a failed test, a leak at unload or a report of WITNESS or INVARIANTS, 97 for a panic, 98 when it hung,
99 when the machine ended without a word, 2 when it could not be started. No network is needed, or given to the machine,
and no privilege.
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
import threading
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


# What the machine says when the tests begin.
BEGIN = "VM-TEST-BEGIN"
# What the second boot of an image has in its loader.conf(5).
LOADER_CONF = {"if_wg_load": "YES", "if_wg_name": "/boot/modules/if_wg.ko", "net.wg.crypto": "portable"}
# The network that two machines share, and where the second one listens: tests/sys/net/kmod/right.sh.
RIGHT = "192.0.2.2"


def arguments():
    parser = argparse.ArgumentParser(description="Runs the kernel tests in a virtual machine.")
    parser.add_argument("--kernel", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--module", type=Path, default=TOP / "build/kmod/amd64/if_wg.ko")
    parser.add_argument("--peer-module", type=Path, help="another if_wg.ko, for the machine at the other end")
    parser.add_argument("--peer-kernel", type=Path, help="the kernel of that machine, if it is not the same")
    parser.add_argument("--tests", action="append", default=[], help="names of programs instead of all; may be repeated")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", type=int, default=1024, help="MiB")
    parser.add_argument("--boot-timeout", type=int, default=300, help="seconds until the tests begin")
    parser.add_argument("--timeout", type=int, default=7200, help="seconds for everything")
    parser.add_argument("--case-timeout", type=int, default=300)
    parser.add_argument("--verbose", action="store_true", help="print the whole console")
    parser.add_argument("--log", type=Path, default=TOP / "build/vm-test/console.log")
    found = parser.parse_args()
    if bool(found.image) == bool(found.kernel and found.root) or found.image and (found.kernel or found.root):
        parser.error("either --kernel with --root, or --image (make: KERNEL= and ROOT=, or IMAGE=)")
    if found.image and found.peer_module:
        parser.error("--peer-module (make: PEER_MODULE=) needs --kernel with --root")
    if found.peer_kernel and not found.peer_module:
        parser.error("--peer-kernel is for a machine with --peer-module")
    if found.cpus < 1 or found.memory < 256:
        parser.error("at least 1 CPU and 256 MiB")
    found.tests = " ".join(found.tests)
    programs = {path.name for path in TESTS.glob("wg_*.sh")}
    if unknown := set(found.tests.split()) - programs:
        parser.error(f"no such test program: {', '.join(sorted(unknown))} (there are {', '.join(sorted(programs))})")
    if found.peer_module and not found.tests:
        found.tests = "wg_other.sh"
    return found


def check_files(options):
    """Ends with a clear word when a file is not what it should be."""
    for path in (options.kernel, options.image, options.module, options.peer_module, options.peer_kernel):
        if path and not path.is_file():
            die(f"there is no file {path}")
        if path and not os.access(path, os.R_OK):
            die(f"{path} cannot be read")
    # ELF for amd64: a program is a kernel, a relocatable object a module.
    for path, kind, what in (
        (options.kernel, 2, "kernel"),
        (options.peer_kernel, 2, "kernel"),
        (options.module, 1, "kernel module"),
        (options.peer_module, 1, "kernel module"),
    ):
        if not path:
            continue
        with path.open("rb") as file:
            head = file.read(20)
        if head[:5] != b"\x7fELF\x02" or head[16:20] != bytes([kind, 0, 62, 0]):
            die(f"{path} is no {what} for amd64")
    if options.root:
        for name in ("sbin/init", "bin/sh", "sbin/kldload", "boot/kernel"):
            if not (options.root / name).exists():
                die(f"{options.root} is no tree of a FreeBSD: it has no {name}")
        if not any((options.root / name).exists() for name in ("usr/bin/atf-sh", "usr/local/bin/atf-sh")):
            die(f"{options.root} has no atf-sh, which the tests are written for")
    if options.image and not options.image.stat().st_size:
        die(f"{options.image} is empty")


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
            # Kyua runs them by their first line.
            (tests / file.name).chmod(0o755)
    compiler = zig()
    if compiler:
        sources = sorted(TESTS.glob("probe*.c"))
        run(*compiler, "cc", "-target", "x86_64-freebsd.14.2-none", "-O2", *sources, "-o", tests / "probe")
        shutil.copy(nvdiff(compiler), tests)
    else:
        print("vm-test: no zig, so the tests that need the program probe are skipped", file=sys.stderr)
    put_tools(tests)


def put_tools(tests):
    """Our wg and wg-quick, and what the examples of the manuals do."""
    (tests / "examples").mkdir()
    page = TOP / "share/man/man4/wg.4"
    (tests / "examples/driver.sh").write_text(run(TOP / "tests/pkg/examples.py", "freebsd", page))
    for name in ("wg", "wg-quick"):
        program = TOP / "build/tools/freebsd-amd64" / name
        if not program.exists():
            print(f"vm-test: no {name} (make tools-freebsd), so the tests of it are skipped", file=sys.stderr)
            continue
        shutil.copy(program, tests)
        page = TOP / "contrib/wireguard-tools/man" / f"{name}.8"
        (tests / "examples" / f"{name}.sh").write_text(run(TOP / "tests/pkg/examples.py", "freebsd", page))
    shutil.copy(TOP / "contrib/wireguard-tools/rc.d/wireguard.in", tests)


def nvdiff(compiler):
    """The program tests/nvdiff for FreeBSD. It uses a library of the base system that zig does not have: a stand-in with
    the same names will do to link with."""
    folder = TOP / "build/vm-test/lib"
    folder.mkdir(parents=True, exist_ok=True)
    names = re.findall(r"^    fn (c?nvlist_\w+)\(", (TOP / "sys/kpi/libnv/src/ffi.rs").read_text(), flags=re.M)
    (folder / "nv.c").write_text("".join(f"void FreeBSD_{name}(void) {{}}\n" for name in names))
    run(
        *compiler, "cc", "-target", "x86_64-freebsd.14.2-none", "-shared", "-Wl,-soname,libnv.so.1",
        folder / "nv.c", "-o", folder / "libnv.so",
    )  # fmt: skip
    target = "x86_64-unknown-freebsd"
    environment = os.environ | {
        "CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER": str(TOP / "tools/freebsd-cc"),
        "CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_RUSTFLAGS": f"-Lnative={folder}",
    }
    run("cargo", "build", "--quiet", "--release", "-p", "nvdiff", "--target", target, cwd=TOP, env=environment)
    return Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target")) / target / "release/nvdiff"


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
            "-display", "none", "-monitor", "none", "-serial", "stdio",
            "-device", "virtio-rng-pci", *extra,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            [str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.rest = ""

    def lines(self, deadline):
        """Lines of the console, and "" while nothing comes; None when the deadline has passed. What has no end yet is in
        `rest`."""
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
        self.rest = ""
        self.process.stdin.write(text.encode() + b"\r")
        self.process.stdin.flush()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def typed(options):
    """What is said to an image, and the end of the line that it answers to."""
    guest = f"env TIMEOUT={options.case_timeout} sh /mnt/{INSIDE}/guest.sh"
    mount = "mount -t ufs -o ro /dev/vtbd1 /mnt"
    conf = "; ".join(f"echo '{key}=\"{value}\"' >> /boot/loader.conf" for key, value in LOADER_CONF.items())
    steps = [
        ("login: ", "root"),
        ("# ", f"{mount}; mkdir -p /boot/modules; cp /mnt/boot/modules/if_wg.ko /boot/modules/"),
    ]
    tests = [name for name in options.tests.split() if name != "wg_boot.sh"]
    if tests or not options.tests:
        steps += [("# ", f"{guest} {' '.join(tests)}")]
    if not options.tests or "wg_boot.sh" in options.tests:
        steps += [
            ("# ", f"{conf}; sync; reboot"),
            ("login: ", "root"),
            ("# ", mount),
            ("# ", f"{guest} wg_boot.sh"),
        ]
    return [*steps, ("# ", "halt -p")]


class Watch:
    """Reads the console of a machine to the end."""

    def __init__(self, machine, options, log, name="", show=True):
        self.machine, self.options, self.log, self.name, self.show = machine, options, log, name, show
        self.status, self.panic, self.trouble, self.spoke, self.begun, self.ready = 99, None, [], False, False, False
        self.last = []

    def line(self, line):
        self.log.write(line + "\n")
        self.last = [*self.last[-9:], line]
        self.spoke = self.spoke or "FreeBSD" in line
        self.begun = self.begun or line == BEGIN
        self.ready = self.ready or line == "VM-TEST-READY"
        found = re.match(r"VM-TEST-EXIT (\d+)", line)
        if found:
            # An image is asked twice.
            self.status = int(found[1]) if self.status == 99 else max(self.status, int(found[1]))
        if not self.panic and PANIC.search(line):
            self.panic = time.monotonic()
        if TROUBLE.search(line):
            self.trouble.append(line)
        shown = self.show and self.begun and re.match(r"TEST |LEAK |REPORT |TOTAL |    ", line)
        if shown or self.panic or self.options.verbose:
            print(self.name + line, flush=True)

    def run(self, steps=()):
        """Returns the exit status. `steps`: what to type, behind which end of a line."""
        steps, start = list(steps), time.monotonic()
        for line in self.machine.lines(start + self.options.timeout):
            if line is None:
                return self.end(98, f"hung: not done after {self.options.timeout} s")
            if line:
                self.line(line)
            if not self.begun and not self.ready and time.monotonic() - start > self.options.boot_timeout:
                return self.end(98, self.unbooted(steps))
            if self.panic and time.monotonic() - self.panic > 30:
                break
            if steps and self.machine.rest.endswith("Password:"):
                return self.end(2, "root has a password on this image")
            if steps and self.machine.rest.endswith(steps[0][0]):
                command = steps.pop(0)[1]
                self.machine.say(command)
                if command.endswith("reboot"):
                    self.begun, start = False, time.monotonic()
        return self.end(97 if self.panic else self.status, "")

    def unbooted(self, steps):
        waiting = f"no «{steps[0][0].strip()}» on the serial console" if steps else "the tests did not begin"
        return "\n    ".join([f"{waiting} in {self.options.boot_timeout} s; the console ends:", *self.last, self.machine.rest])

    def end(self, status, why):
        self.log.flush()
        if why:
            print(f"vm-test: {self.name}{why}", flush=True)
        if self.trouble:
            print(f"vm-test: {self.name}reports of the kernel:", *self.trouble, sep="\n    ", flush=True)
        if self.trouble and status == 0:
            status = 1
        return status


DRIVE = "if=none,format={},cache=unsafe,snapshot=on,file={},id={}"


def from_kernel(options, folder, kernel, module, command):
    """Arguments of QEMU for a kernel and a tree, in which `command` is all that runs."""
    folder.mkdir()
    tree = folder / "root"
    run("cp", "-a", options.root, tree)
    put_tests(tree, module)
    script = tree / INSIDE / "init.sh"
    script.write_text(f"#!/bin/sh\n{command} </dev/console >/dev/console 2>&1\nhalt -p\n")
    make_image(tree, folder / "root.img")
    # init(8) runs the script first and nothing else, whatever /etc/rc of this tree is.
    settings = {
        "hw.uart.console": "io:0x3f8", "boot_serial": 1, "vfs.root.mountfrom": "ufs:/dev/vtbd0",
        "init_script": f"/{INSIDE}/init.sh", "kern.panic_reboot_wait_time": 0, "debug.debugger_on_panic": 0,
        "kern.msgbufsize": 1 << 20,
    }  # fmt: skip
    extra = ["-no-reboot", "-kernel", kernel, "-append", ",".join(f"{k}={v}" for k, v in settings.items())]
    return [*extra, "-drive", DRIVE.format("raw", folder / "root.img", "d0"), "-device", "virtio-blk-pci,drive=d0"]


def from_image(options, folder):
    put_tests(folder / "disk", options.module)
    make_image(folder / "disk", folder / "tests.img")
    with options.image.open("rb") as file:
        kind = "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
    extra = ["-drive", DRIVE.format(kind, options.image, "d0"), "-device", "virtio-blk-pci,drive=d0,bootindex=0"]
    return [*extra, "-drive", DRIVE.format("raw", folder / "tests.img", "d1"), "-device", "virtio-blk-pci,drive=d1"]


def cable(socket, server):
    """Arguments of QEMU (7.2 or later) for a network card with a cable to the other machine."""
    end = f"addr.type=unix,addr.path={socket},server={'on' if server else 'off'}"
    mac = f"02:00:00:00:00:{'02' if server else '01'}"
    return ["-netdev", f"stream,id=n0,{end}", "-device", f"virtio-net-pci,netdev=n0,mac={mac}"]


def boot(options, folder, sockets, log):
    guest = f"TIMEOUT={options.case_timeout} sh /{INSIDE}/guest.sh {options.tests}"
    peer = None
    if options.image:
        extra = from_image(options, folder)
    elif options.peer_module:
        extra = from_kernel(options, folder / "left", options.kernel, options.module, f"WG_OTHER={RIGHT} {guest}")
        extra += cable(sockets / "cable", server=False)
        kernel = options.peer_kernel or options.kernel
        peer = from_kernel(options, folder / "right", kernel, options.peer_module, f"sh /{INSIDE}/right.sh {RIGHT}")
        peer += cable(sockets / "cable", server=True)
    else:
        extra = from_kernel(options, folder / "only", options.kernel, options.module, guest)
    status = 99
    for accelerator in accelerators():
        right = Right(options, accelerator, peer, sockets / "cable") if peer else None
        machine = Machine(options, accelerator, extra)
        watch = Watch(machine, options, log)
        try:
            status = watch.run(typed(options) if options.image else ())
        finally:
            machine.stop()
            if right:
                status = right.stop(status)
        if watch.spoke:
            return status
    # QEMU itself has said why.
    print("vm-test: the machine did not start:", *watch.last, sep="\n    ", flush=True)
    return 2 if status == 99 else status


class Right:
    """The machine at the other end, watched beside the first one."""

    def __init__(self, options, accelerator, extra, socket):
        socket.unlink(missing_ok=True)
        self.machine = Machine(options, accelerator, extra)
        self.log = options.log.with_name("console-right.log").open("w", buffering=1)
        self.watch = Watch(self.machine, options, self.log, name="right: ", show=False)
        self.thread = threading.Thread(target=self.watch.run, daemon=True)
        self.thread.start()
        # The other machine connects as it starts.
        while self.machine.process.poll() is None and not socket.exists():
            time.sleep(0.1)

    def stop(self, status):
        self.machine.stop()
        self.thread.join()
        self.log.close()
        if self.watch.panic:
            print("vm-test: the machine on the right had a panic; its console is in console-right.log")
            return 97
        return 1 if self.watch.trouble and status == 0 else status


def main():
    options = arguments()
    for program in ("qemu-system-x86_64", "makefs"):
        if not shutil.which(program):
            die(f"{program} is missing (make setup installs it)")
    check_files(options)
    try:
        options.log.parent.mkdir(parents=True, exist_ok=True)
        # The names of sockets have to be short.
        parent = options.log.parent
        with tempfile.TemporaryDirectory(dir=parent) as folder, tempfile.TemporaryDirectory() as sockets:
            with options.log.open("w", buffering=1) as log:
                status = boot(options, Path(folder), Path(sockets), log)
    except OSError as error:
        die(f"{error}")
    if status == 99:
        print(f"vm-test: the machine ended without a word; its console is in {options.log}")
    elif status == 97:
        print(f"vm-test: PANIC; the console is in {options.log}")
    sys.exit(status)


if __name__ == "__main__":
    main()
