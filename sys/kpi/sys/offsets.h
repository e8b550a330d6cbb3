/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the shims look in structures of the kernel, for hostkern, which gives them some to look at when if_wg.ko runs in
 * a process.  Only numbers are taken from here; the module itself has them from the same headers.
 */
#include <sys/param.h>
#include <sys/systm.h>
#include <sys/cpuset.h>
#include <sys/kernel.h>
#include <sys/lock.h>
#include <sys/malloc.h>
#include <sys/mbuf.h>
#include <sys/mutex.h>
#include <sys/module.h>
#include <sys/osd.h>
#include <sys/callout.h>
#include <sys/jail.h>
#include <sys/pcpu.h>
#include <sys/proc.h>
#include <sys/protosw.h>
#include <sys/socket.h>
#include <sys/socketvar.h>
#include <sys/sysctl.h>
#include <sys/ucred.h>
#include <net/if.h>
#include <net/if_var.h>
#include <net/if_clone.h>
#include <net/netisr.h>
#include <net/route.h>
#include <net/vnet.h>
#include <netinet/in_systm.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/ip6.h>
#include <netinet/icmp6.h>
#include <netinet6/in6_var.h>
#include <netinet6/nd6.h>
#include <machine/pcb.h>
#ifdef __aarch64__
#include <machine/vfp.h>
#else
#include <machine/fpu.h>
#endif

#define	OFF(name, type, field)	KPI_OFF_##name = __builtin_offsetof(type, field)
#define	LEN(name, type)		KPI_LEN_##name = sizeof(type)

enum {
	KPI_PAGE_SIZE = PAGE_SIZE,
	LEN(THREAD, struct thread),
	OFF(TD_PROC, struct thread, td_proc),
	OFF(TD_UCRED, struct thread, td_ucred),
	OFF(TD_VNET, struct thread, td_vnet),
	OFF(TD_PCB, struct thread, td_pcb),
	OFF(TD_KSTACK, struct thread, td_kstack),
	OFF(TD_KSTACK_PAGES, struct thread, td_kstack_pages),
	LEN(PROC, struct proc),
	OFF(P_FIBNUM, struct proc, p_fibnum),
	LEN(PCB, struct pcb),
#ifdef __aarch64__
	OFF(PCB_FLAGS, struct pcb, pcb_fpflags),
	KPI_PCB_KERNFPU = PCB_FP_KERN,
#else
	OFF(PCB_FLAGS, struct pcb, pcb_flags),
	KPI_PCB_KERNFPU = PCB_KERNFPU,
#endif
	LEN(PCPU, struct pcpu),
	OFF(PC_CURTHREAD, struct pcpu, pc_curthread),
	OFF(PC_CPUID, struct pcpu, pc_cpuid),
	OFF(CR_PRISON, struct ucred, cr_prison),
	OFF(PR_VNET, struct prison, pr_vnet),

	LEN(VNET, struct vnet),
	OFF(VNET_LE, struct vnet, vnet_le),
	OFF(VNET_DATA_BASE, struct vnet, vnet_data_base),
	LEN(VNET_SYSINIT, struct vnet_sysinit),
	OFF(VNET_SYSINIT_FUNC, struct vnet_sysinit, func),
	OFF(VNET_SYSINIT_ARG, struct vnet_sysinit, arg),
	LEN(SYSINIT, struct sysinit),
	OFF(SYSINIT_FUNC, struct sysinit, func),
	OFF(SYSINIT_UDATA, struct sysinit, udata),

	LEN(SOCKET, struct socket),
	OFF(SO_VNET, struct socket, so_vnet),
	OFF(SO_PROTO, struct socket, so_proto),
	OFF(SO_RCV_HIWAT, struct socket, so_rcv.sb_hiwat),
	LEN(PROTOSW, struct protosw),
	OFF(PR_SOCKADDR, struct protosw, pr_sockaddr),
	LEN(SOCKOPT, struct sockopt),
	OFF(SOPT_VAL, struct sockopt, sopt_val),

	LEN(ROUTE, struct route),
	OFF(RO_FLAGS, struct route, ro_flags),
	OFF(RO_MTU, struct route, ro_mtu),
	OFF(RO_DST_FAMILY, struct route, ro_dst.sa_family),
	KPI_RT_HAS_GW = RT_HAS_GW,

