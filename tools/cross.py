#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Builds wg and wg-quick for other systems than this one, on Linux, and checks what came out.

cross.py freebsd    FreeBSD 14 on amd64, in build/tools/freebsd-amd64; dynamic, as FreeBSD wants it, and needs
                    nothing that is not in FreeBSD's base system
cross.py static     Linux, in build/tools/linux-static: files that need no library and no program interpreter, for
                    initial ramdisks, containers and systems with another libc. Host names are looked up by musl,
                    which reads /etc/hosts and /etc/resolv.conf and knows none of the C library's plug-ins (mDNS,
                    LDAP) nor its messages; that is why it is not what `make install` and the packages have.
"""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PROGRAMS = ("wg", "wg-quick")
# Of these libraries every FreeBSD 14 has the same version, in /lib.
BASE_LIBRARIES = re.compile(r"lib(c|thr|m|util|rt|execinfo|gcc_s|nv)\.so\.\d+")
MACHINE = platform.machine()


def die(text):
    sys.exit(f"cross: {text}")


def output(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        die(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(target, **environment):
    """Compiles the tools, and returns the folder where they are. No path of this machine gets into them."""
    target_dir = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    flags = [f"--remap-path-prefix={TOP}=", f"--remap-path-prefix={home}/registry/src=registry"]
    environment |= {
        "CARGO_TARGET_DIR": str(target_dir), "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
        "CARGO_PROFILE_RELEASE_DEBUG": "0", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "1",
        "CARGO_PROFILE_RELEASE_LTO": "fat",
    }  # fmt: skip
    command = ["cargo", "build", "--quiet", "--release", "--target", target, "-p", "wg-cli", "-p", "wg-quick"]
    if subprocess.run(command, cwd=TOP, env=os.environ | environment).returncode:
        die(f"cargo could not build for {target}")
    return target_dir / target / "release"


def strip(source, target, *options):
    """A copy without symbols, by the program that comes with the Rust toolchain."""
    root = Path(output("rustc", "--print", "sysroot").strip())
    host = re.search(r"^host: (.*)$", output("rustc", "-vV"), re.M)[1]
    objcopy = root / "lib/rustlib" / host / "bin/rust-objcopy"
    os.environ["LD_LIBRARY_PATH"] = str(root / "lib")
    output(objcopy, "--strip-all", *options, source, target)
    target.chmod(0o755)


def needed(file):
    """The libraries that a program names, and its program interpreter if it has one."""
    dynamic = output("readelf", "-dlW", file)
    found = re.search(r"program interpreter: (.*)\]", dynamic)
    return re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic), found and found[1]


def check_freebsd(file):
    """Ends with a message unless the file is a program for FreeBSD that runs on the base system alone."""
    header = output("readelf", "-hW", file)
    for name, value in (("Class", "ELF64"), ("OS/ABI", "UNIX - FreeBSD"), ("Machine", "Advanced Micro Devices X86-64")):
        found = re.search(rf"^ *{name}: *(.*)$", header, re.M)
        if not found or found[1] != value:
            die(f"{file}: {name} is {found and found[1]}, not {value}")
    if "NT_VERSION" not in output("readelf", "-nW", file):
        die(f"{file} does not say which FreeBSD it is for")
    libraries, interpreter = needed(file)
    if interpreter != "/libexec/ld-elf.so.1":
        die(f"{file}: the program interpreter is {interpreter}")
    foreign = [name for name in libraries if not BASE_LIBRARIES.fullmatch(name)]
    if foreign or not libraries:
        die(f"{file} needs {foreign or 'no library at all'}; only the base system's are allowed")
    return " ".join(libraries)


def check_static(file):
    libraries, interpreter = needed(file)
    if libraries or interpreter:
        die(f"{file} is not static: it needs {libraries} and {interpreter}")
    return "no library"


def freebsd():
    environment = {"CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER": str(TOP / "tools/freebsd-cc")}
    # The kernel looks at the brand in the ELF header before anything else, and so does file(1).
    return (
        "freebsd-amd64",
        build("x86_64-unknown-freebsd", **environment),
        ["-O", "elf64-x86-64-freebsd"],
        check_freebsd,
    )


def static():
    return "linux-static", build(f"{MACHINE}-unknown-linux-musl"), [], check_static


def main():
    jobs = {"freebsd": freebsd, "static": static}
    if len(sys.argv) != 2 or sys.argv[1] not in jobs:
        sys.exit(__doc__)
    name, built, options, check = jobs[sys.argv[1]]()
    folder = TOP / "build/tools" / name
    folder.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        file = folder / program
        strip(built / program, file, *options)
        print(f"{file.relative_to(TOP)}: {file.stat().st_size // 1024} KiB, needs {check(file)}")


if __name__ == "__main__":
    main()
