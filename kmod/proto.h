/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The struct proto and proto_ops that an adopted socket has in place of TCP's.
 */
#ifndef DMM_KMOD_PROTO_H
#define DMM_KMOD_PROTO_H

#include <linux/net.h>
#include <net/sock.h>

/* From the policy's verdict to connect(): as TCP's, but for how it connects. */
extern struct proto dmm_assigned_prot;
/* From connect() on. */
extern struct proto dmm_prot;
extern struct proto_ops dmm_stream_ops;

void dmm_proto_init(void);

#endif /* DMM_KMOD_PROTO_H */
