#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sockets with something to show, for shown.sh; held until a line comes on stdin.

shown.py peer PORT                 says 1000 bytes to whoever comes, and never reads
shown.py app PEER PEER6 PORT MINE  one connection to each, filled and not read, and
                                   listeners on MINE, IPv4 and IPv6, that never accept
shown.py call ADDR ADDR6 PORT      two connections to the first, three to the second
"""
import socket
import sys
import time

SAID = b"x" * 1000


def listener(family, port, backlog):
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("", port))
    sock.listen(backlog)
    return sock


def peer(port):
    both = socket.create_server(("::", port), family=socket.AF_INET6,
                                dualstack_ipv6=True)
    print("ready", flush=True)
    kept = []
    while True:
        kept.append(both.accept()[0])
        kept[-1].sendall(SAID)


def fill(sock):
    """Until nothing more goes in, and what came is all there."""
    sock.setblocking(False)
    idle = 0
    while idle < 20:
        try:
            sock.send(b"y" * 65536)
            idle = 0
        except BlockingIOError:
            idle += 1
            time.sleep(0.05)
    while len(sock.recv(2000, socket.MSG_PEEK)) < len(SAID):
        time.sleep(0.05)


def app(addr, addr6, port, mine):
    kept = [listener(socket.AF_INET, mine, 7), listener(socket.AF_INET6, mine, 9)]
    for where in (addr, addr6):
        kept.append(socket.create_connection((where, port)))
        fill(kept[-1])
    print("ready", flush=True)
    sys.stdin.readline()


def call(addr, addr6, port):
    kept = [socket.create_connection((where, port))
            for where in (addr, addr, addr6, addr6, addr6)]
    print("ready", len(kept), flush=True)
    sys.stdin.readline()


if sys.argv[1] == "peer":
    peer(int(sys.argv[2]))
elif sys.argv[1] == "app":
    app(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
else:
    call(sys.argv[2], sys.argv[3], int(sys.argv[4]))
