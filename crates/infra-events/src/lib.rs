//! One event bus over memory and Redis Pub/Sub
