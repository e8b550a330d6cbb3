/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The part of probe that speaks to the driver's two ioctls itself: what wg(8) checks before it asks, and what it never
 * asks, has to be judged by the driver.
 */

#include "probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define	KEY	32

int
wg_socket(void)
{
	int s;

	s = socket(AF_LOCAL, SOCK_DGRAM, 0);
	if (s < 0)
		err(1, "socket");
	return (s);
}

static void
wg_name(struct wg_io *io, const char *ifname)
{
	memset(io, 0, sizeof(*io));
	strlcpy(io->name, ifname, sizeof(io->name));
}

uint8_t *
wg_get(int s, const char *ifname, size_t *size)
{
	struct wg_io io;
	uint8_t *data;

	wg_name(&io, ifname);
	if (ioctl(s, WG_GET, &io) < 0)
		err(1, "SIOCGWG for the size");
	data = malloc(io.size);
	if (data == NULL)
		err(1, "malloc");
	io.data = data;
	if (ioctl(s, WG_GET, &io) < 0)
		err(1, "SIOCGWG");
	*size = io.size;
	return (data);
}

int
wg_set(int s, const char *ifname, void *data, size_t size)
{
	struct wg_io io;

	wg_name(&io, ifname);
	io.data = data;
	io.size = size;
	return (ioctl(s, WG_SET, &io) < 0 ? errno : 0);
}

/* --- a writer of packed nvlists, that writes nonsense too ------------------------------------------------------- */

enum { NV_BOOL = 2, NV_NUMBER = 3, NV_LIST = 5, NV_DESCRIPTOR = 6, NV_BINARY = 7, NV_ARRAY = 11, NV_DESCRIPTORS = 12,
    NV_NEXT = 254 };

struct message {
	uint8_t b[8192];
	size_t n;
	size_t header[32];	/* where the headers are, whose sizes are known at the end */
	size_t headers;
};

static void
put(struct message *m, const void *data, size_t len)
{
	if (len > sizeof(m->b) - m->n)
		errx(1, "message too long");
	memcpy(m->b + m->n, data, len);
	m->n += len;
}

static void
put64(struct message *m, uint64_t v)
{
	put(m, &v, sizeof(v));
}

static void
list(struct message *m)
{
	if (m->headers == sizeof(m->header) / sizeof(m->header[0]))
		errx(1, "too many lists");
	m->header[m->headers++] = m->n;
	put(m, "l\0\0", 3);
	put64(m, 0);
	put64(m, 0);
}

static void
pair(struct message *m, int type, const char *name, uint64_t size, uint64_t items)
{
	uint8_t t = (uint8_t)type;
	uint16_t len = (uint16_t)(strlen(name) + 1);

	put(m, &t, 1);
	put(m, &len, 2);
	put64(m, size);
	put64(m, items);
	put(m, name, len);
}

static void
number(struct message *m, const char *name, uint64_t v)
{
	pair(m, NV_NUMBER, name, 8, 0);
	put64(m, v);
}

static void
boolean(struct message *m, const char *name, bool v)
{
	uint8_t b = v;

	pair(m, NV_BOOL, name, 1, 0);
	put(m, &b, 1);
}

static void
binary(struct message *m, const char *name, const void *data, size_t len)
{
	pair(m, NV_BINARY, name, len, 0);
	put(m, data, len);
}

static void
next(struct message *m)
{
	pair(m, NV_NEXT, "", 0, 0);
}

static void
finish(struct message *m)
{
	uint64_t rest;
	size_t i;

	for (i = 0; i < m->headers; i++) {
		rest = m->n - m->header[i] - 19;
		memcpy(m->b + m->header[i] + 11, &rest, 8);
	}
}

static void
begin(struct message *m)
{
	memset(m, 0, sizeof(*m));
	list(m);
}

