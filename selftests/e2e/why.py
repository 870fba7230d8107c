#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""why.py CASE HOST PORT: one socket that a rule gives to a stack; prints what became of it.

That is "adopted", "native", "listens", or the errno. What goes past the shim, by a
system call made by hand, prints its errno as well.
"""
import ctypes
import errno
import os
import socket
import sys

TCP_ULP = 31
SYS_write, SYS_io_uring_setup = 1, 425
libc = ctypes.CDLL(None, use_errno=True)


def kind(sock):
    try:
        ulp = sock.getsockopt(socket.IPPROTO_TCP, TCP_ULP, 16)
    except OSError:
        ulp = b""
    return "adopted" if ulp.startswith(b"dmm") else "native"


def attempt(call):
    try:
        return call() or "done"
    except OSError as e:
        return errno.errorcode[e.errno]


def by_hand(nr, *args):
    ctypes.set_errno(0)
    if libc.syscall(ctypes.c_long(nr), *args) >= 0:
        return "done"
    return errno.errorcode[ctypes.get_errno()]


def ring():
    params = ctypes.create_string_buffer(120)
    fd = libc.syscall(ctypes.c_long(SYS_io_uring_setup), 1, params)
    if fd < 0:
        sys.exit("io_uring_setup: " + errno.errorcode[ctypes.get_errno()])


def connect(sock, to):
    err = attempt(lambda: sock.connect(to))
    return kind(sock) if err == "done" else err


def listen(to):
    sock = socket.socket()
    err = attempt(lambda: sock.bind(to))
    if err == "done":
        err = attempt(lambda: sock.listen(8))
    return "listens" if err == "done" else err


def in_child(call):
    r, w = os.pipe()
    if not os.fork():
        os.write(w, call().encode())
        os._exit(0)
    os.wait()
    return os.read(r, 100).decode()


def write_by_hand(sock):
    return by_hand(SYS_write, sock.fileno(), b"x", ctypes.c_size_t(1))


case, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
to = (host, port)
sock = socket.socket()
if case == "adopted":
    print(connect(sock, to))
elif case == "sockopt":
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
    print(connect(sock, to))
elif case == "state":
    print(in_child(lambda: connect(sock, to)))
elif case == "io-uring":
    ring()
    print(connect(sock, to))
elif case == "listen":
    print(listen(to))
elif case == "listen-io-uring":
    ring()
    print(listen(to))
elif case == "listen-twice":
    sock.bind(to)
    print(attempt(lambda: sock.listen(8)), attempt(lambda: sock.listen(8)),
          sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
elif case == "by-hand":
    print(connect(sock, to), write_by_hand(sock), in_child(lambda: write_by_hand(sock)),
          write_by_hand(sock), attempt(lambda: str(sock.send(b"x"))))
