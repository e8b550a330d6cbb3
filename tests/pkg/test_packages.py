# SPDX-License-Identifier: BSD-2-Clause
"""The packages: what is in them, that they are reproducible, and that they can be installed."""

import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import urllib.parse
from pathlib import Path

import lab
from lab import TOP, Case, files, run

import package  # lab says where it is

EPOCH = 1_700_000_000


def build(what, output, umask=-1, **environment):
    """Makes packages in a folder, and returns it."""
    environment = lab.ENVIRONMENT | {"SOURCE_DATE_EPOCH": str(EPOCH)} | environment
    run(TOP / "tools/package.py", what, output, env=environment, umask=umask)
    return output


class Built(Case):
    """Tests of packages that are made once."""

    what: str

    @classmethod
    def setUpClass(cls):
        cls.output = Path(lab.tempfile.mkdtemp(prefix="wg-pkg-"))
        cls.addClassCleanup(shutil.rmtree, cls.output, ignore_errors=True)
        build(cls.what, cls.output)

    def reproducible(self):
        first = {f.name: f.read_bytes() for f in self.output.iterdir()}
        # Later, elsewhere, in another time zone and language, with another umask.
        place = self.folder / "temporary"
        place.mkdir()
        again = build(
            self.what, self.folder / "again", 0o077, TZ="Pacific/Kiritimati", LC_ALL="C.UTF-8", TMPDIR=str(place)
        )
        self.assertEqual(first, {f.name: f.read_bytes() for f in again.iterdir()})
        self.assertTrue(first)


class Debian(Built):
    what = "debian"

    def debs(self):
        return sorted(self.output.glob("*.deb"))

    def test_contents(self):
        self.assertEqual(["wgd-tools", "wgd"], [deb.name.partition("_")[0] for deb in self.debs()])
        for deb in self.debs():
            self.same_as_list(package.contents(deb), f"deb-{deb.name.partition('_')[0]}.list")

    def test_reproducible(self):
        self.reproducible()

    def test_times(self):
        for deb in self.debs():
            data = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True).stdout
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                self.assertEqual({EPOCH}, {member.mtime for member in tar})

    def test_fields(self):
        for deb in self.debs():
            name = deb.name.partition("_")[0]
            fields = dict(
                line.split(": ", 1) for line in run("dpkg-deb", "--field", deb).splitlines() if line[0] != " "
            )
            self.assertEqual((name, package.VERSION), (fields["Package"], fields["Version"]))
            self.assertRegex(fields["Depends"], r"\blibc6 \(>= 2\.\d+\)")
            self.assertRegex(fields["Maintainer"], r"^[^<>]+ <[^<>@ ]+@[^<>@ ]+>$")
            # It is what the metapackage `wireguard` asks for.
            if name == "wgd-tools":
                provided = re.fullmatch(r"wireguard-tools \(= (.*)\)", fields["Provides"])[1]
                run("dpkg", "--compare-versions", provided, "ge", "1.0.20210914-1")
                self.assertEqual(("wireguard-tools",) * 2, (fields["Conflicts"], fields["Replaces"]))

    def dpkg(self, root, *arguments, status=0):
        # The root has no shell for the scripts, and none of what the packages depend on.
        return run(*lab.AS_ROOT, "dpkg", f"--root={root}", "--force-depends", "--force-script-chrootless",
                   "--force-not-root",
                   f"--log={self.folder}/log", *arguments, status=status)  # fmt: skip

    def root(self):
        root = self.folder / "root"
        (root / "var/lib/dpkg/updates").mkdir(parents=True)
        (root / "var/lib/dpkg/info").mkdir()
        (root / "var/lib/dpkg/status").touch()
        return root

    def test_install_run_remove(self):
        root = self.root()
        self.dpkg(root, "--install", *self.debs())
        for name in ("wgd", "wgd-tools"):
            self.assertIn("Status: install ok installed", self.dpkg(root, "--status", name))
            self.assertEqual("", self.dpkg(root, "--verify", name))
        self.assertEqual(0o700, (root / "etc/wireguard").stat().st_mode & 0o777)
        page = gzip.decompress((root / "usr/share/man/man8/wg.8.gz").read_bytes())
        self.assertEqual((lab.TOOLS / "man/wg.8").read_bytes(), page)
        (root / "etc/wireguard/wg0.conf").touch()
        self.dpkg(root, "--purge", "wgd", "wgd-tools")
        self.assertEqual(
            ["/etc/wireguard/wg0.conf"],
            [line.split()[2] for line in files(root) if "/var/" not in line and line[0] == "-"],
        )

    def test_programs(self):
        root = self.root()
        self.dpkg(root, "--install", *self.debs())
        self.programs_run(root, "/usr")

    def stock(self):
        """A package that has the name and a file of Debian's."""
        folder = self.folder / "stock"
        package.write(folder / "usr/bin/wg", "stock")
        fields = "Package: wireguard-tools\nVersion: 1.0.20210914-1\nArchitecture: all\n"
        fields += "Maintainer: a <a@b.c>\nDescription: d\n"
        package.write(folder / "DEBIAN/control", fields)
        run("dpkg-deb", "--build", folder, self.folder / "stock.deb")
        return self.folder / "stock.deb"

    def test_takes_the_place_of_the_stock_tools(self):
        root = self.root()
        self.dpkg(root, "--install", self.stock())
        self.dpkg(root, "--install", *self.debs())
        self.assertEqual(b"\x7fELF", (root / "usr/bin/wg").read_bytes()[:4])
        status = (root / "var/lib/dpkg/status").read_text()
        self.assertNotIn("Package: wireguard-tools\nStatus: install ok installed", status)

    def test_the_daemon_goes_with_the_stock_tools(self):
        root = self.root()
        self.dpkg(root, "--install", self.stock())
        self.dpkg(root, "--install", *(deb for deb in self.debs() if deb.name.startswith("wgd_")))
        self.assertEqual("stock", (root / "usr/bin/wg").read_text())
        self.assertTrue((root / "usr/sbin/wgd").exists())


