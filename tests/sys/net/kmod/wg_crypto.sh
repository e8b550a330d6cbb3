#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=kmod.subr disable=SC2154
#
# Every backend of the packet cipher in turn: our own portable and vector code, and the kernel's crypto framework with
# what it has by itself (cryptosoft) and with ossl(4).

. "$(atf_get_srcdir)/kmod.subr"

# with_backend name shown: the module anew, with this backend.
with_backend() {
	need kenv
	loaded && check kldunload if_wg
	check kenv -q "net.wg.crypto=$1" >/dev/null
	check kldload if_wg
	is "$(sysctl -n net.wg.crypto)" "$2" "the backend"
}
# No later test shall have a backend of ours.
reset_backend() {
	kenv -qu net.wg.crypto
	clean_up
	kldstat -qn ossl && kldunload ossl
	true
}
# carries: packets of all sizes, a stream, and a forged packet that is dropped, counted and moves nothing.
carries() {
	pair 4
	all_ways
	stream a b 10.77.0.2 1
	[ ! -x "$dir/probe" ] || forge
	unload
}
# sessions: what the crypto framework has allocated now.
sessions() { vmstat -m | awk '$1 == "crypto" { print $2 }'; }

kmod_case portable 120 "the backend in plain code"
portable_cleanup() { reset_backend; }
portable_body() {
	with_backend portable portable
	carries
}

kmod_case ring 120 "the backend in vector code"
ring_cleanup() { reset_backend; }
ring_body() {
	with_backend ring ring
	carries
}

kmod_case ocf 120 "the backend in the crypto framework, with the kernel's own software"
ocf_cleanup() { reset_backend; }
ocf_body() {
	kldstat -qn ossl && check kldunload ossl
	allocated=$(sessions)
	with_backend ocf "ocf (cryptosoft0)"
	carries
	is "$(sessions)" "$allocated" "what the crypto framework has allocated"
}

kmod_case ossl 120 "the backend in the crypto framework, with ossl(4)"
ossl_cleanup() { reset_backend; }
ossl_body() {
	kldload -n ossl || atf_skip "no ossl here"
	allocated=$(sessions)
	with_backend ocf "ocf (ossl0)"
	# It would go away under its sessions.
	refuse kldunload ossl
	carries
	is "$(sessions)" "$allocated" "what the crypto framework has allocated"
	check kldunload ossl
}
