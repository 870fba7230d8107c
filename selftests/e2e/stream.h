/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the peer (peer.c) and the tests say to each other: a request, then bytes
 * that both sides know, so that each checks every one of them.
 */
#ifndef STREAM_H
#define STREAM_H

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define STREAM_MAGIC	0x6d6d6473

enum stream_what {
	STREAM_DOWN = 1,	/* the peer sends @size bytes and closes */
	STREAM_UP,		/* the peer reads @size bytes, answers one */
	STREAM_ECHO,		/* the peer sends back all that comes, until FIN */
	STREAM_SINK,		/* the peer reads until FIN and remembers for @seed */
	STREAM_ASK,		/* the peer answers what it remembers: uint64_t */
	STREAM_RESET,		/* the peer resets after @size bytes sent */
	STREAM_LATE,		/* the peer waits for our FIN, then as DOWN */
};

struct stream_request {
	uint32_t magic;
	uint32_t what;
	uint64_t size;
	uint64_t seed;
};

/* Bytes @off..@off+@len of the stream @seed; @off a multiple of 8. */
static inline void stream_fill(void *buf, uint64_t off, size_t len,
			       uint64_t seed)
{
	unsigned char *p = buf;
	uint64_t i = off / 8, w;

	for (; len >= 8; len -= 8, p += 8) {
		w = (seed + ++i) * 0x9e3779b97f4a7c15ULL;
		memcpy(p, &w, 8);
	}
	w = (seed + ++i) * 0x9e3779b97f4a7c15ULL;
	memcpy(p, &w, len);
}

/* Wait for @events if the socket does not block. */
static inline void stream_wait(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	poll(&pfd, 1, 60000);
}

/* All of it, or -errno. */
static inline int stream_write(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EAGAIN) {
			stream_wait(fd, POLLOUT);
			continue;
		}
		if (n < 0)
			return -errno;
		p += n;
		len -= n;
	}
	return 0;
}

/* How many bytes came before the end; -errno. */
static inline ssize_t stream_read(int fd, void *buf, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = read(fd, (char *)buf + got, len - got);

		if (n < 0 && errno == EAGAIN) {
			stream_wait(fd, POLLIN);
			continue;
		}
		if (n < 0)
			return -errno;
		if (!n)
			break;
		got += n;
	}
	return got;
}

#define STREAM_CHUNK	65536

/* Send @size bytes of stream @seed; 0 or -errno. */
static inline int stream_send(int fd, uint64_t size, uint64_t seed)
{
	static __thread char buf[STREAM_CHUNK];
	uint64_t off;
	int err;

	for (off = 0; off < size; off += STREAM_CHUNK) {
		size_t n = size - off < STREAM_CHUNK ? size - off : STREAM_CHUNK;

		stream_fill(buf, off, n, seed);
		err = stream_write(fd, buf, n);
		if (err)
			return err;
	}
	return 0;
}

/* Read and check @size bytes of stream @seed; 0, -errno, -EBADMSG, -ENODATA. */
static inline int stream_check(int fd, uint64_t size, uint64_t seed)
{
	static __thread char buf[STREAM_CHUNK], want[STREAM_CHUNK];
	uint64_t off;

	for (off = 0; off < size; off += STREAM_CHUNK) {
		size_t n = size - off < STREAM_CHUNK ? size - off : STREAM_CHUNK;
		ssize_t got = stream_read(fd, buf, n);

		if (got < 0)
			return got;
		if ((size_t)got < n)
			return -ENODATA;
		stream_fill(want, off, n, seed);
		if (memcmp(buf, want, n))
			return -EBADMSG;
	}
	return 0;
}

#endif /* STREAM_H */
