/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The seam between crate `kpi` and the kernel.
 *
 * Everything that `kpi` needs from FreeBSD is either a function of the kernel under its own name (the list is in
 * ../SYMBOLS.md) or one of the functions below.  A function is here for one of these reasons: it is a macro or an
 * inline in FreeBSD; it touches curthread, a VNET variable or a structure whose layout is not stable; it differs
 * between 14 and 15; or its name is also one of libc's.
 *
 * In the kernel module the functions are compiled from the .c files of this folder.  On other systems the crate
 * `hostkern` defines them, and the functions of SYMBOLS.md, over its own simulated kernel; no C is compiled there.
 * The Rust declarations are in ../src/shim.rs and must be kept in step.
 *
 * Context words used below:
 *   any     any thread, net epoch or not, no-sleep locks may be held; does not sleep
 *   sleep   the caller may sleep: no epoch, no mutex or rwlock held
 *   epoch   the caller is inside the net epoch; does not sleep
 * All functions that return int and say nothing else return 0 or a positive errno.
 */
#ifndef _KPI_SHIM_H_
#define	_KPI_SHIM_H_

#ifdef _KERNEL
#include <sys/types.h>
#else
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#endif

struct callout;
struct epoch_tracker;
struct ifnet;
struct inpcb;
struct mbuf;
struct mtx;
struct prison;
struct route;
struct rwlock;
struct sockaddr;
struct socket;
struct sx;
struct taskqgroup;
struct ucred;

/* ---- memory (malloc.c) ---------------------------------------------------------------------------------------- */

/*
 * malloc(9) with type M_WG; flags are M_NOWAIT 1, M_WAITOK 2, M_ZERO 0x100.  16-byte aligned.  Both kinds may return
 * NULL (the kernel never does for M_WAITOK; a simulated failure may).  M_WAITOK: sleep; M_NOWAIT: any.
 */
void	*kpi_malloc(size_t size, int flags);
/* Accepts NULL.  any. */
void	 kpi_free(void *p);
/* How many of its allocations there are now.  While others allocate and free it is a guess.  any. */
uint64_t kpi_malloc_live(void);

/* ---- module-wide state (module.c) ----------------------------------------------------------------------------- */

/*
 * The one pointer-sized slot in which `kpi` keeps its module-wide state; NULL before kpi_rs_load().  One static in
 * the kernel, one a simulated kernel in hostkern (the current one of the calling thread).  any.
 */
void	**kpi_module_slot(void);

/* The module's group of per-CPU task queues, made before kpi_rs_load() is called, never NULL.  any. */
/* The group with a thread for each CPU, or the slow one with a thread for every second CPU, from the first on. */
struct taskqgroup *kpi_taskqgroup(bool slow);
/* Lets the calling thread, which is one of the slow group, run after those of the network. */
void	 kpi_slow_thread(void);

/* Number of CPUs (mp_ncpus), at least 1, constant while the module is loaded.  any. */
int	 kpi_ncpus(void);

/* The CPU that runs the caller, below mp_maxid + 1; out of date at once unless the caller is pinned.  any. */
int	 kpi_curcpu(void);

/* Whether less than half of the calling thread's kernel stack is in use.  any. */
bool	 kpi_stack_is_shallow(void);

/* ---- locks (lock.c) ------------------------------------------------------------------------------------------- */
/*
 * The memory handed to an init function is zeroed by the caller.  An unlocked lock may be moved in memory by Rust
 * between any two calls (between init and first use, and later while nobody else can reach it): an implementation
 * must not keep the address of an unlocked lock.  `name` is a string that lives as long as the module.
 */
void	 kpi_mtx_init(struct mtx *m, const char *name);		/* MTX_DEF, not recursive.  any */
void	 kpi_mtx_destroy(struct mtx *m);
void	 kpi_mtx_lock(struct mtx *m);				/* any, but not in an interrupt filter */
int	 kpi_mtx_trylock(struct mtx *m);			/* nonzero: taken */
void	 kpi_mtx_unlock(struct mtx *m);

void	 kpi_rw_init(struct rwlock *rw, const char *name);	/* any */
void	 kpi_rw_destroy(struct rwlock *rw);
void	 kpi_rw_rlock(struct rwlock *rw);
void	 kpi_rw_runlock(struct rwlock *rw);
void	 kpi_rw_wlock(struct rwlock *rw);
void	 kpi_rw_wunlock(struct rwlock *rw);

