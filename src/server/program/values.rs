//! Reads the values of options. An error states what was expected.

use std::net::{AddrParseError, SocketAddr};

use crate::net::{Host, Network, NoAddress, NoNetwork, canonical};
use crate::start::Rate;
use crate::web::Authority;

/// The seconds of a day.
pub(super) const DAY: i64 = 24 * 60 * 60;

/// The port of the browsers' entrance if `--web` specifies none.
const WEB_PORT: u16 = 8080;

pub(super) fn even(text: &str) -> Result<usize, String> {
    let most = usize::from(u16::MAX) - 1;
    match text.parse() {
        Ok(number) if (2..=most).contains(&number) && number % 2 == 0 => Ok(number),
        _ => Err(format!(
            "expected an even number from 2 to {most}, because clients are paired"
        )),
    }
}

/// Parses a number of bytes, with an optional unit K, M or G.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let number: Option<u64> = number.parse().ok().filter(|&number| number > 0);
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or("expected a number of bytes, such as 500K, 20M or 1G")
}

pub(super) fn speed(text: &str) -> Result<f64, &'static str> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|speed| (0.01..=1000.0).contains(speed))
        .ok_or("expected a number from 0.01 to 1000")
}

pub(super) fn rate(text: &str) -> Result<Rate, &'static str> {
    let numbers = text.split_once('/').and_then(|(burst, per_second)| {
        Some(Rate {
            burst: burst.parse().ok()?,
            per_second: per_second.parse().ok()?,
        })
    });
    numbers.ok_or("expected BURST/PER_SECOND, two whole numbers of at least 1, such as 20/5")
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, AddrParseError> {
    text.parse().map(canonical)
}

pub(super) fn web_address(text: &str) -> Result<SocketAddr, &'static str> {
    if let Ok(address) = text.parse() {
        return Ok(canonical(address));
    }
    let host = text.parse::<Host>();
    host.map(|host| host.at(WEB_PORT))
        .map_err(|NoAddress| "expected an IP address, with or without a port, such as 0.0.0.0:8080")
}

pub(super) fn web_name(text: &str) -> Result<String, &'static str> {
    let is_name = Authority::parse(text).is_some();
    is_name.then(|| text.to_owned()).ok_or(
        "expected a name as in the browser's address bar, with or without a port, such as \
         chat.example or chat.example:8443 (without https:// or a path; write a non-ASCII name in \
         its xn-- form)",
    )
}

pub(super) fn trusted_proxy(text: &str) -> Result<Network, &'static str> {
    text.parse().map_err(|NoNetwork| {
        "expected the IP address from which the proxy connects, or a network, such as 127.0.0.1 or 10.0.0.0/8"
    })
}

pub(super) fn bind_address(text: &str) -> Result<Host, &'static str> {
    text.parse().map_err(|NoAddress| {
        "expected an IP address such as 127.0.0.1, 0.0.0.0 or ::; a link-local address needs its \
         interface (fe80::1%eth0)"
    })
}
