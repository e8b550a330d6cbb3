#!/usr/bin/env atf-sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh source=lab.subr
#
# The cross-platform text protocol on the control socket, line by line, as other programs than wg(8) may
# speak it. Error numbers are Linux's here: the socket is a Linux interface.

. "$(atf_get_srcdir)/lab.subr"

one() {
	hosts a
	tunnel a wg0
}

# ask request-lines: sends them with real newlines and an empty line at the end; prints the answer.
# shellcheck disable=SC2059 # the newlines are written as \n
ask() { printf "$1\n\n" | "$lab_dir/uapi.py" wg0; }
# errno request: the number in the answer.
errno() { ask "$1" | sed -n 's/^errno=//p'; }
hexkey() { printf "%064x" "$1"; }
# accepted request
accepted() { is "$(errno "set=1\n$1")" 0 "errno for «$1»"; }
field() { ask get=1 | sed -n "s/^$1=//p"; }

lab_case get 60 "get=1 of a fresh interface, and the shape of the answer"
get_body() {
	one
	ask get=1 >answer
	cat answer
	# Clients that take an answer without these for an incomplete one are right: the kernel always gives them.
	if [ "$WGD_KIND" = wgd ]; then
		is "$(field listen_port)" 0 listen_port
		is "$(field fwmark)" 0 fwmark
	fi
	is "$(tail -n 2 answer | head -n 1)" errno=0 "last line"
	is "$(tail -n 1 answer)" "" "line after the last"
}

lab_case set_get 60 "every key goes in and comes out"
set_get_body() {
	one
	accepted "private_key=$(hexkey 0x48)\nlisten_port=7001\nfwmark=291\nreplace_peers=true
public_key=$(hexkey 11)\npreshared_key=$(hexkey 12)\nendpoint=192.0.2.5:9\npersistent_keepalive_interval=111
replace_allowed_ips=true\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::/8
public_key=$(hexkey 13)\nprotocol_version=1\nendpoint=[2001:db8::5]:10"
	ask get=1 >answer
	cat answer
	for line in "private_key=$(hexkey 0x48)" listen_port=7001 fwmark=291 "public_key=$(hexkey 11)" \
		"preshared_key=$(hexkey 12)" endpoint=192.0.2.5:9 persistent_keepalive_interval=111 \
		allowed_ip=10.0.0.0/8 allowed_ip=fd00::/8 "public_key=$(hexkey 13)" protocol_version=1 \
		"endpoint=[2001:db8::5]:10" rx_bytes=0 tx_bytes=0 last_handshake_time_sec=0 \
		last_handshake_time_nsec=0 errno=0; do
		grep -qxF "$line" answer || fail "get lacks «$line»"
	done
}

lab_case several_requests 60 "several requests on one connection"
several_requests_body() {
	one
	printf 'set=1\nlisten_port=7002\n\nget=1\n\nset=1\nlisten_port=7003\n\nget=1\n\n' |
		"$lab_dir/uapi.py" wg0 >answer
	cat answer
	is "$(grep -c '^errno=0$' answer)" 4 "answers"
	is "$(grep '^listen_port' answer | tr '\n' ' ')" "listen_port=7002 listen_port=7003 " ports
}

lab_case update_only 60 "update_only never makes a peer"
update_only_body() {
	one
	accepted "public_key=$(hexkey 21)\nupdate_only=true\nallowed_ip=10.0.0.0/8"
	is "$(field public_key)" "" peers
	accepted "public_key=$(hexkey 21)\nallowed_ip=10.0.0.0/8"
	accepted "public_key=$(hexkey 21)\nupdate_only=true\nallowed_ip=10.1.0.0/16"
	is "$(field allowed_ip | sort | tr '\n' ' ')" "10.0.0.0/8 10.1.0.0/16 " allowed_ip
}

