//! Every order of events, breadth first, until no new state appears: what the models of seats and
//! of rooms have in common.

use std::collections::HashSet;

/// A world that can be walked exhaustively. A step that must not be panics.
pub trait World: Clone {
    /// One thing that can happen next.
    type Step;

    /// Everything that can happen next.
    fn steps(&self) -> Vec<Self::Step>;

    /// Lets it happen, and checks what has to be true afterwards.
    fn after(&self, step: Self::Step) -> Self;

    /// The state in a few bytes, without what makes no difference.
    fn canonical(&self) -> Vec<u8>;
}

/// Walks from `start` and returns the number of states.
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
