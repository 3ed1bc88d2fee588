//! Nine rungs from one socket to several servers.
//!
//! Each rung asks one question, lets you run something and observe it from outside, shows in a
//! diagram which thread waits for what, and gives the file to read. Two kinds of exercises follow.
//! A question has a folded answer, and a test that demonstrates it. A bug is applied to the server:
//! a test finds it, and you explain it and fix it. `make lessons` prints all of it, and
//! `make handouts` puts all answers on one page.
//!
//! | rung | question |
//! |---|---|
//! | [1. One socket](one_socket) | What does a server do, and where is the client that it is not serving? |
//! | [2. A thread for each client](thread_for_each_client) | How can one program be blocked in many reads at a time? |
//! | [3. Framing](framing) | If one side writes a message, what does the other side read? |
//! | [4. Clients that address each other](clients_that_talk) | How does what one client says get into another one's socket? |
//! | [5. Names](names) | When many threads look things up and change them, what must happen in one step? |
//! | [6. Rooms](rooms) | Who may end something that other threads may be about to use? |
//! | [7. The portal and its workers](portal_and_workers) | How does the server identify the client that connects, and what if none does? |
//! | [8. Who can read this?](who_can_read_this) | What can be read on the way? |
//! | [9. More than one machine](more_than_one_machine) | If a server says nothing for a while, is it dead or suspended? |
//!
//! Besides this project you need `ss`, `ps`, `top`, `nc` and `git`.

#[doc = include_str!("1-one-socket.md")]
pub mod one_socket {}

#[doc = include_str!("2-a-thread-for-each-client.md")]
pub mod thread_for_each_client {}

#[doc = include_str!("3-framing.md")]
pub mod framing {}

#[doc = include_str!("4-clients-that-talk.md")]
pub mod clients_that_talk {}

#[doc = include_str!("5-names.md")]
pub mod names {}

#[doc = include_str!("6-rooms.md")]
pub mod rooms {}

#[doc = include_str!("7-the-portal-and-its-workers.md")]
pub mod portal_and_workers {}

#[doc = include_str!("8-who-can-read-this.md")]
pub mod who_can_read_this {}

#[doc = include_str!("9-more-than-one-machine.md")]
pub mod more_than_one_machine {}
