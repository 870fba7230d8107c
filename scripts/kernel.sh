# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# Can this machine's own kernel load the module? Sourced.
kernel_fits()
{
	local major minor

	IFS=.- read -r major minor _ < <(uname -r)
	((major > 6 || (major == 6 && minor >= 12))) &&
		[[ -d /lib/modules/$(uname -r)/build ]] &&
		[[ $(cat /proc/sys/kernel/modules_disabled 2>/dev/null) == 0 ]]
}
