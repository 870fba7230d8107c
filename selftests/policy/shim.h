/* SPDX-License-Identifier: Apache-2.0 */
/* What the shim does with its sockets, by hand. After fixture.h. */
#ifndef DMM_TEST_POLICY_SHIM_H
#define DMM_TEST_POLICY_SHIM_H

static inline int mark(int fd, __u32 value)
{
	return setsockopt(fd, SOL_DMM, DMM_SO_SHIM, &value, sizeof(value)) < 0 ?
	       -errno : 0;
}

static inline int ask(int fd, int opt)
{
	socklen_t len = sizeof(__u32);
	__u32 value = ~0U;

	if (getsockopt(fd, SOL_DMM, opt, &value, &len) < 0)
		return -errno;
	return len == sizeof(value) ? (int)value : -EPROTO;
}

static inline int tcp(int family)
{
	return socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* The errno of connect(), or what else it returned. */
static inline int go(int fd, const char *addr, int port)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, addr, port);
	int ret = connect(fd, (struct sockaddr *)&ss, len);

	return ret < 0 ? errno : ret;
}

/* A listener on a port of loopback that no rule names. */
static inline int listener(int family, int *port)
{
	struct sockaddr_storage ss;
	socklen_t len = address(&ss, family == AF_INET ? "127.0.0.1" : "::1", 0);
	int fd = tcp(family);

	if (bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, 8) < 0 ||
	    getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return -1;
	*port = ntohs(((struct sockaddr_in *)&ss)->sin_port);
	return fd;
}

#define ATTACH(part, path) do {						\
	struct dmm_cgroup __cg;						\
	int __fd;							\
									\
	ASSERT_EQ(0, dmm_cgroup_resolve(path, &__cg, &__fd, NULL));	\
	ASSERT_EQ(0, dmm_policy_attach(self->p, part, __fd, __cg.id, NULL)); \
	dmm_cgroup_release(&__cg);					\
	close(__fd);							\
} while (0)

#define SHIM_ATTACH() ATTACH(DMM_POLICY_SHIM, self->sb.cgroup)

#endif