void	 kpi_sx_init(struct sx *sx, const char *name);		/* any */
void	 kpi_sx_destroy(struct sx *sx);				/* any */
void	 kpi_sx_slock(struct sx *sx);				/* sleep, this and those below */
void	 kpi_sx_sunlock(struct sx *sx);
void	 kpi_sx_xlock(struct sx *sx);
int	 kpi_sx_try_xlock(struct sx *sx);			/* 0: somebody holds it.  any */
void	 kpi_sx_xunlock(struct sx *sx);

/* ---- time, randomness, log, FPU (misc.c) ----------------------------------------------------------------------- */

/* Nanoseconds since boot, monotonic, on the clock that kpi_callout_reset_at() uses.  any. */
uint64_t kpi_uptime_ns(void);
/* The same clock as it was at the last tick, without reading the hardware.  any. */
uint64_t kpi_uptime_coarse_ns(void);
/* Wall clock: seconds since 1970 and nanoseconds 0..999999999.  any. */
void	 kpi_realtime(uint64_t *secs, uint32_t *nanos);
/* Cryptographically strong bytes (arc4random_buf).  any. */
void	 kpi_random(void *buf, size_t len);
/* One line without a final newline to the kernel message buffer; `msg` is not NUL terminated.  any. */
void	 kpi_log(const char *msg, size_t len);
/* The same, with the name of the interface and ": " before it. */
void	 kpi_log_if(struct ifnet *ifp, const char *msg, size_t len);
/* panic(9) with a text.  Does not return.  any. */
void	 kpi_panic(const char *msg) __attribute__((__noreturn__));
/*
 * Everything between the two calls may use vector registers.  Not nested; the same thread; the thread must not sleep
 * in between (FPU_KERN_NOCTX is a critical section).  any, but not in an interrupt handler.
 */
void	 kpi_fpu_enter(void);
void	 kpi_fpu_leave(void);
/* Whether the calling thread is between the two.  any. */
bool	 kpi_fpu_held(void);

/* ---- crypto framework (ocf.c) ----------------------------------------------------------------------------------- */

struct _device;

/*
 * Keeps driver number `driver` of the crypto framework attached, until kpi_ocf_unpin(): it could otherwise go away under
 * its sessions.  Copies its name (ossl0), NUL terminated, at most `len` bytes.  NULL: no such driver.  sleep.
 */
struct _device *kpi_ocf_pin(uint32_t driver, char *name, size_t len);
void	 kpi_ocf_unpin(struct _device *dev);			/* any */
/* Sleeps until *done, which a request's callback sets, is not 0.  sleep. */
void	 kpi_ocf_wait(const uint32_t *done);

/* ---- libnv (nv.c) ------------------------------------------------------------------------------------------------ */

/* Only in a module with the feature libnv. */
/* Memory of the kind that nvlist_pack() gives; NULL: there is none.  any. */
void	*kpi_nv_alloc(size_t size);
/* Wipes and frees it.  any. */
void	 kpi_nv_free(void *p, size_t size);

/* ---- caller's credentials and memory (cred.c) ------------------------------------------------------------------ */

int	 kpi_priv_check(int priv);				/* priv_check(curthread, priv).  any */
/* The calling thread's credential with one reference added; drop it with crfree().  any. */
struct ucred *kpi_cred_current(void);
/* Whether the credential's prison is `pr` itself (not a child).  any. */
bool	 kpi_cred_in_prison(const struct ucred *cred, const struct prison *pr);
/*
 * Whether a socket made with the calling thread's credential would live in the present vnet.  Not so where the kernel does
 * what somebody asked for in a thread of its own, as netlink(4) does.  any.
 */
bool	 kpi_cred_is_here(void);
/* Whether the credential's prison is neither dying nor gone.  Once it is not, the jail hook comes or has come.  any. */
bool	 kpi_cred_alive(const struct ucred *cred);
/* Whether the credential's prison is the calling thread's, or below it.  any. */
bool	 kpi_cred_governed(const struct ucred *cred);
/* The present vnet, only to be compared; NULL: there is none.  any. */
const struct vnet *kpi_vnet_current(void);
/* The calling process's FIB.  any. */
uint32_t kpi_current_fib(void);
/* Number of routing tables of the present vnet, at least 1.  any. */
uint32_t kpi_num_fibs(void);
int	 kpi_copyin(const void *uaddr, void *kaddr, size_t len);	/* EFAULT.  sleep */
int	 kpi_copyout(const void *kaddr, void *uaddr, size_t len);	/* EFAULT.  sleep */

/* ---- callouts (callout.c) -------------------------------------------------------------------------------------- */
/* The handler runs in a callout thread, in no epoch, with no lock held, and must not sleep. */

