#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""echo.py serve PORT, on all addresses; echo.py call HOST PORT: asyncio, 20 at a time."""
import asyncio
import os
import sys


async def on_connection(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(port):
    server = await asyncio.start_server(on_connection, None, port)
    print("ready", flush=True)
    await server.serve_forever()


async def call(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    sent = os.urandom(200000)
    writer.write(sent)
    writer.write_eof()
    got = await reader.read()
    writer.close()
    return got == sent


async def call_all(host, port):
    results = await asyncio.gather(*(call(host, port) for _ in range(20)))
    return all(results)


if sys.argv[1] == "serve":
    asyncio.run(serve(int(sys.argv[2])))
elif not asyncio.run(call_all(sys.argv[2], int(sys.argv[3]))):
    sys.exit("what came back is not what was sent")
