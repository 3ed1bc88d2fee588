//! A Redis of a test's own, on a port of loopback, which can be killed, stopped and started again.
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

pub struct Engine {
    child: Option<Child>,
    folder: PathBuf,
    pub port: u16,
}

impl Engine {
    /// Starts one; `None` if there is no `redis-server` here, which is said.
    pub fn start() -> Option<Engine> {
        if Command::new("redis-server")
            .arg("--version")
            .output()
            .is_err()
        {
            // CI has one; where it is asked for, its absence is a failure.
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
        let folder = std::env::temp_dir().join(format!(
            "portal-chat-engine-{}-{number}",
            std::process::id()
        ));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        // Any port that nobody has; should somebody take it meanwhile, another one.
        loop {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut engine = Engine {
                child: None,
                folder: folder.clone(),
                port,
            };
            if engine.try_run() {
                return Some(engine);
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

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// It answers nobody, and its sockets stay open.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    /// A copy of what is on its disk now.
    pub fn snapshot(&self) -> PathBuf {
        let copy = self.folder.with_extension("older");
        let _ = fs::remove_dir_all(&copy);
        copy_folder(&self.folder, &copy);
        copy
    }

    /// Starts it again with an older state, which is removed.
    pub fn restore(&mut self, older: &std::path::Path) {
        self.kill();
        fs::remove_dir_all(&self.folder).unwrap();
        fs::rename(older, &self.folder).unwrap();
        self.restart();
    }

    /// Starts it again on the same port, with what is on its disk.
    pub fn restart(&mut self) {
        self.kill();
        let until = Instant::now() + PATIENCE;
        while !self.try_run() {
            assert!(Instant::now() < until, "the engine does not start again");
        }
    }

    /// Starts it again without what it knew.
    pub fn restart_empty(&mut self) {
        self.kill();
        fs::remove_dir_all(&self.folder).unwrap();
        fs::create_dir_all(&self.folder).unwrap();
        self.restart();
    }

    /// What is asked of it while `meanwhile` goes on: a line for each command, those that its
    /// scripts give among them.
    pub fn watch(&self, meanwhile: impl FnOnce()) -> Vec<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"MONITOR\r\n").unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("+OK"));
        meanwhile();
        self.ask("ECHO it-is-over");
        lines
            .take_while(|line| !line.contains("it-is-over"))
            .collect()
    }

    /// Everything that stands in it: for a look at what is left.
    pub fn ask(&self, command: &str) -> String {
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

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A wire between one server and the engine, which can be made slow or be cut one way.
pub struct Wire {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_over: AtomicBool,
    /// What the engine says is thrown away.
    swallows_answers: AtomicBool,
    /// How long each piece takes, in milliseconds.
    delay: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Wire {
    pub fn to(engine: &Engine) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let (kept, target) = (Arc::clone(&state), engine.port);
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
        Wire { port, state }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn swallow_answers(&self, is_on: bool) {
        self.state.swallows_answers.store(is_on, Ordering::Release);
        if !is_on {
            // What was swallowed is missing: the connections of before are of no use.
            for stream in self.state.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    pub fn delay(&self, milliseconds: usize) {
        self.state.delay.store(milliseconds, Ordering::Release);
    }
}

fn carry(state: &Arc<State>, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
    let state = Arc::clone(state);
    thread::spawn(move || {
        let mut piece = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            if is_answer && state.swallows_answers.load(Ordering::Acquire) {
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

impl Drop for Wire {
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
