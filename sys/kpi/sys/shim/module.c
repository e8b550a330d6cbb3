/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel's linker, module system, vnets and jails want to see of us.  Everything ends in a kpi_rs_* call.
 *
 * Order at load: the task queues (SI_SUB_TASKQ), the module event (SI_SUB_PSEUDO), the cloner of each vnet
 * (SI_SUB_PROTO_IFATTACHDOMAIN), the binding of queues to CPUs (SI_SUB_SMP).  It is the same for a module that the
 * boot loader brought, whose pieces run as the kernel gets to each of them, and for one that is loaded later, whose
 * pieces all run at once.  Vnets that come later run only their own piece.
 */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/gtaskqueue.h>
#include <sys/jail.h>
#include <sys/kernel.h>
#include <sys/lock.h>
#include <sys/module.h>
#include <sys/mutex.h>
#include <sys/osd.h>
#include <sys/priority.h>
#include <sys/proc.h>
#include <sys/sched.h>
#include <sys/smp.h>
#include <sys/socket.h>
#include <sys/sx.h>
#include <net/if.h>
#include <net/if_clone.h>
#include <net/if_var.h>
#include <net/vnet.h>

#include "kpi_shim.h"

#define	KPI_MODULE_VERSION	20261101

static void *module_slot;
/* kpi_rs_load() has succeeded.  A failed load does not keep the linker from running our other pieces. */
static bool loaded;
static int jail_slot;

VNET_DEFINE_STATIC(struct if_clone *, kpi_cloner);
#define	V_kpi_cloner	VNET(kpi_cloner)

/*
 * One thread for each CPU, and one for every second CPU for what takes long.  The kernel cannot take a group apart again
 * (taskqgroup_destroy(9) does nothing), so each unload leaves its sleeping threads behind.  The names show in top(1).
 */
static TASKQGROUP_DEFINE(wg_tqg, mp_ncpus, 1);
static TASKQGROUP_DEFINE(wg_slow, (mp_ncpus + 1) / 2, 2);

struct taskqgroup *
kpi_taskqgroup(bool slow)
{
	return (slow ? qgroup_wg_slow : qgroup_wg_tqg);
}

void
kpi_slow_thread(void)
{
	struct thread *td;

	/* A group's threads have the priority of software interrupts, as all the network's.  Nothing else may set it. */
	td = curthread;
	if (td->td_base_pri != PWAIT) {
		thread_lock(td);
		sched_prio(td, PWAIT);
		thread_unlock(td);
	}
}

void **
kpi_module_slot(void)
{
	return (&module_slot);
}

static int
clone_create(struct if_clone *ifc __unused, char *name __unused, size_t len __unused, struct ifc_data *ifd,
    struct ifnet **ifpp)
{
	return (kpi_rs_clone_create(ifd->unit, ifpp));
}

static int
clone_destroy(struct if_clone *ifc __unused, struct ifnet *ifp, uint32_t flags __unused)
{
	return (kpi_rs_clone_destroy(ifp));
}

/* In the current vnet. */
static void
attach_cloner(void)
{
	struct if_clone_addreq req = {
		.create_f = clone_create,
		.destroy_f = clone_destroy,
		.flags = IFC_F_AUTOUNIT,
	};

	if (V_kpi_cloner == NULL)
		V_kpi_cloner = ifc_attach_cloner(kpi_rs_cloner_name(), &req);
}

static void
detach_cloner(void)
{
	struct if_clone *cloner;

	/* Destroys the interfaces that are left. */
	cloner = V_kpi_cloner;
	V_kpi_cloner = NULL;
	if (cloner != NULL)
		ifc_detach_cloner(cloner);
}

static void
vnet_init(const void *unused __unused)
{
	if (loaded)
		attach_cloner();
}
VNET_SYSINIT(kpi_vnet_init, SI_SUB_PROTO_IFATTACHDOMAIN, SI_ORDER_ANY, vnet_init, NULL);

static void
vnet_uninit(const void *unused __unused)
{
	detach_cloner();
}
VNET_SYSUNINIT(kpi_vnet_uninit, SI_SUB_PROTO_IFATTACHDOMAIN, SI_ORDER_ANY, vnet_uninit, NULL);

static void
each_vnet(void (*fn)(void))
{
	VNET_ITERATOR_DECL(vnet_iter);

	/*
	 * The lock under which interfaces go comes before that of the list, as in vnet_destroy().  It may be taken again
	 * while it is held.  A vnet that has left the list and still has interfaces makes kpi_rs_unload() refuse.
	 */
	sx_xlock(&ifnet_detach_sxlock);
	VNET_LIST_RLOCK();
	VNET_FOREACH(vnet_iter) {
		CURVNET_SET_QUIET(vnet_iter);
		fn();
		CURVNET_RESTORE();
	}
	VNET_LIST_RUNLOCK();
	sx_xunlock(&ifnet_detach_sxlock);
}

static int
prison_remove(void *obj, void *data __unused)
{
	kpi_rs_prison_remove(obj);
	return (0);
}

static void
hook_jails(void)
{
	osd_method_t methods[PR_MAXMETHOD] = {
		[PR_METHOD_REMOVE] = prison_remove,
	};

	jail_slot = osd_jail_register(NULL, methods);
}

static void
unhook_jails(void)
{
	if (jail_slot != 0)
		osd_jail_deregister(jail_slot);
	jail_slot = 0;
}

static int
load(void)
{
	int error;

	error = kpi_rs_load();
	if (error == 0) {
		hook_jails();
		loaded = true;
	}
	return (error);
}

static int
unload(void)
{
	int error;

	if (!loaded)
		return (kpi_malloc_live() == 0 ? 0 : EBUSY);
	/*
	 * The linker runs the vnets' uninit only after this event, too late: interfaces must be gone before the state is.
	 * A vnet that is made meanwhile finds that we are not loaded.
	 */
	loaded = false;
	each_vnet(detach_cloner);
	unhook_jails();
	error = kpi_rs_unload();
	if (error != 0) {
		hook_jails();
		loaded = true;
		each_vnet(attach_cloner);
	}
	return (error);
}

static int
module_event(module_t mod __unused, int what, void *arg __unused)
{
	switch (what) {
	case MOD_LOAD:
		return (load());
	case MOD_QUIESCE:
		return (kpi_rs_can_unload());
	case MOD_UNLOAD:
		return (unload());
	default:
		return (EOPNOTSUPP);
	}
}

static moduledata_t module_data = {
	"if_wg",
	module_event,
	NULL
};

DECLARE_MODULE(if_wg, module_data, SI_SUB_PSEUDO, SI_ORDER_ANY);
MODULE_VERSION(if_wg, KPI_MODULE_VERSION);
MODULE_DEPEND(if_wg, crypto, 1, 1, 1);
