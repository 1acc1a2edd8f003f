//! The life of a process: its clock and randomness, its signals, its listener, its end.
//!
//! Nothing else in the library reads the wall clock or the random source of the operating system.

mod clock;
mod cores;
mod listener;
pub mod process;
mod serve;
mod signals;
mod tls;
mod watch;

pub use clock::{SystemClock, SystemEntropy};
pub use cores::on_cores;
pub use listener::{Bounded, Peer};
pub use serve::serve;
pub use signals::{EXIT_INTERRUPTED, stop_at_end_of_input, stop_on_signals};
pub use tls::Tls;
pub use watch::Watch;

/// Makes ring the process's TLS provider. First thing in every `main`: the first TLS connection
/// would panic without it.
pub fn install_crypto_provider() {
    // An error says that one is installed already, which is what was wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
