//! The sessions of the clients in the seats: requests and replies, the users by name, the pairs and
//! the rooms, history, and moderation.
//!
//! [`state::ChatState`] is the [`Service`](portal_core::service::Service) to which the core passes
//! its clients. Other features are behind traits: [`accounts::Accounts`], [`policies::Policies`],
//! [`backplane::Backplane`] and [`journal::Journal`].

#![warn(missing_docs)]

pub mod accounts;
pub mod at_worker;
pub mod backplane;
pub mod chat;
pub mod event;
mod in_room;
pub mod journal;
pub mod limits;
pub mod local_delivery;
mod login;
pub mod login_throttle;
mod moderate;
pub mod moderation;
mod outgoing;
pub mod pace;
mod pending_replies;
pub mod policies;
pub mod room_manager;
mod room_rules;
pub mod room_threads;
pub mod state;
pub mod tokens;
pub mod turn;
