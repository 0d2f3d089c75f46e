//! The status page, health, metrics and the API, over HTTP.

mod api;
mod guard;
mod metrics;
mod pages;
mod world;
