#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""protect.py connected HOST PORT: connects, then sets what protects a socket; prints
what each gives, after "adopted" or "native".
protect.py listen WHEN HOST PORT: listens with a key for every peer, set WHEN it has not
bound yet, is "bound", or "listens" already; prints what that gave, then "ready", and
serves one peer.
"""
import errno
import socket
import struct
import sys

TCP_MD5SIG, TCP_MD5SIG_EXT, TCP_ULP, TCP_AO_ADD_KEY = 14, 32, 31, 38
IP_MINTTL, IP_XFRM_POLICY, IPV6_MINHOPCOUNT = 21, 17, 73
SO_ATTACH_FILTER, SO_ATTACH_BPF = 26, 50


def md5(flags=0):
    to = struct.pack("=H2xI", socket.AF_INET, 0).ljust(128, b"\0")
    return to + struct.pack("=BBHi", flags, 0, 3, 0) + b"key".ljust(80, b"\0")


FILTER = struct.pack("@HP", 1, 0)
OPTIONS = {
    "filter": (socket.SOL_SOCKET, SO_ATTACH_FILTER, FILTER),
    "bpf": (socket.SOL_SOCKET, SO_ATTACH_BPF, 3),
    "md5": (socket.IPPROTO_TCP, TCP_MD5SIG, md5()),
    "md5-ext": (socket.IPPROTO_TCP, TCP_MD5SIG_EXT, md5(1)),
    "ao": (socket.IPPROTO_TCP, TCP_AO_ADD_KEY, b"\0" * 240),
    "minttl": (socket.IPPROTO_IP, IP_MINTTL, 255),
    "no-minttl": (socket.IPPROTO_IP, IP_MINTTL, 0),
    "xfrm": (socket.IPPROTO_IP, IP_XFRM_POLICY, b"\0" * 200),
    "minhop": (socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, 255),
}


def put(sock, name):
    try:
        sock.setsockopt(*OPTIONS[name])
        return "done"
    except OSError as e:
        return errno.errorcode[e.errno]


def kind(sock):
    ulp = sock.getsockopt(socket.IPPROTO_TCP, TCP_ULP, 16)
    return "adopted" if ulp.startswith(b"dmm") else "native"


sock = socket.socket()
if sys.argv[1] == "connected":
    sock.connect((sys.argv[2], int(sys.argv[3])))
    print(kind(sock), *(f"{name}={put(sock, name)}" for name in OPTIONS))
    sys.exit()
when, to = sys.argv[2], (sys.argv[3], int(sys.argv[4]))
steps = {"bound": lambda: sock.bind(to), "listens": lambda: sock.listen(8)}
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if when == "fresh":
    print(put(sock, "md5-ext"))
for name, step in steps.items():
    step()
    if when == name:
        print(put(sock, "md5-ext"))
print("ready", flush=True)
sock.accept()[0].send(b"served")