	LEN(MALLOC_TYPE, struct malloc_type),
	OFF(KS_SHORTDESC, struct malloc_type, ks_shortdesc),
	OFF(KS_MTI_STATS, struct malloc_type, ks_mti.mti_stats),
	LEN(MALLOC_TYPE_STATS, struct malloc_type_stats),
	OFF(MTS_NUMALLOCS, struct malloc_type_stats, mts_numallocs),
	OFF(MTS_NUMFREES, struct malloc_type_stats, mts_numfrees),
	KPI_PCPU_ALLOC_SIZE = PAGE_SIZE,
	LEN(CPUSET, cpuset_t),

	LEN(SYSCTL_OID, struct sysctl_oid),
	OFF(OID_ARG1, struct sysctl_oid, oid_arg1),
	OFF(OID_HANDLER, struct sysctl_oid, oid_handler),
	OFF(OID_CHILDREN, struct sysctl_oid, oid_children),
	LEN(SYSCTL_REQ, struct sysctl_req),
	OFF(REQ_OLDFUNC, struct sysctl_req, oldfunc),
	OFF(REQ_NEWPTR, struct sysctl_req, newptr),
	OFF(REQ_NEWFUNC, struct sysctl_req, newfunc),

	LEN(IFC_DATA, struct ifc_data),
	OFF(IFC_DATA_UNIT, struct ifc_data, unit),
	LEN(IFC_ADDREQ, struct if_clone_addreq),
	OFF(IFC_ADDREQ_CREATE, struct if_clone_addreq, create_f),
	OFF(IFC_ADDREQ_DESTROY, struct if_clone_addreq, destroy_f),
	KPI_IFC_F_AUTOUNIT = IFC_F_AUTOUNIT,

	LEN(IN6_IFEXTRA, struct in6_ifextra),
	OFF(ND_IFINFO, struct in6_ifextra, nd_ifinfo),
	LEN(ND_IFINFO, struct nd_ifinfo),
	OFF(ND_FLAGS, struct nd_ifinfo, flags),
	KPI_ND6_AUTO_LINKLOCAL = ND6_IFF_AUTO_LINKLOCAL,
	KPI_ND6_NO_DAD = ND6_IFF_NO_DAD,

	KPI_MOD_LOAD = MOD_LOAD,
	KPI_MOD_UNLOAD = MOD_UNLOAD,
	KPI_MOD_QUIESCE = MOD_QUIESCE,
	KPI_MDT_DEPEND = MDT_DEPEND,
	KPI_MDT_MODULE = MDT_MODULE,
	KPI_MDT_VERSION = MDT_VERSION,
	KPI_MDT_STRUCT_VERSION = MDT_STRUCT_VERSION,
	KPI_PR_METHOD_REMOVE = PR_METHOD_REMOVE,
	KPI_OSD_JAIL = OSD_JAIL,
	KPI_CS_DRAIN = CS_DRAIN,
	KPI_C_ABSOLUTE = C_ABSOLUTE,
	KPI_CTLTYPE = CTLTYPE,
	KPI_CTLTYPE_NODE = CTLTYPE_NODE,
	KPI_CTLFLAG_WR = CTLFLAG_WR,
	KPI_NETISR_IP = NETISR_IP,
	KPI_NETISR_IPV6 = NETISR_IPV6,
	KPI_ICMP_UNREACH = ICMP_UNREACH,
	KPI_ICMP_UNREACH_HOST = ICMP_UNREACH_HOST,
	KPI_ICMP_UNREACH_NEEDFRAG = ICMP_UNREACH_NEEDFRAG,
	KPI_ICMP_UNREACH_NET = ICMP_UNREACH_NET,
	KPI_ICMP6_TOO_BIG = ICMP6_PACKET_TOO_BIG,
	KPI_ICMP6_UNREACH = ICMP6_DST_UNREACH,
	KPI_ICMP6_UNREACH_NOROUTE = ICMP6_DST_UNREACH_NOROUTE,
	KPI_ICMP6_UNREACH_ADDR = ICMP6_DST_UNREACH_ADDR,
	KPI_SOL_SOCKET = SOL_SOCKET,
	KPI_SO_SETFIB = SO_SETFIB,
	KPI_SO_USER_COOKIE = SO_USER_COOKIE,
	KPI_SOCK_DGRAM = SOCK_DGRAM,
	KPI_IPPROTO_IP = IPPROTO_IP,
	KPI_IPPROTO_UDP = IPPROTO_UDP,
	KPI_IPPROTO_IPV6 = IPPROTO_IPV6,
	KPI_IPV6_V6ONLY = IPV6_V6ONLY,
	KPI_IP_SENDSRCADDR = IP_SENDSRCADDR,
	KPI_IPV6_PKTINFO = IPV6_PKTINFO,
};
#undef OFF
#undef LEN
