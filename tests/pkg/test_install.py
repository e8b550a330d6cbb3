# SPDX-License-Identifier: BSD-2-Clause
"""`make install` and `make uninstall`, into an empty root."""

import os
import shutil

from lab import BUILT, ENVIRONMENT, TARGET, TOP, Case, files, need_sandbox, run


class Install(Case):
    def make(self, *arguments, **options):
        return run("make", "--no-print-directory", *arguments, f"CARGO_TARGET_DIR={TARGET}", **options)

    def test_into_an_empty_root(self):
        root = self.folder / "root"
        self.make("install", f"DESTDIR={root}")
        self.same_as_list(files(root), "install-linux.list")
        unit = (root / "usr/local/lib/systemd/system/wgd@.service").read_text()
        self.assertIn("ExecStart=/usr/local/sbin/wgd %i\n", unit)
        self.programs_run(root, "/usr/local")

    def test_other_prefix(self):
        root = self.folder / "root"
        self.make("install", f"DESTDIR={root}", "PREFIX=/opt/wg", umask=0o077)
        self.assertEqual(0o755, (root / "opt/wg/bin").stat().st_mode & 0o7777)
        self.assertFalse((root / "usr").exists())
        unit = (root / "opt/wg/lib/systemd/system/wg-quick@.service").read_text()
        self.assertIn("ExecStart=/opt/wg/bin/wg-quick up %i\n", unit)
        self.assertNotIn("@PREFIX@", unit)
        # Who waits for the target waits for the tunnels, and the target takes them along when it starts and stops.
        for line in ("PartOf=wg-quick.target", "Before=wg-quick.target", "WantedBy=multi-user.target wg-quick.target"):
            self.assertIn(f"\n{line}\n", unit)
        self.programs_run(root, "/opt/wg")

    def test_twice_and_away(self):
        root = self.folder / "root"
        self.make("install", f"DESTDIR={root}")
        before = files(root)
        self.make("install", f"DESTDIR={root}")
        self.assertEqual(before, files(root))
        mine = root / "etc/wireguard/wg0.conf"
        mine.write_text("[Interface]\n")
        neighbour = root / "usr/local/bin/neighbour"
        neighbour.write_text("")
        self.make("uninstall", f"DESTDIR={root}")
        self.assertTrue(mine.exists() and neighbour.exists())
        self.assertEqual({mine, neighbour}, {path for path in root.rglob("*") if path.is_file()})
        self.make("uninstall", f"DESTDIR={root}")

    def test_compiles_nothing(self):
        bin_ = self.folder / "bin"
        bin_.mkdir()
        for name in ("cargo", "rustc", "rustup"):
            (bin_ / name).write_text(f"#!/bin/sh\necho called >{self.folder}/called\nexit 1\n")
            (bin_ / name).chmod(0o755)
        # env.sh puts CARGO_HOME/bin first.
        home = self.folder / "home"
        shutil.copytree(bin_, home / "bin")
        environment = ENVIRONMENT | {"CARGO_HOME": str(home), "PATH": f"{bin_}:/usr/bin:/bin"}
        environment.pop("RUSTUP_HOME", None)
        self.make("install", f"DESTDIR={self.folder}/root", env=environment)
        self.assertTrue((self.folder / "root/usr/local/bin/wg").exists())
        self.assertFalse((self.folder / "called").exists())

    def test_nothing_is_built(self):
        root = self.folder / "root"
        said = run("make", "install", f"DESTDIR={root}", f"CARGO_TARGET_DIR={self.folder}/none", status=2)
        self.assertIn(f"{self.folder}/none/release/wg is not built: run 'make build' first", said)
        self.assertFalse(root.exists())

    def test_one_is_not_built(self):
        root, built = self.folder / "root", self.folder / "release"
        shutil.copytree(BUILT, built, ignore=lambda _, names: [n for n in names if n not in ("wg", "wg-quick")])
        said = run("make", "install", f"DESTDIR={root}", f"CARGO_TARGET_DIR={self.folder}", status=2)
        self.assertIn("release/wgd is not built", said)
        self.assertFalse(root.exists())

    def test_cannot_write(self):
        need_sandbox()
        root = self.folder / "root"
        root.mkdir()
        script = 'mount -t tmpfs -o ro none "$1" && exec make install DESTDIR="$1" CARGO_TARGET_DIR="$2"'
        said = run(TOP / "tools/sandbox", "sh", "-c", script, "sh", root, TARGET, status=2)
        self.assertIn(f"install: cannot write to {root}, for {root}/usr/local/bin: be root (sudo make install)", said)

    def test_bad_words(self):
        for prefix, why in (("usr", "is not an absolute path"), ("/a b", "has a blank in it")):
            said = run("tools/install.sh", "install", env=ENVIRONMENT | {"PREFIX": prefix}, status=1)
            self.assertIn(why, said)
        said = run("tools/install.sh", "list", env=ENVIRONMENT | {"SYSTEM": "plan9"}, status=1)
        self.assertIn("no list of files for plan9", said)

    def test_freebsd(self):
        root, built = self.folder / "root", self.folder / "built"
        built.mkdir()
        for name in ("wg", "wg-quick", "if_wg.ko"):
            (built / name).write_text(name)
        environment = ENVIRONMENT | {
            "SYSTEM": "freebsd", "DESTDIR": str(root), "BUILT": str(built), "KMOD": str(built / "if_wg.ko")
        }  # fmt: skip
        run("tools/install.sh", "install", env=environment)
        self.same_as_list(files(root), "install-freebsd.list")
        self.assertEqual("if_wg.ko", (root / "boot/modules/if_wg.ko").read_text())
        os.remove(built / "if_wg.ko")
        environment["KMOD"] = str(built / "if_wg.ko")
        run("tools/install.sh", "uninstall", env=environment)
        self.assertEqual([], [line for line in files(root) if line[0] != "d"])
