#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# build.sh folder: makes folder/vmlinuz and folder/initramfs of what tools/setup.sh unpacked into
# folder/unpacked: busybox, this machine's wg, and the few kernel modules that a peer needs.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
root=$PWD/root
rm -rf "$root"
mkdir -p "$root"/{bin,dev,proc,sys,tmp,modules}
install -m 755 unpacked/bin/busybox "$root/bin/busybox"
install -m 755 "$here/init" "$root/init"
ln -s busybox "$root/bin/sh"

wg=$(command -v wg)
install -m 755 "$wg" "$root/bin/wg"
for library in $(ldd "$wg" | grep -o '/[^ ]*'); do
	install -D -m 755 "$library" "$root$library"
done

version=$(ls unpacked/lib/modules)
depmod -b unpacked "$version"
for module in virtio_pci virtio_net wireguard; do
	modprobe -d unpacked -S "$version" --show-depends "$module" | sed 's/^insmod //; s/ *$//'
done | awk '!seen[$0]++' | while read -r file; do
	cp "$file" "$root/modules/"
	basename "$file" >>"$root/modules/order"
done

(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >initramfs
cp unpacked/boot/vmlinuz-"$version" vmlinuz
