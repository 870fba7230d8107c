/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * When does a rule match a socket? This is the only place that says it: the
 * policy programs include it, and so does dmmd for `rule explain`.
 *
 * The includer brings __u32 and friends, dmm_bpf.h, and
 *
 *	__u64 dmm_match_ancestor(const struct dmm_sock_view *s, __u32 level);
 *
 * the id of the cgroup at depth @level above (or at) the one that the socket's
 * program is in; 0 when it is not that deep.
 */
#ifndef DMM_MATCH_H
#define DMM_MATCH_H

/*
 * A socket as rules see it, at connect() or bind().
 * @dir:	DMM_DIR_CONNECT or DMM_DIR_LISTEN
 * @uid:	real user id of the caller
 * @family:	AF_INET or AF_INET6; a v4-mapped address is AF_INET
 * @sport:	local port, host order, 0 while there is none
 * @dport:	remote port, host order, 0 for DMM_DIR_LISTEN
 * @src:	local address, network order, IPv4 in src[0]; zero while there is
 *		none, and for a listener on any address
 * @dst:	remote address, likewise; zero for DMM_DIR_LISTEN
 * @comm:	the calling thread's name, padded with NULs
 */
struct dmm_sock_view {
	__u32 dir;
	__u32 uid;
	__u16 family;
	__u16 sport;
	__u16 dport;
	__u16 __reserved;
	__u32 src[4];
	__u32 dst[4];
	char comm[DMM_COMM_LEN];
};

static __u64 dmm_match_ancestor(const struct dmm_sock_view *s, __u32 level);

static inline int dmm_match_prefix(const __u32 *addr, const __u32 *prefix,
				   const __u32 *mask)
{
	return (addr[0] & mask[0]) == prefix[0] &&
	       (addr[1] & mask[1]) == prefix[1] &&
	       (addr[2] & mask[2]) == prefix[2] &&
	       (addr[3] & mask[3]) == prefix[3];
}

static inline int dmm_match_comm(const char *a, const char *b)
{
	int i;

	for (i = 0; i < DMM_COMM_LEN; i++)
		if (a[i] != b[i])
			return 0;
	return 1;
}

/*
 * 0 when @r matches @s, else the DMM_MATCH_* bit of the first part that does not
 * agree. The cheap parts come first.
 */
static inline __u32 dmm_rule_mismatch(const struct dmm_rule *r,
				      const struct dmm_sock_view *s)
{
	__u32 match = r->match;

	if (match & DMM_MATCH_DIR && !(r->dir & s->dir))
		return DMM_MATCH_DIR;
	/* Whither a listener's peers will come from is not known at bind(). */
	if (match & DMM_MATCH_DPORT &&
	    (s->dir != DMM_DIR_CONNECT ||
	     s->dport < r->dport_min || s->dport > r->dport_max))
		return DMM_MATCH_DPORT;
	if (match & DMM_MATCH_SPORT &&
	    (s->sport < r->sport_min || s->sport > r->sport_max))
		return DMM_MATCH_SPORT;
	if (match & DMM_MATCH_UID && s->uid != r->uid)
		return DMM_MATCH_UID;
	if (match & DMM_MATCH_DST &&
	    (s->dir != DMM_DIR_CONNECT || s->family != r->dst_family ||
	     !dmm_match_prefix(s->dst, r->dst, r->dst_mask)))
		return DMM_MATCH_DST;
	if (match & DMM_MATCH_SRC &&
	    (s->family != r->src_family ||
	     !dmm_match_prefix(s->src, r->src, r->src_mask)))
		return DMM_MATCH_SRC;
	if (match & DMM_MATCH_COMM && !dmm_match_comm(s->comm, r->comm))
		return DMM_MATCH_COMM;
	if (match & DMM_MATCH_CGROUP &&
	    dmm_match_ancestor(s, r->cgroup_level) != r->cgroup_id)
		return DMM_MATCH_CGROUP;
	return 0;
}

#endif /* DMM_MATCH_H */
