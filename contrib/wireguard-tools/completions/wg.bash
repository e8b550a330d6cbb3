# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Completion of wg(8) for bash.

# The line is read anew: bash breaks words at = and :, which keys and endpoints have in them.
_wg()
{
	local line=${COMP_LINE:0:COMP_POINT} words cur previous candidates='' files=''
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=('')
	local count=${#words[@]}
	cur=${words[count - 1]} previous=${words[count - 2]}
	COMPREPLY=()

	if ((count == 2)); then
		candidates='show showconf set setconf addconf syncconf check genkey genpsk pubkey help version'
		[[ $cur == -* ]] && candidates='--help --version'
	else
		case ${words[1]} in
		show) _wg_show ;;
		showconf) ((count == 3)) && candidates=$(_wg_interfaces) ;;
		setconf | addconf | syncconf)
			((count == 3)) && candidates=$(_wg_interfaces)
			((count == 4)) && files=yes
			;;
		check) ((count == 3)) && files=yes ;;
		set) _wg_set ;;
		esac
	fi

	if [[ $files ]]; then
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
	fi
	mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$cur")
	# What bash takes for words of their own is already there.
	local kept=${cur%"${cur##*[=:]}"}
	COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}

_wg_interfaces() { command wg show interfaces 2>/dev/null; }

# _wg_column interface field key: a peer's value in `wg show interface field`.
_wg_column() { command wg show "$1" "$2" 2>/dev/null | awk -v key="$3" '$1 == key && $2 != "(none)" { $1 = ""; print }'; }

_wg_show()
{
	local word device='' given=0
	for word in "${words[@]:2:count-3}"; do
		case $word in
		-*) ;;
		*)
			device=${device:-$word}
			given=$((given + 1))
			;;
		esac
	done
	if [[ $cur == -* ]]; then
		candidates='--json --watch --count= --help'
	elif ((given == 0)); then
		candidates="$(_wg_interfaces) all interfaces"
	elif ((given == 1)) && [[ $device != interfaces && " ${words[*]} " != *' --'* ]]; then
		candidates='public-key private-key listen-port fwmark peers preshared-keys endpoints allowed-ips
			latest-handshakes transfer persistent-keepalive dump'
	fi
}

_wg_set()
{
	local device=${words[2]} peer='' position
	for ((position = 3; position < count - 1; position++)); do
		[[ ${words[position]} == peer ]] && peer=${words[position + 1]}
	done
	if ((count == 3)); then
		candidates=$(_wg_interfaces)
		return
	fi
	case $previous in
	listen-port) ;;
	fwmark) candidates=off ;;
	persistent-keepalive) candidates='off 25' ;;
	private-key | preshared-key) files=yes ;;
	peer) candidates=$(command wg show "$device" peers 2>/dev/null) ;;
	endpoint) candidates=$(_wg_column "$device" endpoints "$peer") ;;
	allowed-ips)
		candidates=$(_wg_column "$device" allowed-ips "$peer")
		candidates=${candidates# }
		candidates=${candidates// /,}
		;;
	*)
		if [[ $peer ]]; then
			candidates='remove preshared-key endpoint persistent-keepalive allowed-ips peer'
		else
			candidates='listen-port fwmark private-key peer'
		fi
		;;
	esac
}

complete -F _wg wg
