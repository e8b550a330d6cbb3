/* SPDX-License-Identifier: BSD-2-Clause */
/* UDP sockets with a tunnel callback. */

#include "opt_inet.h"
#include "opt_inet6.h"

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/errno.h>
#include <sys/lock.h>
#include <sys/malloc.h>
#include <sys/mbuf.h>
#include <sys/proc.h>
#include <sys/protosw.h>
#include <sys/socket.h>
#include <sys/socketvar.h>
#include <net/vnet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <netinet/udp_var.h>

#include "kpi_shim.h"

/* Largest UDP datagram with its IPv6 header. */
#define	SEND_ROOM	(65535 + 40)

static int
set_option(struct socket *so, int level, int name, uint32_t value)
{
	struct sockopt opt = {
		.sopt_dir = SOPT_SET,
		.sopt_level = level,
		.sopt_name = name,
		.sopt_val = &value,
		.sopt_valsize = sizeof(value),
	};

	return (sosetopt(so, &opt));
}

static int
bind_any(struct socket *so, int af, uint16_t port)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in sin;
		struct sockaddr_in6 sin6;
	} u;

	memset(&u, 0, sizeof(u));
	if (af == AF_INET) {
		u.sin.sin_len = sizeof(u.sin);
		u.sin.sin_family = AF_INET;
		u.sin.sin_port = htons(port);
	} else {
		u.sin6.sin6_len = sizeof(u.sin6);
		u.sin6.sin6_family = AF_INET6;
		u.sin6.sin6_port = htons(port);
	}
	return (sobind(so, &u.sa, curthread));
}

/* The port is at one place in both kinds of address. */
_Static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port), "port");

static int
bound_port(struct socket *so, uint16_t *port)
{
#if __FreeBSD_version >= 1500000
	struct sockaddr_storage ss = { .ss_len = sizeof(ss) };
	int error;

	error = sosockaddr(so, (struct sockaddr *)&ss);
	if (error == 0)
		*port = ntohs(((struct sockaddr_in *)&ss)->sin_port);
#else
	struct sockaddr *sa;
	int error;

	sa = NULL;
	error = so->so_proto->pr_sockaddr(so, &sa);
	if (error == 0) {
		*port = ntohs(((struct sockaddr_in *)sa)->sin_port);
		free(sa, M_SONAME);
	}
#endif
	return (error);
}

int
kpi_udp_open(int af, uint16_t port, uint32_t fib, uint32_t user_cookie, struct ucred *cred, kpi_udp_input_t *fn,
    void *ctx, struct socket **sop, uint16_t *bound)
{
	struct thread *td = curthread;
	struct ucred *saved;
	struct socket *so;
	int error;

#ifndef INET
	if (af == AF_INET)
		return (EAFNOSUPPORT);
#endif
#ifndef INET6
	if (af == AF_INET6)
		return (EAFNOSUPPORT);
#endif
	/*
	 * The vnet is the credential's, whatever the present one is.  So are the rights: what a jail may not have, ports below
	 * 1024 for example, it gets by no thread that has more of them, and netlink(4) has threads of the host's.
	 */
	saved = td->td_ucred;
	td->td_ucred = cred;
	error = socreate(af, &so, SOCK_DGRAM, IPPROTO_UDP, cred, td);
	if (error != 0) {
		td->td_ucred = saved;
		return (error);
	}
	CURVNET_SET(so->so_vnet);
	/* A datagram larger than the send buffer is refused, and the default is 9216 bytes.  If the limit of the user's
	 * socket memory does not allow more, large packets fail, and nothing else. */
	(void)soreserve(so, SEND_ROOM, so->so_rcv.sb_hiwat);
	error = udp_set_kernel_tunneling(so, fn, NULL, ctx);
	/* IPv4 has a socket of its own, which must not depend on a sysctl to get its packets. */
	if (error == 0 && af == AF_INET6)
		error = set_option(so, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (error == 0)
		error = set_option(so, SOL_SOCKET, SO_SETFIB, fib);
	if (error == 0 && user_cookie != 0)
		error = set_option(so, SOL_SOCKET, SO_USER_COOKIE, user_cookie);
	if (error == 0)
		error = bind_any(so, af, port);
	if (error == 0)
		error = bound_port(so, bound);
	if (error == 0)
		*sop = so;
	else
		soclose(so);
	CURVNET_RESTORE();
	td->td_ucred = saved;
	return (error);
}

int
kpi_udp_set_fib(struct socket *so, uint32_t fib)
{
	return (set_option(so, SOL_SOCKET, SO_SETFIB, fib));
}

int
kpi_udp_set_user_cookie(struct socket *so, uint32_t cookie)
{
	return (set_option(so, SOL_SOCKET, SO_USER_COOKIE, cookie));
}

static struct mbuf *
source_control(const struct sockaddr *src)
{
	if (src->sa_family == AF_INET) {
		struct in_addr in = ((const struct sockaddr_in *)(const void *)src)->sin_addr;

		return (sbcreatecontrol(&in, sizeof(in), IP_SENDSRCADDR, IPPROTO_IP, M_NOWAIT));
	} else {
		const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)(const void *)src;
		struct in6_pktinfo info = {
			.ipi6_addr = sin6->sin6_addr,
			.ipi6_ifindex = sin6->sin6_scope_id,
		};

		return (sbcreatecontrol(&info, sizeof(info), IPV6_PKTINFO, IPPROTO_IPV6, M_NOWAIT));
	}
}

int
kpi_udp_send(struct socket *so, struct mbuf *m, const struct sockaddr *dst, const struct sockaddr *src)
{
	struct mbuf *control;
	int error;

	control = NULL;
	if (src != NULL) {
		control = source_control(src);
		if (control == NULL) {
			m_freem(m);
			return (ENOBUFS);
		}
	}
	CURVNET_SET(so->so_vnet);
	/* Takes the packet and the control message in every case, and only reads the address. */
	error = sosend(so, __DECONST(struct sockaddr *, dst), NULL, m, control, 0, curthread);
	CURVNET_RESTORE();
	return (error);
}

void
kpi_udp_close(struct socket *so)
{
	/*
	 * The callback stays set to the end.  udp_set_kernel_tunneling(so, NULL, ...) would race with the input path,
	 * which tests the function pointer under the lock but calls through it after letting the lock go.
	 */
	soclose(so);
}
