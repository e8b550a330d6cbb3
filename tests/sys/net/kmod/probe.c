/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What no program of the base system does to an interface.  Exit status 0: it was done.  What must hold afterwards, the
 * tests look at.
 */

#include "probe.h"

#include <net/bpf.h>
#include <netinet/in.h>
#include <arpa/inet.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* bpf_write: packets of all lengths and families. */
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
			/* The kernel answers a write of nothing itself. */
			if (write(fd, packet, len) < 0)
				refused++;
			else if (len > 0)
				taken++;
		}
	}
	/* None of them is a packet that anybody could get. */
	if (taken != 0)
		errx(1, "%lu writes succeeded", taken);
	printf("%lu writes refused\n", refused);
}

/*
 * again: repeats data messages that leave an Ethernet interface, as many as wanted, as they are or with a wrong
 * authentication tag.
 */
static void
again(const char *ifname, unsigned int want, bool corrupt)
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
			if (corrupt)
				frame[bh->bh_caplen - 1] ^= 1;
			if (write(fd, frame, bh->bh_caplen) < 0)
				err(1, "write");
			want--;
		}
	}
}

/* spray: datagrams of all lengths, half of them with the first word of a message. */
static void
spray(const char *host, unsigned int port, unsigned int count)
{
	/* What each kind of message is long; the last is a data message. */
	static const size_t lengths[] = { 148, 92, 64, 32, 48, 1452 };
	struct sockaddr_in sin = { .sin_len = sizeof(sin), .sin_family = AF_INET };
	struct sockaddr_in6 sin6 = { .sin6_len = sizeof(sin6), .sin6_family = AF_INET6 };
	static uint8_t data[65000];
	unsigned int i;
	size_t len;
	int s;

	sin.sin_port = sin6.sin6_port = htons((uint16_t)port);
	if (inet_pton(AF_INET, host, &sin.sin_addr) == 1) {
		s = socket(AF_INET, SOCK_DGRAM, 0);
		if (s < 0 || connect(s, (struct sockaddr *)&sin, sizeof(sin)) < 0)
			err(1, "%s", host);
	} else {
		if (inet_pton(AF_INET6, host, &sin6.sin6_addr) != 1)
			errx(2, "%s is no address", host);
		s = socket(AF_INET6, SOCK_DGRAM, 0);
		if (s < 0 || connect(s, (struct sockaddr *)&sin6, sizeof(sin6)) < 0)
			err(1, "%s", host);
	}
	for (i = 0; i < count; i++) {
		len = i < 300 ? i : lengths[i % (sizeof(lengths) / sizeof(lengths[0]))];
		if (i % 1000 == 999)
			len = sizeof(data);
		arc4random_buf(data, len < 256 ? 256 : 256 + i % 64);
		if (i % 2 == 0)
			memcpy(data, (const uint8_t[4]) { (uint8_t)(1 + i / 2 % 5), 0, 0, 0 }, 4);
		/* A full queue is no reason to end. */
		if (send(s, data, len, 0) < 0 && errno != ENOBUFS && errno != EMSGSIZE && errno != ECONNREFUSED)
			err(1, "send of %zu bytes", len);
	}
}

/* as: runs a command as another user, with nothing of root's left. */
static void
as(unsigned int uid, char **command)
{
	gid_t gid = (gid_t)uid;

	if (setgroups(1, &gid) < 0 || setgid(gid) < 0 || setuid((uid_t)uid) < 0)
		err(1, "user %u", uid);
	execvp(command[0], command);
	err(127, "%s", command[0]);
}

/* hold: has a socket on that port that takes datagrams of any length and reads none. */
static void
hold(const char *port)
{
	struct sockaddr_in sin = { .sin_len = sizeof(sin), .sin_family = AF_INET };
	int s, room = 1 << 20;

	sin.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
	s = socket(AF_INET, SOCK_DGRAM, 0);
	if (s < 0 || setsockopt(s, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) < 0 ||
	    bind(s, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		err(1, "port %s", port);
	for (;;)
		pause();
}

/* lump: one datagram of so many bytes. */
static void
lump(const char *host, unsigned int port, unsigned int len)
{
	static uint8_t data[65507];
	struct sockaddr_in sin = { .sin_len = sizeof(sin), .sin_family = AF_INET };
	int s, room = sizeof(data);

	sin.sin_port = htons((uint16_t)port);
	if (inet_pton(AF_INET, host, &sin.sin_addr) != 1 || len > sizeof(data))
		errx(2, "%s, %u bytes", host, len);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	if (s < 0 || setsockopt(s, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) < 0 ||
	    sendto(s, data, len, 0, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		err(1, "%s", host);
}

static unsigned int
decimal(const char *text)
{
	return ((unsigned int)strtoul(text, NULL, 10));
}

int
main(int argc, char **argv)
{
	const char *job = argc > 1 ? argv[1] : "";

	if (argc == 3 && strcmp(job, "bpf-write") == 0)
		bpf_write(argv[2]);
	else if (argc == 4 && strcmp(job, "corrupt") == 0)
		again(argv[2], decimal(argv[3]), true);
	else if (argc == 4 && strcmp(job, "repeat") == 0)
		again(argv[2], decimal(argv[3]), false);
	else if (argc == 5 && strcmp(job, "spray") == 0)
		spray(argv[2], decimal(argv[3]), decimal(argv[4]));
	else if (argc == 3 && strcmp(job, "hold") == 0)
		hold(argv[2]);
	else if (argc == 5 && strcmp(job, "lump") == 0)
		lump(argv[2], decimal(argv[3]), decimal(argv[4]));
	else if (argc >= 4 && strcmp(job, "as") == 0)
		as(decimal(argv[2]), argv + 3);
	else if (argc == 3 && strcmp(job, "netlink-create") == 0)
		netlink_create(argv[2]);
	else if (argc == 3 && strcmp(job, "configure") == 0)
		configure(argv[2]);
	else if (argc == 3 && strcmp(job, "protocol") == 0)
		protocol(argv[2]);
	else if (argc == 3 && strcmp(job, "refused") == 0)
		refused(argv[2]);
	else if (argc == 6 && strcmp(job, "allowed") == 0)
		allowed(argv[2], argv[3], argv[4], argv[5]);
	else
		errx(2, "usage: probe bpf-write IF | corrupt IF N | repeat IF N | spray HOST PORT N |\n"
		    "       probe hold PORT | lump HOST PORT BYTES | as UID COMMAND...\n"
		    "       probe netlink-create IF | configure IF | protocol IF | refused IF | allowed IF HEX-KEY +|- PREFIX");
	return (0);
}
