/* SPDX-License-Identifier: BSD-2-Clause */
/* The calling thread: its privileges, credential, FIB and memory. */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/jail.h>
#include <sys/priv.h>
#include <sys/proc.h>
#include <sys/socket.h>
#include <sys/ucred.h>
#include <net/if.h>
#include <net/route.h>
#include <net/vnet.h>

#include "kpi_shim.h"

int
kpi_priv_check(int priv)
{
	return (priv_check(curthread, priv));
}

struct ucred *
kpi_cred_current(void)
{
	struct ucred *cred = curthread->td_ucred;

	return (cred == NULL ? NULL : crhold(cred));
}

bool
kpi_cred_in_prison(const struct ucred *cred, const struct prison *pr)
{
	return (cred->cr_prison == pr);
}

bool
kpi_cred_is_here(void)
{
	struct ucred *cred = curthread->td_ucred;

	return (cred != NULL && CRED_TO_VNET(cred) == curvnet);
}

bool
kpi_cred_alive(const struct ucred *cred)
{
	return (prison_isalive(cred->cr_prison));
}

bool
kpi_cred_governed(const struct ucred *cred)
{
	struct prison *mine = curthread->td_ucred->cr_prison;

	return (mine == cred->cr_prison || prison_ischild(mine, cred->cr_prison));
}

const struct vnet *
kpi_vnet_current(void)
{
	return (curvnet);
}

uint32_t
kpi_current_fib(void)
{
	return (curthread->td_proc->p_fibnum);
}

uint32_t
kpi_num_fibs(void)
{
	return (V_rt_numfibs);
}

int
kpi_copyin(const void *uaddr, void *kaddr, size_t len)
{
	return (copyin(uaddr, kaddr, len));
}

int
kpi_copyout(const void *kaddr, void *uaddr, size_t len)
{
	return (copyout(kaddr, uaddr, len));
}
