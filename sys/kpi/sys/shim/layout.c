/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The layouts that Rust was given by bindgen, checked with the compiler and headers that the module is built with.
 * The numbers are those of ../src/layout.rs, from a FreeBSD 14.2 kernel for amd64.
 */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/callout.h>
#include <sys/epoch.h>
#include <sys/gtaskqueue.h>
#include <sys/lock.h>
#include <sys/mbuf.h>
#include <sys/mutex.h>
#include <sys/priv.h>
#include <sys/rwlock.h>
#include <sys/socket.h>
#include <sys/sockio.h>
#include <sys/sx.h>
#include <sys/ucred.h>
#include <net/bpf.h>
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

#include "kpi_shim.h"

#define	SIZE(type, n)		_Static_assert(sizeof(type) == (n), "size of " #type)
#define	OFFSET(type, field, n)	_Static_assert(offsetof(type, field) == (n), "offset of " #type "." #field)
#define	VALUE(name, n)		_Static_assert((name) == (n), "value of " #name)

SIZE(struct mbuf, 256);
SIZE(struct pkthdr, 64);
SIZE(struct m_tag, 24);
SIZE(struct callout, 64);
SIZE(struct mtx, 32);
SIZE(struct rwlock, 32);
SIZE(struct sx, 32);
SIZE(struct gtask, 32);
SIZE(struct grouptask, 120);
SIZE(struct epoch_context, 16);
SIZE(struct epoch_tracker, 32);
SIZE(struct ifreq, 32);
SIZE(struct sockaddr_in, 16);
SIZE(struct sockaddr_in6, 28);
SIZE(struct cryptop, 280);
SIZE(struct crypto_session_params, 56);

OFFSET(struct mbuf, m_data, 16);
OFFSET(struct mbuf, m_len, 24);
OFFSET(struct mbuf, m_pkthdr, 32);
OFFSET(struct mbuf, m_ext, 96);
OFFSET(struct mbuf, m_pktdat, 96);
OFFSET(struct pkthdr, tags, 16);
OFFSET(struct pkthdr, len, 24);
OFFSET(struct pkthdr, csum_flags, 32);
OFFSET(struct pkthdr, fibnum, 36);
OFFSET(struct pkthdr, rsstype, 39);
OFFSET(struct m_ext, ext_size, 8);
OFFSET(struct m_ext, ext_buf, 16);
OFFSET(struct grouptask, gt_taskqueue, 32);
OFFSET(struct ifreq, ifr_ifru, 16);
OFFSET(struct cryptop, crp_etype, 60);
OFFSET(struct cryptop, crp_flags, 64);
OFFSET(struct cryptop, crp_iv, 160);

VALUE(MLEN, 224);
VALUE(MHLEN, 160);
VALUE(M_EXT, 1);
VALUE(M_PKTHDR, 2);
VALUE(M_RDONLY, 8);
VALUE(M_EXTPG, 0x100);
VALUE(EXT_FLAG_EMBREF, 1);
VALUE(EXT_MOD_TYPE, 253);
VALUE(IFF_DRV_RUNNING, 0x40);
VALUE(IFCAP_LINKSTATE, 0x80000);
VALUE(IFCAP_NETMAP, 0x100000);
VALUE(IFT_WIREGUARD, 248);
VALUE(PACKET_TAG_MACLABEL, 2067);
VALUE(PRIV_NET_WG, 424);
VALUE(PRIV_NET_SETIFFIB, 419);
VALUE(CRYPTO_CHACHA20_POLY1305, 41);
VALUE(CSP_MODE_AEAD, 4);
VALUE(CRYPTO_F_CBIMM | CRYPTO_F_IV_SEPARATE, 0x210);
VALUE(CRYPTOCAP_F_SOFTWARE, 0x2000000);
VALUE(CRYPTOCAP_F_SYNC, 0x4000000);
VALUE(SIOCSIFMTU, 0x80206934);
VALUE(SIOCSIFFLAGS, 0x80206910);
VALUE(SIOCGTUNFIB, 0xc020695e);
VALUE(SIOCSTUNFIB, 0x8020695f);

