//! The address of Redis, including the user name and the password.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use redis::{ConnectionInfo, IntoConnectionInfo};

/// The address of Redis: `redis://HOST[:PORT][/DB]`, or `rediss://` with TLS.
#[derive(Clone)]
pub struct EngineAddress {
    /// The connection settings. A secret with a colon is read as `USER:PASSWORD`.
    pub(super) info: ConnectionInfo,
    /// Alternative settings that use the whole secret as a password that contains a colon.
    pub(super) with_colon: Option<ConnectionInfo>,
}

impl fmt::Debug for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never show the password.
        write!(f, "{}", self.info.addr())
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.info.addr())
    }
}

impl FromStr for EngineAddress {
    type Err = String;

    /// Parses `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`. The user and the password may be
    /// percent-encoded and may contain URL delimiters. The host begins after the last `@`, so no
    /// part of a password is looked up as a host or shown in an error.
    fn from_str(text: &str) -> Result<EngineAddress, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let is_tls = scheme == "rediss";
        if is_tls && !cfg!(feature = "tls") {
            return Err(
                "this program was built without TLS support: use redis://HOST, or build with TLS \
                 support (`cargo build --release`)"
                    .to_owned(),
            );
        }
        if !is_tls && scheme != "redis" {
            return Err("expected redis://HOST[:PORT][/DB], or rediss:// for TLS".to_owned());
        }
        let (secret, place) = match rest.rsplit_once('@') {
            Some((secret, place)) => (secret, place),
            None => ("", rest),
        };
        let info = format!("{scheme}://{place}").into_connection_info();
        let info = info.map_err(|error| error.to_string())?;
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = secret.split_once(':').unwrap_or((secret, ""));
        let mut settings = info.redis_settings().clone();
        if !user.is_empty() {
            settings = settings.set_username(decoded(user));
        }
        if !password.is_empty() {
            settings = settings.set_password(decoded(password));
        }
        Ok(EngineAddress {
            info: info.set_redis_settings(settings),
            with_colon: None,
        })
    }
}

impl EngineAddress {
    /// Adds a secret: `PASSWORD` or `USER:PASSWORD`. Because a password may contain a colon, a
    /// secret with a colon is tried both ways.
    pub fn with_secret(self, secret: &str) -> EngineAddress {
        let settings = self.info.redis_settings().clone();
        let whole = self
            .info
            .clone()
            .set_redis_settings(settings.clone().set_password(secret));
        match secret.split_once(':') {
            None => EngineAddress {
                info: whole,
                with_colon: None,
            },
            Some((user, password)) => {
                let settings = settings.set_username(user).set_password(password);
                EngineAddress {
                    info: self.info.set_redis_settings(settings),
                    with_colon: Some(whole),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_may_contain_any_character_and_is_not_shown() {
        for (url, user, password) in [
            ("redis://10.0.0.1", None, None),
            ("redis://:word@10.0.0.1", None, Some("word")),
            (
                "redis://bob:word@10.0.0.1:6379/2",
                Some("bob"),
                Some("word"),
            ),
            ("redis://:p%40ss@10.0.0.1", None, Some("p@ss")),
            ("redis://:p@s#s/w?o%rd@10.0.0.1", None, Some("p@s#s/w?o%rd")),
            ("redis://:a:b@10.0.0.1", None, Some("a:b")),
        ] {
            let address: EngineAddress = url.parse().unwrap();
            let settings = address.info.redis_settings();
            assert_eq!(
                (settings.username(), settings.password()),
                (user, password),
                "{url}"
            );
            assert_eq!(address.to_string(), "10.0.0.1:6379");
        }
        let refused = "redis://:secret@10.0.0.1:port".parse::<EngineAddress>();
        assert!(!refused.unwrap_err().contains("secret"));
    }
}
