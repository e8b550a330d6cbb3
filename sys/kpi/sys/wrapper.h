/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What bindgen reads.  Only layouts and constants are taken from here; the functions are declared by hand in
 * src/native.rs and src/shim.rs, where each has its context and its safety contract.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/callout.h>
#include <sys/epoch.h>
#include <sys/errno.h>
#include <sys/gtaskqueue.h>
#include <sys/kernel.h>
#include <sys/lock.h>
#include <sys/malloc.h>
#include <sys/mbuf.h>
#include <sys/mutex.h>
#include <sys/priv.h>
#include <sys/rwlock.h>
#include <sys/socket.h>
#include <sys/sockio.h>
#include <sys/sx.h>
#include <net/bpf.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_types.h>
#include <net/if_var.h>
#include <netinet/in.h>
/* Where the kernel has it, and where it is installed. */
#if __has_include(<opencrypto/cryptodev.h>)
#include <opencrypto/cryptodev.h>
#else
#include <crypto/cryptodev.h>
#endif

/* Macros that bindgen cannot evaluate (casts, sizeof), as numbers of the same meaning. */
enum {
	KPI_M_EXT = M_EXT,
	KPI_M_PKTHDR = M_PKTHDR,
	KPI_M_RDONLY = M_RDONLY,
	KPI_M_BCAST = M_BCAST,
	KPI_M_MCAST = M_MCAST,
	KPI_M_PROMISC = M_PROMISC,
	KPI_M_VLANTAG = M_VLANTAG,
	KPI_M_EXTPG = M_EXTPG,
	KPI_EXT_MOD_TYPE = EXT_MOD_TYPE,
	KPI_M_TSTMP = M_TSTMP,
	KPI_M_PROTOFLAGS = M_PROTOFLAGS,
	KPI_MLEN = MLEN,
	KPI_MHLEN = MHLEN,
	KPI_CSUM_DATA_VALID = CSUM_L4_CALC,
	KPI_CSUM_PSEUDO_HDR = CSUM_L4_VALID,
	KPI_CSUM_SND_TAG = CSUM_SND_TAG,
	KPI_M_HASHTYPE_OPAQUE = M_HASHTYPE_OPAQUE,
	KPI_M_NODOM = M_NODOM,
	KPI_IFF_DRV_RUNNING = IFF_DRV_RUNNING,
	KPI_IFCAP_LINKSTATE = IFCAP_LINKSTATE,
	KPI_IFCAP_NETMAP = IFCAP_NETMAP,
	KPI_IFT_WIREGUARD = IFT_WIREGUARD,
	KPI_PACKET_TAG_MACLABEL = PACKET_TAG_MACLABEL,
};
enum kpi_ioctl : unsigned long {
	KPI_SIOCSIFADDR = SIOCSIFADDR,
	KPI_SIOCSIFFLAGS = SIOCSIFFLAGS,
	KPI_SIOCSIFMTU = SIOCSIFMTU,
	KPI_SIOCADDMULTI = SIOCADDMULTI,
	KPI_SIOCDELMULTI = SIOCDELMULTI,
	KPI_SIOCGTUNFIB = SIOCGTUNFIB,
	KPI_SIOCSTUNFIB = SIOCSTUNFIB,
};