static void
address(struct message *m, const char *text)
{
	uint8_t a[16];

	if (inet_pton(AF_INET, text, a) == 1)
		binary(m, "ipv4", a, 4);
	else if (inet_pton(AF_INET6, text, a) == 1)
		binary(m, "ipv6", a, 16);
	else
		errx(1, "%s is no address", text);
}

static void
prefix(struct message *m, const char *text, uint64_t len)
{
	list(m);
	number(m, "cidr", len);
	address(m, text);
	next(m);
}

/* --- configuration messages that must be refused ----------------------------------------------------------------- */

/* Each comes behind what would be changes: of the port, and of a peer that is already there. */
enum wrong {
	PORT, COOKIE, PRIVATE_SHORT, PRIVATE_LONG, NO_PEER_KEY, SHORT_PEER_KEY, PSK_SHORT, PSK_LONG, KEEPALIVE,
	ENDPOINT_EMPTY_FAMILY, ENDPOINT_SHORT, ENDPOINT_LONG, ENDPOINT_SWAPPED, ENDPOINT_PORT_0, CIDR4, CIDR6, CIDR_HUGE,
	IPV4_SHORT, IPV6_SHORT, FLAGS, TYPE_DESCRIPTOR, TYPE_DESCRIPTORS, TWICE, UNFINISHED, CASES
};
static const struct {
	const char *what;
	int error;
} wrongs[CASES] = {
	[PORT] = { "port 65536", EINVAL },
	[COOKIE] = { "user cookie 2^32", EINVAL },
	[PRIVATE_SHORT] = { "private key of 31 bytes", EINVAL },
	[PRIVATE_LONG] = { "private key of 33 bytes", EINVAL },
	[NO_PEER_KEY] = { "peer without public key", EINVAL },
	[SHORT_PEER_KEY] = { "public key of 16 bytes", EINVAL },
	[PSK_SHORT] = { "preshared key of 31 bytes", EINVAL },
	[PSK_LONG] = { "preshared key of 64 bytes", EINVAL },
	[KEEPALIVE] = { "keepalive 65536", EINVAL },
	[ENDPOINT_EMPTY_FAMILY] = { "endpoint of no family", EINVAL },
	[ENDPOINT_SHORT] = { "endpoint of 4 bytes", EINVAL },
	[ENDPOINT_LONG] = { "endpoint of 128 bytes", EINVAL },
	[ENDPOINT_SWAPPED] = { "IPv6 endpoint of an IPv4 one's length", EINVAL },
	[ENDPOINT_PORT_0] = { "endpoint with port 0", EINVAL },
	[CIDR4] = { "IPv4 prefix of 33 bits", EINVAL },
	[CIDR6] = { "IPv6 prefix of 129 bits", EINVAL },
	[CIDR_HUGE] = { "prefix of 2^32 + 24 bits", EINVAL },
	[IPV4_SHORT] = { "IPv4 address of 3 bytes", EINVAL },
	[IPV6_SHORT] = { "IPv6 address of 15 bytes", EINVAL },
	[FLAGS] = { "flags of an allowed IP that nobody knows", EOPNOTSUPP },
	[TYPE_DESCRIPTOR] = { "a pair of type 6", EBADMSG },
	[TYPE_DESCRIPTORS] = { "a pair of type 12", EBADMSG },
	[TWICE] = { "the same name twice", EBADMSG },
	[UNFINISHED] = { "a byte behind the end", EBADMSG },
};

static void
wrong_interface(struct message *m, enum wrong w)
{
	static const uint8_t bytes[64] = { 7 };

	number(m, "listen-port", w == PORT ? 65536 : 1);
	if (w == COOKIE)
		number(m, "user-cookie", 1ULL << 32);
	if (w == PRIVATE_SHORT || w == PRIVATE_LONG)
		binary(m, "private-key", bytes, w == PRIVATE_SHORT ? KEY - 1 : KEY + 1);
	if (w == TYPE_DESCRIPTOR || w == TYPE_DESCRIPTORS) {
		pair(m, w == TYPE_DESCRIPTOR ? NV_DESCRIPTOR : NV_DESCRIPTORS, "fd", 8, 1);
		put64(m, 0);
	}
	if (w == TWICE)
		number(m, "listen-port", 2);
}

