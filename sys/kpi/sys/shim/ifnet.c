/* SPDX-License-Identifier: BSD-2-Clause */
/* Interfaces: what is a macro, or needs the interface's vnet. */

#include "opt_inet.h"
#include "opt_inet6.h"

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/mbuf.h>
#include <sys/socket.h>
#include <net/bpf.h>
#include <net/if.h>
#include <net/if_var.h>
#include <net/netisr.h>
#include <net/route.h>
#include <net/vnet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/ip6.h>
#include <netinet/icmp6.h>
#include <netinet6/in6_var.h>
#include <netinet6/nd6.h>

#include "kpi_shim.h"

void
kpi_if_name(struct ifnet *ifp, char *buf, size_t len)
{
	strlcpy(buf, if_name(ifp), len);
}

void
kpi_if_purgeaddrs(struct ifnet *ifp)
{
	CURVNET_SET(if_getvnet(ifp));
	if_purgeaddrs(ifp);
	CURVNET_RESTORE();
}

void
kpi_if_nd6_setup(struct ifnet *ifp)
{
#ifdef INET6
	ND_IFINFO(ifp)->flags &= ~ND6_IFF_AUTO_LINKLOCAL;
	ND_IFINFO(ifp)->flags |= ND6_IFF_NO_DAD;
#endif
}

uint32_t
kpi_if_input(struct ifnet *ifp, struct mbuf *m)
{
	struct mbuf *next;
	uint32_t refused;
	u_int fib;

	NET_EPOCH_ASSERT();
	refused = 0;
	/*
	 * An interface that moves to another vnet loses its data of IPv4 and IPv6, which the stack uses and no epoch keeps,
	 * before its driver hears of it.  It is marked down before that, and the driver's if_qflush then waits for us.
	 */
	if ((if_getflags(ifp) & IFF_UP) == 0) {
		for (; m != NULL; m = next) {
			next = m->m_nextpkt;
			m->m_nextpkt = NULL;
			m_freem(m);
			refused++;
		}
		return (refused);
	}
	fib = if_getfib(ifp);
	CURVNET_SET(if_getvnet(ifp));
	for (; m != NULL; m = next) {
		next = m->m_nextpkt;
		m->m_nextpkt = NULL;
		m->m_pkthdr.rcvif = ifp;
		M_SETFIB(m, fib);
		switch (*mtod(m, const uint8_t *) >> 4) {
#ifdef INET
		case IPVERSION:
			netisr_dispatch(NETISR_IP, m);
			break;
#endif
#ifdef INET6
		case IPV6_VERSION >> 4:
			netisr_dispatch(NETISR_IPV6, m);
			break;
#endif
		default:
			refused++;
			m_freem(m);
			break;
		}
	}
	CURVNET_RESTORE();
	return (refused);
}

void
kpi_bpf_tap(struct ifnet *ifp, struct mbuf *m, uint32_t af)
{
	if (bpf_peers_present_if(ifp))
		bpf_mtap2_if(ifp, &af, sizeof(af), m);
}

void
kpi_route_get(const struct route *ro, const struct sockaddr *dst, uint32_t *af, uint32_t *mtu)
{
	*af = RO_GET_FAMILY(ro, dst);
	*mtu = ro != NULL ? ro->ro_mtu : 0;
}

void
kpi_icmp_error(struct ifnet *ifp, struct mbuf *m, int af, int reason, uint32_t mtu)
{
	NET_EPOCH_ASSERT();
	CURVNET_SET(if_getvnet(ifp));
	switch (af) {
#ifdef INET
	case AF_INET: {
		static const uint8_t code[] = {
			[KPI_ICMP_HOST_UNREACH] = ICMP_UNREACH_HOST,
			[KPI_ICMP_TOO_BIG] = ICMP_UNREACH_NEEDFRAG,
			[KPI_ICMP_NO_ROUTE] = ICMP_UNREACH_NET,
		};

		icmp_error(m, ICMP_UNREACH, code[reason], 0, mtu);
		break;
	}
#endif
#ifdef INET6
	case AF_INET6:
		if (reason == KPI_ICMP_TOO_BIG)
			icmp6_error(m, ICMP6_PACKET_TOO_BIG, 0, mtu);
		else
			icmp6_error(m, ICMP6_DST_UNREACH,
			    reason == KPI_ICMP_NO_ROUTE ? ICMP6_DST_UNREACH_NOROUTE : ICMP6_DST_UNREACH_ADDR, 0);
		break;
#endif
	default:
		m_freem(m);
		break;
	}
	CURVNET_RESTORE();
}
