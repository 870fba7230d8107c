// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "hist.h"

/* Below 2^(HIST_BITS + 1) each value has a cell of its own. */
static unsigned int cell_of(uint64_t value)
{
	unsigned int shift = 0;

	if (value >> (HIST_BITS + 1))
		shift = 63 - __builtin_clzll(value) - HIST_BITS;
	return (shift << HIST_BITS) + (value >> shift);
}

/* The largest value of a cell. */
static uint64_t cell_top(unsigned int cell)
{
	unsigned int shift = 0;
	uint64_t low = cell;

	if (cell >> (HIST_BITS + 1)) {
		shift = (cell >> HIST_BITS) - 1;
		low = cell - (shift << HIST_BITS);
	}
	return (low << shift) + ((1ULL << shift) - 1);
}

void hist_reset(struct hist *h)
{
	memset(h, 0, sizeof(*h));
	h->min = UINT64_MAX;
}

void hist_add(struct hist *h, uint64_t value)
{
	h->count++;
	h->sum += value;
	if (value < h->min)
		h->min = value;
	if (value > h->max)
		h->max = value;
	h->cell[cell_of(value)]++;
}

uint64_t hist_quantile(const struct hist *h, double fraction)
{
	uint64_t want = fraction * h->count + 0.5, seen = 0, top;
	unsigned int i;

	if (!h->count)
		return 0;
	if (!want)
		want = 1;
	for (i = 0; i < HIST_CELLS; i++) {
		seen += h->cell[i];
		if (seen >= want)
			break;
	}
	if (i == HIST_CELLS)
		return h->max;
	top = cell_top(i);
	return top < h->max ? top : h->max;
}

double hist_mean(const struct hist *h)
{
	return h->count ? (double)h->sum / h->count : 0;
}

void hist_print_cdf(const struct hist *h, double unit, FILE *f)
{
	uint64_t seen = 0, top;
	unsigned int i;

	for (i = 0; i < HIST_CELLS; i++) {
		if (!h->cell[i])
			continue;
		seen += h->cell[i];
		top = cell_top(i);
		fprintf(f, "%.3f %.6f\n", (top < h->max ? top : h->max) / unit,
			(double)seen / h->count);
	}
}
