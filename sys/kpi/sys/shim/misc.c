/* SPDX-License-Identifier: BSD-2-Clause */
/* Clocks, random numbers, messages, vector registers, CPUs. */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/libkern.h>
#include <sys/proc.h>
#include <sys/smp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <net/if.h>
#include <net/if_var.h>
#ifdef __aarch64__
#include <machine/vfp.h>
#else
#include <machine/fpu.h>
#endif
#include <machine/pcb.h>

#include "kpi_shim.h"

uint64_t
kpi_uptime_ns(void)
{
	return (sbttons(sbinuptime()));
}

uint64_t
kpi_uptime_coarse_ns(void)
{
	return (sbttons(getsbinuptime()));
}

void
kpi_realtime(uint64_t *secs, uint32_t *nanos)
{
	struct timespec ts;

	nanotime(&ts);
	*secs = ts.tv_sec;
	*nanos = ts.tv_nsec;
}

void
kpi_random(void *buf, size_t len)
{
	arc4random_buf(buf, len);
}

void
kpi_log(const char *msg, size_t len)
{
	printf("if_wg: %.*s\n", (int)MIN(len, 1024), msg);
}

void
kpi_log_if(struct ifnet *ifp, const char *msg, size_t len)
{
	if_printf(ifp, "%.*s\n", (int)MIN(len, 1024), msg);
}

void
kpi_panic(const char *msg)
{
	panic("%s", msg);
}

void
kpi_fpu_enter(void)
{
	fpu_kern_enter(curthread, NULL, FPU_KERN_NORMAL | FPU_KERN_NOCTX);
}

void
kpi_fpu_leave(void)
{
	fpu_kern_leave(curthread, NULL);
}

bool
kpi_fpu_held(void)
{
#ifdef __aarch64__
	return ((curthread->td_pcb->pcb_fpflags & PCB_FP_KERN) != 0);
#else
	return ((curthread->td_pcb->pcb_flags & PCB_KERNFPU) != 0);
#endif
}

int
kpi_ncpus(void)
{
	return (mp_ncpus);
}

int
kpi_curcpu(void)
{
	return (PCPU_GET(cpuid));
}

bool
kpi_stack_is_shallow(void)
{
	size_t size, left;

	size = (size_t)curthread->td_kstack_pages * PAGE_SIZE;
	left = (uintptr_t)__builtin_frame_address(0) - curthread->td_kstack;
	return (left > size / 2 && left <= size);
}
