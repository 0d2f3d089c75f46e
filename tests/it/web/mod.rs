//! The status page, health, metrics and the API, over HTTP.

mod api;
mod browser;
mod derived_requests;
mod fixture;
mod guard;
mod images;
mod metrics;
mod pages;
mod plans;
mod progress;