/* The functions that Rust declares under the kernel's own names, as ../src/native.rs has them. */
#define	PROTOTYPE(fn, ...)							\
	_Static_assert(__builtin_types_compatible_p(__typeof__(fn), __VA_ARGS__), "prototype of " #fn)

PROTOTYPE(m_freem, void (struct mbuf *));
PROTOTYPE(m_adj, void (struct mbuf *, int));
PROTOTYPE(m_pullup, struct mbuf *(struct mbuf *, int));
PROTOTYPE(m_prepend, struct mbuf *(struct mbuf *, int, int));
PROTOTYPE(m_copydata, void (const struct mbuf *, int, int, caddr_t));
PROTOTYPE(m_tag_delete, void (struct mbuf *, struct m_tag *));
PROTOTYPE(if_alloc, struct ifnet *(u_char));
PROTOTYPE(if_free, void (struct ifnet *));
PROTOTYPE(if_attach, void (struct ifnet *));
PROTOTYPE(if_detach, void (struct ifnet *));
PROTOTYPE(if_ref, void (struct ifnet *));
PROTOTYPE(if_rele, void (struct ifnet *));
PROTOTYPE(if_initname, void (struct ifnet *, const char *, int));
PROTOTYPE(if_getsoftc, void *(struct ifnet *));
PROTOTYPE(if_setsoftc, int (struct ifnet *, void *));
PROTOTYPE(if_getflags, int (struct ifnet *));
PROTOTYPE(if_setflags, int (struct ifnet *, int));
PROTOTYPE(if_getdrvflags, int (struct ifnet *));
PROTOTYPE(if_setdrvflagbits, int (struct ifnet *, int, int));
PROTOTYPE(if_getcapenable, int (struct ifnet *));
PROTOTYPE(if_setcapenable, int (struct ifnet *, int));
PROTOTYPE(if_setcapabilities, int (struct ifnet *, int));
PROTOTYPE(if_getmtu, int (struct ifnet *));
PROTOTYPE(if_setmtu, int (struct ifnet *, int));
PROTOTYPE(if_getfib, u_int (struct ifnet *));
PROTOTYPE(if_inc_counter, void (struct ifnet *, ift_counter, int64_t));
PROTOTYPE(if_link_state_change, void (struct ifnet *, int));
PROTOTYPE(if_setinitfn, void (struct ifnet *, void (*)(void *)));
PROTOTYPE(if_setioctlfn, void (struct ifnet *, int (*)(struct ifnet *, u_long, caddr_t)));
PROTOTYPE(if_setoutputfn, void (struct ifnet *,
    int (*)(struct ifnet *, struct mbuf *, const struct sockaddr *, struct route *)));
PROTOTYPE(if_settransmitfn, void (struct ifnet *, int (*)(struct ifnet *, struct mbuf *)));
PROTOTYPE(if_setinputfn, void (struct ifnet *, void (*)(struct ifnet *, struct mbuf *)));
PROTOTYPE(if_setqflushfn, void (struct ifnet *, void (*)(struct ifnet *)));
PROTOTYPE(if_setreassignfn, void (struct ifnet *, void (*)(struct ifnet *, struct vnet *, char *)));
PROTOTYPE(if_transmit, int (struct ifnet *, struct mbuf *));
PROTOTYPE(if_input, void (struct ifnet *, struct mbuf *));
PROTOTYPE(if_tunnel_check_nesting, int (struct ifnet *, struct mbuf *, uint32_t, int));
PROTOTYPE(bpfattach, void (struct ifnet *, u_int, u_int));
PROTOTYPE(bpfdetach, void (struct ifnet *));
PROTOTYPE(epoch_wait_preempt, void (epoch_t));
PROTOTYPE(epoch_call, void (epoch_t, epoch_callback_t, epoch_context_t));
PROTOTYPE(epoch_drain_callbacks, void (epoch_t));
PROTOTYPE(_epoch_enter_preempt, void (epoch_t, epoch_tracker_t));
PROTOTYPE(_epoch_exit_preempt, void (epoch_t, epoch_tracker_t));
PROTOTYPE(net_epoch_preempt, epoch_t);
PROTOTYPE(taskqgroup_attach_cpu, int (struct taskqgroup *, struct grouptask *, void *, int, device_t,
    struct resource *, const char *));
PROTOTYPE(taskqgroup_attach, void (struct taskqgroup *, struct grouptask *, void *, device_t, struct resource *,
    const char *));
PROTOTYPE(taskqgroup_detach, void (struct taskqgroup *, struct grouptask *));
PROTOTYPE(grouptaskqueue_enqueue, int (struct gtaskqueue *, struct gtask *));
PROTOTYPE(grouptask_block, void (struct grouptask *));
PROTOTYPE(crypto_newsession, int (crypto_session_t *, const struct crypto_session_params *, int));
PROTOTYPE(crypto_freesession, void (crypto_session_t));
PROTOTYPE(crypto_ses2caps, uint32_t (crypto_session_t));
PROTOTYPE(crypto_ses2hid, uint32_t (crypto_session_t));
PROTOTYPE(crypto_initreq, void (struct cryptop *, crypto_session_t));
PROTOTYPE(crypto_destroyreq, void (struct cryptop *));
PROTOTYPE(crypto_dispatch, int (struct cryptop *));
PROTOTYPE(crhold, struct ucred *(struct ucred *));
PROTOTYPE(crfree, void (struct ucred *));
