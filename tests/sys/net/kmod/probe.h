/* SPDX-License-Identifier: BSD-2-Clause */
/* The parts of the program probe. */

#include <sys/types.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <net/if.h>

#include <stddef.h>
#include <stdint.h>

/* The argument of both ioctls, as abi of the driver. */
struct wg_io {
	char name[IFNAMSIZ];
	void *data;
	size_t size;
};
#define	WG_SET	_IOWR('i', 210, struct wg_io)
#define	WG_GET	_IOWR('i', 211, struct wg_io)

/* A socket for them. */
int	 wg_socket(void);
/* The configuration of the interface as the driver packs it, from malloc(3). */
uint8_t	*wg_get(int s, const char *ifname, size_t *size);
/* Sets it; 0 or errno. */
int	 wg_set(int s, const char *ifname, void *data, size_t size);

void	 netlink_create(const char *ifname);
void	 configure(const char *ifname);
void	 protocol(const char *ifname);
void	 refused(const char *ifname);
void	 allowed(const char *ifname, const char *key, const char *sign, const char *prefix);
