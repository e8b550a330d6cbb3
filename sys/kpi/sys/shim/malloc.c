/* SPDX-License-Identifier: BSD-2-Clause */
/* malloc(9) with a type of our own, so that vmstat -m shows what the module holds. */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/kernel.h>
#include <sys/malloc.h>
#include <sys/pcpu.h>
#include <sys/proc.h>
#include <sys/smp.h>

#include "kpi_shim.h"

static MALLOC_DEFINE(M_KPI_WG, "wg", "WireGuard interfaces");

/* The numbers that crate kpi-alloc passes. */
_Static_assert(M_NOWAIT == 1 && M_WAITOK == 2 && M_ZERO == 0x100, "malloc flags");

void *
kpi_malloc(size_t size, int flags)
{
	/* The smallest bucket has 16 bytes and all are multiples of it, so the result is aligned to 16. */
	return (malloc(size, M_KPI_WG, flags));
}

void
kpi_free(void *p)
{
	free(p, M_KPI_WG);
}

uint64_t
kpi_malloc_live(void)
{
	const struct malloc_type_stats *stats;
	uint64_t live;
	int cpu;

	live = 0;
	CPU_FOREACH(cpu) {
		stats = zpcpu_get_cpu(M_KPI_WG->ks_mti.mti_stats, cpu);
		live += stats->mts_numallocs - stats->mts_numfrees;
	}
	return (live);
}
