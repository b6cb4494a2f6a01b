//! Structured logs with the context on every line
