//! Adapter: redis.
