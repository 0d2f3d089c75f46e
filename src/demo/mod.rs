//! The world of `tagwarden demo`: an embedded registry, and the content and settings of a fictitious company in it.
//!
//! Nothing here is a fake of Tagwarden: the registry implements the real protocol over real HTTP on loopback, every
//! digest is that of real bytes, and the files are those that a platform owner would write. The integration tests run
//! against the same registry, with faults injected.

pub mod blob;
pub mod image;
pub mod registry;
pub mod sample;
mod walk;

pub use walk::{DemoOptions, run_demo};
