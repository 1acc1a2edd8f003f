//! Puts roles on adapters: the only place that names both. One function a program.

pub mod commands;
mod contexts;
mod demo;
mod error;
mod program;
mod servers;
mod single;
mod summary;

pub use error::WiringError;
