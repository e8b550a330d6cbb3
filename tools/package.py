#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes packages of what was built; compiles nothing.

  package.py freebsd [FOLDER]   if_wg-VERSION.pkg: the module, wg, wg-quick, rc script, manuals (FreeBSD 14, amd64)
  package.py debian [FOLDER]    wgd_VERSION_ARCH.deb and wgd-tools_VERSION_ARCH.deb, with dpkg-deb
  package.py list FILE...       what is in packages: mode, owner, size or target, path

The files are those of `make install` (tools/install.sh), staged in a temporary folder; FOLDER is build/packages. The
same input makes the same bytes: names are sorted, the owner is root, and every time is SOURCE_DATE_EPOCH, which is the
last commit's unless the environment has it. PACKAGE_MAINTAINER is a name and an address, "A Name <at@an.address>".
"""

import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

import notices

TOP = Path(__file__).resolve().parent.parent
WORKSPACE = tomllib.loads((TOP / "Cargo.toml").read_text())["workspace"]["package"]
VERSION = WORKSPACE["version"]
OUTPUT = TOP / "build/packages"
MAINTAINER = os.environ.get("PACKAGE_MAINTAINER", "The if_wg in Rust project contributors <contributors@if-wg.invalid>")
HOMEPAGE = "https://www.wireguard.com/"
# The stock tools of which ours take the place: the newest version whose behaviour they have.
STOCK = "1.0.20250521"


def die(text):
    sys.exit(f"package: {text}")


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode:
        die(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def epoch():
    """The time of every file, in seconds since 1970."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        done = subprocess.run(["git", "-C", TOP, "log", "-1", "--format=%ct"], capture_output=True, text=True)
        given = done.stdout.strip() or "0"
    if not given.isdecimal():
        die(f"SOURCE_DATE_EPOCH is {given!r}, not a number of seconds")
    return int(given)


def stage(folder, system, **variables):
    """`make install` into `folder`, with compressed manuals."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PREFIX", "UNITDIR", "ZSHDIR")}
    environment |= {"DESTDIR": str(folder), "SYSTEM": system} | variables
    run(TOP / "tools/install.sh", "install", env=environment)
    for page in sorted(folder.glob("**/man/man?/*.?")):
        compress(page)


def compress(file):
    """Replaces a file by its compressed form, in which there is neither its name nor a time."""
    file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    file.unlink()


def write(file, text, mode=0o644):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


# --- FreeBSD ------------------------------------------------------------------------------------------------

FREEBSD_SCRIPTS = {
    # Where modules that depend on it are told where it is.
    "post-install": """\
if [ -x /usr/sbin/kldxref ]; then
	/usr/sbin/kldxref "${PKG_ROOTDIR%/}/boot/modules" || true
fi
""",
    "pre-deinstall": """\
if [ -z "${PKG_UPGRADE}${PKG_ROOTDIR%/}" ] && /sbin/kldstat -v 2>/dev/null | grep -q /boot/modules/if_wg.ko; then
	echo "if_wg stays loaded, and tunnels stay up, until 'service wireguard stop' and 'kldunload if_wg'."
fi
""",
    "post-deinstall": """\
if [ -x /usr/sbin/kldxref ]; then
	/usr/sbin/kldxref "${PKG_ROOTDIR%/}/boot/modules" || true
fi
""",
}

# What is compiled into the package, for the notices.
FREEBSD_PROGRAMS = (
    ("x86_64-unknown-none", "if_wg_kmod"), ("x86_64-unknown-linux-gnu", "wg_vector"),
    ("x86_64-unknown-freebsd", "wg-cli"), ("x86_64-unknown-freebsd", "wg-quick"),
)  # fmt: skip

FREEBSD_MESSAGE = """\
The base system has a driver and a wg of the same names, which are found first. To have these:

  sysrc -f /boot/loader.conf if_wg_load=YES if_wg_name=/boot/modules/if_wg.ko
  kldunload -n if_wg; kldload /boot/modules/if_wg.ko    # or restart

and call /usr/local/bin/wg, or put /usr/local/bin before /usr/bin in PATH; the rc script and
wg-quick do so. Tunnels are files in /usr/local/etc/wireguard, and are started with

  sysrc wireguard_enable=YES wireguard_interfaces=wg0
  service wireguard start

The manual of this driver: man -M /usr/local/share/man 4 wg
"""

FREEBSD_DESCRIPTION = """\
FreeBSD's WireGuard interface, if_wg(4), rewritten in Rust: a loadable kernel module for FreeBSD 14.2 and later, and
the programs that configure it, wg(8) and wg-quick(8), with an rc(8) script.

