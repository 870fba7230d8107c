// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <linux/dmm.h>
#include <netinet/tcp.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "genl.h"

static const char * const reasons[] = {
#define WORD(code, word) [DMM_FALLBACK_##code] = word,
	DMM_FALLBACK_REASONS(WORD)
#undef WORD
};

const char *dmm_fallback_name(unsigned int reason, char *buf, size_t size)
{
	if (reason == DMM_FALLBACK_NONE)
		return "refused";	/* see struct dmm_rule_stats */
	if (reason < sizeof(reasons) / sizeof(reasons[0]))
		return reasons[reason];
	snprintf(buf, size, "reason-%u", reason);
	return buf;
}

/* As ss writes them. */
static const char *state_name(__u8 state)
{
	static const char * const names[] = {
		[TCP_ESTABLISHED] = "ESTAB",	[TCP_SYN_SENT] = "SYN-SENT",
		[TCP_SYN_RECV] = "SYN-RECV",	[TCP_FIN_WAIT1] = "FIN-WAIT-1",
		[TCP_FIN_WAIT2] = "FIN-WAIT-2",	[TCP_TIME_WAIT] = "TIME-WAIT",
		[TCP_CLOSE] = "UNCONN",		[TCP_CLOSE_WAIT] = "CLOSE-WAIT",
		[TCP_LAST_ACK] = "LAST-ACK",	[TCP_LISTEN] = "LISTEN",
		[TCP_CLOSING] = "CLOSING",
	};

	if (state < sizeof(names) / sizeof(names[0]) && names[state])
		return names[state];
	return "UNKNOWN";
}

static const struct nla_policy policy[DMM_NL_A_MAX + 1] = {
	[DMM_NL_A_STACK_ID]	= { .type = NLA_U32 },
	[DMM_NL_A_NAME]		= { .type = NLA_STRING, .maxlen = DMM_NAME_MAX },
	[DMM_NL_A_IFINDEX]	= { .type = NLA_U32 },
	[DMM_NL_A_PID]		= { .type = NLA_U32 },
	[DMM_NL_A_SOCKS]	= { .type = NLA_U32 },
	[DMM_NL_A_ADOPTED]	= { .type = NLA_U64 },
	[DMM_NL_A_BAD_EVENTS]	= { .type = NLA_U64 },
	[DMM_NL_A_STALE_EVENTS]	= { .type = NLA_U64 },
	[DMM_NL_A_FALLBACKS]	= { .type = NLA_NESTED },
	[DMM_NL_A_FALLBACK]	= { .type = NLA_NESTED },
	[DMM_NL_A_REASON]	= { .type = NLA_U32 },
	[DMM_NL_A_REASON_NAME]	= { .type = NLA_STRING, .maxlen = 32 },
	[DMM_NL_A_COUNT]	= { .type = NLA_U64 },
	[DMM_NL_A_SLOT]		= { .type = NLA_U32 },
	[DMM_NL_A_STATE]	= { .type = NLA_U8 },
	[DMM_NL_A_FAMILY]	= { .type = NLA_U16 },
	[DMM_NL_A_SADDR]	= { .minlen = 4, .maxlen = 16 },
	[DMM_NL_A_DADDR]	= { .minlen = 4, .maxlen = 16 },
	[DMM_NL_A_SPORT]	= { .type = NLA_U16 },
	[DMM_NL_A_DPORT]	= { .type = NLA_U16 },
	[DMM_NL_A_RXQ]		= { .type = NLA_U32 },
	[DMM_NL_A_TXQ]		= { .type = NLA_U32 },
	[DMM_NL_A_INODE]	= { .type = NLA_U64 },
	[DMM_NL_A_UID]		= { .type = NLA_U32 },
	[DMM_NL_A_ABI]		= { .type = NLA_U32 },
};

static void add_int(struct json_object *o, const char *key, int64_t v)
{
	json_object_object_add(o, key, json_object_new_int64(v));
}

static void add_str(struct json_object *o, const char *key, const char *v)
{
	json_object_object_add(o, key, json_object_new_string(v));
}

/* Each only when the attribute is there. */
static void add_u32(struct json_object *o, const char *key, struct nlattr *a)
{
	if (a)
		add_int(o, key, nla_get_u32(a));
}

static void add_u64(struct json_object *o, const char *key, struct nlattr *a)
{
	if (a)
		json_object_object_add(o, key, json_object_new_uint64(nla_get_u64(a)));
}

