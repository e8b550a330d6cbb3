# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Completion of wg-quick(8) for bash.

_wg_quick()
{
	local cur=${COMP_WORDS[COMP_CWORD]} word command='' given=0 candidates=''
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case $word in
		-*) ;;
		*)
			command=${command:-$word}
			given=$((given + 1))
			;;
		esac
	done
	COMPREPLY=()
	if [[ $cur == -* ]]; then
		candidates=--help
		[[ $command == up ]] && candidates='--dry-run --help'
	elif ((given == 0)); then
		candidates='up down save strip help'
	elif ((given == 1)); then
		case $command in
		up | strip)
			compopt -o filenames 2>/dev/null
			candidates=$(_wg_quick_configured)
			mapfile -t COMPREPLY < <(compgen -f -X '!*.conf' -- "$cur" && compgen -d -- "$cur")
			;;
		down | save) candidates=$(command wg show interfaces 2>/dev/null) ;;
		esac
	fi
	mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$candidates" -- "$cur")
}

# Names of the configuration files that need no path.
_wg_quick_configured()
{
	local file
	for file in /etc/wireguard/*.conf /usr/local/etc/wireguard/*.conf; do
		[[ -e $file ]] || continue
		file=${file##*/}
		printf '%s\n' "${file%.conf}"
	done
}

complete -F _wg_quick wg-quick
