// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Programs of somebody else's, who wants the cgroup kept in. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("cgroup/connect4")
int deny_connect(struct bpf_sock_addr *ctx)
{
	return 0;
}

/* What IPAddressDeny=any of systemd's amounts to. */
SEC("cgroup_skb/egress")
int deny_out(struct __sk_buff *skb)
{
	return 0;
}

/* Lets all pass, but has to see it: IPAccounting=. */
SEC("cgroup_skb/egress")
int pass_out(struct __sk_buff *skb)
{
	return 1;
}

/* No socket options but those that are known. */
SEC("cgroup/setsockopt")
int deny_options(struct bpf_sockopt *ctx)
{
	if (ctx->optlen > 4096)
		ctx->optlen = 0;
	return ctx->level != 0x444d;
}

char _license[] SEC("license") = "Dual BSD/GPL";
