//! How the Redis drivers connect, and how Redis errors are classified
