#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs whose worker dies.

cut.py serve accept|poll|epoll|fork PORT: listen; each connection is told by whom it is
served, "adopted" or "native", and is kept open. Connections that send something are
answered the same.
cut.py ask HOST PORT: connect, print what the server said.
cut.py keep HOST PORT: the same; then, for a line of input, send something, and say what
became of the connection.
cut.py hold PORT: accept, and neither read nor write.
cut.py victims HOST PORT: connections that wait in each way there is; print "waiting"
when they do, and what each of them heard of the end.
"""
import errno
import os
import select
import socket
import sys
import threading
import time

TCP_ULP = 31


def kind(sock):
    try:
        ulp = sock.getsockopt(socket.IPPROTO_TCP, TCP_ULP, 16)
    except OSError:
        ulp = b""
    return "adopted" if ulp.startswith(b"dmm") else "native"


def listener(port):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("0.0.0.0", port))
    sock.listen(64)
    return sock


def serve(how, port):
    lis = listener(port)
    if how == "fork" and os.fork():
        print("ready", flush=True)
        os.wait()	# has the listener, and never asks for anything
        return
    if how == "poll":
        waiter = select.poll()
        waiter.register(lis, select.POLLIN)
    else:
        waiter = select.epoll()
        waiter.register(lis, select.EPOLLIN | select.EPOLLET)
    if how != "accept":
        lis.setblocking(False)
    print("ready", flush=True)
    open_ones = []
    while True:
        if how != "accept":
            waiter.poll()
        try:
            while True:
                sock = lis.accept()[0]
                sock.setblocking(True)
                sock.sendall(kind(sock).encode() + b"\n")
                open_ones.append(sock)
        except BlockingIOError:
            pass


def ask(host, port):
    sock = socket.create_connection((host, port), 20)
    word = sock.makefile().readline().strip()
    if not word:
        sys.exit("no answer")
    print(word, flush=True)
    return sock


def keep(host, port):
    sock = ask(host, port)
    sys.stdin.readline()
    try:
        sock.sendall(b"x")
        rest = sock.recv(1)
        print("end" if not rest else "data", flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)


def hold(port):
    lis = listener(port)
    print("ready", flush=True)
    socks = []
    while True:
        socks.append(lis.accept())


def flags(mask):
    names = "IN OUT ERR HUP RDHUP".split()
    bits = [select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP,
            select.EPOLLRDHUP]
    return "+".join(n for n, b in zip(names, bits) if mask & b)


def error_of(call):
    try:
        return repr(call())
    except OSError as e:
        return errno.errorcode[e.errno]


def fill(sock):
    sock.setblocking(False)
    try:
        while True:
            sock.send(b"x" * 65536)
    except BlockingIOError:
        sock.setblocking(True)


def wait_poll(sock):
    p = select.poll()
    p.register(sock, select.POLLIN)
    return flags(p.poll()[0][1])


def wait_select(sock):
    r, w, x = select.select([sock], [], [])
    return "r" * len(r) + "w" * len(w) + "x" * len(x)


def wait_epoll(mode):
    def wait(sock):
        e = select.epoll()
        e.register(sock, select.EPOLLIN | select.EPOLLRDHUP | mode)
        return flags(e.poll()[0][1])
    return wait


def wait_nested(sock):
    inner, outer = select.epoll(), select.epoll()
    inner.register(sock, select.EPOLLIN)
    outer.register(inner, select.EPOLLIN)
    return flags(outer.poll()[0][1])


def blocked(tid):
    with open(f"/proc/self/task/{tid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0] == "S"


def victims(host, port):
    ways = {
        "recv": lambda s: error_of(lambda: s.recv(1)),
        "send": lambda s: error_of(lambda: s.sendall(b"x" * 65536)),
        "send-part": lambda s: error_of(lambda: s.sendall(b"x" * (64 << 20))),
        "poll": wait_poll,
        "select": wait_select,
        "epoll": wait_epoll(0),
        "epoll-et": wait_epoll(select.EPOLLET),
        "nested": wait_nested,
    }
    heard, tids = {}, {}

    def run(name, sock):
        tids[name] = threading.get_native_id()
        first = ways[name](sock)
        if name == "recv":
            then = error_of(lambda: sock.recv(1)), error_of(lambda: sock.send(b"x"))
        else:
            then = (error_of(lambda: sock.recv(1)), error_of(lambda: sock.send(b"x")),
                    error_of(lambda: sock.recv(1)))
        heard[name] = (first,) + then

    threads = []
    for name in ways:
        sock = socket.create_connection((host, port), 20)
        sock.settimeout(None)
        if kind(sock) != "adopted":
            sys.exit(f"{name}: a native socket")
        if name == "send":
            fill(sock)
        threads.append(threading.Thread(target=run, args=(name, sock)))
        threads[-1].start()
    idle = socket.create_connection((host, port), 20)
    while len(tids) < len(ways) or not all(blocked(t) for t in tids.values()):
        time.sleep(0.05)
    print("waiting", flush=True)
    for t in threads:
        t.join()
    heard["idle"] = (error_of(lambda: idle.send(b"x")), error_of(lambda: idle.send(b"x")))
    for name, what in heard.items():
        print(name, *what, flush=True)
    # and the next ones, when told so
    for line in sys.stdin:
        print("next", kind(socket.create_connection((host, port), 20)), flush=True)


what, *args = sys.argv[1:]
args = [int(a) if a.isdigit() else a for a in args]
{"serve": serve, "ask": ask, "keep": keep, "hold": hold, "victims": victims}[what](*args)