void	 kpi_callout_init(struct callout *c);			/* mpsafe.  any */
/* (Re)schedules fn(arg) for uptime_ns on the kpi_uptime_ns() clock, never before it.  Replaces what was pending.  any */
void	 kpi_callout_reset_at(struct callout *c, uint64_t uptime_ns, void (*fn)(void *), void *arg);
/* Unschedules without waiting for a handler that runs.  any. */
void	 kpi_callout_stop(struct callout *c);
/* Unschedules and waits until no handler runs.  sleep. */
void	 kpi_callout_drain(struct callout *c);

/* ---- mbufs (mbuf.c) -------------------------------------------------------------------------------------------- */

/*
 * A packet-header mbuf (M_PKTHDR, MT_DATA, m_len and m_pkthdr.len 0, everything else of the header 0) with one
 * contiguous, writable, unshared storage of at least `size` bytes from its start (M_START == m_data, M_SIZE >=
 * size).  `size` up to 128 KiB.  The storage is inside the mbuf when size <= MHLEN (160), else M_EXT with ext_buf,
 * ext_size, ext_count 1 and EXT_FLAG_EMBREF as the kernel fills them.  NULL: no memory.  Frees with m_freem().  any.
 * The storage may be the module's, of type EXT_MOD_TYPE: only kpi_m_for_stack() makes a packet that can leave the module.
 */
struct mbuf *kpi_m_alloc(uint32_t size);
/*
 * Moves the packet header (m_move_pkthdr(9)) from `from` to `to`: lengths, flags of a packet, tags, receive
 * interface, FIB.  `to` keeps its storage, m_data and m_len, and stays writable.  `from` stops being a packet head;
 * the caller frees it.  any.
 */
void	 kpi_m_move_pkthdr(struct mbuf *to, struct mbuf *from);
/*
 * The packet without storage of the module's: a socket or a network card may keep it when the module is gone.  It may be in
 * more pieces then.  Consumes m; returns the packet, or NULL: no memory.  any.
 */
struct mbuf *kpi_m_for_stack(struct mbuf *m);
/*
 * Makes every segment addressable (mb_unmapped_to_ext(9)) if any is unmapped (M_EXTPG).  Consumes m; returns the
 * packet or NULL.  any.
 */
struct mbuf *kpi_m_mapped(struct mbuf *m);

/* ---- interfaces (ifnet.c) -------------------------------------------------------------------------------------- */

/* Copies the present name, NUL terminated, at most `len` bytes with the NUL.  any. */
void	 kpi_if_name(struct ifnet *ifp, char *buf, size_t len);
/* if_purgeaddrs() in the interface's vnet.  sleep. */
void	 kpi_if_purgeaddrs(struct ifnet *ifp);
/* IPv6: clear "auto link-local", set "no DAD".  After if_attach().  sleep. */
void	 kpi_if_nd6_setup(struct ifnet *ifp);
/*
 * Hands a chain of IP packets linked by m_nextpkt, each with at least one byte in its first segment, to the network
 * stack (netisr_dispatch) as received on `ifp`: receive interface and FIB are set here, the vnet is the interface's,
 * the protocol is the packet's version nibble (others are freed).  Netmap mode is the caller's matter.  Consumes the
 * chain.  Returns how many packets were thrown away here.  epoch.
 */
uint32_t kpi_if_input(struct ifnet *ifp, struct mbuf *m);
/* Shows the packet to bpf(4) listeners of `ifp` with the 4-byte host-order family `af` in front.  epoch. */
void	 kpi_bpf_tap(struct ifnet *ifp, struct mbuf *m, uint32_t af);
/*
 * What the output routine's route argument says: address family of the packet (RFC 5549: may differ from dst's) and
 * path MTU (0: none).  `ro` may be NULL.  epoch.
 */
void	 kpi_route_get(const struct route *ro, const struct sockaddr *dst, uint32_t *af, uint32_t *mtu);
/*
 * Answers the IP packet `m` (header contiguous, checked by the caller) with an ICMP or ICMPv6 error, in the vnet of
 * `ifp`.  Consumes m.  af AF_INET 2 or AF_INET6 28.  epoch.
 */
#define	KPI_ICMP_HOST_UNREACH	0	/* v4: type 3 code 1; v6: type 1 code 3 */
#define	KPI_ICMP_TOO_BIG	1	/* v4: type 3 code 4; v6: type 2; uses mtu */
#define	KPI_ICMP_NO_ROUTE	2	/* v4: type 3 code 0; v6: type 1 code 0 */
void	 kpi_icmp_error(struct ifnet *ifp, struct mbuf *m, int af, int reason, uint32_t mtu);

/* ---- UDP sockets (udp.c) --------------------------------------------------------------------------------------- */