The programs understand what the stock ones understand, and work with the stock driver too.
"""


def freebsd_manifests(folder, entries):
    """Both manifests, as JSON, which is UCL: the short one for catalogues and the complete one."""
    compact = {
        "name": "if_wg",
        "origin": "net/if_wg",
        "version": VERSION,
        "comment": "WireGuard interface in Rust: kernel module and tools",
        "maintainer": MAINTAINER.partition("<")[2].rstrip(">"),
        "www": HOMEPAGE,
        "abi": "FreeBSD:14:amd64",
        "arch": "freebsd:14:x86:64",
        "prefix": "/usr/local",
        "flatsize": sum((folder / name.lstrip("/")).stat().st_size for name, is_dir in entries if not is_dir),
        "licenselogic": "single",
        "licenses": ["BSD2CLAUSE"],
        "desc": percent(FREEBSD_DESCRIPTION.strip()),
        "categories": ["net", "net-vpn"],
        "messages": [{"message": FREEBSD_MESSAGE, "type": "install"}],
    }
    files, directories = {}, {}
    for name, is_dir in entries:
        file = folder / name.lstrip("/")
        owner = {"uname": "root", "gname": "wheel", "perm": f"{file.stat().st_mode & 0o7777:04o}"}
        if is_dir:
            directories[percent(name)] = owner
        else:
            # "1" is the number that pkg has for SHA-256.
            files[percent(name)] = {"sum": "1$" + hashlib.sha256(file.read_bytes()).hexdigest()} | owner
    scripts = {name: percent(text) for name, text in FREEBSD_SCRIPTS.items()}
    return compact, compact | {"files": files, "directories": directories, "scripts": scripts}


def percent(text):
    """pkg decodes %XX in names, descriptions and scripts."""
    return "".join(f"%{b:02x}" if b >= 0x80 or b == ord("%") else chr(b) for b in text.encode())


def freebsd(output):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stage(folder, "freebsd", PREFIX="/usr/local", BUILT=str(TOP / "build/tools/freebsd-amd64"),
              KMOD=os.environ.get("KMOD", str(TOP / "build/kmod/amd64/if_wg.ko")))  # fmt: skip
        licences = folder / f"usr/local/share/licenses/if_wg-{VERSION}"
        write(licences / "LICENSE", (TOP / "LICENSE").read_text())
        write(licences / "THIRD-PARTY", notices.text(*FREEBSD_PROGRAMS))
        names = sorted("/" + str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        # Folders that other packages have too need no mention.
        entries = [(name, False) for name in names] + [("/usr/local/etc/wireguard", True)]
        compact, complete = freebsd_manifests(folder, entries)
        result = io.BytesIO()
        with tarfile.open(fileobj=result, mode="w", format=tarfile.PAX_FORMAT) as tar:
            # pkg looks for these in this order, and stops at the first other name.
            for name, manifest in (("+COMPACT_MANIFEST", compact), ("+MANIFEST", complete)):
                add(tar, name, json.dumps(manifest, separators=(",", ":")).encode(), 0o644)
            for name, is_dir in entries:
                file = folder / name.lstrip("/")
                add(tar, name, None if is_dir else file.read_bytes(), file.stat().st_mode & 0o7777)
        package = output / f"if_wg-{VERSION}.pkg"
        package.write_bytes(lzma.compress(result.getvalue(), preset=9))
        return [package]


def add(tar, name, data, mode):
    member = tarfile.TarInfo(name)
    member.mode, member.mtime, member.uname, member.gname = mode, epoch(), "root", "wheel"
    if data is None:
        member.type = tarfile.DIRTYPE
    else:
        member.size = len(data)
    tar.addfile(member, io.BytesIO(data or b""))


# --- Debian -------------------------------------------------------------------------------------------------

# What of the installed files goes to which package: all that no other one takes is the tools'.
DEBIAN_WGD = re.compile(r".*/(_?wgd(@\.service|\.8\.gz|\.fish)?)")

DEBIAN = {
    "wgd": {
        "depends": "",
        "fields": {"Recommends": "wgd-tools | wireguard-tools, iproute2"},
        "description": """\
WireGuard interface in user space, by FreeBSD's kernel driver
 wgd makes a network interface that is a WireGuard tunnel, without a kernel
 module. It is the driver of FreeBSD, if_wg, rewritten in Rust and run as a
 process, and is configured by wg(8), the stock one or that of wgd-tools.""",
    },
    "wgd-tools": {
        "depends": "iproute2",
        "fields": {
            "Recommends": "nftables | iptables, procps, wgd | wireguard-modules | wireguard-dkms",
            "Suggests": "openresolv | resolvconf",
            # The same programs at the same places: the one package takes the other's place, and satisfies who needs it.
            "Provides": f"wireguard-tools (= {STOCK})",
            "Conflicts": "wireguard-tools",
            "Replaces": "wireguard-tools",
        },
        "description": """\
