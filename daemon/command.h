/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands of dmmctl that are more than a question and its answer. Each gets the
 * words after its own, and returns what dmmctl exits with, having said on stderr
 * what went wrong; or DMM_MISUSE, having said nothing.
 */
#ifndef DMM_COMMAND_H
#define DMM_COMMAND_H

#include <stdbool.h>

#define DMM_MISUSE (-1)

struct dmm_ctl {
	const char *socket;
	bool json;		/* -j */
	bool dashes;		/* "--" stood before the words, or among them */
};

/* file.c: the configuration as a file */
int dmm_command_apply(const struct dmm_ctl *ctl, int argc, char **argv);
int dmm_command_check(const struct dmm_ctl *ctl, int argc, char **argv);
int dmm_command_save(const struct dmm_ctl *ctl, int argc, char **argv);

/* monitor_print.c: events until a signal, or until dmmd ends */
int dmm_command_monitor(const struct dmm_ctl *ctl, int argc, char **argv);

/* run.c: a program in a cgroup of its own, with a rule of its own */
int dmm_command_run(const struct dmm_ctl *ctl, int argc, char **argv);

#endif
