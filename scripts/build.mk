# SPDX-License-Identifier: Apache-2.0
# Included by each folder's Makefile: where things go, and quiet rules.
#
#	$(OUT)/vmlinux.h		from the kernel headers' BTF
#	$(OUT)/bpf/*.skel.h		skeletons; *.bpf.o beside them
#	$(OUT)/obj/FOLDER/		objects
#	$(OUT)/bin/			programs
#	$(OUT)/lib/			libdmm.a
#	$(OUT)/lib/dmm/			what programs load: plug-ins, BPF objects
#
# SANITIZE=1, with an OUT= of its own, builds with ASan and UBSan.
#
# A program finds its own ../lib/dmm from where it lies, here and installed.

VERSION	:= 0.1.0

TOP	:= $(abspath $(dir $(lastword $(MAKEFILE_LIST)))/..)
OUT	?= $(TOP)/build
CACHE	?= /var/cache/dmm

# The headers of the kernel that scripts/setup chose, or KDIR=.
ifndef KDIR
KDIR	:= /usr/src/linux-headers-$(shell cat $(CACHE)/kernel/release 2>/dev/null)
endif

ifeq ($(V),1)
Q	:=
say	= @:
else
Q	:= @
say	= @printf '  %-8s %s\n' '$(1)' '$(patsubst $(TOP)/%,%,$(2))'
endif

CC	?= gcc
CLANG	?= clang
BPFTOOL	?= /usr/sbin/bpftool
PKG_CONFIG ?= pkg-config

WARN	:= -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes \
	   -Wpointer-arith -Wshadow -Wno-unused-parameter
CFLAGS	?= -O2 -g
ifeq ($(SANITIZE),1)
override CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=all \
		   -fno-omit-frame-pointer
endif
CFLAGS_ALL = -std=gnu11 $(CFLAGS) $(WARN) -D_GNU_SOURCE \
	   -DDMM_VERSION='"$(VERSION)"' -I$(TOP)/kmod/uapi -I$(TOP)/userlib/include -I$(TOP)/bpf -I$(OUT) \
	   -MMD -MP

# $(call objs,folder,files.c): their objects below $(OUT)/obj
objs	= $(patsubst %.c,$(OUT)/obj/$(1)/%.o,$(2))

# $(call cc_rule,folder,extra flags): how that folder's .c become objects
define cc_rule
$(OUT)/obj/$(1)/%.o: $(TOP)/$(1)/%.c
	@mkdir -p $$(@D)
	$$(call say,CC,$$@)
	$(Q)$$(CC) $$(CFLAGS_ALL) $(2) -c -o $$@ $$<
endef

# $(call link,flags and libraries)
define link
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(1)
endef
