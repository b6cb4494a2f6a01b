//! Retry and circuit breaker as state machines without I/O
