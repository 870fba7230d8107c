// SPDX-License-Identifier: Apache-2.0
/*
 * The DPDK side: EAL, the mbuf pool and one AF_XDP port with one queue.
 *
 * EAL takes no CPU for itself: its one lcore is this thread, free to run on all
 * the CPUs that the process may use, and its helper threads only sleep.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>

#include "private.h"

#define POOL_SIZE	16383
#define POOL_CACHE	256
#define RING_DESCS	2048
#define VDEV		"net_af_xdp0"
#define HUGE_DIR	"/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define HUGE_NEEDED	32	/* pages of 2 MiB that the pool takes */
#define NO_HUGE_MB	"128"
#define TX_RETRIES	64

static long read_number(const char *path)
{
	long n = 0;
	FILE *f;

	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%ld", &n) != 1)
		n = 0;
	fclose(f);
	return n;
}

/* --lcores: one lcore, on all the CPUs that we may use, e.g. 0@(0,1). */
static void lcores_arg(char *arg, size_t len)
{
	cpu_set_t set;
	size_t n;
	int cpu;

	n = snprintf(arg, len, "--lcores=0@(");
	CPU_ZERO(&set);
	sched_getaffinity(0, sizeof(set), &set);
	for (cpu = 0; cpu < CPU_SETSIZE && n + 8 < len; cpu++)
		if (CPU_ISSET(cpu, &set))
			n += snprintf(arg + n, len - n, "%d,", cpu);
	arg[n - 1] = ')';
}

static int eal_start(struct dmm_worker *w, char *err, size_t err_len)
{
	bool huge = read_number(HUGE_DIR "free_hugepages") >= HUGE_NEEDED;
	char prefix[64 + DMM_NAME_MAX], lcores[1024], vdev[512];
	char *argv[24];
	int argc = 0;

	snprintf(prefix, sizeof(prefix), "--file-prefix=dmm-%s", w->opts->name);
	lcores_arg(lcores, sizeof(lcores));
	if (snprintf(vdev, sizeof(vdev),
		     "--vdev=" VDEV ",iface=%s,start_queue=0,queue_count=1,busy_budget=0,xdp_prog=%s/dmm_xdp.bpf.o",
		     w->opts->dev, w->opts->lib_dir) >= (int)sizeof(vdev))
		return fail(err, err_len, -ENAMETOOLONG,
			    "library directory's name is too long");

	argv[argc++] = (char *)"dmm-worker";
	argv[argc++] = prefix;
	argv[argc++] = lcores;
	argv[argc++] = vdev;
	argv[argc++] = (char *)"--no-pci";
	argv[argc++] = (char *)"--log-level=lib.eal:error";
	argv[argc++] = (char *)"--log-level=lib.telemetry:error";
	/* either way nothing is shared with, or left to, another process */
	if (huge) {
		argv[argc++] = (char *)"--in-memory";
	} else {
		worker_log(NULL, "no free hugepages: using ordinary memory");
		argv[argc++] = (char *)"--no-shconf";
		argv[argc++] = (char *)"--no-huge";
		argv[argc++] = (char *)"-m";
		argv[argc++] = (char *)NO_HUGE_MB;
	}
	argv[argc] = NULL;
	if (rte_eal_init(argc, argv) < 0)
		return fail(err, err_len, -EIO,
			    "DPDK does not start on device %s: %s",
			    w->opts->dev, rte_strerror(rte_errno));
	w->port.eal = true;
	return 0;
}

/* The PMD does not show its socket; it is among our descriptors. */
static int xsk_find(void)
{
	int fd, max, domain;
	socklen_t len;

	max = sysconf(_SC_OPEN_MAX);
	for (fd = 3; fd < max && fd < 4096; fd++) {
		len = sizeof(domain);
		if (!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) &&
		    domain == AF_XDP)
			return fd;
	}
	return -ENOENT;
}

/*
 * The PMD makes the pool's memory its UMEM, and takes for granted that the mbufs lie
 * one beside the other from where that begins. A pool of rte_pktmbuf_pool_create() has
 * none across a page: with pages of 4 KiB each has a page to itself, and 40 % of them
 * are beyond the UMEM's end. What is sent or filled from there is lost, and so is the
 * mbuf. Nothing here needs physical addresses, so they can be packed.
 */
static struct rte_mempool *pool_create(void)
{
	struct rte_pktmbuf_pool_private priv = {
		.mbuf_data_room_size = RTE_MBUF_DEFAULT_BUF_SIZE,
		.mbuf_priv_size = DMM_STACK_MBUF_PRIV,
	};
	struct rte_mempool *pool;
	int ret;

