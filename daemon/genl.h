/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module's listings, by generic netlink (see linux/dmm.h). All return 0 or a
 * negative errno; -ENOENT means that the module is not loaded.
 */
#ifndef DMM_GENL_H
#define DMM_GENL_H

#include <json-c/json.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

/* Is the module loaded? */
bool dmm_genl_present(void);

/* Its counters: {abi, adopted, bad_events, fallbacks: {REASON: n}}. */
int dmm_genl_stats(struct json_object **out);

/*
 * Attached stacks, an array of {id, name, ifindex, pid, socks, adopted,
 * bad_events, stale_events, fallbacks}.
 */
int dmm_genl_stacks(struct json_object **out);

/*
 * Adopted sockets, all or of one @stack, an array of {stack, state, local,
 * remote, rxq, txq, inode, uid}.
 */
int dmm_genl_socks(const char *stack, struct json_object **out);

/* Call @fn whenever a family comes or goes, until the source is freed. */
int dmm_genl_watch(sd_event *event, sd_event_source **source,
		   void (*fn)(void *data), void *data);

/* The word for a fallback reason, also for one that we do not know yet. */
const char *dmm_fallback_name(unsigned int reason, char *buf, size_t size);

#endif
