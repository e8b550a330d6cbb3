# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of this folder share: where things are, running programs, empty roots."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
HERE = TOP / "tests/pkg"
TOOLS = TOP / "contrib/wireguard-tools"
sys.path[:0] = [str(TOP / "tools"), str(HERE)]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
BUILT = TARGET / "release"
# An ordinary user is root of a namespace, where the system permits that.
AS_ROOT = () if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user")
# Tests must not depend on whether somebody watches.
ENVIRONMENT = {
    k: v for k, v in os.environ.items() if k not in ("PREFIX", "DESTDIR", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
}


def run(*command, status=0, **options):
    """Output of a command, both streams; fails the test unless it ends with `status`."""
    options = {"env": ENVIRONMENT, "cwd": TOP, "stdin": subprocess.DEVNULL} | options
    if "input" in options:
        del options["stdin"]
    done = subprocess.run(
        [str(c) for c in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    if done.returncode != status:
        raise AssertionError(
            f"{' '.join(str(c) for c in command)}: status {done.returncode}, not {status}\n{done.stdout}"
        )
    return done.stdout


def inside(root, *command, **options):
    """Output of a command of another root."""
    return run(*AS_ROOT, "chroot", root, *command, **options)


def need_sandbox():
    """Skips where there are no network namespaces."""
    done = subprocess.run([TOP / "tools/sandbox", "--check"], capture_output=True, text=True)
    if done.returncode:
        raise unittest.SkipTest(done.stderr.strip())


def files(root):
    """Every file and empty folder below a root, with its mode, sorted."""
    found = []
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or path.is_file() or not any(path.iterdir()):
            kind = "d" if path.is_dir() else "-"
            found.append(f"{kind} {path.stat().st_mode & 0o7777:04o} /{path.relative_to(root)}")
    return found


class Case(unittest.TestCase):
    """A test with a folder of its own."""

    maxDiff = None

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="wg-pkg-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def programs_run(self, root, prefix):
        """The programs of a root run in it, with nothing but the libraries that they name."""
        folder = root / prefix.lstrip("/")
        programs = [folder / "bin/wg", folder / "bin/wg-quick", folder / "sbin/wgd"]
        for program in programs:
            for word in run("ldd", program).split():
                if word.startswith("/"):
                    target = root / word.lstrip("/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(word, target)
        key = inside(root, f"{prefix}/bin/wg", "genkey")
        self.assertEqual(inside(root, f"{prefix}/bin/wg", "pubkey", input=key), run("wg", "pubkey", input=key))
        self.assertIn("strip", inside(root, f"{prefix}/bin/wg-quick", "--help"))
        self.assertIn("wgd", inside(root, f"{prefix}/sbin/wgd", "--version"))

    def same_as_list(self, lines, name):
        """Compares lines with those of a file that was checked in."""
        wanted = (HERE / name).read_text().splitlines()
        self.assertEqual([line for line in wanted if not line.startswith("#")], list(lines))
