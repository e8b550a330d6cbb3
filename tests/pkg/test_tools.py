# SPDX-License-Identifier: BSD-2-Clause
"""The tools for other systems, and whether the checks of them would find something."""

import shutil

from lab import BUILT, TOP, Case, inside, run

import cross  # lab says where it is

PROGRAMS = ("wg", "wg-quick")


class Tools(Case):
    def test_freebsd(self):
        for program in PROGRAMS:
            file = TOP / "build/tools/freebsd-amd64" / program
            self.assertIn("libc.so.7", cross.check_freebsd(file))
            self.assertLess(file.stat().st_size, 4 << 20)

    def test_static_without_anything_around_them(self):
        for program in PROGRAMS:
            file = TOP / "build/tools/linux-static" / program
            cross.check_static(file)
            shutil.copy(file, self.folder)
            self.assertLess(file.stat().st_size, 4 << 20)
        key = inside(self.folder, "/wg", "genkey")
        self.assertEqual(run("wg", "pubkey", input=key), inside(self.folder, "/wg", "pubkey", input=key))
        self.assertIn("strip", inside(self.folder, "/wg-quick", "--help"))

    def refused(self, check, file, why):
        with self.assertRaises(SystemExit) as caught:
            check(file)
        self.assertIn(why, str(caught.exception))

    def test_a_program_of_this_system_is_refused(self):
        self.refused(cross.check_freebsd, BUILT / "wg", "OS/ABI")
        self.refused(cross.check_static, BUILT / "wg", "is not static")

    def test_a_library_of_elsewhere_is_refused(self):
        file = self.folder / "wg"
        data = (TOP / "build/tools/freebsd-amd64/wg").read_bytes()
        self.assertEqual(1, data.count(b"\0libthr.so.3\0"))
        file.write_bytes(data.replace(b"\0libthr.so.3\0", b"\0libxyz.so.3\0"))
        self.refused(cross.check_freebsd, file, "libxyz.so.3")

    def test_a_program_that_does_not_say_its_version_is_refused(self):
        file = self.folder / "wg"
        data = (TOP / "build/tools/freebsd-amd64/wg").read_bytes()
        note = b"\x01\0\0\0FreeBSD\0" + (1402000).to_bytes(4, "little")
        self.assertEqual(1, data.count(note))
        file.write_bytes(data.replace(note, b"\x07" + note[1:]))
        self.refused(cross.check_freebsd, file, "which FreeBSD")
