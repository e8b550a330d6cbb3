#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""examples.py linux|freebsd PAGE: a shell script that does what the examples of a manual page say, in their order.

Each literal block of a page follows a comment that says what it is:

  .\\" example: linux      commands for Linux        (freebsd: for FreeBSD; both: for either)
  .\\" example: file NAME  a file of that name, for the commands that come after it
  .\\" example: output     what the commands before it print; keys, and nothing else, may be others
  .\\" example: none: WHY  nothing that could be run

After that may come, behind a semicolon, one of these:

  setup: COMMAND          done before, and not shown to the reader; `keyed FILE` puts keys into a file of placeholders
  until: COMMAND          the commands do not end by themselves; they are ended when this succeeds

The script is for a machine or a namespace that can be spoiled, and a folder of its own; it says which example it runs,
and ends with the first one that fails. A block without such a comment is an error, so that no example is left out.
"""

import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

# What mdoc pages have for characters that roff or shells would take for something else.
ESCAPES = {"e": "\\", "&": "", "-": "-", "(aq": "'", "(ga": "`", "(dq": '"', "(ti": "~", "(ha": "^"}

PREAMBLE = """\
#!/bin/sh
# What a line of the page said, and what came of it.
fail() {
	echo "$1: $2"
	for said in output errors; do
		[ ! -s "$said" ] || sed "s/^/$said: /" "$said"
	done
	exit 1
}
keys() { sed -E 's,[A-Za-z0-9+/]{43}=|P[A-Z]+-KEY[A-Z-]*,KEY,g' "$1"; }
# keyed FILE: keys in place of what says where one belongs.
keyed() {
	sed -e "s,PRIVATE-KEY.*,$(wg genkey)," -e "s,PUBLIC-KEY.*,$(wg genkey | wg pubkey)," "$1" >keyed && cat keyed >"$1"
}
umask 077
mkdir -p /etc/wireguard
"""


@dataclass
class Block:
    """A literal block of a page: where it is, what it is, and its lines."""

    place: str
    kind: str
    argument: str
    text: str
    options: dict[str, str] = field(default_factory=dict)


def unescape(line, place):
    def replace(match):
        if match[1] not in ESCAPES:
            sys.exit(f"{place}: the escape \\{match[1]} is not known here")
        return ESCAPES[match[1]]

    return re.sub(r"\\(\(..|.)", replace, line)


def blocks(page):
    """All literal blocks of a page."""
    found, marker, start, lines = [], None, None, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        place = f"{page.name}:{number}"
        if line.startswith('.\\" example: '):
            marker = line.removeprefix('.\\" example: ')
        elif line.startswith(".Bd -literal"):
            if marker is None:
                sys.exit(f"{place}: nothing says how this block is tested")
            start, lines = place, []
        elif line.startswith(".Ed") and start:
            found.append(block(start, marker, "\n".join(lines) + "\n"))
            marker = start = None
        elif start:
            lines.append(unescape(line, place))
        elif re.match(r"\.D[1l]\b", line):
            sys.exit(f"{place}: a literal line that nothing tests; make it a block")
    return found


def block(place, marker, text):
    first, _, rest = marker.partition("; ")
    kind, _, argument = first.partition(" ")
    if kind.rstrip(":") not in ("linux", "freebsd", "both", "file", "output", "none"):
        sys.exit(f"{place}: {kind} is no kind of example")
    options = dict([rest.partition(": ")[::2]]) if rest else {}
    if unknown := set(options) - {"setup", "until"}:
        sys.exit(f"{place}: {unknown} cannot be said of an example")
    return Block(place, kind.rstrip(":"), argument, text, options)


def document(name, text):
    """Shell code that writes a file."""
    return f"cat >{shlex.quote(name)} <<'END OF EXAMPLE'\n{text}END OF EXAMPLE\n"


def script(page, system):
    parts, ran = [PREAMBLE], False
    for one in blocks(page):
        if one.kind == "file":
            parts.append(document(one.argument, one.text))
        elif one.kind == "output" and ran:
            parts.append(document("expected", one.text))
            parts.append(
                "keys output >got; keys expected >wanted\n"
                f"cmp -s got wanted || fail {one.place} 'the output is not this'\n"
            )
        elif one.kind != "output":
            ran = one.kind in (system, "both")
            if ran:
                parts.append(commands(one))
    return "".join(parts)


def commands(one):
    setup = one.options.get("setup")
    code = f"echo '{one.place}'\n" + document("example", one.text)
    if setup:
        code += f"( {setup} ) >output 2>errors || fail {one.place} 'its setup failed'\n"
    if "until" not in one.options:
        return code + f'sh -e ./example >output 2>errors </dev/null || fail {one.place} "status $?"\n'
    return code + (
        f"sh -e ./example >output 2>errors </dev/null & example=$!\n"
        f"tries=100\n"
        f"until ( {one.options['until']} ) 2>/dev/null; do\n"
        f"\ttries=$((tries - 1))\n"
        f"\t[ $tries -gt 0 ] || fail {one.place} 'it never came to what is expected of it'\n"
        f"\tsleep 0.1\n"
        f"done\n"
        f"kill $example; wait $example 2>/dev/null || :\n"
    )


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("linux", "freebsd"):
        sys.exit(__doc__)
    print(script(Path(sys.argv[2]), sys.argv[1]), end="")
