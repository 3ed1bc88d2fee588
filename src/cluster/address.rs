//! Where the engine is, and who asks there.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionInfo, IntoConnectionInfo};

/// Where the engine is: `redis://HOST[:PORT][/DB]`, or `rediss://` with TLS.
#[derive(Clone)]
pub struct EngineAddress(pub(super) ConnectionInfo);

impl fmt::Debug for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password stays out of it.
        write!(f, "{}", self.0.addr())
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.addr())
    }
}

impl FromStr for EngineAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<EngineAddress, String> {
        let is_tls = text.starts_with("rediss://");
        if is_tls && !cfg!(feature = "tls") {
            return Err("this build knows no TLS: use redis://HOST, or build with TLS".to_owned());
        }
        if !is_tls && !text.starts_with("redis://") {
            return Err("it is redis://HOST[:PORT][/DB], or rediss:// with TLS".to_owned());
        }
        let info = text.into_connection_info();
        info.map(EngineAddress).map_err(|error| error.to_string())
    }
}

impl EngineAddress {
    /// The same, for a user who has to prove who they are. `secret` is `PASSWORD` or `USER:PASSWORD`.
    pub fn with_secret(self, secret: &str) -> EngineAddress {
        let settings = self.0.redis_settings().clone();
        let settings = match secret.split_once(':') {
            Some((user, password)) => settings.set_username(user).set_password(password),
            None => settings.set_password(secret),
        };
        EngineAddress(self.0.set_redis_settings(settings))
    }
}
