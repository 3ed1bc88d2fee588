//! The guide, for users, teachers and contributors. Each page is also a file in `src/guide`.
//!
//! - [`chatting`]: What to type in the client, at a terminal or through a pipe.
//! - [`on_a_network`]: How to open the server to a network: addresses, browsers, TLS, running it as
//!   a service, and using more than one machine.
//! - [`keeping_order`]: How to ban and mute users, appoint moderators, and control registrations.
//! - [`behind_a_proxy`]: How to serve the chat page behind nginx, Caddy or HAProxy.
//! - [`chatserver`]: The server's options.
//! - [`chatclient`]: The client's options.
//! - [`chatcheck`]: The checker's options.
//! - [`security`]: What the server guarantees, and what it does not.
//! - [`seeds`]: The five documents from which this project grew, each with the command that runs
//!   the server it describes.
//! - [`board`]: The page that shows what happens inside the server.
//! - [`build_it_yourself`]: How to write such a server in any language and test it with the
//!   checker.
//! - [`glossary`]: The technical terms, each explained in a sentence or two.
//! - [`reading_the_code`]: A tour of the source, and of a running server as seen from outside.
//! - [`contributing`]: How to change this project.
//! - [`changelog`]: What changed, and for whom.
//!
//! Pages refer to each other as `[security]`. In the rendered docs, this links to the page; in the
//! file itself, to the other file, through a link definition at the end. Here, an earlier
//! definition overrides that one.

#[doc = include_str!("links.md")]
#[doc = include_str!("chatting.md")]
pub mod chatting {}

#[doc = include_str!("links.md")]
#[doc = include_str!("on-a-network.md")]
pub mod on_a_network {}

#[doc = include_str!("links.md")]
#[doc = include_str!("keeping-order.md")]
pub mod keeping_order {}

#[doc = include_str!("links.md")]
#[doc = include_str!("behind-a-proxy.md")]
pub mod behind_a_proxy {}

#[doc = include_str!("links.md")]
#[doc = include_str!("chatserver.md")]
pub mod chatserver {}

#[doc = include_str!("links.md")]
#[doc = include_str!("chatclient.md")]
pub mod chatclient {}

#[doc = include_str!("links.md")]
#[doc = include_str!("chatcheck.md")]
pub mod chatcheck {}

#[doc = include_str!("links.md")]
#[doc = include_str!("security.md")]
pub mod security {}

#[doc = include_str!("links.md")]
#[doc = include_str!("seeds.md")]
pub mod seeds {}

#[doc = include_str!("links.md")]
#[doc = include_str!("board.md")]
pub mod board {}

#[doc = include_str!("links.md")]
#[doc = include_str!("build-it-yourself.md")]
pub mod build_it_yourself {}

#[doc = include_str!("links.md")]
#[doc = include_str!("glossary.md")]
pub mod glossary {}

#[doc = include_str!("links.md")]
#[doc = include_str!("reading-the-code.md")]
pub mod reading_the_code {}

#[doc = include_str!("links.md")]
#[doc = include_str!("contributing.md")]
pub mod contributing {}

#[doc = include_str!("links.md")]
#[doc = include_str!("changelog.md")]
pub mod changelog {}
