/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What no program of the base system does to an interface.
 *
 *   probe bpf-write IF    writes packets of all lengths and families to bpf(4) on it
 *   probe corrupt IF N    repeats N data messages that leave Ethernet interface IF, with a wrong authentication tag
 *   probe configure IF    feeds back the configuration of wg interface IF with each bit turned, and lies about sizes
 *
 * Exit status 0: it was done.  What must hold afterwards, the tests look at.
 */

#include <sys/types.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <net/bpf.h>
#include <net/if.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct wg_io {
	char name[IFNAMSIZ];
	void *data;
	size_t size;
};
#define	WG_SET	_IOWR('i', 210, struct wg_io)
#define	WG_GET	_IOWR('i', 211, struct wg_io)

static int
open_bpf(const char *ifname)
{
	struct ifreq ifr;
	int fd;

	fd = open("/dev/bpf", O_RDWR);
	if (fd < 0)
		err(1, "/dev/bpf");
	memset(&ifr, 0, sizeof(ifr));
	strlcpy(ifr.ifr_name, ifname, sizeof(ifr.ifr_name));
	if (ioctl(fd, BIOCSETIF, &ifr) < 0)
		err(1, "BIOCSETIF %s", ifname);
	return (fd);
}

static void
bpf_write(const char *ifname)
{
	/* AF_UNSPEC, AF_INET, AF_ARP, AF_INET6, AF_LINK, pseudo families, the same in the other byte order, nonsense. */
	static const uint32_t families[] = { 0, 2, 35, 28, 18, 31, 37, 255, 0x02000000, 0x1c000000, 0xffffffff };
	static const size_t long_ones[] = { 1420, 1421, 1424, 1500, 2048, 4096, 9000, 16384, 65000, 65535, 70000 };
	static uint8_t packet[70000];
	unsigned long taken, refused;
	size_t i, j, len;
	int fd;

	fd = open_bpf(ifname);
	taken = refused = 0;
	for (i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		for (j = 0; j < 200 + sizeof(long_ones) / sizeof(long_ones[0]); j++) {
			len = j < 200 ? j : long_ones[j - 200];
			memset(packet, j & 1 ? 0x45 : 0x60, sizeof(packet));
			memcpy(packet, &families[i], sizeof(families[i]));
			if (write(fd, packet, len) < 0)
				refused++;
			else
				taken++;
		}
	}
	printf("%lu taken, %lu refused\n", taken, refused);
}

static void
corrupt(const char *ifname, unsigned int want)
{
	struct bpf_hdr *bh;
	uint8_t *buf, *p, *frame, *ip, *udp;
	ssize_t n;
	u_int size, on;
	int fd;

	fd = open_bpf(ifname);
	on = BPF_D_OUT;
	if (ioctl(fd, BIOCSDIRECTION, &on) < 0)
		err(1, "BIOCSDIRECTION");
	on = 1;
	if (ioctl(fd, BIOCIMMEDIATE, &on) < 0 || ioctl(fd, BIOCSHDRCMPLT, &on) < 0 || ioctl(fd, BIOCGBLEN, &size) < 0)
		err(1, "bpf");
	buf = malloc(size);
	if (buf == NULL)
		err(1, "malloc");
	alarm(30);
	while (want > 0) {
		n = read(fd, buf, size);
		if (n < 0)
			err(1, "read");
		for (p = buf; p < buf + n && want > 0; p += BPF_WORDALIGN(bh->bh_hdrlen + bh->bh_caplen)) {
			bh = (struct bpf_hdr *)(void *)p;
			frame = p + bh->bh_hdrlen;
			ip = frame + 14;
			udp = ip + 20;
			/* IPv4 without options, UDP, a data message of more than nothing, and none of ours: no checksum. */
			if (bh->bh_caplen < 14 + 20 + 8 + 48 || frame[12] != 8 || frame[13] != 0 || ip[0] != 0x45 || ip[9] != 17 ||
			    udp[8] != 4 || (udp[6] == 0 && udp[7] == 0))
				continue;
			udp[6] = udp[7] = 0;
			frame[bh->bh_caplen - 1] ^= 1;
			if (write(fd, frame, bh->bh_caplen) < 0)
				err(1, "write");
			want--;
		}
	}
}

static void
configure(const char *ifname)
{
	static const size_t lies[] = { 0, 1, 18, 19, 20, 4096, 1UL << 20, 1UL << 31, 1UL << 40, SIZE_MAX };
	struct wg_io io;
	uint8_t *good, *bad;
	size_t size, bit, i;
	unsigned long refused, taken;
	int s;

	s = socket(AF_LOCAL, SOCK_DGRAM, 0);
	if (s < 0)
		err(1, "socket");
	memset(&io, 0, sizeof(io));
	strlcpy(io.name, ifname, sizeof(io.name));
	if (ioctl(s, WG_GET, &io) < 0)
		err(1, "SIOCGWG");
	size = io.size;
	good = malloc(size);
	bad = malloc(size);
	if (good == NULL || bad == NULL)
		err(1, "malloc");
	io.data = good;
	if (ioctl(s, WG_GET, &io) < 0)
		err(1, "SIOCGWG");
	refused = taken = 0;
	for (bit = 0; bit < size * 8; bit++) {
		memcpy(bad, good, size);
		bad[bit / 8] ^= 1 << (bit % 8);
		io.data = bad;
		io.size = size;
		if (ioctl(s, WG_SET, &io) < 0)
			refused++;
		else
			taken++;
	}
	for (i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		io.data = good;
		io.size = lies[i];
		if (lies[i] != size && ioctl(s, WG_SET, &io) == 0)
			errx(1, "size %zu was taken", lies[i]);
		io.data = NULL;
		io.size = lies[i];
		if (ioctl(s, WG_SET, &io) == 0)
			errx(1, "a null pointer was taken, size %zu", lies[i]);
		io.data = (void *)(uintptr_t)0xffffffff80200000;
		io.size = lies[i];
		if (ioctl(s, WG_SET, &io) == 0)
			errx(1, "a kernel address was taken, size %zu", lies[i]);
		io.data = (void *)(uintptr_t)0xffffffff80200000;
		io.size = lies[i];
		if (lies[i] != 0 && ioctl(s, WG_GET, &io) == 0)
			errx(1, "a kernel address was written to, size %zu", lies[i]);
	}
	printf("%zu bytes: %lu refused, %lu taken\n", size, refused, taken);
}

int
main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "bpf-write") == 0)
		bpf_write(argv[2]);
	else if (argc == 4 && strcmp(argv[1], "corrupt") == 0)
		corrupt(argv[2], (unsigned int)strtoul(argv[3], NULL, 10));
	else if (argc == 3 && strcmp(argv[1], "configure") == 0)
		configure(argv[2]);
	else
		errx(2, "usage: probe bpf-write IF | corrupt IF N | configure IF");
	return (0);
}