static void
wrong_endpoint(struct message *m, enum wrong w)
{
	struct sockaddr_in6 sin6 = { .sin6_len = sizeof(sin6), .sin6_family = AF_INET6, .sin6_port = htons(9) };
	struct sockaddr_in sin = { .sin_len = sizeof(sin), .sin_family = AF_INET, .sin_port = htons(9) };
	uint8_t bytes[128] = { 0 };

	switch (w) {
	case ENDPOINT_EMPTY_FAMILY:
		binary(m, "endpoint", bytes, sizeof(sin));
		break;
	case ENDPOINT_SHORT:
		binary(m, "endpoint", &sin, 4);
		break;
	case ENDPOINT_LONG:
		memcpy(bytes, &sin6, sizeof(sin6));
		binary(m, "endpoint", bytes, sizeof(bytes));
		break;
	case ENDPOINT_SWAPPED:
		sin6.sin6_len = sizeof(sin);
		binary(m, "endpoint", &sin6, sizeof(sin));
		break;
	case ENDPOINT_PORT_0:
		sin.sin_port = 0;
		binary(m, "endpoint", &sin, sizeof(sin));
		break;
	default:
		break;
	}
}

static void
wrong_prefix(struct message *m, enum wrong w)
{
	static const uint8_t bytes[16] = { 10 };

	list(m);
	switch (w) {
	case CIDR4:
		number(m, "cidr", 33);
		binary(m, "ipv4", bytes, 4);
		break;
	case CIDR6:
		number(m, "cidr", 129);
		binary(m, "ipv6", bytes, 16);
		break;
	case CIDR_HUGE:
		number(m, "cidr", (1ULL << 32) + 24);
		binary(m, "ipv4", bytes, 4);
		break;
	case IPV4_SHORT:
		number(m, "cidr", 8);
		binary(m, "ipv4", bytes, 3);
		break;
	case IPV6_SHORT:
		number(m, "cidr", 8);
		binary(m, "ipv6", bytes, 15);
		break;
	default:
		if (w == FLAGS)
			number(m, "flags", 0x80);
		number(m, "cidr", 8);
		binary(m, "ipv4", bytes, 4);
		break;
	}
	next(m);
}

/* A whole message: a change of the port, a new peer that is right, a new one that has what is wrong. */
static void
wrong_message(struct message *m, enum wrong w)
{
	uint8_t key[KEY] = { 42 };
	static const uint8_t psk[64] = { 1 };

	begin(m);
	wrong_interface(m, w);
	boolean(m, "replace-peers", true);
	pair(m, NV_ARRAY, "peers", 0, 2);
	list(m);
	binary(m, "public-key", key, KEY);
	pair(m, NV_ARRAY, "allowed-ips", 0, 1);
	prefix(m, "203.0.113.0", 24);
	next(m);
	list(m);
	key[0]++;
	if (w != NO_PEER_KEY)
		binary(m, "public-key", key, w == SHORT_PEER_KEY ? 16 : KEY);
	binary(m, "preshared-key", psk, w == PSK_SHORT ? KEY - 1 : w == PSK_LONG ? 64 : KEY);
	number(m, "persistent-keepalive-interval", w == KEEPALIVE ? 65536 : 25);
	wrong_endpoint(m, w);
	pair(m, NV_ARRAY, "allowed-ips", 0, 2);
	prefix(m, "2001:db8::", 32);
	wrong_prefix(m, w);
	next(m);
	finish(m);
	if (w == UNFINISHED)
		put(m, "x", 1);
}

