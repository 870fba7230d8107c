/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DMM_VERSION_H
#define DMM_VERSION_H

#define DMM_VERSION	"0.1.0"
#define DMM_RUNTIME_DIR	"/run/dmm"
#define DMM_SOCKET_NAME	"dmmd.sock"

#endif