	pool = rte_mempool_create_empty("dmm", POOL_SIZE,
					sizeof(struct rte_mbuf) +
					priv.mbuf_priv_size +
					priv.mbuf_data_room_size, POOL_CACHE,
					sizeof(priv), SOCKET_ID_ANY,
					RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	if (!pool)
		return NULL;
	ret = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (!ret) {
		rte_pktmbuf_pool_init(pool, &priv);
		ret = rte_mempool_populate_default(pool);
	}
	if (ret >= 0 && pool->nb_mem_chunks != 1)
		ret = -ENOMEM;
	if (ret < 0) {
		rte_mempool_free(pool);
		rte_errno = -ret;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}

static int port_start(struct dmm_worker *w, char *err, size_t err_len)
{
	struct rte_eth_conf conf = { 0 };
	struct port *port = &w->port;
	int ret;

	ret = rte_eth_dev_get_port_by_name(VDEV, &port->id);
	if (ret)
		return fail(err, err_len, ret,
			    "device %s: DPDK made no port for it", w->opts->dev);
	port->pool = pool_create();
	if (!port->pool)
		return fail(err, err_len, -ENOMEM,
			    "no memory for packet buffers: %s",
			    rte_strerror(rte_errno));
	ret = rte_eth_dev_configure(port->id, 1, 1, &conf);
	if (!ret)
		ret = rte_eth_rx_queue_setup(port->id, 0, RING_DESCS,
					     SOCKET_ID_ANY, NULL, port->pool);
	if (!ret)
		ret = rte_eth_tx_queue_setup(port->id, 0, RING_DESCS,
					     SOCKET_ID_ANY, NULL);
	if (!ret)
		ret = rte_eth_dev_start(port->id);
	if (ret)
		return fail(err, err_len, ret,
			    "device %s: AF_XDP cannot be set up on it: %s",
			    w->opts->dev, strerror(-ret));
	port->started = true;
	port->xsk_fd = xsk_find();
	if (port->xsk_fd < 0)
		return fail(err, err_len, port->xsk_fd,
			    "device %s: no AF_XDP socket was opened",
			    w->opts->dev);
	ret = rte_eth_macaddr_get(port->id, &port->mac);
	if (!ret)
		ret = rte_eth_dev_get_mtu(port->id, &port->mtu);
	if (ret)
		return fail(err, err_len, ret,
			    "device %s: cannot read its address: %s",
			    w->opts->dev, strerror(-ret));
	return 0;
}

static int dev_mtu(const char *dev)
{
	struct ifreq ifr = { 0 };
	int fd, ret;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", dev);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	ret = ioctl(fd, SIOCGIFMTU, &ifr) ? -errno : ifr.ifr_mtu;
	close(fd);
	return ret;
}

int port_create(struct dmm_worker *w, char *err, size_t err_len)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	int ret, mtu;

	/*
	 * The UMEM is locked memory. With CAP_IPC_LOCK the limit does not count,
	 * so it does not matter when it cannot be raised; without, AF_XDP says.
	 */
	if (setrlimit(RLIMIT_MEMLOCK, &all) && errno != EPERM)
		return fail(err, err_len, -errno,
			    "cannot raise the limit on locked memory: %s",
			    strerror(errno));
	mtu = dev_mtu(w->opts->dev);
	if (mtu < 0)
		return fail(err, err_len, mtu, "device %s: cannot read its MTU: %s",
			    w->opts->dev, strerror(-mtu));
	ret = xdp_prepare(w, err, err_len);
	if (ret)
		return ret;
	ret = eal_start(w, err, err_len);
	if (ret)
		return ret;
	ret = port_start(w, err, err_len);
	if (ret)
		return ret;
	w->port.mtu = mtu;
	return xdp_adopt(w, err, err_len);
}

/* Closing the port takes the XDP program off the device. */
void port_destroy(struct dmm_worker *w)
{
	struct port *port = &w->port;
	char path[PATH_MAX];

	while (port->ntx)
		rte_pktmbuf_free(port->tx[--port->ntx]);
	xdp_release(w);
	if (port->started) {
		rte_eth_dev_stop(port->id);
		rte_eth_dev_close(port->id);
		port->started = false;
	}
	if (port->eal) {
		/* EAL leaves its directory, in which telemetry's socket is */
		snprintf(path, sizeof(path), "%s/dpdk_telemetry.v2",
			 rte_eal_get_runtime_dir());
		rte_eal_cleanup();
		unlink(path);
		*strrchr(path, '/') = '\0';
		rmdir(path);
	}
	port->eal = false;
}

void port_flush(struct dmm_worker *w)
{
	struct port *port = &w->port;
	unsigned int sent = 0, tries = 0;

	while (sent < port->ntx && tries++ < TX_RETRIES)
		sent += rte_eth_tx_burst(port->id, 0, port->tx + sent,
					 port->ntx - sent);
	stat_add(&w->stats.tx_frames, sent);
	if (sent < port->ntx) {
		stat_add(&w->stats.tx_drop, port->ntx - sent);
		rte_pktmbuf_free_bulk(port->tx + sent, port->ntx - sent);
	}
	port->ntx = 0;
}

/* Queue a frame; it leaves with the batch. */
void port_send(struct dmm_worker *w, struct rte_mbuf *m)
{
	struct port *port = &w->port;

	stat_add(&w->stats.tx_bytes, m->pkt_len);
	port->tx[port->ntx++] = m;
	if (port->ntx == TX_BATCH)
		port_flush(w);
}

/* Up to RX_BURST frames that carry IP, without their link header. */
unsigned int port_receive(struct dmm_worker *w, struct rte_mbuf **pkts)
{
	uint64_t bytes = 0;
	unsigned int i, n, good = 0;

	n = rte_eth_rx_burst(w->port.id, 0, pkts, RX_BURST);
	if (!n)
		return 0;
	for (i = 0; i < n; i++) {
		struct rte_ether_hdr *eth;
		struct rte_mbuf *m = pkts[i];

		bytes += m->pkt_len;
		eth = rte_pktmbuf_mtod(m, struct rte_ether_hdr *);
		if (m->data_len < sizeof(*eth) ||
		    (eth->ether_type != RTE_BE16(RTE_ETHER_TYPE_IPV4) &&
		     eth->ether_type != RTE_BE16(RTE_ETHER_TYPE_IPV6))) {
			stat_add(&w->stats.rx_drop, 1);
			rte_pktmbuf_free(m);
			continue;
		}
		rte_pktmbuf_adj(m, sizeof(*eth));
		pkts[good++] = m;
	}
	stat_add(&w->stats.rx_frames, n);
	stat_add(&w->stats.rx_bytes, bytes);
	return good;
}
