#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# right.sh address: the machine at the other end of wg_other.sh. It does what it is told on TCP port 7000 of that address,
# as root: it is for a network with nobody else on it. tools/vm-test.py starts it in a machine of its own, with another
# driver of the name if_wg.
PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/libexec:/usr/local/sbin:/usr/local/bin
export PATH HOME=/root

mount -u -o rw / 2>/dev/null
mount -t tmpfs tmpfs /tmp 2>/dev/null
cd /tmp || exit
ifconfig lo0 inet 127.0.0.1/8 up
ifconfig vtnet0 inet "$1/24" up
ifconfig vtnet0 inet6 2001:db8::2/64 no_dad
sysctl -q net.inet6.ip6.dad_count=0 >/dev/null
sysctl -q kern.module_path='/boot/modules;/boot/kernel' >/dev/null
kldxref /boot/modules 2>/dev/null
kldload if_wg || exit
kldstat -vn if_wg
mkfifo answers
echo VM-TEST-READY
while :; do
	# shellcheck disable=SC2094 # a pipe in a circle
	nc -N -l "$1" 7000 <answers | sh >answers 2>&1
done