lab_case remove_allowed_ip 60 "allowed_ip=-... takes one away"
remove_allowed_ip_body() {
	one
	[ "$WGD_KIND" = wgd ] || atf_skip "$WGD_KIND is too old for it"
	accepted "public_key=$(hexkey 31)\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::/8
public_key=$(hexkey 32)\nallowed_ip=10.1.0.0/16"
	accepted "public_key=$(hexkey 31)\nallowed_ip=-fd00::/8"
	is "$(field allowed_ip | sort | tr '\n' ' ')" "10.0.0.0/8 10.1.0.0/16 " allowed_ip
	# Another peer's, one that nobody has, and twice the same: no error, no effect.
	accepted "public_key=$(hexkey 31)\nallowed_ip=-10.1.0.0/16"
	accepted "public_key=$(hexkey 31)\nallowed_ip=-10.9.0.0/16\nallowed_ip=-10.9.0.0/16"
	is "$(field allowed_ip | sort | tr '\n' ' ')" "10.0.0.0/8 10.1.0.0/16 " allowed_ip
}

lab_case refusals 60 "what is wrong is refused and changes nothing"
refusals_body() {
	one
	[ "$WGD_KIND" = wgd ] || atf_skip "$WGD_KIND keeps what came before the error"
	accepted "private_key=$(hexkey 0x48)\nlisten_port=7004\npublic_key=$(hexkey 41)\nallowed_ip=10.0.0.0/8"
	p41="public_key=$(hexkey 41)" p42="public_key=$(hexkey 42)"
	{
		for bad in private_key=abc "private_key=$(hexkey 1)00" private_key= listen_port=65536 \
			listen_port=-1 listen_port=x listen_port= fwmark=4294967296 replace_peers=yes unknown=1 \
			nonsense "=" public_key=1 allowed_ip=10.0.0.0/8 endpoint=1.2.3.4:5; do
			echo "$bad"
			# The same after something that is right: nothing of the request may happen.
			echo "listen_port=7999|$bad"
		done
		for bad in preshared_key=1 endpoint=1.2.3.4 endpoint=1.2.3.4:65536 'endpoint=[::1]:' \
			endpoint=host:1 persistent_keepalive_interval=65536 persistent_keepalive_interval=x \
			allowed_ip=10.0.0.0/33 allowed_ip=fd00::/129 allowed_ip=10.0.0/8 allowed_ip=x/8 \
			replace_allowed_ips=1 update_only=false remove=no protocol_version=2 listen_port=1; do
			echo "$p42|$bad"
			echo "$p42|allowed_ip=10.0.0.0/8|$p41|$bad"
		done
	} >requests
	check "$lab_dir/uapi.py" wg0 refused <requests
	[ "$(errno unknown=1)" != 0 ] || fail "accepted a request that is neither get nor set"
}

lab_case garbage 60 "garbage on the socket harms nobody else"
garbage_body() {
	one
	head -c 100000 /dev/urandom | "$lab_dir/uapi.py" wg0 >/dev/null 2>&1
	head -c 3000000 /dev/zero | "$lab_dir/uapi.py" wg0 >/dev/null 2>&1
	printf 'set=1' | "$lab_dir/uapi.py" wg0 >/dev/null 2>&1
	printf 'set=1\nlisten_port=7005\n' | "$lab_dir/uapi.py" wg0 >/dev/null 2>&1
	printf '' | "$lab_dir/uapi.py" wg0 >/dev/null 2>&1
	accepted listen_port=7006
	is "$(field listen_port)" 7006 listen_port
}

lab_case many_clients 60 "connections that say nothing do not block others"
many_clients_body() {
	one
	"$lab_dir/uapi.py" wg0 idle 300 >idle.log 2>&1 &
	idle=$!
	eventually 10 grep -q connected idle.log
	accepted listen_port=7007
	for _ in $(seq 4); do
		(for _ in $(seq 10); do ask get=1 >/dev/null || echo failed >>failures; done) &
		workers="$workers $!"
	done
	# shellcheck disable=SC2086 # a list
	wait $workers
	[ ! -e failures ] || fail "requests failed"
	# They have kept their connections, and are served when they say something at last.
	kill -USR1 "$idle"
	wait "$idle" || fail "idle clients were cut: $(cat idle.log)"
}
