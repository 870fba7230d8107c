/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SOCK_PEER_H
#define SOCK_PEER_H

/* What socket() takes. */
struct peer_request {
	int domain;
	int type;
	int proto;
};

#endif /* SOCK_PEER_H */
