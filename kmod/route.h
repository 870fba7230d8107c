/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Addresses and routes of sockets to be adopted, IPv4 and IPv6.
 */
#ifndef DMM_KMOD_ROUTE_H
#define DMM_KMOD_ROUTE_H

#include <linux/dmm.h>
#include <linux/in6.h>

struct dmm_stack;
struct sock;
struct sockaddr;

/**
 * struct dmm_path - from where to where
 * @family: of the packets: AF_INET also for an AF_INET6 socket with mapped addresses
 * @port: the remote port
 * @scope: the device of a link-local remote address, or 0
 * @daddr: the remote address; for AF_INET the last word, the rest is zero
 * @saddr: the local address, likewise
 * @mtu: the route's, bytes; not part of what it leads to
 */
struct dmm_path {
	u16 family;
	__be16 port;
	u32 scope;
	struct in6_addr daddr;
	struct in6_addr saddr;
	u32 mtu;
};

bool dmm_path_parse(const struct sock *sk, const struct sockaddr *uaddr,
		    struct dmm_path *path);
bool dmm_path_same(const struct dmm_path *a, const struct dmm_path *b);
bool dmm_path_route(struct sock *sk, const struct dmm_stack *stack,
		    struct dmm_path *path);
int dmm_path_set(struct sock *sk, const struct dmm_path *path);
int dmm_path_hash(struct sock *sk, const struct dmm_path *path);
void dmm_path_reset(struct sock *sk);
void dmm_path_put(__be32 to[4], u16 family, const struct in6_addr *addr);
bool dmm_listen_route(struct sock *sk, const struct dmm_stack *stack);

#endif /* DMM_KMOD_ROUTE_H */
