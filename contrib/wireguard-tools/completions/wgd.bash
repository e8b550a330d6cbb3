# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Completion of wgd(8) for bash. A name for a new interface is the user's to find.

_wgd()
{
	mapfile -t COMPREPLY < <(compgen -W '--foreground --verbose --help --version' -- "${COMP_WORDS[COMP_CWORD]}")
}

complete -F _wgd wgd
