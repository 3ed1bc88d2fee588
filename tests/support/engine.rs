//! A test's own Redis on a port of 127.0.0.1, which can be killed, suspended and restarted.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;

static COUNT: AtomicUsize = AtomicUsize::new(0);

pub struct Redis {
    child: Option<Child>,
    folder: PathBuf,
    pub port: u16,
}

impl Redis {
    /// Starts Redis. Returns `None`, after a message, if `redis-server` is not installed.
    pub fn start() -> Option<Redis> {
        if Command::new("redis-server")
            .arg("--version")
            .output()
            .is_err()
        {
            // CI sets this variable, so that the tests can't be skipped there.
            assert!(
                std::env::var_os("REQUIRE_REDIS").is_none(),
                "there is no redis-server"
            );
            let _ = writeln!(
                std::io::stderr(),
                "NOT TESTED: several servers, because there is no redis-server"
            );
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("portal-chat-redis-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        // Choose a free port. If another process takes it first, try again.
        loop {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut redis = Redis {
                child: None,
                folder: folder.clone(),
                port,
            };
            if redis.try_run() {
                return Some(redis);
            }
        }
    }

    fn try_run(&mut self) -> bool {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--appendonly", "yes", "--appendfsync", "no", "--save", ""])
            .arg("--dir")
            .arg(&self.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if self.answers() {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let mut answer = [0; 5];
        stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && &answer == b"+PONG"
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Kills Redis with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Suspends Redis: it sends no replies, but its sockets stay open.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Copies its data files.
    pub fn snapshot(&self) -> PathBuf {
        let copy = self.folder.with_extension("older");
        let _ = fs::remove_dir_all(&copy);
        copy_folder(&self.folder, &copy);
        copy
    }

    /// Restarts it with the older data files, which are moved into place.
    pub fn restore(&mut self, older: &std::path::Path) {
        self.kill();
        fs::remove_dir_all(&self.folder).unwrap();
        fs::rename(older, &self.folder).unwrap();
        self.restart();
    }

    /// Restarts it on the same port, with its data files.
    pub fn restart(&mut self) {
        self.kill();
        let until = Instant::now() + PATIENCE;
        while !self.try_run() {
            assert!(Instant::now() < until, "Redis does not restart");
        }
    }

    /// Restarts it without its data.
    pub fn restart_empty(&mut self) {
        self.kill();
        fs::remove_dir_all(&self.folder).unwrap();
        fs::create_dir_all(&self.folder).unwrap();
        self.restart();
    }

    /// Returns the commands that Redis receives during `meanwhile`, one per line, including those
    /// from scripts.
    pub fn monitor(&self, meanwhile: impl FnOnce()) -> Vec<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("+OK"));
        meanwhile();
        self.command("ECHO it-is-over");
        lines
            .take_while(|line| !line.contains("it-is-over"))
            .collect()
    }

    /// Sends a command and returns the raw reply.
    pub fn command(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(format!("{command}\r\nQUIT\r\n").as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        answer.strip_suffix("+OK\r\n").unwrap().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A TCP proxy between one server and Redis, which can delay data and drop replies.
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_over: AtomicBool,
    /// True while replies from Redis are dropped.
    drops_replies: AtomicBool,
    /// The delay of each piece, in milliseconds.
    delay: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn to(redis: &Redis) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let (kept, target) = (Arc::clone(&state), redis.port);
        thread::spawn(move || {
            for near in listener.incoming() {
                if kept.is_over.load(Ordering::Acquire) {
                    return;
                }
                let Ok(near) = near else { continue };
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else {
                    continue;
                };
                let both = [near.try_clone().unwrap(), far.try_clone().unwrap()];
                kept.open.lock().unwrap().extend(both);
                carry(
                    &kept,
                    near.try_clone().unwrap(),
                    far.try_clone().unwrap(),
                    false,
                );
                carry(&kept, far, near, true);
            }
        });
        Proxy { port, state }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn drop_replies(&self, is_on: bool) {
        self.state.drops_replies.store(is_on, Ordering::Release);
        if !is_on {
            // The dropped replies are missing, so the existing connections are unusable.
            for stream in self.state.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    pub fn delay(&self, milliseconds: usize) {
        self.state.delay.store(milliseconds, Ordering::Release);
    }
}

fn carry(state: &Arc<State>, mut from: TcpStream, mut to: TcpStream, is_reply: bool) {
    let state = Arc::clone(state);
    thread::spawn(move || {
        let mut piece = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            if is_reply && state.drops_replies.load(Ordering::Acquire) {
                continue;
            }
            let delay = state.delay.load(Ordering::Acquire);
            thread::sleep(Duration::from_millis(delay as u64));
            if to.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
