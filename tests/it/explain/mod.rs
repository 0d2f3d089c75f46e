//! Why a tag stays or goes, and when: rule by rule, by time alone, on a timeline.

mod forecast;
mod rule_trace;
