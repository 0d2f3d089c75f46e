//! Why a tag stays or goes, and when: rule by rule, by time alone, on a timeline.

mod outlook;
mod rules;