class FreeBSD(Built):
    """The rules are those by which pkg(8) reads a package."""

    what = "freebsd"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.file = cls.output / f"if_wg-{package.VERSION}.pkg"
        cls.tar = tarfile.open(fileobj=io.BytesIO(lzma.decompress(cls.file.read_bytes())))
        cls.addClassCleanup(cls.tar.close)
        cls.members = cls.tar.getmembers()
        cls.compact, cls.manifest = (json.load(cls.tar.extractfile(member)) for member in cls.members[:2])

    def test_contents(self):
        self.same_as_list(package.contents(self.file), "freebsd.list")

    def test_reproducible(self):
        self.reproducible()

    def test_manifests_come_first(self):
        self.assertEqual(["+COMPACT_MANIFEST", "+MANIFEST"], [member.name for member in self.members[:2]])
        self.assertFalse([member.name for member in self.members[2:] if not member.name.startswith("/")])

    def test_one_is_part_of_the_other(self):
        for key in ("files", "directories", "scripts"):
            self.assertNotIn(key, self.compact)
        self.assertEqual(self.compact, {k: v for k, v in self.manifest.items() if k in self.compact})

    def test_fields(self):
        # Without one of these pkg takes it for no package.
        for key in ("origin", "name", "comment", "version", "desc", "maintainer", "www", "prefix"):
            self.assertIsInstance(self.manifest[key], str)
            self.assertTrue(self.manifest[key])
        self.assertEqual(package.VERSION, self.manifest["version"])
        # A hyphen would be taken for the beginning of a port's revision, an underscore too.
        self.assertRegex(self.manifest["version"], r"^\d+(\.\d+)*$")
        self.assertRegex(self.manifest["origin"], r"^[a-z0-9-]+/[A-Za-z0-9_-]+$")
        self.assertRegex(self.manifest["maintainer"], r"^[^<>\s]+@[^<>\s]+$")
        self.assertEqual(("FreeBSD:14:amd64", "freebsd:14:x86:64"), (self.manifest["abi"], self.manifest["arch"]))
        self.assertIn(self.manifest["licenselogic"], ("single", "and", "or"))
        for key in ("licenses", "categories", "messages"):
            self.assertIsInstance(self.manifest[key], list)
        self.assertIn("/boot/modules/if_wg.ko", self.manifest["messages"][0]["message"])

    def test_every_file_is_in_the_manifest(self):
        listed = {urllib.parse.unquote(name): about for name, about in self.manifest["files"].items()}
        packed = {member.name: member for member in self.members[2:] if member.isfile()}
        self.assertEqual(list(packed), list(listed))
        for name, member in packed.items():
            digest = hashlib.sha256(self.tar.extractfile(member).read()).hexdigest()
            about = {"sum": f"1${digest}", "uname": "root", "gname": "wheel", "perm": f"{member.mode:04o}"}
            self.assertEqual(about, listed[name])
        self.assertEqual(self.manifest["flatsize"], sum(member.size for member in packed.values()))
        folders = {member.name: member for member in self.members if member.isdir()}
        self.assertEqual(list(folders), list(self.manifest["directories"]))

    def test_owner_and_time(self):
        for member in self.members:
            self.assertEqual(("root", "wheel", 0, 0, EPOCH),
                             (member.uname, member.gname, member.uid, member.gid, member.mtime))  # fmt: skip
            self.assertTrue(member.isfile() or member.isdir())

    def test_scripts(self):
        known = {"pre-install", "post-install", "install", "pre-deinstall", "post-deinstall", "deinstall"}
        self.assertLessEqual(set(self.manifest["scripts"]), known)
        for script in self.manifest["scripts"].values():
            script = urllib.parse.unquote(script)
            run("sh", "-n", input=script)
            # On a system that lacks what they call, and into another root, they do nothing and succeed.
            run(
                "sh",
                "-e",
                input=script,
                env={"PKG_ROOTDIR": str(self.folder), "PATH": "/nonexistent"},
                executable="/bin/sh",
            )

    def test_programs_are_for_freebsd(self):
        import cross

        for name in ("/usr/local/bin/wg", "/usr/local/bin/wg-quick"):
            file = self.folder / "program"
            file.write_bytes(self.tar.extractfile(name).read())
            cross.check_freebsd(file)
        module = self.tar.extractfile("/boot/modules/if_wg.ko").read()
        built = Path(os.environ.get("KMOD", TOP / "build/kmod/amd64/if_wg.ko"))
        self.assertTrue(built.read_bytes() == module, f"it is not {built}")

    def test_nothing_of_this_machine(self):
        for member in self.members:
            if member.isfile():
                data = self.tar.extractfile(member).read()
                for place in {str(TOP), str(Path.home() / ".cargo"), os.environ.get("CARGO_HOME", "")} - {
                    "",
                    "/.cargo",
                }:
                    self.assertFalse(place.encode() in data, f"{member.name} has {place} in it")


class Refusals(Case):
    def test_nothing_is_built(self):
        environment = lab.ENVIRONMENT | {"CARGO_TARGET_DIR": str(self.folder), "KMOD": str(self.folder / "if_wg.ko")}
        said = run(TOP / "tools/package.py", "debian", self.folder / "out", env=environment, status=1)
        self.assertIn("release/wg is not built", said)
        self.assertEqual([], list((self.folder / "out").iterdir()))

    def test_bad_time(self):
        environment = lab.ENVIRONMENT | {"SOURCE_DATE_EPOCH": "yesterday"}
        said = run(TOP / "tools/package.py", "debian", self.folder / "out", env=environment, status=1)
        self.assertIn("SOURCE_DATE_EPOCH is 'yesterday'", said)
