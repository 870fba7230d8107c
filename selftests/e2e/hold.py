#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hold.py SOCKET: be as many clients of a worker as it lets in, say "full" and wait."""
import signal
import socket
import struct
import sys

clients = []
while True:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(sys.argv[1])
    # struct dmm_client_hello, and DMM_CLIENT_F_QUOTA in its flags
    if struct.unpack_from("IIII", sock.recv(64))[3] & 1 << 31:
        break
    clients.append(sock)
print("full", flush=True)
signal.pause()
