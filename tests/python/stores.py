"""A state store and an event bus as a Python service has them: JSON text, plain keys and channels.

The Rust tests run these against the same server, so that both sides read what the other one wrote.
"""

import json
from datetime import timedelta

import redis.asyncio as redis


class RedisStateStore:
    """Values as JSON text under the plain key."""

    def __init__(self, url):
        self._redis = redis.from_url(url, encoding="utf-8", decode_responses=True)

    async def get(self, key):
        text = await self._redis.get(key)
        return json.loads(text) if text else None

    async def set(self, key, value, ttl=None):
        text = json.dumps(value)
        if ttl:
            await self._redis.setex(key, int(ttl.total_seconds()), text)
        else:
            await self._redis.set(key, text)

    async def get_many(self, keys):
        texts = await self._redis.mget(keys)
        return {key: json.loads(text) for key, text in zip(keys, texts) if text}

    async def set_many(self, items, ttl=None):
        async with self._redis.pipeline() as pipe:
            for key, value in items.items():
                if ttl:
                    pipe.setex(key, int(ttl.total_seconds()), json.dumps(value))
                else:
                    pipe.set(key, json.dumps(value))
            await pipe.execute()

    async def delete(self, key):
        return await self._redis.delete(key) > 0

    async def exists(self, key):
        return await self._redis.exists(key) > 0

    async def increment(self, key, amount=1):
        return await self._redis.incrby(key, amount)

    async def remaining_ms(self, key):
        return await self._redis.pttl(key)

    async def close(self):
        await self._redis.aclose()


class RedisEventBus:
    """Events as JSON text on channels; whatever JSON object arrives is the event."""

    def __init__(self, url):
        self._redis = redis.from_url(url)
        self._pubsub = self._redis.pubsub()

    async def publish(self, channel, event):
        return await self._redis.publish(channel, json.dumps(event))

    async def subscribe(self, channel):
        """Returns when the server has confirmed the subscription."""
        await self._pubsub.subscribe(channel)
        while True:
            message = await self._pubsub.get_message(timeout=5)
            if message is None:
                raise TimeoutError(f"no confirmation for {channel}")
            if message["type"] == "subscribe" and message["channel"] == channel.encode():
                return

    async def next_event(self, seconds):
        """The channel and the decoded event, or None when none arrives in time."""
        message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=seconds)
        if message is None:
            return None
        return {"channel": message["channel"].decode(), "event": json.loads(message["data"])}

    async def close(self):
        await self._pubsub.aclose()
        await self._redis.aclose()


def seconds(number):
    """A TTL in the commands of the tests: a number of seconds, or nothing."""
    return None if number is None else timedelta(seconds=number)
