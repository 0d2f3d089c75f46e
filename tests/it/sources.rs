//! Release evidence from files.
