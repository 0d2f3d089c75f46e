//! Decisions. Pure and synchronous: no IO, no clock, no randomness; equal inputs give equal outputs.
