//! Work on policies before they are let loose: tests beside them, what an edit changes, what is wrong with them.

mod diff;
mod lint;
mod policy_tests;
