// SPDX-License-Identifier: Apache-2.0
/* nft_table add|del: a table of nftables with an empty chain, in this netns. */
#include <stdio.h>

#include "../policy/nft.h"

int main(int argc, char **argv)
{
	int ret;

	if (argc != 2)
		return 2;
	ret = nft_filter(NFPROTO_IPV4, NF_INET_LOCAL_OUT, !strcmp(argv[1], "add"));
	if (ret)
		fprintf(stderr, "nft_table: %s\n", strerror(-ret));
	return !!ret;
}