/* refused: each of them gets its errno, and the interface is afterwards, byte by byte, what it was before. */
void
refused(const char *ifname)
{
	struct message m;
	uint8_t *before, *after;
	size_t before_size, after_size;
	int s, w, error;

	s = wg_socket();
	before = wg_get(s, ifname, &before_size);
	for (w = 0; w < CASES; w++) {
		wrong_message(&m, w);
		error = wg_set(s, ifname, m.b, m.n);
		if (error != wrongs[w].error)
			errx(1, "%s: error %d, expected %d", wrongs[w].what, error, wrongs[w].error);
		after = wg_get(s, ifname, &after_size);
		if (after_size != before_size || memcmp(after, before, after_size) != 0)
			errx(1, "%s: something was changed", wrongs[w].what);
		free(after);
	}
	/* With nothing wrong in it, it is taken: what was refused was not refused for another reason. */
	wrong_message(&m, CASES);
	error = wg_set(s, ifname, m.b, m.n);
	if (error != 0)
		errx(1, "the right message: error %d", error);
	printf("%d messages refused\n", (int)CASES);
}

/* allowed: gives a prefix to the peer (+) or takes it (-), and leaves its others alone. */
void
allowed(const char *ifname, const char *hex, const char *sign, const char *text)
{
	struct message m;
	uint8_t key[KEY];
	char buf[64], *slash;
	unsigned int byte;
	int error, i;

	for (i = 0; i < KEY; i++) {
		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			errx(2, "%s is no key in hexadecimal", hex);
		key[i] = (uint8_t)byte;
	}
	strlcpy(buf, text, sizeof(buf));
	slash = strchr(buf, '/');
	if (slash == NULL)
		errx(2, "%s is no prefix", text);
	*slash = '\0';
	begin(&m);
	pair(&m, NV_ARRAY, "peers", 0, 1);
	list(&m);
	binary(&m, "public-key", key, KEY);
	pair(&m, NV_ARRAY, "allowed-ips", 0, 1);
	list(&m);
	if (sign[0] == '-')
		number(&m, "flags", 1);
	number(&m, "cidr", strtoul(slash + 1, NULL, 10));
	address(&m, buf);
	next(&m);
	next(&m);
	finish(&m);
	error = wg_set(wg_socket(), ifname, m.b, m.n);
	if (error != 0)
		errc(1, error, "SIOCSWG");
}

/* --- the protocol of the ioctls ---------------------------------------------------------------------------------- */

static void
expect(const char *what, int got, int expected)
{
	if (got != expected)
		errx(1, "%s: error %d, expected %d", what, got, expected);
}

static int
get_raw(int s, const char *ifname, void *data, size_t *size)
{
	struct wg_io io;
	int error;

	wg_name(&io, ifname);
	io.data = data;
	io.size = *size;
	error = ioctl(s, WG_GET, &io) < 0 ? errno : 0;
	*size = io.size;
	return (error);
}

/* protocol: how sizes, pointers and names are dealt with. */
void
protocol(const char *ifname)
{
	/* As a program of 32 bits has it. */
	struct {
		char name[IFNAMSIZ];
		uint32_t data, size;
	} narrow;
	struct message m;
	uint8_t *buf;
	size_t size, got, i;
	int s, inet;

	s = wg_socket();
	buf = wg_get(s, ifname, &size);
	free(buf);
	buf = malloc(size + 100);
	if (buf == NULL)
		err(1, "malloc");

	memset(buf, 0xa5, size + 100);
	got = size - 1;
	expect("room for one byte less", get_raw(s, ifname, buf, &got), ENOSPC);
	if (got != size - 1)
		errx(1, "a failed call changed the size");
	got = 1;
	expect("room for one byte", get_raw(s, ifname, buf, &got), ENOSPC);
	for (i = 0; i < size + 100; i++)
		if (buf[i] != 0xa5)
			errx(1, "a failed call wrote to the buffer");
	got = size + 100;
	expect("more room than needed", get_raw(s, ifname, buf, &got), 0);
	if (got != size)
		errx(1, "size %zu, expected %zu", got, size);
	for (i = size; i < size + 100; i++)
		if (buf[i] != 0xa5)
			errx(1, "more than the size was written");
	got = size;
	expect("no buffer", get_raw(s, ifname, NULL, &got), EFAULT);
	got = 0;
	expect("no interface of this name", get_raw(s, "wg12345", buf, &got), ENXIO);
	expect("an interface of another kind", get_raw(s, "lo0", buf, &got) == 0, 0);

