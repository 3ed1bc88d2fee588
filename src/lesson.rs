//! The smallest servers, [the ladder](ladder) that leads from them to the complete server, and a
//! page for teachers.

pub mod ladder;
#[doc = include_str!("lesson/lesson-of-90-minutes.md")]
pub mod lesson_of_90_minutes {}

pub use portal_lesson::*;
