//! A real browser, for the tests of pages.
#![allow(clippy::disallowed_macros, dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::PATIENCE;

/// A headless browser, controlled over the WebDriver protocol (W3C).
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    profile: PathBuf,
}

type Lines = Box<dyn Iterator<Item = String> + Send>;

/// Starts the driver. Returns it with the rest of its output and its port.
fn start_driver() -> Option<(Child, Lines, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let screen = BufReader::new(driver.stdout.take().unwrap());
    let mut lines: Lines = Box::new(screen.lines().map_while(Result::ok));
    // "ChromeDriver was started successfully on port 41234."
    let line = lines.find(|line| line.contains("successfully on port"));
    let port = line.and_then(|line| {
        let port = line.trim_end_matches('.').rsplit(' ').next()?;
        port.parse().ok()
    });
    if port.is_none() {
        let _ = driver.kill();
        let _ = driver.wait();
    }
    Some((driver, lines, port?))
}

impl Browser {
    /// Starts the browser. Returns `None` if none is installed.
    pub fn start(profile: &str) -> Option<Browser> {
        Browser::start_with(profile, &[])
    }

    /// Like `start`, with more command-line arguments.
    pub fn start_with(profile: &str, more: &[&str]) -> Option<Browser> {
        let chromium = Command::new("chromium").arg("--version").output();
        let has_driver = Command::new("chromedriver").arg("--version").output();
        if chromium.is_err() || has_driver.is_err() {
            assert!(
                std::env::var_os("REQUIRE_BROWSER").is_none(),
                "there is no chromium or no chromedriver"
            );
            eprintln!("NOT TESTED: there is no chromium or no chromedriver here");
            return None;
        }
        // The driver chooses a free IPv4 port and needs the same IPv6 port. If that is taken, it
        // exits.
        let started = (0..20).find_map(|_| start_driver());
        let (driver, lines, port) = started.expect("chromedriver starts");
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        thread::spawn(move || lines.for_each(drop));
        let profile =
            std::env::temp_dir().join(format!("portal-chat-{profile}-{}", std::process::id()));
        let mut browser = Browser {
            driver,
            address,
            session: String::new(),
            profile,
        };
        let profile_folder = format!("--user-data-dir={}", browser.profile.display());
        let mut arguments = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,860",
            &profile_folder,
        ];
        arguments.extend(more);
        let options = json!({ "args": arguments });
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": options });
        let session = browser.call(
            "POST",
            "/session",
            &json!({ "capabilities": { "alwaysMatch": wanted } }),
        );
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim().to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut reply = vec![0; length];
        reader.read_exact(&mut reply).unwrap();
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        assert!(reply["value"]["error"].is_null(), "{path}: {reply}");
        reply["value"].clone()
    }

    pub fn open(&self, board: SocketAddr) {
        self.open_url(&format!("http://{board}/"));
    }

    pub fn open_url(&self, url: &str) {
        let path = format!("/session/{}/url", self.session);
        self.call("POST", &path, &json!({ "url": url }));
    }

    /// Runs a script and returns its result.
    pub fn run(&self, script: &str) -> Value {
        let path = format!("/session/{}/execute/sync", self.session);
        self.call("POST", &path, &json!({ "script": script, "args": [] }))
    }

    pub fn wait_until(&self, condition: &str) {
        let until = Instant::now() + PATIENCE;
        while self.run(&format!("return Boolean({condition})")) != true {
            assert!(Instant::now() < until, "never: {condition}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Browser {
    /// Opens a window, switches to it, and returns its handle.
    pub fn new_window(&self) -> String {
        let path = format!("/session/{}/window/new", self.session);
        let made = self.call("POST", &path, &json!({ "type": "window" }));
        let name = made["handle"].as_str().unwrap().to_owned();
        self.switch_to(&name);
        name
    }

    /// The handle of the current window.
    pub fn window(&self) -> String {
        let path = format!("/session/{}/window", self.session);
        let name = self.call("GET", &path, &json!({}));
        name.as_str().unwrap().to_owned()
    }

    pub fn switch_to(&self, window: &str) {
        let path = format!("/session/{}/window", self.session);
        self.call("POST", &path, &json!({ "handle": window }));
    }

    /// Types `keys` into the element that `selector` finds.
    pub fn type_text(&self, selector: &str, keys: &str) {
        let found = self.call(
            "POST",
            &format!("/session/{}/element", self.session),
            &json!({ "using": "css selector", "value": selector }),
        );
        let id = found.as_object().unwrap().values().next().unwrap();
        let path = format!(
            "/session/{}/element/{}/value",
            self.session,
            id.as_str().unwrap()
        );
        self.call("POST", &path, &json!({ "text": keys }));
    }

    /// Runs a command of the Chrome DevTools Protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let path = format!("/session/{}/goog/cdp/execute", self.session);
        self.call(
            "POST",
            &path,
            &json!({ "cmd": command, "params": parameters }),
        )
    }

    /// Emulates a window of this size, light or dark.
    pub fn set_view(&self, width: u32, height: u32, scheme: &str) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 640 }),
        );
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [feature] }),
        );
    }

    /// Takes a screenshot, as PNG in Base64.
    pub fn screenshot(&self) -> String {
        let path = format!("/session/{}/screenshot", self.session);
        let picture = self.call("GET", &path, &json!({}));
        picture.as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with the session. A second panic would abort the test.
        if !self.session.is_empty() {
            let path = format!("/session/{}", self.session);
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.call("DELETE", &path, &json!({}));
            }));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
