// SPDX-License-Identifier: Apache-2.0
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "census.h"

/*
 * Between processors counts are kept apart for a while: files by a batch of 32 each,
 * pages until stat_refresh is written.
 */
#define FILES_SLACK	64

/* The number after @key, in the lines of @path that begin with @line; their sum. */
static long sum(const char *path, const char *line, const char *key)
{
	char text[512], *at;
	long total = -1, n;
	FILE *f = fopen(path, "r");

	while (f && fgets(text, sizeof(text), f)) {
		if (strncmp(text, line, strlen(line)))
			continue;
		at = strstr(text + strlen(line), key);
		if (!at || sscanf(at + strlen(key), "%ld", &n) != 1)
			continue;
		total = total < 0 ? n : total + n;
	}
	if (f)
		fclose(f);
	return total;
}

/* "TCP  2432  17 ...": the third word */
static long socks(void)
{
	long total = -1, n;
	char text[512], name[32];
	FILE *f = fopen("/proc/net/protocols", "r");

	while (f && fgets(text, sizeof(text), f)) {
		if (sscanf(text, "%31s %*d %ld", name, &n) != 2 ||
		    (strcmp(name, "TCP") && strcmp(name, "TCPv6")))
			continue;
		total = total < 0 ? n : total + n;
	}
	if (f)
		fclose(f);
	return total;
}

static void refresh(void)
{
	FILE *f = fopen("/proc/sys/vm/stat_refresh", "w");

	if (!f)
		return;
	fputs("1", f);
	fclose(f);
}

void census_take(struct census *c)
{
	refresh();
	*c = (struct census) {
		.socks = socks(),
		.alloc = sum("/proc/net/sockstat", "TCP: ", "alloc "),
		.orphans = sum("/proc/net/sockstat", "TCP: ", "orphan "),
		.files = sum("/proc/sys/fs/file-nr", "", ""),
		.pins = sum("/proc/vmstat", "nr_foll_pin_acquired", " ") -
			sum("/proc/vmstat", "nr_foll_pin_released", " "),
		.shmem = sum("/proc/vmstat", "nr_shmem ", ""),
		.module = sum("/sys/module/dmm/refcnt", "", ""),
	};
}

static int compare(const struct census *before, const struct census *now, bool tell)
{
	const struct {
		const char *what;
		long before, now;
	} rows[] = {
		{ "sockets", before->socks, now->socks },
		{ "allocated sockets", before->alloc, now->alloc },
		{ "orphans", before->orphans, now->orphans },
		{ "files", before->files + FILES_SLACK, now->files },
		{ "pinned pages", before->pins, now->pins },
		{ "pages of shared memory", before->shmem, now->shmem },
		{ "references to the module", before->module, now->module },
	};
	int more = 0;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* what could not be read is not all right */
		if (rows[i].now >= 0 && rows[i].before >= 0 &&
		    rows[i].now <= rows[i].before)
			continue;
		more++;
		if (tell)
			fprintf(stderr, "# census: %s: %ld, now %ld\n",
				rows[i].what, rows[i].before, rows[i].now);
	}
	return more;
}

int census_back(const struct census *before, int seconds)
{
	struct census now;
	int i;

	for (i = 0; i < seconds * 10; i++) {
		census_take(&now);
		if (!compare(before, &now, false))
			return 0;
		usleep(100000);
	}
	return compare(before, &now, true);
}
