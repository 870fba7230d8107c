# SPDX-License-Identifier: Apache-2.0
#
# Included by each test folder's Makefile. A test program speaks TAP and is named,
# before the include, in one of:
#
#	TEST_GEN_PROGS		C, on the kernel's kselftest_harness.h
#	TEST_PROGS		shell scripts
#	TEST_MODULE_GEN_PROGS	C, where dmm.ko is loaded: in the VM, or on a
#				machine whose own kernel is fit
#	TEST_MODULE_PROGS	shell scripts, likewise
#
# scripts/test loads the module before each of the last two and unloads it after.
# Further C programs that tests need are TEST_GEN_FILES. After the include,
# libraries and further sources or archives go to one program by
#
#	$(OUTPUT)/NAME: LDLIBS += -lfoo
#	$(OUTPUT)/NAME: more.c $(OUT)/lib/libdmm.a
#
# Everything is built by the kernel's own lib.mk, from DMM_CACHE/kselftest.

include $(dir $(lastword $(MAKEFILE_LIST)))../scripts/build.mk

OUTPUT	?= $(OUT)/selftests/$(notdir $(CURDIR))

TEST_GEN_PROGS_EXTENDED	+= $(TEST_MODULE_GEN_PROGS)
TEST_PROGS_EXTENDED	+= $(TEST_MODULE_PROGS)

# lib.mk defines _GNU_SOURCE itself, to nothing; it makes no dependency files;
# and the harness's fixtures are functions without prototypes.
TEST_CFLAGS := $(filter-out -D_GNU_SOURCE -MMD -MP -Wmissing-prototypes,\
		 $(CFLAGS_ALL)) -isystem $(CACHE)/kselftest -D_GNU_SOURCE=
override CFLAGS = $(TEST_CFLAGS) $(TEST_CFLAGS_EXTRA)

LOCAL_HDRS += $(wildcard *.h ../*.h $(TOP)/kmod/uapi/linux/*.h \
		$(TOP)/bpf/*.h $(TOP)/userlib/include/dmm/*.h)

ifeq ($(wildcard $(CACHE)/kselftest/lib.mk),)
$(error no $(CACHE)/kselftest/lib.mk: run scripts/setup)
endif
include $(CACHE)/kselftest/lib.mk

$(TEST_GEN_PROGS) $(TEST_GEN_PROGS_EXTENDED) $(TEST_GEN_FILES): | $(OUTPUT)
$(OUTPUT):
	@mkdir -p $@

FOLDER := $(notdir $(CURDIR))

.PHONY: list
list:
	@$(foreach p,$(TEST_GEN_PROGS),\
		echo host $(FOLDER)/$(notdir $(p)) $(p);)
	@$(foreach p,$(TEST_PROGS),\
		echo host $(FOLDER)/$(p) $(CURDIR)/$(p);)
	@$(foreach p,$(TEST_MODULE_GEN_PROGS),\
		echo module $(FOLDER)/$(p) $(OUTPUT)/$(p);)
	@$(foreach p,$(TEST_MODULE_PROGS),\
		echo module $(FOLDER)/$(p) $(CURDIR)/$(p);)
