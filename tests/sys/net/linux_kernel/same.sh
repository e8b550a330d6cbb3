#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Sourced in the emulated machine by wg_genetlink.sh: wg is the stock program and ours is ours. Whatever differs is
# shown, and ends the script.
cd /tmp || exit

# run file command...: what it says, and its status, go to the file.
run() {
	to=$1
	shift
	"$@" >"$to" 2>&1 </dev/null
	echo "status $?" >>"$to"
}

# equal argument...: the files stock and ours have the same words. Neither a program's own name matters, nor how
# another C library words an error. (Processes are slow in an emulator, so that none is run without need.)
equal() {
	cmp -s stock ours && return
	sed "s|^ours:|wg:|; s|^Usage: ours |Usage: wg |
		s|: Not supported$|: Operation not supported|
		s|: Result not representable$|: Numerical result out of range|" ours >ours.wg
	cmp -s stock ours.wg && return
	echo "wg $* (stock first):"
	diff stock ours.wg | head -n 20
	return 1
}

# same argument...: both programs say the same.
same() {
	run stock wg "$@"
	run ours ours "$@"
	equal "$@" || exit
}

# same_pretty environment argument...: the same, with these variables.
same_pretty() {
	environment=$1
	shift
	# shellcheck disable=SC2086 # a list of assignments
	run stock env $environment wg "$@"
	# shellcheck disable=SC2086
	run ours env $environment ours "$@"
	equal "$@"
}

# same_as_somebody argument...: the same, for an ordinary user.
same_as_somebody() {
	for program in wg ours; do
		case $program in wg) to=stock ;; *) to=ours ;; esac
		su somebody -s /bin/sh -c "$program $*" >$to 2>&1
		echo "status $?" >>$to
	done
	equal "$@" || exit
}

# state argument...: `set` by the stock program on wgb and by ours on wga, and the kernel says the same of both.
state() {
	run stock wg set wgb "$@"
	run ours ours set wga "$@"
	equal set "$@" || exit
	same_state || exit
}

# same_state: the interfaces wga and wgb have the same configuration, but for ports that the kernel chose.
same_state() {
	for name in wga wgb; do
		# The port is the third word of the first line.
		wg show $name dump | sed '1s/	[0-9]*	\([0-9a-fxo]*\)$/	port	\1/' >state.$name
	done
	cmp -s state.wga state.wgb && return
	echo "the kernel's state differs (stock first):"
	diff state.wgb state.wga | head -n 20
	return 1
}

# again times command...: as often as that, until it succeeds.
again() {
	times=$1
	shift
	until "$@"; do
		times=$((times - 1))
		[ $times -gt 0 ] || exit
	done
}

# eventually command: within a quarter of a minute.
eventually() {
	for _ in $(seq 150); do
		sh -c "$1" >/dev/null && return
		usleep 100000
	done
	echo "never succeeded: $1"
	exit 1
}
