/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DMM_VERSION_H
#define DMM_VERSION_H

/* DMM_VERSION is scripts/build.mk's. */
#define DMM_RUNTIME_DIR	"/run/dmm"
#define DMM_SOCKET_NAME	"dmmd.sock"
#define DMM_CLIENT_DIR	"client"	/* ID.sock for each stack */

#endif
