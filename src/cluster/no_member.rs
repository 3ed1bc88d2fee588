//! What stands for the other servers in a build that knows none: a type of which there is no value.

use std::sync::Arc;

use super::asks::{Attached, Claimed, Done, Fate, Speaker};
use super::news::{Hears, Neighbour};
use super::settings::{ClusterError, ClusterSettings};
use crate::accounts::{Account, Decided};
use crate::wire::Name;

/// No part in a chat of several servers.
pub enum Cluster {}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Cluster {
    pub fn start(
        settings: &ClusterSettings,
        _: bool,
        _: Arc<dyn Hears>,
    ) -> Result<Cluster, ClusterError> {
        match *settings.engine.never() {}
    }

    pub fn is_up(&self) -> bool {
        match *self {}
    }

    pub fn servers(&self) -> Vec<Neighbour> {
        match *self {}
    }

    pub fn id(&self) -> &str {
        match *self {}
    }

    pub fn elsewhere(&self, _: bool) -> Option<Neighbour> {
        match *self {}
    }

    pub fn account(&self, _: &Name) -> Result<Option<Account>, Fate> {
        match *self {}
    }

    pub fn register(&self, _: &Name, _: u64, _: &str) -> Decided {
        match *self {}
    }

    pub fn claim(&self, _: Speaker<'_>, _: bool, _: Box<dyn FnOnce(Claimed) + Send>) {
        match *self {}
    }

    pub fn release(&self, _: Speaker<'_>) {
        match *self {}
    }

    pub fn say(&self, _: Speaker<'_>, _: Option<&Name>, _: (&str, bool), _: Done) {
        match *self {}
    }

    pub fn may_go_on_alone(&self, _: u64, _: Option<&Name>) -> bool {
        match *self {}
    }

    pub fn topic(&self, _: Speaker<'_>, _: &Name, _: &str, _: Done) {
        match *self {}
    }

    pub fn direct(&self, _: Speaker<'_>, _: &Name, _: (&str, bool), _: Done) {
        match *self {}
    }

    pub fn attach(&self, _: &Name, _: usize) -> Option<Attached> {
        match *self {}
    }

    pub fn detach(&self, _: &Name, _: u64) {
        match *self {}
    }

    pub fn join(&self, _: Speaker<'_>, _: &Name) {
        match *self {}
    }

    pub fn leave(&self, _: Speaker<'_>, _: &Name) {
        match *self {}
    }

    pub fn who(&self) -> Option<Vec<(String, String)>> {
        match *self {}
    }

    pub fn rooms(&self) -> Option<Vec<(String, usize)>> {
        match *self {}
    }

    pub fn stop(&self) {
        match *self {}
    }
}