static void add_fallbacks(struct json_object *o, struct nlattr *nest)
{
	struct json_object *f = json_object_new_object();
	struct nlattr *a, *tb[DMM_NL_A_MAX + 1];
	char buf[32];
	int rem;

	if (nest) {
		nla_for_each_nested(a, nest, rem) {
			if (nla_parse_nested(tb, DMM_NL_A_MAX, a, policy) < 0 ||
			    !tb[DMM_NL_A_REASON])
				continue;
			add_u64(f, tb[DMM_NL_A_REASON_NAME] ?
				nla_get_string(tb[DMM_NL_A_REASON_NAME]) :
				dmm_fallback_name(nla_get_u32(tb[DMM_NL_A_REASON]),
						  buf, sizeof(buf)),
				tb[DMM_NL_A_COUNT]);
		}
	}
	json_object_object_add(o, "fallbacks", f);
}

static void add_endpoint(struct json_object *o, const char *key, struct nlattr *family,
			 struct nlattr *addr, struct nlattr *port)
{
	char text[INET6_ADDRSTRLEN], both[INET6_ADDRSTRLEN + 16], number[8] = "*";
	int af = family ? nla_get_u16(family) : AF_UNSPEC;

	if (!addr || !port ||
	    !((af == AF_INET && nla_len(addr) == 4) ||
	      (af == AF_INET6 && nla_len(addr) == 16)))
		return;
	inet_ntop(af, nla_data(addr), text, sizeof(text));
	/* As ss writes it: a listener has no peer. */
	if (nla_get_u16(port))
		snprintf(number, sizeof(number), "%u", ntohs(nla_get_u16(port)));
	snprintf(both, sizeof(both), af == AF_INET6 ? "[%s]:%s" : "%s:%s", text, number);
	add_str(o, key, both);
}

static struct json_object *stats_json(struct nlattr **tb)
{
	struct json_object *o = json_object_new_object();

	add_u32(o, "abi", tb[DMM_NL_A_ABI]);
	add_u64(o, "adopted", tb[DMM_NL_A_ADOPTED]);
	add_u64(o, "bad_events", tb[DMM_NL_A_BAD_EVENTS]);
	add_fallbacks(o, tb[DMM_NL_A_FALLBACKS]);
	return o;
}

static struct json_object *stack_json(struct nlattr **tb)
{
	struct json_object *o;

	if (!tb[DMM_NL_A_STACK_ID] || !tb[DMM_NL_A_NAME])
		return NULL;
	o = json_object_new_object();
	add_u32(o, "id", tb[DMM_NL_A_STACK_ID]);
	add_str(o, "name", nla_get_string(tb[DMM_NL_A_NAME]));
	add_u32(o, "ifindex", tb[DMM_NL_A_IFINDEX]);
	add_u32(o, "pid", tb[DMM_NL_A_PID]);
	add_u32(o, "socks", tb[DMM_NL_A_SOCKS]);
	add_u64(o, "adopted", tb[DMM_NL_A_ADOPTED]);
	add_u64(o, "bad_events", tb[DMM_NL_A_BAD_EVENTS]);
	add_u64(o, "stale_events", tb[DMM_NL_A_STALE_EVENTS]);
	add_fallbacks(o, tb[DMM_NL_A_FALLBACKS]);
	return o;
}

static struct json_object *sock_json(struct nlattr **tb)
{
	struct json_object *o;

	if (!tb[DMM_NL_A_NAME] || !tb[DMM_NL_A_STATE])
		return NULL;
	o = json_object_new_object();
	add_str(o, "stack", nla_get_string(tb[DMM_NL_A_NAME]));
	add_str(o, "state", state_name(nla_get_u8(tb[DMM_NL_A_STATE])));
	add_u32(o, "rxq", tb[DMM_NL_A_RXQ]);
	add_u32(o, "txq", tb[DMM_NL_A_TXQ]);
	add_endpoint(o, "local", tb[DMM_NL_A_FAMILY], tb[DMM_NL_A_SADDR],
		     tb[DMM_NL_A_SPORT]);
	add_endpoint(o, "remote", tb[DMM_NL_A_FAMILY], tb[DMM_NL_A_DADDR],
		     tb[DMM_NL_A_DPORT]);
	add_u64(o, "inode", tb[DMM_NL_A_INODE]);
	add_u32(o, "uid", tb[DMM_NL_A_UID]);
	return o;
}

/* A reply of one message, or a dump. */
struct query {
	struct json_object *(*json)(struct nlattr **tb);
	const char *stack;		/* wanted, or NULL for all */
	struct json_object *array;
};

static int on_message(struct nl_msg *msg, void *data)
{
	struct nlattr *tb[DMM_NL_A_MAX + 1];
	struct query *q = data;
	struct json_object *o;

	if (genlmsg_parse(nlmsg_hdr(msg), 0, tb, DMM_NL_A_MAX, policy) < 0)
		return NL_SKIP;
	if (q->stack && (!tb[DMM_NL_A_NAME] ||
			 strcmp(nla_get_string(tb[DMM_NL_A_NAME]), q->stack)))
		return NL_SKIP;
	o = q->json(tb);
	if (o)
		json_object_array_add(q->array, o);
	return NL_OK;
}

