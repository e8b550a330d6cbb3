#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Compares wg(4) with the driver: every message that it can print, and every sysctl, is in the manual, and no other.

tools/lint.sh runs it. Values in a message are the same wherever it is written: {id} in Rust, %d in C and in the manual.
"""

import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
MANUAL = TOP / "share/man/man4/wg.4"
RUST = ("sys/dev/wg/if_wg/src", "sys/dev/wg/wg/src", "sys/kpi/src", "sys/kpi/vector/src", "sys/modules/wg/src")
SHIMS = "sys/kpi/sys/shim"
# What opens a message in Rust. The third is a panic.
RUST_MESSAGE = re.compile(
    r"""(?:\b(?:debug|log)\(\s*format_args!\(|\binfo\(\s*format_args!\(|\bkpi_info!\(|\bhalt\(\s*c|\bkpi_panic\(\s*c)
        \s*"((?:[^"\\]|\\.)*)" """,
    re.VERBOSE,
)
C_MESSAGE = re.compile(r'\b(?:if_)?(?:printf|log|panic)\((?:[a-zA-Z_>-]+,\s*)?"((?:[^"\\]|\\.)*)"')
# A node of net.wg, in one of the forms that the driver has for them.
SYSCTL = re.compile(r'(?:=>|registrar\s*\.\s*\w+\(|\(\s*registrar,)\s*c"([a-z0-9_]+)"')


def plain(message):
    """The message with one sign for each value, without line end and the driver's name, which the kernel puts there."""
    message = re.sub(r"\{[^}]*\}|%[-.*0-9]*[a-z]+", "%", message.replace("\\n", ""))
    return message.removeprefix("if_wg: ")


def in_the_code():
    messages, sysctls = {}, {}
    for folder in RUST:
        for path in sorted((TOP / folder).rglob("*.rs")):
            text = re.sub(r"^\s*//.*", "", path.read_text(), flags=re.MULTILINE)
            for found in RUST_MESSAGE.finditer(text):
                messages[plain(found[1])] = path
            if folder.endswith("if_wg/src"):
                for found in SYSCTL.finditer(text):
                    sysctls[f"net.wg.{found[1]}"] = path
    for path in sorted((TOP / SHIMS).glob("*.c")):
        for found in C_MESSAGE.finditer(path.read_text()):
            messages[plain(found[1])] = path
    # What only carries another message.
    messages.pop("%", None)
    return messages, sysctls


def in_the_manual():
    text = MANUAL.read_text()
    diagnostics = text.partition("\n.Sh DIAGNOSTICS\n")[2].partition("\n.Sh ")[0]
    messages = {plain(found) for found in re.findall(r'^\.It "(.*)"$', diagnostics, flags=re.MULTILINE)}
    return messages, set(re.findall(r"\bnet\.wg\.[a-z0-9_]+", text))


def main():
    messages, sysctls = in_the_code()
    known_messages, known_sysctls = in_the_manual()
    wrong = [f"{messages[m].relative_to(TOP)}: «{m}» is not in wg(4)" for m in sorted(messages.keys() - known_messages)]
    wrong += [f"wg(4): nothing prints «{m}»" for m in sorted(known_messages - messages.keys())]
    wrong += [f"{sysctls[s].relative_to(TOP)}: {s} is not in wg(4)" for s in sorted(sysctls.keys() - known_sysctls)]
    wrong += [f"wg(4): there is no {s}" for s in sorted(known_sysctls - sysctls.keys())]
    if len(messages) < 10 or len(sysctls) < 10:
        wrong.append(f"found {len(messages)} messages and {len(sysctls)} sysctls: this check does not know the code any more")
    print(*wrong, sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