wg and wg-quick in Rust
 The programs that configure WireGuard interfaces: wg(8) shows and sets keys,
 peers and addresses, wg-quick(8) sets up a whole tunnel from a file. They
 work with the Linux kernel's WireGuard, with wgd and with other
 implementations in user space, and take the place of wireguard-tools.""",
    },
}

# systemd has to be told of units that come and go. Tunnels that are up stay so: whoever updates a package may depend on
# them.
DEBIAN_SCRIPT = """\
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
fi
"""


def debian(output):
    architecture = run("dpkg", "--print-architecture").strip()
    packages = []
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "all"
        staged.mkdir()
        stage(staged, "linux", PREFIX="/usr", UNITDIR="/usr/lib/systemd/system",
              ZSHDIR="/usr/share/zsh/vendor-completions")  # fmt: skip
        for name, about in DEBIAN.items():
            folder = Path(temporary) / name
            for source in sorted(staged.rglob("*")):
                path = source.relative_to(staged)
                if bool(DEBIAN_WGD.fullmatch("/" + str(path))) != (name == "wgd"):
                    continue
                if source.is_file():
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, folder / path)
                elif not any(source.iterdir()):
                    shutil.copytree(source, folder / path)
            package = output / f"{name}_{VERSION}_{architecture}.deb"
            debian_documents(folder, name)
            debian_control(folder, name, architecture, about)
            for file in [folder, *folder.rglob("*")]:
                if file.is_dir() and file != folder / "etc/wireguard":
                    file.chmod(0o755)
                os.utime(file, (epoch(), epoch()))
            # Not on the command line: the environment of older ones.
            environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch())}
            run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", folder, package, env=environment)
            packages.append(package)
    return packages


def debian_documents(folder, name):
    crates = {"wgd": ["wgd"], "wgd-tools": ["wg-cli", "wg-quick"]}[name]
    document = folder / "usr/share/doc" / name
    target = run("rustc", "-vV").partition("host: ")[2].split()[0]
    write(document / "copyright", (TOP / "LICENSE").read_text() + "\n" + notices.text(*((target, c) for c in crates)))
    date = run("date", "-u", "-R", "-d", f"@{epoch()}").strip()
    change = f"{name} ({VERSION}) unstable; urgency=medium\n\n  * Made by `make package` of the source tree.\n"
    change += f"\n -- {MAINTAINER}  {date}\n"
    write(document / "changelog", change)
    compress(document / "changelog")


def debian_control(folder, name, architecture, about):
    programs = sorted(str(p) for p in folder.glob("usr/*bin/*"))
    size = sum((f.stat().st_size + 1023) // 1024 for f in folder.rglob("*") if f.is_file())
    depends = ", ".join(d for d in (shared_libraries(programs), about["depends"]) if d)
    fields = {
        "Package": name, "Version": VERSION, "Architecture": architecture, "Maintainer": MAINTAINER,
        "Installed-Size": size, "Depends": depends, **about["fields"], "Section": "net", "Priority": "optional",
        "Homepage": HOMEPAGE, "Description": about["description"],
    }  # fmt: skip
    control = folder / "DEBIAN"
    write(control / "control", "".join(f"{key}: {value}\n" for key, value in fields.items()))
    sums = [
        f"{hashlib.md5(f.read_bytes()).hexdigest()}  {f.relative_to(folder)}\n"
        for f in sorted(folder.rglob("*")) if f.is_file() and control not in f.parents
    ]  # fmt: skip
    write(control / "md5sums", "".join(sums))
    for script in ("postinst", "postrm"):
        write(control / script, DEBIAN_SCRIPT, 0o755)


def shared_libraries(programs):
    """What Depends says of the programs' libraries and their versions."""
    with tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary) / "debian/control", "Source: wgd\n\nPackage: wgd\nArchitecture: any\n")
        said = run("dpkg-shlibdeps", "-O", *programs, cwd=temporary)
    return said.strip().removeprefix("shlibs:Depends=")


# --- what is in them ----------------------------------------------------------------------------------------


def contents(package):
    """Lines about a package's members, in their order."""
    if package.suffix == ".deb":
        data = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True).stdout
    else:
        data = lzma.decompress(package.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            kind = "d" if member.isdir() else "l" if member.issym() else "-"
            yield f"{kind} {member.mode:04o} {member.uname}:{member.gname} {member.name}"


def main():
    jobs = {"freebsd": freebsd, "debian": debian}
    arguments = sys.argv[1:]
    if arguments[:1] == ["list"] and arguments[1:]:
        for name in arguments[1:]:
            print(f"{Path(name).name}:", *contents(Path(name)), sep="\n  ")
        return
    if not arguments or arguments[0] not in jobs or len(arguments) > 2:
        sys.exit(__doc__)
    output = Path(arguments[1]) if arguments[1:] else OUTPUT
    output.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)
    for package in jobs[arguments[0]](output.resolve()):
        print(f"{package}: {package.stat().st_size // 1024} KiB, {hashlib.sha256(package.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
