/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's libnv, in a module that was built to use it. */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/malloc.h>
#include <sys/nv.h>

#include "kpi_shim.h"

#ifdef KPI_LIBNV
void *
kpi_nv_alloc(size_t size)
{
	return (malloc(size, M_NVLIST, M_NOWAIT));
}

void
kpi_nv_free(void *p, size_t size)
{
	/* It may hold keys. */
	explicit_bzero(p, size);
	free(p, M_NVLIST);
}
#endif
