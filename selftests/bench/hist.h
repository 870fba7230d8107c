/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log-linear histogram, as HdrHistogram's: each power of two is cut into 128
 * equal parts, so that a value is known to better than one in a hundred whatever
 * its size, and adding one costs a few instructions.
 */
#ifndef HIST_H
#define HIST_H

#include <stdint.h>
#include <stdio.h>

#define HIST_BITS	7
#define HIST_CELLS	((64 - HIST_BITS + 1) << HIST_BITS)

/* @sum: of the values as they were, so that the mean is exact */
struct hist {
	uint64_t count;
	uint64_t sum;
	uint64_t min;
	uint64_t max;
	uint64_t cell[HIST_CELLS];
};

void hist_reset(struct hist *h);
void hist_add(struct hist *h, uint64_t value);

/*
 * The value that @fraction (0..1) of all do not exceed: the upper end of the cell
 * in which it lies, but never more than the largest value. 0 when there are none.
 */
uint64_t hist_quantile(const struct hist *h, double fraction);

double hist_mean(const struct hist *h);

/* A line "value/@unit fraction" for each cell that has some: a CDF to be drawn. */
void hist_print_cdf(const struct hist *h, double unit, FILE *f);

#endif /* HIST_H */