/* @family gets the number of our family. */
static int open_family(struct nl_sock **out, int *family)
{
	/* The kernel answers at once; a bug there must not stop the daemon. */
	const struct timeval patience = { .tv_sec = 2 };
	struct nl_sock *sk;

	/* To ask for a family that is not there makes the kernel call modprobe. */
	if (access("/sys/module/dmm", F_OK))
		return -ENOENT;
	sk = nl_socket_alloc();
	if (!sk)
		return -ENOMEM;
	if (genl_connect(sk) < 0) {
		nl_socket_free(sk);
		return -EIO;
	}
	setsockopt(nl_socket_get_fd(sk), SOL_SOCKET, SO_RCVTIMEO, &patience,
		   sizeof(patience));
	*family = genl_ctrl_resolve(sk, DMM_NL_FAMILY);
	if (*family < 0) {
		nl_socket_free(sk);
		return -ENOENT;
	}
	*out = sk;
	return 0;
}

static int query(struct query *q, int cmd, int flags)
{
	struct nl_sock *sk;
	struct nl_msg *msg;
	int family, ret;

	ret = open_family(&sk, &family);
	if (ret)
		return ret;
	q->array = json_object_new_array();
	msg = nlmsg_alloc();
	if (!msg || !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, flags, cmd,
				 DMM_NL_VERSION)) {
		nlmsg_free(msg);
		ret = -ENOMEM;
		goto out;
	}
	nl_socket_modify_cb(sk, NL_CB_VALID, NL_CB_CUSTOM, on_message, q);
	ret = nl_send_auto(sk, msg);
	nlmsg_free(msg);
	if (ret >= 0)
		ret = nl_recvmsgs_default(sk);
	/* The acknowledgement of a request that is not a dump. */
	if (ret >= 0 && !(flags & NLM_F_DUMP))
		ret = nl_wait_for_ack(sk);
	/* What changed during a dump may be missing from it; the rest is right. */
	ret = ret < 0 && ret != -NLE_DUMP_INTR ? -EIO : 0;
out:
	nl_socket_free(sk);
	if (ret)
		json_object_put(q->array);
	return ret;
}

bool dmm_genl_present(void)
{
	struct nl_sock *sk;
	int family;

	if (open_family(&sk, &family))
		return false;
	nl_socket_free(sk);
	return true;
}

int dmm_genl_stats(struct json_object **out)
{
	struct query q = { .json = stats_json };
	int ret;

	ret = query(&q, DMM_NL_CMD_STATS_GET, 0);
	if (ret)
		return ret;
	*out = json_object_get(json_object_array_get_idx(q.array, 0));
	json_object_put(q.array);
	return *out ? 0 : -EIO;
}

int dmm_genl_stacks(struct json_object **out)
{
	struct query q = { .json = stack_json };
	int ret;

	ret = query(&q, DMM_NL_CMD_STACK_GET, NLM_F_DUMP);
	*out = q.array;
	return ret;
}

int dmm_genl_socks(const char *stack, struct json_object **out)
{
	struct query q = { .json = sock_json, .stack = stack };
	int ret;

	ret = query(&q, DMM_NL_CMD_SOCK_GET, NLM_F_DUMP);
	*out = q.array;
	return ret;
}

struct watch {
	struct nl_sock *sk;
	void (*fn)(void *data);
	void *data;
};

static int on_notice(sd_event_source *s, int fd, uint32_t revents, void *data)
{
	struct watch *w = data;
	char buf[8192];

	/* Which family it was does not matter: the listener looks for itself. */
	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	w->fn(w->data);
	return 0;
}

static void watch_free(void *data)
{
	struct watch *w = data;

	nl_socket_free(w->sk);
	free(w);
}

int dmm_genl_watch(sd_event *event, sd_event_source **source,
		   void (*fn)(void *data), void *data)
{
	struct watch *w;
	int group, ret;

	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->fn = fn;
	w->data = data;
	w->sk = nl_socket_alloc();
	if (!w->sk) {
		free(w);
		return -ENOMEM;
	}
	ret = -EIO;
	if (genl_connect(w->sk) < 0)
		goto err_free;
	group = genl_ctrl_resolve_grp(w->sk, "nlctrl", "notify");
	if (group < 0 || nl_socket_add_memberships(w->sk, group, 0) < 0)
		goto err_free;
	ret = sd_event_add_io(event, source, nl_socket_get_fd(w->sk), EPOLLIN, on_notice,
			      w);
	if (ret < 0)
		goto err_free;
	sd_event_source_set_destroy_callback(*source, watch_free);
	return 0;

err_free:
	watch_free(w);
	return ret;
}
