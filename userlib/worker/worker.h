/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker: one stack instance on one DPDK port, serving clients' channels. It
 * is a library; main() is thin, so that another program's thread can host it.
 *
 * Everything belongs to the one thread that calls dmm_worker_poll(); only the
 * counters are read by others (DPDK's telemetry thread).
 */
#ifndef DMM_WORKER_H
#define DMM_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dmm_worker;

/**
 * struct dmm_worker_opts - what to run
 * @sz: sizeof(struct dmm_worker_opts)
 * @name: the stack's name
 * @id: its number, 1..DMM_STACK_ID_MAX
 * @type: its type: which plug-in
 * @dev: the network device
 * @netns: path of its network namespace, NULL for the caller's own
 * @lib_dir: where plug-ins and BPF objects lie
 * @bpf_dir: where BPF objects are pinned, below /sys/fs/bpf
 * @client_socket: path to listen on for user-space clients, or NULL
 * @client_share: of what clients use, the part that one user may have, percent
 * @orphan_time: for how long what a client left is closed in peace, seconds
 * @route_own: the device serves every route, not only the kernel's choice
 * @no_module: do without /dev/dmm
 */
struct dmm_worker_opts {
	size_t sz;
	const char *name;
	unsigned int id;
	const char *type;
	const char *dev;
	const char *netns;
	const char *lib_dir;
	const char *bpf_dir;
	const char *client_socket;
	unsigned int client_share;
	unsigned int orphan_time;
	bool route_own;
	bool no_module;
};

/**
 * dmm_worker_create() - set everything up
 * @workerp: set to the worker, owned by the caller
 * @opts: what to run; its strings must outlive the worker
 * @err: on failure, one sentence that says what was wrong
 * @err_len: its size
 *
 * Moves the calling thread into @opts->netns. One worker in a process.
 *
 * Return: 0 or a negative errno.
 */
int dmm_worker_create(struct dmm_worker **workerp,
		      const struct dmm_worker_opts *opts, char *err,
		      size_t err_len);

/**
 * dmm_worker_poll() - one turn: packets, ops, timers, events
 *
 * Never blocks for long.
 *
 * Return: true if there was anything to do.
 */
bool dmm_worker_poll(struct dmm_worker *w);

/** dmm_worker_wait() - sleep until there is something to do, or a signal */
void dmm_worker_wait(struct dmm_worker *w);

/**
 * dmm_worker_run() - poll, spin a little, sleep, until told to stop
 *
 * Return: 0 after dmm_worker_stop(), or a negative errno when it cannot go on.
 */
int dmm_worker_run(struct dmm_worker *w);

/**
 * dmm_worker_stop() - make dmm_worker_run() return, also out of its sleep
 *
 * May be called from a signal handler and from another thread.
 */
void dmm_worker_stop(struct dmm_worker *w);

/** dmm_worker_destroy() - abort all connections, give everything back */
void dmm_worker_destroy(struct dmm_worker *w);

#endif /* DMM_WORKER_H */