/*
 * The tunnel callback, the type of udp_set_kernel_tunneling(9)'s argument: `m` starts at the IP header, the UDP
 * header is at `off`; sa is an array of two, source then destination; true means consumed.  epoch.
 */
typedef bool kpi_udp_input_t(struct mbuf *m, int off, struct inpcb *inp, const struct sockaddr *sa, void *ctx);

/*
 * Makes a UDP socket of family `af` (2 or 28, the latter IPV6_V6ONLY) with credential `cred`, thus in its vnet and with
 * its rights, whatever those of the calling thread are.  Sets the tunnel callback, SO_SETFIB, SO_USER_COOKIE (if not 0),
 * room for datagrams of 64 KiB, and binds it to the wildcard address and `port` (host order, 0: any).  On success *sop and *bound_port (host order) are set.  On
 * failure nothing is left, but callbacks may still run until the end of the epoch sections of now.  sleep.
 */
int	 kpi_udp_open(int af, uint16_t port, uint32_t fib, uint32_t user_cookie, struct ucred *cred,
	    kpi_udp_input_t *fn, void *ctx, struct socket **sop, uint16_t *bound_port);
int	 kpi_udp_set_fib(struct socket *so, uint32_t fib);		/* sleep */
int	 kpi_udp_set_user_cookie(struct socket *so, uint32_t cookie);	/* sleep */
/*
 * Sends `m` to `dst` (a whole sockaddr_in or sockaddr_in6).  `src`, if not NULL, is a sockaddr of the same family
 * whose address is the source to use; for IPv6 its scope id is the interface index or 0.  Consumes m in every case.
 * EADDRNOTAVAIL: the source is not ours any more.  any, epoch allowed.
 */
int	 kpi_udp_send(struct socket *so, struct mbuf *m, const struct sockaddr *dst, const struct sockaddr *src);
/*
 * Closes.  No new callback starts for a packet looked up after the return; those that run end with their epoch
 * section.  Not to be called inside the net epoch.  Does not wait for network events.
 */
void	 kpi_udp_close(struct socket *so);

/*
 * The loader tunable `name` as text: at most len bytes without a NUL, returns how many; 0 if it is not set.  sleep.
 */
size_t	 kpi_tunable(const char *name, char *buf, size_t len);

/* ---- sysctl (sysctl.c) ----------------------------------------------------------------------------------------- */

struct kpi_sysctl;	/* opaque: a context with a node net.<name> */

/* write 0: store the value to show in *v; write 1: *v is the new value, errno to refuse.  sleep. */
typedef int kpi_sysctl_u64_t(void *arg, uint64_t *v, int write);
/* Writes a text of at most len bytes to buf, returns its length.  sleep. */
typedef size_t kpi_sysctl_str_t(void *arg, char *buf, size_t len);

struct kpi_sysctl *kpi_sysctl_new(const char *name, const char *descr);	/* NULL: no memory.  sleep */
/* `writable`: also a loader tunable of the same name, which is applied by a write before this returns.  sleep. */
int	 kpi_sysctl_add_u64(struct kpi_sysctl *ctx, const char *name, const char *descr, int writable,
	    kpi_sysctl_u64_t *fn, void *arg);
int	 kpi_sysctl_add_str(struct kpi_sysctl *ctx, const char *name, const char *descr, kpi_sysctl_str_t *fn,
	    void *arg);
/* Removes everything; no handler runs after the return.  sleep. */
void	 kpi_sysctl_free(struct kpi_sysctl *ctx);

/* ---- entry points into Rust, made by kpi::declare_module! in the final crate ------------------------------------ */
/*
 * Called by module.c from the module event handler, the cloner and the jail hook.  hostkern calls the same ones.
 * kpi_rs_load() comes first, kpi_rs_unload() last; interfaces exist only in between.  All: sleep.
 */

int	 kpi_rs_load(void);
/* Asked before an unload is begun: 0 or EBUSY. */
int	 kpi_rs_can_unload(void);
/*
 * After every cloner was detached.  EBUSY: an interface still lives, or something that was given to the epoch; the module
 * must stay loaded.  After 0 nothing in the kernel points into the module but what the shims have registered.
 */
int	 kpi_rs_unload(void);
/* Name of the cloner ("wg"), a static string. */
const char *kpi_rs_cloner_name(void);
/* Clone callbacks; the unit number is already chosen; curvnet is the one that the interface is to live in. */
int	 kpi_rs_clone_create(uint32_t unit, struct ifnet **ifpp);
int	 kpi_rs_clone_destroy(struct ifnet *ifp);
/* A prison is being removed: let go of credentials that keep it. */
void	 kpi_rs_prison_remove(const struct prison *pr);

#endif /* !_KPI_SHIM_H_ */
