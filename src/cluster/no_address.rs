//! What stands for the engine's address in a build that knows no other servers (`--no-default-features`): a type of which
//! there is no value, so that nobody else has to know of it.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// No engine's address.
#[derive(Clone, Debug)]
pub struct EngineAddress(Infallible);

impl fmt::Display for EngineAddress {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

impl FromStr for EngineAddress {
    type Err = String;

    fn from_str(_: &str) -> Result<EngineAddress, String> {
        Err("this build knows no other servers: build it with `--features cluster`".to_owned())
    }
}

impl EngineAddress {
    pub(super) fn never(&self) -> &Infallible {
        &self.0
    }

    #[allow(missing_docs)]
    pub fn with_secret(self, _: &str) -> EngineAddress {
        match self.0 {}
    }
}