	expect("nothing", wg_set(s, ifname, NULL, 0), EFAULT);
	expect("no bytes", wg_set(s, ifname, buf, 0), EFAULT);
	expect("no pointer", wg_set(s, ifname, NULL, 100), EFAULT);
	expect("a pointer to nowhere", wg_set(s, ifname, (void *)8, 100), EFAULT);
	expect("2 GiB", wg_set(s, ifname, buf, 0x7fffffff), E2BIG);
	expect("all of memory", wg_set(s, ifname, buf, SIZE_MAX), E2BIG);
	memset(buf, 0, size);
	expect("zeros", wg_set(s, ifname, buf, size), EBADMSG);
	begin(&m);
	finish(&m);
	expect("an empty list", wg_set(s, ifname, m.b, m.n), 0);
	begin(&m);
	number(&m, "colour", 4);
	boolean(&m, "listen-port", true);
	finish(&m);
	expect("an unknown name, and a known one of another type", wg_set(s, ifname, m.b, m.n), 0);

	/* wg(8) has used this family before. */
	inet = socket(AF_INET, SOCK_DGRAM, 0);
	if (inet >= 0) {
		got = 0;
		expect("by an Internet socket", get_raw(inet, ifname, NULL, &got), 0);
	}
	memset(&narrow, 0, sizeof(narrow));
	strlcpy(narrow.name, ifname, sizeof(narrow.name));
	if (ioctl(s, _IOWR('i', 211, narrow), &narrow) == 0)
		errx(1, "the ioctl of another size was taken");
	/* Neighbours of the numbers. */
	wg_name((struct wg_io *)(void *)buf, ifname);
	for (i = 200; i < 256; i++)
		if (i != 210 && i != 211)
			(void)ioctl(s, _IOWR('i', i, struct wg_io), buf);
	free(buf);
	printf("%zu bytes\n", size);
}

/* configure: feeds back the configuration with each bit turned, and lies about sizes. */
void
configure(const char *ifname)
{
	static const size_t lies[] = { 0, 1, 18, 19, 20, 4096, 1UL << 20, 1UL << 31, 1UL << 40, SIZE_MAX };
	void *kernel = (void *)(uintptr_t)0xffffffff80200000;
	uint8_t *good, *bad;
	size_t size, got, bit, i;
	unsigned long refusals, taken;
	int s;

	s = wg_socket();
	good = wg_get(s, ifname, &size);
	bad = malloc(size);
	if (bad == NULL)
		err(1, "malloc");
	refusals = taken = 0;
	for (bit = 0; bit < size * 8; bit++) {
		memcpy(bad, good, size);
		bad[bit / 8] ^= 1 << (bit % 8);
		if (wg_set(s, ifname, bad, size) != 0)
			refusals++;
		else
			taken++;
	}
	for (i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		if (lies[i] != size && wg_set(s, ifname, good, lies[i]) == 0)
			errx(1, "size %zu was taken", lies[i]);
		if (wg_set(s, ifname, NULL, lies[i]) == 0)
			errx(1, "a null pointer was taken, size %zu", lies[i]);
		if (wg_set(s, ifname, kernel, lies[i]) == 0)
			errx(1, "a kernel address was taken, size %zu", lies[i]);
		got = lies[i];
		if (lies[i] != 0 && get_raw(s, ifname, kernel, &got) == 0)
			errx(1, "a kernel address was written to, size %zu", lies[i]);
	}
	printf("%zu bytes: %lu refused, %lu taken\n", size, refusals, taken);
}
