# SPDX-License-Identifier: BSD-2-Clause
"""The manual pages: every example of them is run, in a namespace with wgd."""

import json
import re

import examples
from lab import BUILT, ENVIRONMENT, TOOLS, TOP, Case, need_sandbox, run

# What the examples take for granted: a network, programs in PATH, a folder for configuration. A resolvconf that only
# listens stands for the system's.
LAB = """\
set -e
mount -t tmpfs none /etc/wireguard
ip link add e0 type veth peer name e1
ip address add 192.0.2.1/24 dev e0
ip link set e0 up
ip link set e1 up
printf '#!/bin/sh\\ncat >/dev/null\\n' >"$1/resolvconf"
chmod 755 "$1/resolvconf"
cd "$1"
PATH=$2:$1:$PATH exec sh ./script
"""


class Manuals(Case):
    def page(self, name):
        need_sandbox()
        page = TOOLS / "man" / name
        self.folder.joinpath("script").write_text(examples.script(page, "linux"))
        said = run(TOP / "tools/sandbox", "timeout", "120", "sh", "-c", LAB, "sh", self.folder, BUILT)
        ran = [block.place for block in examples.blocks(page) if block.kind in ("linux", "both")]
        self.assertTrue(ran)
        self.assertEqual(ran, said.splitlines())

    def test_wg(self):
        self.page("wg.8")

    def test_wg_quick(self):
        self.page("wg-quick.8")

    def test_wgd(self):
        self.page("wgd.8")

    def test_scripts_for_freebsd_are_scripts(self):
        for page in sorted((TOOLS / "man").glob("*.8")):
            run("sh", "-n", input=examples.script(page, "freebsd"))

    def test_a_wrong_example_is_found(self):
        block = '.\\" example: {}\n.Bd -literal -offset indent\n{}\n.Ed\n'
        cases = {
            block.format("linux", "false"): "page.8:2: status 1",
            block.format("linux", "wg show nothing"): "page.8:2: status 1",
            block.format("linux", "echo one") + block.format("output", "two"): "page.8:6: the output is not this",
            block.format("both; setup: false", "true"): "page.8:2: its setup failed",
        }
        page = self.folder / "page.8"
        for text, why in cases.items():
            page.write_text(text)
            script = examples.script(page, "linux")
            environment = ENVIRONMENT | {"PATH": f"{BUILT}:/usr/bin:/bin"}
            self.assertIn(why, run("sh", input=script, cwd=self.folder, env=environment, status=1))

    def test_an_unmarked_block_is_found(self):
        page = self.folder / "page.8"
        for text in (
            ".Bd -literal -offset indent\nx\n.Ed\n",
            ".Dl wg show\n",
            '.\\" example: maybe\n.Bd -literal\nx\n.Ed\n',
        ):
            page.write_text(text)
            with self.assertRaises(SystemExit):
                examples.blocks(page)

    def test_json_is_as_the_page_says(self):
        need_sandbox()
        code = 'PATH=$1:$PATH; wgd wg0; wg set wg0 peer "$(wg genkey | wg pubkey)" allowed-ips ::/0; wg show wg0 --json'
        document = json.loads(run(TOP / "tools/sandbox", "sh", "-ec", code, "sh", BUILT))
        interface = document["interfaces"][0]
        names = [*document, *interface, *interface["peers"][0]]
        section = re.search(r"(?ms)^\.Sh JSON$(.*?)^\.Sh ", (TOOLS / "man/wg.8").read_text())[1]
        told = [name for line in re.findall(r"^\.It Va (.*)$", section, re.M) for name in line.split(" , ")]
        self.assertEqual(told, names)
        self.assertEqual(1, document["version"])

    def test_every_command_has_a_word_in_its_page(self):
        for program, page in (("wg", "wg.8"), ("wg-quick", "wg-quick.8"), ("wgd", "wgd.8")):
            text = (TOOLS / "man" / page).read_text()
            usage = run(BUILT / program, "--help")
            words = {w.strip(":,") for line in usage.splitlines() for w in line.split()[:2] if line.startswith("  ")}
            options = {w.removeprefix("--") for w in words if w.startswith("--")}
            commands = {w for w in words if w in ("up", "down", "save", "strip") or f"  {w}: " in usage}
            self.assertTrue(options | commands)
            for word in options:
                self.assertIn(f"-{word}", text)
            for word in commands:
                self.assertRegex(text, rf"(?m)^\.(It|Nm|Cm)?.*\b{word}\b")
