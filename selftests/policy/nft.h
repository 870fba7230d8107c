/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of nftables with one chain at a hook, without the nft program: in the netns
 * that the caller is in.
 */
#ifndef DMM_TEST_NFT_H
#define DMM_TEST_NFT_H

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct nft_batch {
	char buf[1024];
	size_t len;
	struct nlmsghdr *h;	/* the last message */
};

static inline void nft_msg(struct nft_batch *b, int type, int flags, int family, int res)
{
	struct nfgenmsg *g;

	b->h = (struct nlmsghdr *)(b->buf + b->len);
	memset(b->h, 0, NLMSG_SPACE(sizeof(*g)));
	b->h->nlmsg_len = NLMSG_SPACE(sizeof(*g));
	b->h->nlmsg_type = type;
	b->h->nlmsg_flags = NLM_F_REQUEST | flags;
	g = NLMSG_DATA(b->h);
	g->nfgen_family = family;
	g->res_id = htons(res);
	b->len += b->h->nlmsg_len;
}

static inline struct nlattr *nft_attr(struct nft_batch *b, int type, const void *data,
				      size_t len)
{
	struct nlattr *a = (struct nlattr *)(b->buf + b->len);

	memset(a, 0, NLA_ALIGN(NLA_HDRLEN + len));
	a->nla_type = type;
	a->nla_len = NLA_HDRLEN + len;
	memcpy((char *)a + NLA_HDRLEN, data, len);
	b->len += NLA_ALIGN(a->nla_len);
	b->h->nlmsg_len = b->buf + b->len - (char *)b->h;
	return a;
}

#define NFT_MSG(msg)	(NFNL_SUBSYS_NFTABLES << 8 | (msg))

/* Make (@on) or remove the table; @family is NFPROTO_*. 0 or -errno. */
static inline int nft_filter_at(int family, unsigned int hook, int prio, int on)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	__be32 num = htonl(hook), priority = htonl(prio);
	struct nft_batch b = { .len = 0 };
	char answer[1024];
	struct nlmsgerr *e;
	struct nlattr *nest;
	int fd, ret;

	nft_msg(&b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	nft_msg(&b, NFT_MSG(on ? NFT_MSG_NEWTABLE : NFT_MSG_DELTABLE),
		(on ? NLM_F_CREATE : 0) | NLM_F_ACK, family, 0);
	nft_attr(&b, NFTA_TABLE_NAME, "t", 2);
	if (on) {
		nft_msg(&b, NFT_MSG(NFT_MSG_NEWCHAIN), NLM_F_CREATE, family, 0);
		nft_attr(&b, NFTA_CHAIN_TABLE, "t", 2);
		nft_attr(&b, NFTA_CHAIN_NAME, "c", 2);
		nest = nft_attr(&b, NLA_F_NESTED | NFTA_CHAIN_HOOK, "", 0);
		nft_attr(&b, NFTA_HOOK_HOOKNUM, &num, 4);
		nft_attr(&b, NFTA_HOOK_PRIORITY, &priority, 4);
		nest->nla_len = b.buf + b.len - (char *)nest;
		nft_attr(&b, NFTA_CHAIN_TYPE, "filter", 7);
	}
	nft_msg(&b, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (fd < 0)
		return -errno;
	ret = sendto(fd, b.buf, b.len, 0, (void *)&kernel, sizeof(kernel)) < 0 ||
	      recv(fd, answer, sizeof(answer), 0) < 0 ? -errno : 0;
	close(fd);
	e = NLMSG_DATA((struct nlmsghdr *)answer);
	return ret ? ret : e->error;
}

static inline int nft_filter(int family, unsigned int hook, int on)
{
	return nft_filter_at(family, hook, 0, on);
}

#endif
