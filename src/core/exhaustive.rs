//! An exhaustive, breadth-first search of all orders of events, until no new state appears. The
//! models of seats and of rooms share it.

use std::collections::HashSet;

/// A world that can be searched exhaustively. A forbidden step panics.
pub trait World: Clone {
    /// An event that can happen next.
    type Step;

    /// All events that can happen next.
    fn steps(&self) -> Vec<Self::Step>;

    /// Returns the world after the event, and checks its invariants.
    fn after(&self, step: Self::Step) -> Self;

    /// The state in a few bytes, without irrelevant differences.
    fn canonical(&self) -> Vec<u8>;
}

/// Searches from `start` and returns the number of states.
#[allow(clippy::disallowed_macros)]
pub fn walk<W: World>(start: W) -> usize {
    let mut seen = HashSet::from([start.canonical()]);
    let mut level = vec![start];
    let (mut depth, mut steps) = (0, 0_u64);
    while !level.is_empty() {
        let mut next = Vec::new();
        for world in &level {
            for step in world.steps() {
                let after = world.after(step);
                steps += 1;
                if seen.insert(after.canonical()) {
                    next.push(after);
                }
            }
        }
        depth += 1;
        level = next;
    }
    println!(
        "{} states, {steps} steps, complete at depth {depth}",
        seen.len()
    );
    seen.len()
}
