"""The Python side of the interoperability tests.

Reads one JSON command per line and answers each with one line of JSON.

Usage: python peer.py REDIS_URL. Ends when its standard input ends.
"""

import asyncio
import json
import sys

from stores import RedisEventBus, RedisStateStore, seconds


async def answer(store, bus, command):
    key = command.get("key")
    match command["op"]:
        case "get":
            return await store.get(key)
        case "set":
            return await store.set(key, command["value"], seconds(command.get("ttl")))
        case "get_many":
            return await store.get_many(command["keys"])
        case "set_many":
            return await store.set_many(command["items"], seconds(command.get("ttl")))
        case "delete":
            return await store.delete(key)
        case "exists":
            return await store.exists(key)
        case "increment":
            return await store.increment(key, command.get("amount", 1))
        case "remaining_ms":
            return await store.remaining_ms(key)
        case "publish":
            return await bus.publish(command["channel"], command["event"])
        case "subscribe":
            return await bus.subscribe(command["channel"])
        case "next_event":
            return await bus.next_event(command["seconds"])
        case other:
            raise ValueError(f"unknown command: {other}")


async def main(url):
    store, bus = RedisStateStore(url), RedisEventBus(url)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            reply = {"ok": await answer(store, bus, json.loads(line))}
        except Exception as error:  # the test decides what an error means
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
    await bus.close()
    await store.close()


asyncio.run(main(sys.argv[1]))
