# SPDX-License-Identifier: Apache-2.0
#
#	make			everything; V=1 shows the commands
#	make check		set up, build, all tests (scripts/test)
#	make check-style	what needs no running
#	make asan		a worker with ASan and UBSan in $(OUT)/asan, for tests
#	make demo		the tour
#	make install		DESTDIR= PREFIX=/usr
include scripts/build.mk

PREFIX	?= /usr
INSTALL	?= install
KREL	= $(shell cat $(KDIR)/include/config/kernel.release)

USER	:= bpf userlib daemon selftests

.PHONY: all user kmod $(USER) asan check test check-style demo install clean

all: kmod user
user: $(USER)

kmod:
	$(Q)$(MAKE) -s -C $(KDIR) M=$(CURDIR) W=1 modules

userlib: bpf
daemon: bpf userlib
selftests: bpf userlib daemon

$(USER):
	$(Q)$(MAKE) $(if $(V),,-s) --no-print-directory -C $@

asan:
	$(Q)$(MAKE) $(if $(V),,-s) --no-print-directory -C userlib SANITIZE=1 \
		OUT=$(OUT)/asan worker

check test:
	$(Q)scripts/test

check-style: all
	$(Q)scripts/check-style

demo:
	$(Q)scripts/demo

# $(call put,mode,folder below the prefix,files)
put	= $(if $(wildcard $(3)),$(Q)$(INSTALL) -D -m $(1) \
	  -t $(DESTDIR)$(PREFIX)/$(2) $(wildcard $(3)))

install: all
	$(call put,755,sbin,$(OUT)/bin/dmmd $(OUT)/bin/dmm-worker)
	$(call put,755,bin,$(OUT)/bin/dmmctl)
	$(call put,644,lib/dmm,$(OUT)/lib/dmm/*)
	$(call put,644,lib,$(OUT)/lib/libdmm.a)
	$(call put,644,include/dmm,userlib/include/dmm/*.h)
	$(call put,644,include/linux,kmod/uapi/linux/*.h)
	$(call put,644,lib/systemd/system,daemon/*.service)
	$(call put,644,lib/udev/rules.d,kmod/*.rules daemon/*.rules)
	$(foreach n,1 4 5 7 8,$(call put,644,share/man/man$(n),*/*.$(n) userlib/*/*.$(n))$(newline))
	$(Q)$(INSTALL) -D -m 644 -t $(DESTDIR)/lib/modules/$(KREL)/extra kmod/dmm.ko
	$(Q)$(if $(DESTDIR),,depmod $(KREL))

clean:
	$(Q)$(MAKE) -s -C $(KDIR) M=$(CURDIR) clean
	$(Q)rm -rf $(OUT)

define newline


endef
