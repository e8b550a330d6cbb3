/* SPDX-License-Identifier: BSD-2-Clause */
/* mutex(9), rwlock(9), sx(9): macros in FreeBSD. */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/lock.h>
#include <sys/mutex.h>
#include <sys/rwlock.h>
#include <sys/sx.h>

#include "kpi_shim.h"

void
kpi_mtx_init(struct mtx *m, const char *name)
{
	mtx_init(m, name, NULL, MTX_DEF | MTX_NEW);
}

void
kpi_mtx_destroy(struct mtx *m)
{
	mtx_destroy(m);
}

void
kpi_mtx_lock(struct mtx *m)
{
	mtx_lock(m);
}

int
kpi_mtx_trylock(struct mtx *m)
{
	return (mtx_trylock(m));
}

void
kpi_mtx_unlock(struct mtx *m)
{
	mtx_unlock(m);
}

void
kpi_rw_init(struct rwlock *rw, const char *name)
{
	rw_init_flags(rw, name, RW_NEW);
}

void
kpi_rw_destroy(struct rwlock *rw)
{
	rw_destroy(rw);
}

void
kpi_rw_rlock(struct rwlock *rw)
{
	rw_rlock(rw);
}

void
kpi_rw_runlock(struct rwlock *rw)
{
	rw_runlock(rw);
}

void
kpi_rw_wlock(struct rwlock *rw)
{
	rw_wlock(rw);
}

void
kpi_rw_wunlock(struct rwlock *rw)
{
	rw_wunlock(rw);
}

void
kpi_sx_init(struct sx *sx, const char *name)
{
	sx_init_flags(sx, name, SX_NEW);
}

void
kpi_sx_destroy(struct sx *sx)
{
	sx_destroy(sx);
}

void
kpi_sx_slock(struct sx *sx)
{
	sx_slock(sx);
}

void
kpi_sx_sunlock(struct sx *sx)
{
	sx_sunlock(sx);
}

void
kpi_sx_xlock(struct sx *sx)
{
	sx_xlock(sx);
}

int
kpi_sx_try_xlock(struct sx *sx)
{
	return (sx_try_xlock(sx));
}

void
kpi_sx_xunlock(struct sx *sx)
{
	sx_xunlock(sx);
}
