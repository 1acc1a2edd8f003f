//! Puts roles on adapters: the only place that names both. One function a program.

pub mod commands;
mod contexts;
mod demo;
mod doctor;
mod error;
mod guards;
mod identity;
mod probes;
mod program;
mod proof;
mod servers;
mod single;
mod summary;
mod supervise;
mod vault;

pub use error::WiringError;
