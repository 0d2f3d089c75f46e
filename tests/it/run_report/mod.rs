//! What is found between evidence and registry, and reports of runs that are past.

mod drift;
mod runs;
