/* SPDX-License-Identifier: Apache-2.0 */
/* One dmmd for each place: a lock that ends with its holder's process. */
#ifndef DMM_LOCK_H
#define DMM_LOCK_H

#include "err.h"

/*
 * Lock the file or directory @fd, which is @what ("runtime directory") @path to people.
 * The lock lasts while @fd is open. -EBUSY: another has it, and @err says which process.
 */
int dmm_lock(int fd, const char *what, const char *path, struct dmm_err *err);

#endif
