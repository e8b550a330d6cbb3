#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""complete.py SHELL FOLDER: what a shell offers for lines that stand on standard input; FOLDER has the completions.

The shell is a real one: bash calls the function that was registered, fish is asked, and zsh, which completes only on a
terminal, gets one. For each line there is a line of candidates, sorted, with a tab between them.
"""

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

BASH = """\
for file in "$1"/*.bash; do . "$file"; done
while IFS= read -r COMP_LINE; do
	COMP_POINT=${#COMP_LINE}
	read -ra COMP_WORDS <<<"$COMP_LINE"
	[[ $COMP_LINE != *' ' ]] || COMP_WORDS+=('')
	COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
	COMPREPLY=()
	function=$(complete -p "${COMP_WORDS[0]}") && function=${function#*-F } && ${function%% *}
	printf '%s\\n' "${COMPREPLY[@]}" | sort -u | paste -sd '\\t'
done
"""

FISH = """\
for file in $argv[1]/*.fish; source $file; end
while read -l line
    echo (complete -C $line | string replace --regex '\\t.*' '' | sort -u | string join \\t)
end
"""

# All that completion functions offer goes through compadd, so that tells; with some options it adds nothing.
ZSH = """\
unset zle_bracketed_paste; unsetopt prompt_cr prompt_sp beep; PS1=
fpath=($folder $fpath); autoload -Uz compinit; compinit -D -u
compadd() {
	if (( ! ${@[(I)-[OAD]]} )); then
		local -a offered
		builtin compadd -O offered "$@"
		print -rl -- candidate:$^offered >>$said
	fi
	builtin compadd "$@"
}
offer() { _main_complete; compstate[list]= compstate[insert]=; }
zle -C offer complete-word offer
bindkey '^T' offer
finish() { print end >>$said; BUFFER= }
zle -N finish
bindkey '^X' finish
print ready >>$said
"""


def bash(folder, lines):
    done = subprocess.run(["bash", "--norc", "-c", BASH, "bash", folder], input=lines, capture_output=True, text=True)
    return done.stdout.splitlines() if not done.stderr else sys.exit(done.stderr)


def fish(folder, lines):
    done = subprocess.run(["fish", "--no-config", "-c", FISH, folder], input=lines, capture_output=True, text=True)
    return done.stdout.split("\n")[:-1] if not done.stderr else sys.exit(done.stderr)


def zsh(folder, lines):
    said = Path.cwd() / "candidates"
    said.unlink(missing_ok=True)
    os.mkfifo(said)
    setup = Path.cwd() / "setup.zsh"
    setup.write_text(ZSH)
    child, terminal = pty.fork()
    if not child:
        os.execvpe("zsh", ["zsh", "-f", "-i"], os.environ | {"TERM": "dumb", "folder": folder, "said": str(said)})
    # What it shows is of no interest, but has to go somewhere.
    threading.Thread(target=drain, args=(terminal,), daemon=True).start()
    answers = []
    # Open for both, so that there is no end of file between what is written piece by piece.
    with os.fdopen(os.open(said, os.O_RDWR)) as pipe:
        os.write(terminal, f". {shlex.quote(str(setup))}\n".encode())
        pipe.readline()
        for line in lines.splitlines():
            os.write(terminal, line.encode() + b"\x14\x18")
            found = set()
            while (word := pipe.readline().rstrip("\n")) != "end":
                found.add(word.removeprefix("candidate:"))
            answers.append("\t".join(sorted(found - {""})))
    os.kill(child, signal.SIGHUP)
    os.waitpid(child, 0)
    for file in (said, setup):
        file.unlink()
    return answers


def drain(terminal):
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass


def main():
    # No configuration and history of the user's.
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        os.environ[name] = str(Path.cwd() / "home")
    shells = {"bash": bash, "fish": fish, "zsh": zsh}
    answers = shells[sys.argv[1]](sys.argv[2], sys.stdin.read())
    for answer in answers:
        print("\t".join(sorted(re.sub(r"\\(.)", r"\1", answer).split("\t"))))


if __name__ == "__main__":
    main()
