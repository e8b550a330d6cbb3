# SPDX-License-Identifier: BSD-2-Clause
"""Completions: what bash, fish and zsh offer, with an interface that has a peer."""

from lab import BUILT, HERE, TOOLS, TOP, Case, need_sandbox, run

FIELDS = (
    "allowed-ips dump endpoints fwmark latest-handshakes listen-port peers persistent-keepalive preshared-keys"
    " private-key public-key transfer"
)
PEER = "allowed-ips endpoint peer persistent-keepalive preshared-key remove"
COMMANDS = "addconf check genkey genpsk help pubkey set setconf show showconf syncconf version"

# Line: candidates. KEY stands for the peer's public key.
CASES = {
    "wg ": COMMANDS,
    "wg s": "set setconf show showconf syncconf",
    "wg show ": "all interfaces wg0",
    "wg show w": "wg0",
    "wg show wg0 ": FIELDS,
    "wg show all p": "peers persistent-keepalive preshared-keys private-key public-key",
    "wg show wg0 dump ": "",
    "wg show interfaces ": "",
    "wg show wg0 --json ": "",
    "wg show --": "--count= --help --json --watch",
    "wg showconf ": "wg0",
    "wg showconf wg0 ": "",
    "wg set ": "wg0",
    "wg set wg0 ": "fwmark listen-port peer private-key",
    "wg set wg0 listen-port 1 ": "fwmark listen-port peer private-key",
    "wg set wg0 fwmark ": "off",
    "wg set wg0 peer ": "KEY",
    "wg set wg0 peer KEY ": PEER,
    "wg set wg0 peer KEY remove ": PEER,
    "wg set wg0 peer KEY endpoint ": "192.0.2.9:51820",
    "wg set wg0 peer KEY allowed-ips ": "10.9.0.0/24,10.20.0.0/16",
    "wg set wg0 peer KEY persistent-keepalive ": "25 off",
    "wg set wg0 peer KEY persistent-keepalive 25 e": "endpoint",
    "wg addconf ": "wg0",
    "wg genkey ": "",
    "wg nonsense ": "",
    "wg-quick ": "down help save strip up",
    "wg-quick s": "save strip",
    "wg-quick up --d": "--dry-run",
    "wg-quick up o": "office",
    "wg-quick down ": "wg0",
    "wg-quick save ": "wg0",
    "wg-quick down wg0 ": "",
    "wgd --": "--foreground --help --verbose --version",
}
# Lines that offer files, among others: of these, these.
FILES = {
    "wg setconf wg0 ": "a.conf b.txt",
    "wg check ": "a.conf b.txt",
    "wg set wg0 private-key ": "a.conf b.txt",
    "wg set wg0 peer KEY preshared-key ": "a.conf b.txt",
    "wg-quick up ": "a.conf office",
    "wg-quick strip ": "a.conf office",
}

LAB = """\
set -e
mount -t tmpfs none /etc/wireguard
: >/etc/wireguard/office.conf
cd "$1"
: >a.conf
: >b.txt
PATH=$2:$PATH
wgd wg0
key=$(wg genkey | wg pubkey)
wg set wg0 peer "$key" endpoint 192.0.2.9:51820 allowed-ips 10.9.0.0/24,10.20.0.0/16
sed "s,KEY,$key," lines >asked
for shell in bash fish zsh; do
	"$3/complete.py" $shell "$4" <asked | sed "s,$key,KEY," >$shell
done
tcsh -f -c "source '$4/complete.tcsh'; complete" >tcsh
"""


class Completions(Case):
    @classmethod
    def setUpClass(cls):
        need_sandbox()
        cls.answers = None

    def setUp(self):
        super().setUp()
        if Completions.answers is None:
            lines = [*CASES, *FILES]
            (self.folder / "lines").write_text("".join(f"{line}\n" for line in lines))
            places = (self.folder, BUILT, HERE, TOOLS / "completions")
            run(TOP / "tools/sandbox", "timeout", "120", "sh", "-c", LAB, "sh", *places)
            Completions.answers = {
                shell: dict(zip(lines, (self.folder / shell).read_text().split("\n"), strict=False))
                for shell in ("bash", "fish", "zsh")
            }
            Completions.tcsh = (self.folder / "tcsh").read_text()

    def offers(self, shell):
        for line, wanted in CASES.items():
            found = self.answers[shell][line].split()
            # Two shells offer the short options too.
            found = [word for word in found if not (len(word) == 2 and word.startswith("-"))]
            with self.subTest(line=line):
                self.assertEqual(sorted(wanted.split()), sorted(found))
        for line, wanted in FILES.items():
            found = self.answers[shell][line].split()
            with self.subTest(line=line):
                self.assertLessEqual(set(wanted.split()), set(found))
                if "wg-quick" in line:
                    self.assertNotIn("b.txt", found)

    def test_bash(self):
        self.offers("bash")

    def test_fish(self):
        self.offers("fish")

    def test_zsh(self):
        self.offers("zsh")

    def test_tcsh_takes_its_rules(self):
        for program in ("wg", "wg-quick"):
            self.assertRegex(self.tcsh, rf"(?m)^{program}\s")
