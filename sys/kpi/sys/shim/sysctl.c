/* SPDX-License-Identifier: BSD-2-Clause */
/* A node of sysctl(9) with values that functions of Rust give and take. */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/kernel.h>
#include <sys/malloc.h>
#include <sys/queue.h>
#include <sys/sysctl.h>

#include "kpi_shim.h"

struct entry {
	SLIST_ENTRY(entry) link;
	union {
		kpi_sysctl_u64_t *u64;
		kpi_sysctl_str_t *str;
	} fn;
	void *arg;
};

struct kpi_sysctl {
	struct sysctl_ctx_list ctx;
	struct sysctl_oid *node;
	SLIST_HEAD(, entry) entries;
};

SYSCTL_DECL(_net);

struct kpi_sysctl *
kpi_sysctl_new(const char *name, const char *descr)
{
	struct kpi_sysctl *s;

	s = kpi_malloc(sizeof(*s), M_WAITOK | M_ZERO);
	if (s == NULL)
		return (NULL);
	SLIST_INIT(&s->entries);
	sysctl_ctx_init(&s->ctx);
	s->node = SYSCTL_ADD_NODE(&s->ctx, SYSCTL_STATIC_CHILDREN(_net), OID_AUTO, name, CTLFLAG_RD | CTLFLAG_MPSAFE,
	    NULL, descr);
	if (s->node == NULL) {
		kpi_sysctl_free(s);
		return (NULL);
	}
	return (s);
}

static struct entry *
new_entry(struct kpi_sysctl *s, void *arg)
{
	struct entry *e;

	e = kpi_malloc(sizeof(*e), M_WAITOK | M_ZERO);
	if (e != NULL) {
		e->arg = arg;
		/* From here on it is freed with the context, after the kernel's record of it. */
		SLIST_INSERT_HEAD(&s->entries, e, link);
	}
	return (e);
}

static int
handle_u64(SYSCTL_HANDLER_ARGS)
{
	struct entry *e = arg1;
	uint64_t v;
	int error;

	v = 0;
	error = e->fn.u64(e->arg, &v, 0);
	if (error == 0)
		error = sysctl_handle_64(oidp, &v, 0, req);
	if (error == 0 && req->newptr != NULL)
		error = e->fn.u64(e->arg, &v, 1);
	return (error);
}

static int
handle_str(SYSCTL_HANDLER_ARGS)
{
	struct entry *e = arg1;
	char buf[256];
	size_t len;

	len = e->fn.str(e->arg, buf, sizeof(buf) - 1);
	buf[MIN(len, sizeof(buf) - 1)] = '\0';
	return (SYSCTL_OUT(req, buf, strlen(buf) + 1));
}

int
kpi_sysctl_add_u64(struct kpi_sysctl *s, const char *name, const char *descr, int writable, kpi_sysctl_u64_t *fn,
    void *arg)
{
	struct sysctl_oid *oid;
	struct entry *e;

	e = new_entry(s, arg);
	if (e == NULL)
		return (ENOMEM);
	e->fn.u64 = fn;
	/* Two calls, as the macro wants constant flags. */
	if (writable)
		oid = SYSCTL_ADD_PROC(&s->ctx, SYSCTL_CHILDREN(s->node), OID_AUTO, name,
		    CTLTYPE_U64 | CTLFLAG_MPSAFE | CTLFLAG_RWTUN, e, 0, handle_u64, "QU", descr);
	else
		oid = SYSCTL_ADD_PROC(&s->ctx, SYSCTL_CHILDREN(s->node), OID_AUTO, name,
		    CTLTYPE_U64 | CTLFLAG_MPSAFE | CTLFLAG_RD, e, 0, handle_u64, "QU", descr);
	return (oid != NULL ? 0 : ENOMEM);
}

int
kpi_sysctl_add_str(struct kpi_sysctl *s, const char *name, const char *descr, kpi_sysctl_str_t *fn, void *arg)
{
	struct sysctl_oid *oid;
	struct entry *e;

	e = new_entry(s, arg);
	if (e == NULL)
		return (ENOMEM);
	e->fn.str = fn;
	oid = SYSCTL_ADD_PROC(&s->ctx, SYSCTL_CHILDREN(s->node), OID_AUTO, name,
	    CTLTYPE_STRING | CTLFLAG_MPSAFE | CTLFLAG_RD, e, 0, handle_str, "A", descr);
	return (oid != NULL ? 0 : ENOMEM);
}

void
kpi_sysctl_free(struct kpi_sysctl *s)
{
	struct entry *e;

	/* Waits for handlers that run. */
	sysctl_ctx_free(&s->ctx);
	while ((e = SLIST_FIRST(&s->entries)) != NULL) {
		SLIST_REMOVE_HEAD(&s->entries, link);
		kpi_free(e);
	}
	kpi_free(s);
}

size_t
kpi_tunable(const char *name, char *buf, size_t len)
{
	char *value;
	size_t n;

	value = kern_getenv(name);
	if (value == NULL)
		return (0);
	n = MIN(strlen(value), len);
	memcpy(buf, value, n);
	freeenv(value);
	return (n);
}
