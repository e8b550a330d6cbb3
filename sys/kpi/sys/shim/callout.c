/* SPDX-License-Identifier: BSD-2-Clause */
/* callout(9): macros in FreeBSD. */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/callout.h>
#include <sys/time.h>

#include "kpi_shim.h"

void
kpi_callout_init(struct callout *c)
{
	callout_init(c, 1);
}

void
kpi_callout_reset_at(struct callout *c, uint64_t uptime_ns, void (*fn)(void *), void *arg)
{
	sbintime_t at;

	/* Five units are more than a nanosecond: rounding down in either direction must not make it fire early. */
	at = nstosbt(MIN(uptime_ns, (uint64_t)INT64_MAX)) + 5;
	/* A tick late is early enough for us, and lets the kernel serve several with one interrupt. */
	callout_reset_sbt(c, at, tick_sbt, fn, arg, C_ABSOLUTE);
}

void
kpi_callout_stop(struct callout *c)
{
	callout_stop(c);
}

void
kpi_callout_drain(struct callout *c)
{
	callout_drain(c);
}
