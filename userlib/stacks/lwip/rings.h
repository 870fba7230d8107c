/* SPDX-License-Identifier: Apache-2.0 */
/* The sizes that lwIP is compiled for, in bytes; powers of two. */
#ifndef DMM_LWIP_RINGS_H
#define DMM_LWIP_RINGS_H

#define DMM_LWIP_TX_SIZE	(256 * 1024)
#define DMM_LWIP_RX_SIZE	(256 * 1024)

#endif /* DMM_LWIP_RINGS_H */
