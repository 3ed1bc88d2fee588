//! SIGHUP: reads the configuration again, applies what can change while the server runs, and
//! reports the settings that need a restart.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::effective_settings::settings_in_force;
use super::identity::TlsFiles;
use super::options::{ServerCommand, parse_again};
use crate::start::{Server, Settings};

/// The settings of a running server, and their origin.
pub(super) struct Running {
    pub(super) arguments: Vec<OsString>,
    pub(super) config: Option<PathBuf>,
    pub(super) settings: Settings,
    pub(super) files: Option<TlsFiles>,
}

impl Running {
    /// Returns whether SIGHUP can change anything.
    pub(super) fn can_reload(&self) -> bool {
        self.config.is_some() || self.files.is_some() || self.settings.message_of_the_day.is_some()
    }

    /// Reads the command line's files again and applies them. Returns a report for the operator.
    pub(super) fn reload(&mut self, server: &Server) -> String {
        let (new, files) = match parse_again(self.arguments.iter().cloned()) {
            Ok(ServerCommand::Serve { settings, tls, .. }) => (*settings, tls),
            // This can't happen, because the same command line started a server.
            Ok(_) => return "the old settings remain in effect".to_owned(),
            Err(reason) => return format!("the old settings remain in effect: {reason}"),
        };
        let mut report = Vec::new();
        let is_secured = self.settings.tls.is_some();
        if let (Some(tls), Some(files)) = (&self.settings.tls, &files) {
            match files.load_into(tls) {
                Ok(text) => {
                    report.push(format!("reloaded the certificate\n{}", text.trim_end()));
                    self.files = Some(files.clone());
                }
                Err(reason) => report.push(format!("the old certificate remains in use: {reason}")),
            }
        }
        let before = self.in_force();
        let greeting = &new.message_of_the_day;
        let is_other_greeting = *greeting != self.settings.message_of_the_day;
        if is_other_greeting {
            server.set_message_of_the_day(greeting.clone());
            self.settings.message_of_the_day.clone_from(greeting);
        }
        server.set_rate(new.rate);
        self.settings.rate = new.rate;
        server.set_max_per_address(new.max_per_address);
        self.settings.max_per_address = new.max_per_address;
        server.set_registration(new.register, new.min_password);
        self.settings.register = new.register;
        self.settings.min_password = new.min_password;
        if let (Some(web), Some(new)) = (&mut self.settings.web, &new.web) {
            server.set_trusted_proxies(&new.trusted_proxies);
            web.trusted_proxies.clone_from(&new.trusted_proxies);
        }
        let now = self.in_force();
        let mut changed: Vec<String> = now
            .iter()
            .filter(|(option, value)| before.get(*option) != Some(value))
            .map(|(option, value)| format!("{option} {value}"))
            .collect();
        if is_other_greeting && before.get("--motd") == now.get("--motd") {
            // The text differs but has the same length, so its setting looks unchanged.
            changed.push("--motd".to_owned());
        }
        if !changed.is_empty() {
            let changed = changed.join(", ");
            report.push(format!(
                "changed {changed}; this applies to clients that connect from now on"
            ));
        }
        let files = if is_secured {
            self.files.as_ref()
        } else {
            files.as_ref()
        };
        let wanted: BTreeMap<String, String> = settings_in_force(&new, files).into_iter().collect();
        let mut other: Vec<&String> = wanted
            .iter()
            .filter(|(option, value)| now.get(*option) != Some(value))
            .map(|(option, _)| option)
            .collect();
        other.extend(now.keys().filter(|option| !wanted.contains_key(*option)));
        if !other.is_empty() {
            let other: Vec<&str> = other.into_iter().map(String::as_str).collect();
            report.push(format!(
                "a restart is needed for the new {}; until then, the old settings remain in effect",
                other.join(", ")
            ));
        }
        if report.is_empty() {
            report.push("no setting has changed".to_owned());
        }
        report.join("\n")
    }

    fn in_force(&self) -> BTreeMap<String, String> {
        let settings = settings_in_force(&self.settings, self.files.as_ref());
        settings.into_iter().collect()
    }
}
