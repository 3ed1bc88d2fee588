//! The pages for whoever uses this, teaches with it, or changes it. Each can also be read as a
//! file, in `src/guide`.
//!
//! - [`chatting`]: What to type in the client, in a terminal and from a pipe.
//! - [`on_a_network`]: Letting others in: addresses, browsers, TLS, a service, more than one
//!   machine.
//! - [`behind_a_proxy`]: The page for browsers behind nginx, Caddy or HAProxy.
//! - [`chatserver`]: The server's options.
//! - [`chatclient`]: The client's options.
//! - [`chatcheck`]: The checker's options.
//! - [`security`]: What the server promises, and what it does not.
//! - [`seeds`]: The five documents that this project grew out of, and the command that runs the
//!   server each one describes.
//! - [`board`]: The page on which all of it can be watched.
//! - [`build_it_yourself`]: Writing such a server in any language, with a checker.
//! - [`glossary`]: The technical terms, in a sentence or two each.
//! - [`reading_the_code`]: A tour of the source, and of a running server as seen from outside.
//! - [`contributing`]: How to change this project.
//! - [`changelog`]: What changed, and for whom.
//!
//! Pages refer to each other as `[security]`. Here, such a word links to the page in these docs; in
//! the file itself, it links to the other file, through a definition at the end, which the earlier
//! definition overrides here.

#[doc = include_str!("links.md")]
#[doc = include_str!("chatting.md")]
pub mod chatting {}

#[doc = include_str!("links.md")]
#[doc = include_str!("on-a-network.md")]
pub mod on_a_network {}

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
