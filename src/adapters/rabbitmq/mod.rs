//! Adapter: rabbitmq.
