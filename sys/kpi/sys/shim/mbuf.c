/* SPDX-License-Identifier: BSD-2-Clause */
/* mbuf(9): allocation in one piece of any size, and what FreeBSD inlines. */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/malloc.h>
#include <sys/mbuf.h>

#include "kpi_shim.h"

static void
ext_free(struct mbuf *m)
{
	kpi_free(m->m_ext.ext_arg1);
}

/*
 * Storage from malloc(9): for what no cluster is large enough, and when large clusters have run out.  Whoever frees the last
 * reference calls ext_free(), which goes with the module, so such a packet never leaves it: kpi_m_for_stack().
 */
static struct mbuf *
alloc_ext(uint32_t size)
{
	struct mbuf *m;
	void *buf;

	buf = kpi_malloc(size, M_NOWAIT);
	if (buf == NULL)
		return (NULL);
	m = m_gethdr(M_NOWAIT, MT_DATA);
	if (m == NULL) {
		kpi_free(buf);
		return (NULL);
	}
	m_extadd(m, buf, size, ext_free, buf, NULL, 0, EXT_MOD_TYPE);
	return (m);
}

static bool
is_ours(const struct mbuf *m)
{
	return ((m->m_flags & M_EXT) != 0 && m->m_ext.ext_type == EXT_MOD_TYPE && m->m_ext.ext_free == ext_free);
}

struct mbuf *
kpi_m_for_stack(struct mbuf *m)
{
	struct mbuf *n;

	for (n = m; n != NULL && !is_ours(n); n = n->m_next)
		;
	if (n == NULL)
		return (m);
	/* Into clusters of the kernel's: what it gives out is its own whatever becomes of us. */
	n = m_dup(m, M_NOWAIT);
	m_freem(m);
	return (n);
}

struct mbuf *
kpi_m_alloc(uint32_t size)
{
	struct mbuf *m;

	if (size <= MHLEN)
		return (m_gethdr(M_NOWAIT, MT_DATA));
	if (size <= MCLBYTES)
		return (m_getcl(M_NOWAIT, MT_DATA, M_PKTHDR));
	if (size <= MJUMPAGESIZE)
		return (m_getjcl(M_NOWAIT, MT_DATA, M_PKTHDR, MJUMPAGESIZE));
	m = NULL;
	if (size <= MJUM9BYTES)
		m = m_getjcl(M_NOWAIT, MT_DATA, M_PKTHDR, MJUM9BYTES);
	else if (size <= MJUM16BYTES)
		m = m_getjcl(M_NOWAIT, MT_DATA, M_PKTHDR, MJUM16BYTES);
	return (m != NULL ? m : alloc_ext(size));
}

void
kpi_m_move_pkthdr(struct mbuf *to, struct mbuf *from)
{
	caddr_t data;

	/* The kernel's function means a fresh mbuf: it resets m_data of one without a cluster. */
	data = to->m_data;
	m_move_pkthdr(to, from);
	to->m_data = data;
	/* It copies this one too, which is true of the storage of `from` and not of that of `to`. */
	to->m_flags &= ~M_RDONLY;
}

struct mbuf *
kpi_m_mapped(struct mbuf *m)
{
#if __FreeBSD_version >= 1500000
	struct mbuf *mapped;

	if (mb_unmapped_to_ext(m, &mapped) != 0) {
		/* EINVAL means that it cannot be done and nothing was freed; `mapped` is NULL when it was. */
		m_freem(mapped);
		return (NULL);
	}
	return (mapped);
#else
	return (mb_unmapped_to_ext(m));
#endif
}
