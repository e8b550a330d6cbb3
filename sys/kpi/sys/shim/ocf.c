/* SPDX-License-Identifier: BSD-2-Clause */
/* What the use of the crypto framework takes beside its own functions. */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/bus.h>
#include <sys/kernel.h>
#include <sys/time.h>
#include <machine/atomic.h>
/* Where the kernel has it, and where it is installed. */
#if __has_include(<opencrypto/cryptodev.h>)
#include <opencrypto/cryptodev.h>
#else
#include <crypto/cryptodev.h>
#endif

#include "kpi_shim.h"

struct _device *
kpi_ocf_pin(uint32_t driver, char *name, size_t len)
{
	device_t dev;

	/* Under the lock of detaching: a driver that is going away is not found any more, a busy one does not begin to. */
	bus_topo_lock();
	dev = crypto_find_device_byhid(driver);
	if (dev != NULL) {
		device_busy(dev);
		strlcpy(name, device_get_nameunit(dev), len);
	}
	bus_topo_unlock();
	return (dev);
}

void
kpi_ocf_unpin(struct _device *dev)
{
	device_unbusy(dev);
}

void
kpi_ocf_wait(const uint32_t *done)
{
	while (atomic_load_acq_32(__DECONST(uint32_t *, done)) == 0)
		pause("wgocf", 1);
}
