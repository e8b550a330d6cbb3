/* SPDX-License-Identifier: BSD-2-Clause */
/* The road to the cloner that ifconfig(8) does not take: RTM_NEWLINK on a netlink(4) socket. */

#include "probe.h"

#include <netlink/netlink.h>
#include <netlink/netlink_route.h>

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct request {
	struct nlmsghdr header;
	struct ifinfomsg info;
	char attributes[128];
};

/* Puts an attribute at the end of the message; returns it. */
static struct nlattr *
attribute(struct request *r, uint16_t type, const void *data, size_t len)
{
	struct nlattr *a = (struct nlattr *)(void *)((char *)r + r->header.nlmsg_len);

	a->nla_type = type;
	a->nla_len = (uint16_t)(sizeof(*a) + len);
	memcpy(a + 1, data, len);
	r->header.nlmsg_len += (uint32_t)((a->nla_len + 3) & ~3);
	return (a);
}

/* netlink-create: asks for an interface of kind wg with that name, and says what the kernel answers. */
void
netlink_create(const char *ifname)
{
	struct sockaddr_nl kernel = { .nl_len = sizeof(kernel), .nl_family = AF_NETLINK };
	struct request r = {
		.header = {
			.nlmsg_len = sizeof(r.header) + sizeof(r.info),
			.nlmsg_type = RTM_NEWLINK,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
			.nlmsg_seq = 1,
		},
	};
	union {
		struct nlmsghdr header;
		char bytes[4096];
	} answer;
	struct nlattr *nest;
	ssize_t n;
	int s;

	s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	if (s < 0)
		err(3, "netlink(4)");
	attribute(&r, IFLA_IFNAME, ifname, strlen(ifname) + 1);
	nest = attribute(&r, IFLA_LINKINFO, "", 0);
	attribute(&r, IFLA_INFO_KIND, "wg", sizeof("wg"));
	nest->nla_len = (uint16_t)((char *)&r + r.header.nlmsg_len - (char *)nest);
	if (sendto(s, &r, r.header.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		err(3, "netlink(4)");
	alarm(30);
	for (;;) {
		n = recv(s, &answer, sizeof(answer), 0);
		if (n < (ssize_t)sizeof(answer.header))
			err(3, "netlink(4)");
		if (answer.header.nlmsg_type == NLMSG_ERROR && answer.header.nlmsg_seq == 1)
			break;
	}
	errno = ((struct nlmsgerr *)(void *)(&answer.header + 1))->error;
	if (errno != 0)
		err(1, "%s", ifname);
}
