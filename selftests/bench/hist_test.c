// SPDX-License-Identifier: Apache-2.0
/* The histogram against values whose quantiles are known. */
#include <stdlib.h>
#include <string.h>

#include <kselftest_harness.h>

#include "hist.h"

FIXTURE(hist)
{
	struct hist h;
};

FIXTURE_SETUP(hist)
{
	hist_reset(&self->h);
}

FIXTURE_TEARDOWN(hist)
{
}

TEST_F(hist, empty)
{
	EXPECT_EQ(0, hist_quantile(&self->h, 0.5));
	EXPECT_EQ(0, hist_mean(&self->h));
}

TEST_F(hist, one_value_is_every_quantile)
{
	hist_add(&self->h, 123456789);
	EXPECT_EQ(123456789, hist_quantile(&self->h, 0));
	EXPECT_EQ(123456789, hist_quantile(&self->h, 0.5));
	EXPECT_EQ(123456789, hist_quantile(&self->h, 1));
	EXPECT_EQ(123456789, self->h.min);
	EXPECT_EQ(123456789, self->h.max);
}

TEST_F(hist, small_values_are_exact)
{
	uint64_t i;

	for (i = 1; i <= 200; i++)
		hist_add(&self->h, i);
	EXPECT_EQ(100, hist_quantile(&self->h, 0.5));
	EXPECT_EQ(180, hist_quantile(&self->h, 0.9));
	EXPECT_EQ(198, hist_quantile(&self->h, 0.99));
	EXPECT_EQ(200, hist_quantile(&self->h, 1));
	EXPECT_EQ(100.5, hist_mean(&self->h));
}

/* Whatever the size: never below the true value, and less than 1 % above it. */
TEST_F(hist, error_is_below_one_percent)
{
	uint64_t i, got, want;

	for (i = 1; i <= 100000; i++)
		hist_add(&self->h, i * 1000);
	for (i = 1; i <= 1000; i++) {
		want = i * 100000;
		got = hist_quantile(&self->h, i / 1000.0);
		ASSERT_GE(got, want);
		ASSERT_LT(got, want + want / 100);
	}
}

TEST_F(hist, whole_range)
{
	unsigned int bit;

	for (bit = 0; bit < 64; bit++) {
		hist_reset(&self->h);
		hist_add(&self->h, 1ULL << bit);
		hist_add(&self->h, UINT64_MAX);
		ASSERT_GE(hist_quantile(&self->h, 0.5), 1ULL << bit);
		ASSERT_LE(hist_quantile(&self->h, 0.5) - (1ULL << bit),
			  (1ULL << bit) / 100);
		ASSERT_EQ(UINT64_MAX, hist_quantile(&self->h, 1));
	}
}

TEST_F(hist, cdf_ends_at_one)
{
	char *text, *line, *last = NULL;
	double us, fraction;
	size_t len, lines = 0;
	FILE *f;

	hist_add(&self->h, 1000);
	hist_add(&self->h, 2000);
	hist_add(&self->h, 2000);
	hist_add(&self->h, 4000);
	f = open_memstream(&text, &len);
	ASSERT_NE(NULL, f);
	hist_print_cdf(&self->h, 1e3, f);
	fclose(f);
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		last = line;
		lines++;
	}
	EXPECT_EQ(3, lines);
	ASSERT_EQ(2, sscanf(last, "%lf %lf", &us, &fraction));
	EXPECT_EQ(4, us);
	EXPECT_EQ(1, fraction);
	free(text);
}

TEST_HARNESS_MAIN
