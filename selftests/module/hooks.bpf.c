// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The smallest policy: everything from this cgroup to 10.77.0.0/24 and fd77::/64
 * goes to one stack, everything that is bound there as well, while `enabled`. So
 * the module is tested without the real policy.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <linux/dmm.h>

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;
extern int bpf_dmm_assign(struct bpf_sock_addr_kern *ctx, __u32 stack,
			  __u64 flags) __ksym;

const volatile __u32 stack;
bool enabled = true;
int deny;
__u64 hits, adopted, fallbacks[__DMM_FALLBACK_MAX];

static void assign(struct bpf_sock_addr *ctx, __u64 flags)
{
	__u32 ret;

	__sync_fetch_and_add(&hits, 1);
	ret = bpf_dmm_assign(bpf_cast_to_kern_ctx(ctx), stack, flags);
	if (!ret)
		__sync_fetch_and_add(&adopted, 1);
	else if (ret < __DMM_FALLBACK_MAX)
		__sync_fetch_and_add(&fallbacks[ret], 1);
}

/* Whatever filters packets, though it lets all of them pass. */
SEC("cgroup_skb/egress")
int guard(struct __sk_buff *skb)
{
	return 1;
}

static bool ours_v4(__u32 ip)
{
	return enabled && (bpf_ntohl(ip) & 0xffffff00) == 0x0a4d0000;
}

static bool ours_v6(const struct bpf_sock_addr *ctx)
{
	if (!ctx->user_ip6[0] && !ctx->user_ip6[1] &&
	    ctx->user_ip6[2] == bpf_htonl(0xffff))
		return ours_v4(ctx->user_ip6[3]);
	return enabled && ctx->user_ip6[0] == bpf_htonl(0xfd770000) &&
	       !ctx->user_ip6[1];
}

static bool any_v6(const struct bpf_sock_addr *ctx)
{
	return enabled && !ctx->user_ip6[0] && !ctx->user_ip6[1] &&
	       !ctx->user_ip6[2] && !ctx->user_ip6[3];
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	if (ours_v4(ctx->user_ip4))
		assign(ctx, 0);
	return deny ? 0 : 1;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	if (ours_v6(ctx))
		assign(ctx, 0);
	return 1;
}

SEC("cgroup/bind4")
int bind4(struct bpf_sock_addr *ctx)
{
	if (ours_v4(ctx->user_ip4) || (enabled && !ctx->user_ip4))
		assign(ctx, DMM_ASSIGN_F_LISTEN);
	return 1;
}

SEC("cgroup/bind6")
int bind6(struct bpf_sock_addr *ctx)
{
	if (ours_v6(ctx) || any_v6(ctx))
		assign(ctx, DMM_ASSIGN_F_LISTEN);
	return 1;
}

/*
 * For tests of what bpf_setsockopt() does: setsockopt() of a level that nobody has
 * sets the option that stands here instead.
 */
#define TEST_LEVEL	0x4444

int set_level, set_name, set_value, set_result;

SEC("cgroup/setsockopt")
int instead(struct bpf_sockopt *ctx)
{
	int val = set_value;

	if (ctx->level != TEST_LEVEL)
		return 1;
	set_result = bpf_setsockopt(ctx->sk, set_level, set_name, &val,
				    sizeof(val));
	ctx->optlen = -1;	/* and nothing else */
	return 1;
}

/* One that wants to be called is enough. */
SEC("sockops")
int called(struct bpf_sock_ops *ctx)
{
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
